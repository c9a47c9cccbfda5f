"""Terms that several methods for incomplete annotation share; probabilities have classes in dimension 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ramp(progress: float) -> float:
    """A weight that rises to 1 while `progress` goes from 0 to 1, and stays there: exp(-5 (1 - t)^2)."""
    return math.exp(-5.0 * (1.0 - min(max(progress, 0.0), 1.0)) ** 2)


def known_classes(target: Tensor, classes: int) -> Tensor:
    """1 in the class a voxel is known to be of; 0 in all of them where the label is `ignore`, which is no class."""
    return torch.stack([target == number for number in range(classes)], dim=1).float()


def soft_cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """Voxel by voxel, of log-probabilities against a target that may lie between classes."""
    return -(target * log_p).sum(dim=1)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Voxel by voxel, KL(p || q): what q misses of p."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def entropy(p: Tensor) -> Tensor:
    """Voxel by voxel, in nats; 0 log 0 is 0."""
    return -torch.special.xlogy(p, p).sum(dim=1)


def tversky(p: Tensor, target: Tensor, missed: float = 0.6, invented: float = 0.4, smooth: float = 1e-5) -> Tensor:
    """1 - Tversky index of the foreground classes, over a whole batch; with halves it is the soft Dice loss.

    `target` has classes like `p`, 0 in all of them where nothing is known: there `p` is taken as 0, too.
    """
    p = p[:, 1:] * target.sum(dim=1, keepdim=True)
    target = target[:, 1:]
    axes = [0, *range(2, p.ndim)]
    found = (p * target).sum(dim=axes)
    wrong = invented * (p.sum(dim=axes) - found) + missed * (target.sum(dim=axes) - found)
    return 1 - ((found + smooth) / (found + wrong + smooth)).mean()


def reverse_cross_entropy(p: Tensor, target: Tensor, floor: float = 1e-4) -> Tensor:
    """Mean over what is known of -p log(target), with a floor under the target: bounded, so that wrong labels cannot dominate."""
    known = target.sum(dim=1)
    wrong = known - (p * target).sum(dim=1)
    return -math.log(floor) / p.shape[1] * wrong.sum() / known.sum().clamp_min(1)
