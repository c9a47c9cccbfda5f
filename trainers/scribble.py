"""`LNTrainerScribble`: strokes instead of masks, learned from by the recipe of TDNet, the triple-branch multi-dilated network.

Three decoders look at the image in three ways: with dilation 1, 3 and 6, from three kinds of first weights, the two further ones
with part of the features dropped. Where nothing is drawn they learn from each other,

    L = pCE + alpha(t) USPC + beta(t) MPCC,

and only the first is kept. Where the plan trusts what lies far from every stroke to be background, nnU-Net's loss takes pCE's
place. documentation/methods/scribble.md says what the paper leaves open and what we decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnauto.networks.multi_decoder import Auxiliary
from lnauto.trainers.losses import ramp
from lnauto.trainers.many_decoders import ManyDecoders

DILATIONS = (3, 6)  # of the decoders besides the first
DROPPED = (0.0, 0.5)  # share of the features, drawn anew for each batch
NORMAL_STD = 0.02  # of the third decoder's first weights [ours]

CONSISTENCY = 10.0  # alpha, at the end of its rise
PROJECTION = 1.0  # beta, likewise
PROJECTION_BINARY = 0.1  # with one kind of foreground Q is 2 x 2 and says hardly more than its share of the image [ours]
RISE = 0.4  # share of the training after which both are reached [ours]

LEAST = 1e-30  # probability whose logarithm is still taken: the step is finite where all decoders are certain


class LNTrainerScribble(ManyDecoders):
    """A few drawn voxels, and three decoders that have to agree on the others."""

    consistency = CONSISTENCY
    projection: float | None = None  # None: the default for so many classes

    def auxiliaries(self) -> Sequence[Auxiliary]:
        """The first decoder has nnU-Net's own first weights, which are Kaiming's."""
        return [Auxiliary(dilation, DROPPED, init) for dilation, init in zip(DILATIONS, (xavier, normal), strict=True)]

    def loss_of_branches(self, branches: list[Tensor], target: Tensor) -> Tensor:
        log_p = [functional.log_softmax(logits, dim=1) for logits in branches]
        p = [each.exp() for each in log_p]
        rise = ramp(self.clock.progress / RISE)
        classes = log_p[0].shape[1]
        projection = self.projection if self.projection is not None else (PROJECTION if classes > 2 else PROJECTION_BINARY)
        loss = self.loss_of_labels(branches, log_p, target)
        if self.consistency:
            loss = loss + rise * self.consistency * pixel_consistency(p, log_p)
        if projection:
            loss = loss + rise * projection * projection_consistency(p)
        return loss

    def loss_of_labels(self, branches: list[Tensor], log_p: list[Tensor], target: Tensor) -> Tensor:
        """As published on strokes; where most of the background is known, nnU-Net's loss, in which few nodes do not drown."""
        if self.plans_manager.plans.get("lnauto", {}).get("trusted_background") is None:
            return partial_cross_entropy(log_p, target, self.label_manager.ignore_label)
        losses: list[Tensor] = [self.loss(branch, target[:, None]) for branch in branches]
        return torch.stack(losses).mean()


def partial_cross_entropy(log_p: Sequence[Tensor], target: Tensor, ignore: int | None) -> Tensor:
    """pCE: mean over the drawn voxels and the decoders; 0 where nothing is drawn."""
    drawn = torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore
    labels = target[drawn]
    picked = [each.movedim(1, -1)[drawn].gather(1, labels[:, None]).sum() for each in log_p]
    return -torch.stack(picked).mean() / max(len(labels), 1)


def pixel_consistency(p: Sequence[Tensor], log_p: Sequence[Tensor]) -> Tensor:
    """USPC: mean over the decoders of KL(P_n || mean P), each voxel weighted by exp(-entropy of mean P).

    That mean of divergences is what the entropy of the mean exceeds the mean entropy by. The weight is no way out: without
    its gradient the loss cannot be lowered by being unsure where the decoders disagree [ours].
    """
    mean = torch.stack(list(p)).mean(dim=0)
    uncertainty = -(mean * mean.clamp_min(LEAST).log()).sum(dim=1)
    certainty = sum((each * log).sum(dim=1) for each, log in zip(p, log_p, strict=True)) / len(p)
    weight = torch.exp(-uncertainty).detach()
    return (weight * (uncertainty + certainty)).sum() / weight.sum()


def projection_consistency(p: Sequence[Tensor]) -> Tensor:
    """MPCC: the decoders see the same classes in the same places of the three projections of the volume."""
    views = range(2, p[0].ndim)
    terms = []
    for view in views:
        tables = [class_table(each, view) for each in p]
        mean = torch.stack(tables).mean(dim=0)
        terms += [(table * (table.clamp_min(LEAST) / mean.clamp_min(LEAST)).log()).sum(dim=(1, 2)).mean() for table in tables]
    return torch.stack(terms).mean()


def class_table(p: Tensor, view: int) -> Tensor:
    """Q, sample by sample: how much of class a and class b there is in the same places of a projection along axis `view`.

    The projection is the mean along the axis (a sum gives the same Q), and Q sums to 1, so that KL compares distributions [ours].
    """
    projected = p.mean(dim=view).flatten(start_dim=2)
    table = projected @ projected.transpose(1, 2)
    return table / table.sum(dim=(1, 2), keepdim=True)


def xavier(module: nn.Module) -> None:
    """First weights of the second decoder."""
    _start(module, nn.init.xavier_normal_)


def normal(module: nn.Module) -> None:
    """First weights of the third decoder."""
    _start(module, partial(nn.init.normal_, std=NORMAL_STD))


def _start(module: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    if isinstance(module, nn.modules.conv._ConvNd):
        draw(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
