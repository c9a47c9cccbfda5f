"""`LNMTrainerRadiomics`: a patient's nodes in numbers, and a penalised line through them and the clinical row.

Of each number that is measured of a node (form, signs, place) the patient has the largest, the smallest and the mean, over all
nodes and over those on the tumour's side. Logistic regression under a penalty weighs these; its strength is chosen by
cross-validation inside the patients it is fitted to, as the clinical head does. No crop is looked at, so tens of patients are
enough, and the weights can be read. The measures are classical; how they are pooled is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lnauto.trainers.patient.abmil import POINT_MM
from lnauto.trainers.patient.bag import Bag, Batch, Output
from lnauto.trainers.patient.bag_trainer import BagTrainer
from lnauto.trainers.patient.clinical import fit, strength_by_inner_folds
from lnauto.trainers.patient.reader import Reader

FARTHEST = 5.0  # standard deviations; beyond, a number counts as so many
POOLS = 5  # largest, smallest, mean; largest and mean of the tumour's side
COUNTS = 2


class LNMTrainerRadiomics(BagTrainer):
    """A line through what is measured."""

    name = "LNMTrainerRadiomics"

    def settings(self, bags: Sequence[Bag], reader: Reader) -> dict[str, Any]:
        return {"numbers": bags[0].shapes.shape[1] + bags[0].signs.shape[1] + 4, "clinical": reader.numbers}

    @staticmethod
    def build(settings: dict[str, Any]) -> nn.Module:
        return PooledLine(settings["numbers"], settings["clinical"])

    def fit(self, network: nn.Module, reader: Reader, bags: Sequence[Bag], seed: int) -> dict[str, Any]:
        assert isinstance(network, PooledLine)
        truth = np.array([bag.label for bag in bags], int)
        with torch.no_grad():
            batch = reader.batch(bags)
            network.learn_scale(batch)
            design = network.design(batch).double().numpy()
            strength, deviances = strength_by_inner_folds([bag.patient for bag in bags], design, truth, seed)
            intercept, weights = fit(design, truth, strength)
            network.bias.fill_(intercept)
            network.weights.copy_(torch.tensor(weights))
        return {"strength": strength, "deviance": deviances}


class PooledLine(nn.Module):
    """Instances, pooled number by number, to one logit."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, numbers: int, clinical: int) -> None:
        super().__init__()
        pooled = POOLS * numbers + COUNTS
        self.register_buffer("mean", torch.zeros(pooled))
        self.register_buffer("deviation", torch.ones(pooled))
        self.weights = nn.Parameter(torch.zeros(pooled + clinical))
        self.bias = nn.Parameter(torch.zeros(()))

    def learn_scale(self, batch: Batch) -> None:
        """From these patients, those with a node."""
        pooled = _pooled(_numbers(batch), batch)[batch.present.any(dim=1)]
        if len(pooled) > 1:
            self.mean.copy_(pooled.mean(dim=0))
            spread = pooled.std(dim=0)
            self.deviation.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def design(self, batch: Batch) -> Tensor:
        """What the line goes through: pooled numbers, standardised, and the row; a patient without a node is average in the
        first, but for the counts."""
        pooled = (_pooled(_numbers(batch), batch) - self.mean) / self.deviation
        pooled[:, :-COUNTS] *= batch.present.any(dim=1, keepdim=True)
        return torch.cat([pooled.clamp(-FARTHEST, FARTHEST), batch.clinical], dim=1)

    def forward(self, batch: Batch) -> Output:
        logit = self.bias + self.design(batch) @ self.weights
        return Output(logit, self._alone(batch), self._shares(batch))

    def _alone(self, batch: Batch) -> Tensor:
        """Of each instance, what the pooled numbers would add to the logit if it were the patient's only one."""
        numbers = _numbers(batch)
        on_side = (batch.towards > 0).float()
        sided = numbers * on_side[:, None]
        counts = torch.stack([torch.ones_like(on_side), on_side], dim=1).log1p()
        pooled = torch.cat([numbers, numbers, numbers, sided, sided, counts], dim=1)
        design = ((pooled - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)
        return batch.laid_out(self.bias + design @ self.weights[: design.shape[1]])

    def _shares(self, batch: Batch) -> Tensor:
        """How much of the pooled numbers comes from each instance, each number counted as much as it moves the logit."""
        numbers = batch.laid_out(_numbers(batch))
        on_side = batch.laid_out(batch.towards > 0)
        design = self.design(batch)[:, : len(self.mean) - COUNTS]
        moved = (design * self.weights[: design.shape[1]]).abs().reshape(len(design), POOLS, -1)
        shares = torch.stack(
            [
                _only(numbers, batch.present, largest=True),
                _only(numbers, batch.present, largest=False),
                _evenly(batch.present)[..., None].expand_as(numbers),
                _only(numbers, on_side, largest=True),
                _evenly(on_side)[..., None].expand_as(numbers),
            ],
            dim=1,
        )  # bags, pools, places, numbers
        found = (shares * moved[:, :, None]).sum(dim=(1, 3))
        found = found + 1e-6 * batch.present  # nothing moves the logit: all alike
        return found / found.sum(dim=1, keepdim=True).clamp_min(1e-12)


def _numbers(batch: Batch) -> Tensor:
    """Of each instance that is there: form, signs, how far on the tumour's side, and how far from the middle along each axis."""
    places = torch.cat([batch.towards[:, None], batch.points.abs()], dim=1) / POINT_MM
    return torch.cat([batch.shapes, batch.signs, places], dim=1)


def _pooled(numbers: Tensor, batch: Batch) -> Tensor:
    """Bags, pooled numbers; where there is nothing to pool, 0."""
    laid, on_side = batch.laid_out(numbers), batch.laid_out(batch.towards > 0)
    counts = torch.stack([batch.present.sum(dim=1), on_side.sum(dim=1)], dim=1).float().log1p()
    parts = [
        _extreme(laid, batch.present, largest=True),
        _extreme(laid, batch.present, largest=False),
        (laid * _evenly(batch.present)[..., None]).sum(dim=1),
        _extreme(laid, on_side, largest=True),
        (laid * _evenly(on_side)[..., None]).sum(dim=1),
        counts,
    ]
    return torch.cat(parts, dim=1)


def _evenly(there: Tensor) -> Tensor:
    return there / there.sum(dim=1, keepdim=True).clamp_min(1)


def _extreme(laid: Tensor, there: Tensor, largest: bool) -> Tensor:
    none = float("-inf") if largest else float("inf")
    masked = laid.masked_fill(~there[..., None], none)
    found = masked.amax(dim=1) if largest else masked.amin(dim=1)
    return torch.where(found.isfinite(), found, 0.0)


def _only(laid: Tensor, there: Tensor, largest: bool) -> Tensor:
    """1 at the instance whose number is the extreme one, 0 elsewhere; parted evenly between equals."""
    at = (laid == _extreme(laid, there, largest)[:, None]) & there[..., None]
    return at / at.sum(dim=1, keepdim=True).clamp_min(1)
