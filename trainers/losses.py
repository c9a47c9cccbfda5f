"""Terms that several methods for incomplete annotation share; probabilities have classes in dimension 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def ramp(progress: float) -> float:
    """A weight that rises to 1 while `progress` goes from 0 to 1, and stays there: exp(-5 (1 - t)^2)."""
    return math.exp(-5.0 * (1.0 - min(max(progress, 0.0), 1.0)) ** 2)


def partial_cross_entropy(logits: Tensor, target: Tensor, ignore: int) -> Tensor:
    """Mean cross-entropy over the voxels that are not `ignore`; 0 where there is none."""
    summed = functional.cross_entropy(logits, target, ignore_index=ignore, reduction="sum")
    return summed / (target != ignore).sum().clamp_min(1)


def soft_cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """Voxel by voxel, of log-probabilities against a target that may lie between classes."""
    return -(target * log_p).sum(dim=1)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Voxel by voxel, KL(p || q): what q misses of p."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def entropy(p: Tensor) -> Tensor:
    """Voxel by voxel, in nats; 0 log 0 is 0."""
    return -torch.special.xlogy(p, p).sum(dim=1)
