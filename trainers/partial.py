"""`LNTrainerPartial`: some of the nodes are drawn, and two decoders tell each other about the rest.

DBDMP as its authors meant it: a dual-branch network with dynamically mixed pseudo labels (documentation/methods/partial.md says
what is theirs and where we depart). What is drawn, and what the plan trusts to be background, is learned by losses that a wrong
label cannot dominate. For the rest, the two decoders' answers are mixed at random in every iteration, sharpened, and learned by
both; where they disagree, less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lnauto.networks.multi_decoder import Auxiliary
from lnauto.trainers.losses import (
    divergence,
    known_classes,
    ramp,
    reverse_cross_entropy,
    soft_cross_entropy,
    tversky,
)
from lnauto.trainers.many_decoders import ManyDecoders, he

TEMPERATURE = 0.3  # below 0.5 it sharpens, above it would pull every pseudo label towards undecided
SURE = 1e-4  # what is drawn is as sure as that
CROSS_ENTROPY, REVERSE = 0.8, 1.0  # in the symmetric cross-entropy
LABELS = 0.25  # weight of the losses on labels, each decoder's
RISE = 1 / 3  # of the training, until pseudo labels count in full; the paper's 100 of 300 epochs


class LNTrainerPartial(ManyDecoders):
    """DBDMP on top of trusted background."""

    def auxiliaries(self) -> Sequence[Auxiliary]:
        return [Auxiliary(drop=(0.5, 0.5), init=he)]

    def loss_of_branches(self, branches: list[Tensor], target: Tensor) -> Tensor:
        known = known_classes(target, branches[0].shape[1])
        first, second = (functional.log_softmax(branch, dim=1) for branch in branches)
        labels = label_loss(first, known) + label_loss(second, known)
        pseudo = pseudo_label(first.detach().exp(), second.detach().exp(), float(torch.rand(())), known)
        crossed = cross_supervision(first, second, pseudo) + cross_supervision(second, first, pseudo)
        return LABELS * labels + ramp(self.clock.progress / RISE) * crossed / 2


def label_loss(log_p: Tensor, known: Tensor) -> Tensor:
    """Tversky, symmetric cross-entropy, and cross-entropy on drawn foreground alone; `known` is 0 in all classes elsewhere."""
    p = log_p.exp()
    voxels = soft_cross_entropy(log_p, known)
    drawn = known[:, 1:].sum(dim=1)
    everywhere = voxels.sum() / known.sum().clamp_min(1)
    on_nodes = (voxels * drawn).sum() / drawn.sum().clamp_min(1)
    return tversky(p, known) + CROSS_ENTROPY * everywhere + REVERSE * reverse_cross_entropy(p, known, SURE) + on_nodes


def pseudo_label(first: Tensor, second: Tensor, share: float, known: Tensor) -> Tensor:
    """Two answers, mixed and sharpened; what is known is as it is known. Probabilities without gradient."""
    mixed = share * first + (1 - share) * second
    sharp = functional.softmax(mixed / TEMPERATURE, dim=1)
    pinned = known * (1 - SURE) + (1 - known) * SURE / (known.shape[1] - 1)
    return torch.where(known.sum(dim=1, keepdim=True) > 0, pinned, sharp).detach()


def cross_supervision(log_p: Tensor, log_other: Tensor, pseudo: Tensor) -> Tensor:
    """A decoder's cross-entropy against the pseudo label, weighted down where the other one disagrees, and the disagreement."""
    apart = divergence(log_other, log_p)
    weight = torch.exp(-apart)
    return (soft_cross_entropy(log_p, pseudo) * weight).sum() / weight.sum() + apart.mean()
