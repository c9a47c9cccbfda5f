"""`LNTrainerPartial`: some of the nodes are drawn, and two decoders tell each other about the rest.

DBDMP as its authors meant it: a dual-branch network with dynamically mixed pseudo labels (documentation/methods/partial.md says
what is theirs and where we depart). What is drawn, and what the plan trusts to be background, both decoders learn. For the rest,
their answers are mixed at random in every iteration, sharpened, and learned by both; where they disagree, less. Two things are
ours: what looks very much like a drawn node begins as one; and where the background is trusted, labels are learned by nnU-Net's
own loss, because the paper's, which no wrong label can dominate, guard against what trust has removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lnauto.data.preprocess import likely_folder
from lnauto.networks.multi_decoder import Auxiliary
from lnauto.trainers.losses import divergence, known_classes, ramp, reverse_cross_entropy, soft_cross_entropy, tversky
from lnauto.trainers.many_decoders import ManyDecoders, he

TEMPERATURE = 0.3  # below 0.5 it sharpens, above it would pull every pseudo label towards undecided
SURE = 1e-4  # what is drawn is as sure as that
CROSS_ENTROPY, REVERSE = 0.8, 1.0  # in the symmetric cross-entropy
LABELS = 0.25  # weight of the losses on labels, each decoder's
RISE = 1 / 3  # of the training, until pseudo labels count in full; the paper's 100 of 300 epochs


class LNTrainerPartial(ManyDecoders):
    """DBDMP on top of trusted background."""

    deep_supervision = True

    def auxiliaries(self) -> Sequence[Auxiliary]:
        return [Auxiliary(drop=(0.5, 0.5), init=he)]

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Patches come with a second label, what is taken for a node to begin with, where planning found any."""
        training, validation = super().get_tr_and_val_datasets()
        if self.material is not None:
            return self.material.training.with_likely(), validation
        likely = likely_folder(Path(self.preprocessed_dataset_folder))
        if all((likely / f"{name}.b2nd").is_file() for name in training.identifiers):
            names = list(training.identifiers)
            training = self.dataset_class(self.preprocessed_dataset_folder, names, str(likely))
        return training, validation

    def loss_of_outputs(self, outputs: list[Any], target: Any) -> Tensor:
        ignore = self.label_manager.ignore_label
        scales = [with_likely(each, ignore) for each in target]
        label = scales[0][:, 0].long()
        at_scales, second = [output.float() for output in outputs[0]], outputs[1].float()
        if ignore is None:
            return self.loss_of_branches([at_scales[0], second], label)
        known = known_classes(label, second.shape[1])
        labels: Tensor = self.loss(at_scales, scales) + self.loss.loss(second, scales[0])
        return labels + self.loss_of_the_unknown(at_scales[0], second, known, 1 - known.sum(dim=1))

    def loss_of_branches(self, branches: list[Tensor], target: Tensor) -> Tensor:
        """As published: what is not drawn is background to the losses on labels, and unknown to the pseudo label."""
        known = known_classes(target, branches[0].shape[1])
        labels = sum(label_loss(functional.log_softmax(branch, dim=1), known) for branch in branches)
        drawn = known * (target > 0)[:, None]
        return LABELS * labels + self.loss_of_the_unknown(branches[0], branches[1], drawn, torch.ones_like(branches[0][:, 0]))

    def loss_of_the_unknown(self, first: Tensor, second: Tensor, pinned: Tensor, doubtful: Tensor) -> Tensor:
        """Each decoder learns what both make of a voxel; `doubtful` is 1 where that counts."""
        first, second = (functional.log_softmax(branch, dim=1) for branch in (first, second))
        pseudo = pseudo_label(first.detach().exp(), second.detach().exp(), float(torch.rand(())), pinned)
        crossed = cross_supervision(first, second, pseudo, doubtful) + cross_supervision(second, first, pseudo, doubtful)
        return ramp(self.clock.progress / RISE) * crossed / 2


def with_likely(target: Tensor, ignore: int | None) -> Tensor:
    """The label, with what is taken for a node to begin with filled in where nothing is known."""
    label, likely = target[:, :1], target[:, 1:] == 1
    return torch.where((label == ignore) & likely, 1, label) if ignore is not None and target.shape[1] > 1 else label


def label_loss(log_p: Tensor, known: Tensor) -> Tensor:
    """Tversky, symmetric cross-entropy, and cross-entropy on drawn foreground alone; `known` is 0 in all classes elsewhere."""
    p = log_p.exp()
    voxels = soft_cross_entropy(log_p, known)
    drawn = known[:, 1:].sum(dim=1)
    everywhere = voxels.sum() / known.sum().clamp_min(1)
    on_nodes = (voxels * drawn).sum() / drawn.sum().clamp_min(1)
    return tversky(p, known) + CROSS_ENTROPY * everywhere + REVERSE * reverse_cross_entropy(p, known, SURE) + on_nodes


def pseudo_label(first: Tensor, second: Tensor, share: float, pinned: Tensor) -> Tensor:
    """Two answers, mixed and sharpened; what is pinned is as it is known. Probabilities without gradient."""
    mixed = share * first + (1 - share) * second
    sharp = functional.softmax(mixed / TEMPERATURE, dim=1)
    sure = pinned * (1 - SURE) + (1 - pinned) * SURE / (mixed.shape[1] - 1)
    return torch.where(pinned.sum(dim=1, keepdim=True) > 0, sure, sharp).detach()


def cross_supervision(log_p: Tensor, log_other: Tensor, pseudo: Tensor, doubtful: Tensor) -> Tensor:
    """A decoder's cross-entropy against the pseudo label, weighted down where the other one disagrees, and the disagreement.

    `doubtful` is 1 where the pseudo label counts.
    """
    apart = divergence(log_other, log_p)
    weight = torch.exp(-apart) * doubtful
    return (soft_cross_entropy(log_p, pseudo) * weight).sum() / weight.sum().clamp_min(1) + apart.mean()
