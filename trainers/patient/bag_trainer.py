"""What patient trainers on images share: inner folds, and what is chosen on them.

The training patients are parted into folds once more. For each of these a network is fitted to the rest and predicts the part it
was kept from; on these predictions rest calibration and threshold, so that neither sees a network's opinion of its own training
patients. The networks together are the head. A method is one file: it says how a network is built, and what it learns by.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lnauto.trainers.patient.bag import Bag, Batch
from lnauto.trainers.patient.crops import CropPlan
from lnauto.trainers.patient.decision import Threshold, deviance, fit_calibrator, inner_folds
from lnauto.trainers.patient.fitting import Schedule, fit_network
from lnauto.trainers.patient.head import Head, Member
from lnauto.trainers.patient.reader import Reader

log = logging.getLogger(__name__)

SMALL, LARGE = 150, 600  # patients: below, few weights; above, as many as are of use [patient_heads.md 0.4]


@dataclass(frozen=True)
class BagTrainer(ABC):
    """How to train a head on bags; `sensitivity` None: the threshold is Youden's."""

    seed: int = 0
    sensitivity: float | None = None
    schedule: Schedule = field(default_factory=Schedule)

    name: ClassVar[str]
    needs_view: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False
    reads_blocks: ClassVar[bool] = False  # of the region, where there is no mask; else it reads nodes alone

    # ---- what a method says

    @abstractmethod
    def settings(self, bags: Sequence[Bag], reader: Reader) -> dict[str, Any]:
        """Plain numbers and words from which the network is built; they follow from the training patients."""

    @staticmethod
    @abstractmethod
    def build(settings: dict[str, Any]) -> nn.Module:
        """The network, a module from a `Batch` to an `Output`; freshly drawn from torch's generator."""

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        return patient_loss(network(batch).logit, batch.label)

    def fit(self, network: nn.Module, reader: Reader, bags: Sequence[Bag], seed: int) -> dict[str, Any]:
        """Train the network in place; returns what is worth telling of it."""
        losses = fit_network(network, reader, bags, self.loss, seed, self.schedule)
        return {"loss": float(np.mean(losses[-20:]))}

    # ---- what all share

    def train(
        self, bags: Sequence[Bag], columns: Sequence[str], crops: CropPlan, on_fit: Callable[[], None] | None = None
    ) -> Head:
        """A head from the training patients' bags, every one with a label; it looks at nobody else."""
        bags = sorted(bags, key=lambda bag: bag.patient)
        names, truth = [bag.patient for bag in bags], np.array([bag.label for bag in bags], int)
        logits, members, told = np.zeros(len(bags)), list[Member](), list[dict[str, Any]]()
        for number, (train, kept) in enumerate(inner_folds(names, truth, self.seed)[0]):
            member, more = self.fit_member([bags[place] for place in train], columns, self.seed + number)
            logits[kept] = [reading.logit for reading in member.read([bags[place] for place in kept])]
            members.append(member)
            told.append(more)
            if on_fit is not None:
                on_fit()
        calibrator = fit_calibrator(truth, logits)
        threshold = Threshold.choose(truth, calibrator.probability(logits), self.sensitivity)
        inner = {
            "folds": len(members),
            "deviance": float(deviance(truth, calibrator.logit(logits)).mean()),
            "members": told,
        }
        return Head(self.name, tuple(members), crops, calibrator, threshold, tuple(names), inner)

    def fit_member(self, bags: Sequence[Bag], columns: Sequence[str], seed: int) -> tuple[Member, dict[str, Any]]:
        """One network, fitted to these patients alone."""
        reader = Reader.learn(bags, columns)
        settings = self.settings(bags, reader)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.build(settings)
        _start_at_prevalence(network, [bag.label for bag in bags])
        more = self.fit(network, reader, bags, seed)
        return Member(reader, settings, network.eval()), more


def hidden_for(patients: int) -> int:
    """Width of a head, by how many patients there are to learn it from."""
    return 32 if patients < SMALL else 64 if patients < LARGE else 128


def patient_loss(logit: Tensor, label: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logit, label)


def _start_at_prevalence(network: nn.Module, labels: Sequence[int | None]) -> None:
    """A head that knows nothing yet says the share of patients with metastasis."""
    bias = getattr(network, "bias", None)
    share = float(np.clip(np.mean([label or 0 for label in labels]), 0.01, 0.99))
    if isinstance(bias, nn.Parameter):
        with torch.no_grad():
            bias.fill_(float(np.log(share / (1 - share))))
