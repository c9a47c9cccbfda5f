"""A fold's patient head, whichever kind it is: one on nodes, one on the clinical row, or one for each of several networks.

A head that reads a network's features goes with that network: features of another one mean something else. Such a head has as
many parts as there are inner networks; each learned from patients its network never saw, and their mean counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.trainers.patient import CLINICAL
from lnauto.trainers.patient.decision import N_FOLDS, sigmoid

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag import Bag
    from lnauto.trainers.patient.bag_trainer import BagTrainer
    from lnauto.trainers.patient.clinical import ClinicalHead
    from lnauto.trainers.patient.columns import Column
    from lnauto.trainers.patient.crops import CropPlan
    from lnauto.trainers.patient.head import Head

DESCRIPTION = "head.json"

Look = Callable[[Path, "Sequence[Bag]"], "list[Bag]"]
"""Gives bags the features that a network, a checkpoint, has of their nodes."""


@dataclass(frozen=True)
class PatientReading:
    """What a fold's head says of one patient."""

    logit: float
    probability: float  # calibrated
    node_probabilities: np.ndarray  # of each instance, not calibrated; empty: the head says nothing of nodes
    attention: np.ndarray
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """What one head is trained with, and how."""

    trainer: BagTrainer
    columns: Sequence[str]
    crops: CropPlan
    fold: str
    quiet: bool

    def learn(self, bags: Sequence[Bag], part: str = "") -> Head:
        told = f"{self.trainer.name}, fold {self.fold}{part}"
        with tqdm(total=N_FOLDS, desc=told, disable=self.quiet, delay=2) as bar:
            return self.trainer.train(bags, self.columns, self.crops, bar.update)


@dataclass(frozen=True)
class HeadModel:
    """The parts of a fold's head; either `heads` or `clinical` is there."""

    trainer: str
    heads: tuple[Head, ...] = ()
    networks: tuple[Path, ...] = ()  # a checkpoint for each head, where heads read features
    clinical: ClinicalHead | None = None

    @classmethod
    def of_rows(
        cls, rows: pd.DataFrame, labels: pd.Series, columns: Sequence[str], seed: int, sensitivity: float | None
    ) -> HeadModel:
        from lnauto.trainers.patient.clinical import LNMTrainerClinical

        return cls(CLINICAL, clinical=LNMTrainerClinical(seed, sensitivity).train(rows, labels, columns))

    @classmethod
    def of_bags(cls, lesson: Lesson, bags: Sequence[Bag]) -> HeadModel:
        return cls(lesson.trainer.name, (lesson.learn(bags),))

    @classmethod
    def of_features(cls, lesson: Lesson, bags: Sequence[Bag], never_saw: Mapping[Path, Sequence[str]], look: Look) -> HeadModel:
        """A head for each network, on the patients it never saw."""
        heads = []
        for number, (network, patients) in enumerate(never_saw.items(), start=1):
            own = [bag for bag in bags if bag.patient in set(patients)]
            if len({bag.label for bag in own}) < 2:
                what = f"the {len(own)} patients that network {number} of fold {lesson.fold} never saw have one label"
                raise InputError.of(what, lesson.trainer.name, "add patients, or use LNMTrainerABMIL")
            heads.append(lesson.learn(look(network, own), f", network {number}"))
        return cls(lesson.trainer.name, tuple(heads), tuple(never_saw))

    @classmethod
    def load(cls, folder: Path) -> HeadModel:
        from lnauto.trainers.patient.clinical import ClinicalHead
        from lnauto.trainers.patient.head import Head

        path = folder / DESCRIPTION
        stored = read_json(path, "train again")
        if (networks := stored.get("networks")) is not None:
            heads = tuple(Head.load(folder / f"part_{number}") for number in range(len(networks)))
            return cls(stored["trainer"], heads, tuple((folder / network).resolve() for network in networks))
        if stored.get("trainer") != CLINICAL:
            head = Head.load(folder)
            return cls(head.trainer, (head,))
        try:
            return cls(CLINICAL, clinical=ClinicalHead.from_json(stored))
        except (KeyError, TypeError) as error:
            raise InputError.of(f"this is no head that can be read ({error})", path, "train again") from error

    def save(self, folder: Path, provenance: dict[str, Any]) -> None:
        """What says that the head is there comes last."""
        if self.clinical is not None:
            write_json(folder / DESCRIPTION, replace(self.clinical, provenance=provenance).to_json())
        elif not self.networks:
            replace(self.heads[0], provenance=provenance).save(folder)
        else:
            (folder / DESCRIPTION).unlink(missing_ok=True)  # after a kill, a new part is not taken for one of an earlier head
            for number, head in enumerate(self.heads):
                replace(head, provenance=provenance).save(folder / f"part_{number}")
            networks = [os.path.relpath(network, folder) for network in self.networks]
            write_json(folder / DESCRIPTION, {"trainer": self.trainer, "networks": networks, "provenance": provenance})

    @property
    def parts(self) -> tuple[Head, ...] | tuple[ClinicalHead, ...]:
        return (self.clinical,) if self.clinical is not None else self.heads

    @property
    def threshold(self) -> float:
        return float(np.mean([part.threshold.value for part in self.parts]))

    @property
    def patients(self) -> set[str]:
        return {patient for part in self.parts for patient in part.patients}

    @property
    def dropped(self) -> dict[str, str]:
        return {name: why for part in self.parts for name, why in part.dropped.items()}

    @property
    def columns(self) -> list[Column]:
        """The clinical columns, as each of its parts and of their members learned them."""
        if self.clinical is not None:
            return list(self.clinical.columns)
        return [column for head in self.heads for member in head.members for column in member.reader.columns]

    @property
    def planned(self) -> set[str]:
        """The clinical columns it was trained with, those that taught it nothing included."""
        return {column.name for column in self.columns} | set(self.dropped)

    def read(self, bags: Sequence[Bag], look: Look) -> list[PatientReading]:
        """The parts' mean answer for each patient. A column that training did not have is none here: a tumour's side, which
        says where a node lies, would go through weights that nothing taught."""
        if self.clinical is not None:
            return _read_rows(self.clinical, bags)
        planned = self.planned
        bags = [replace(bag, row={name: entry for name, entry in bag.row.items() if name in planned}) for bag in bags]
        seen = [look(network, bags) for network in self.networks] or [list(bags)]
        by_part = [_read(head, each) for head, each in zip(self.heads, seen, strict=True)]
        return [_mean(readings) for readings in zip(*by_part, strict=True)]


def _read(head: Head, bags: Sequence[Bag]) -> list[PatientReading]:
    readings = head.read(bags)
    calibrated = head.calibrator.probability(np.array([reading.logit for reading in readings]))
    return [
        PatientReading(one.logit, float(chance), sigmoid(one.instance_logits), one.attention, one.told)
        for one, chance in zip(readings, calibrated, strict=True)
    ]


def _read_rows(head: ClinicalHead, bags: Sequence[Bag]) -> list[PatientReading]:
    names = [column.name for column in head.columns]
    index = [bag.patient for bag in bags]
    rows = pd.DataFrame({name: [bag.row.get(name) for bag in bags] for name in names}, index=index)
    logits, nothing = head.logit(rows), np.zeros(0)
    chances = head.calibrator.probability(logits)
    return [PatientReading(float(logit), float(chance), nothing, nothing) for logit, chance in zip(logits, chances, strict=True)]


def _mean(readings: Sequence[PatientReading]) -> PatientReading:
    return PatientReading(
        float(np.mean([reading.logit for reading in readings])),
        float(np.mean([reading.probability for reading in readings])),
        np.mean([reading.node_probabilities for reading in readings], axis=0),
        np.mean([reading.attention for reading in readings], axis=0),
        readings[0].told,
    )
