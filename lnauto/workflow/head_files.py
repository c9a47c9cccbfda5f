"""A fold's patient head, whichever kind it is: one on nodes, one on the clinical row, or one for each of several networks.

A head that reads a network's features goes with that network: features of another one mean something else. Such a head has as
many parts as there are inner networks; each learned from patients its network never saw, and their mean counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.trainers.patient import CLINICAL, find_bag_trainer
from lnauto.trainers.patient.decision import N_FOLDS, sigmoid

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag import Bag
    from lnauto.trainers.patient.clinical import ClinicalHead
    from lnauto.trainers.patient.head import Head
    from lnauto.workflow.heads import HeadWork

DESCRIPTION = "head.json"


@dataclass(frozen=True)
class PatientReading:
    """What a fold's head says of one patient."""

    logit: float
    probability: float  # calibrated
    node_probabilities: np.ndarray  # of each instance, not calibrated
    attention: np.ndarray
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HeadModel:
    """The parts of a fold's head; exactly one of `heads` and `clinical` is there."""

    trainer: str
    heads: tuple[Head, ...] = ()
    networks: tuple[Path, ...] = ()  # a checkpoint for each head, where heads read features
    clinical: ClinicalHead | None = None

    @classmethod
    def train(cls, work: HeadWork, fold: str, patients: Mapping[str, Sequence[str]], masks: Mapping[str, Path]) -> HeadModel:
        from lnauto.workflow.heads import bags_of

        columns = work.settings["columns"]
        if work.trainer == CLINICAL:
            from lnauto.trainers.patient.clinical import LNMTrainerClinical

            trainer = LNMTrainerClinical(work.request.seed, work.sensitivity)
            rows = work.table.frame.loc[list(patients), columns]
            return cls(CLINICAL, clinical=trainer.train(rows, pd.Series(work.labels), columns))
        on_bags = find_bag_trainer(work.trainer)(seed=work.request.seed, sensitivity=work.sensitivity)
        if work.request.iterations is not None:  # a try
            steps = min(on_bags.schedule.steps, work.request.iterations)
            on_bags = replace(on_bags, schedule=replace(on_bags.schedule, steps=steps))
        bags = bags_of(work, patients, masks)
        with tqdm(total=N_FOLDS, desc=f"{work.trainer}, fold {fold}", disable=work.request.quiet, delay=2) as bar:
            return cls(work.trainer, (on_bags.train(bags, columns, work.maker.crops, bar.update),))

    @classmethod
    def load(cls, folder: Path) -> HeadModel:
        from lnauto.trainers.patient.clinical import ClinicalHead
        from lnauto.trainers.patient.head import Head

        stored = read_json(folder / DESCRIPTION, "train again")
        if stored.get("trainer") != CLINICAL:
            head = Head.load(folder)
            return cls(head.trainer, (head,))
        try:
            return cls(CLINICAL, clinical=ClinicalHead.from_json(stored))
        except (KeyError, TypeError) as error:
            raise InputError.of(f"this is no head that can be read ({error})", folder / DESCRIPTION, "train again") from error

    def save(self, folder: Path, provenance: dict[str, Any]) -> None:
        if self.clinical is not None:
            write_json(folder / DESCRIPTION, replace(self.clinical, provenance=provenance).to_json())
        for head in self.heads:
            replace(head, provenance=provenance).save(folder)

    @property
    def parts(self) -> tuple[Head, ...] | tuple[ClinicalHead]:
        return self.heads or ((self.clinical,) if self.clinical is not None else ())

    @property
    def threshold(self) -> float:
        return float(np.mean([part.threshold.value for part in self.parts]))

    @property
    def patients(self) -> set[str]:
        return {patient for part in self.parts for patient in part.patients}

    @property
    def dropped(self) -> dict[str, str]:
        return {name: why for part in self.parts for name, why in part.dropped.items()}

    def read(self, bags: Sequence[Bag], _: Any = None) -> list[PatientReading]:
        if self.clinical is not None:
            return self._read_rows(bags)
        by_part = [head.read(bags) for head in self.heads]
        found = []
        for readings in zip(*by_part, strict=True):
            calibrated = [
                float(head.calibrator.probability(np.array(reading.logit)))
                for head, reading in zip(self.heads, readings, strict=True)
            ]
            found.append(
                PatientReading(
                    float(np.mean([reading.logit for reading in readings])),
                    float(np.mean(calibrated)),
                    np.mean([sigmoid(reading.instance_logits) for reading in readings], axis=0),
                    np.mean([reading.attention for reading in readings], axis=0),
                    readings[0].told,
                )
            )
        return found

    def _read_rows(self, bags: Sequence[Bag]) -> list[PatientReading]:
        assert self.clinical is not None
        names = [column.name for column in self.clinical.columns]
        index = [bag.patient for bag in bags]
        rows = pd.DataFrame({name: [bag.row.get(name) for bag in bags] for name in names}, index=index)
        logits, nothing = self.clinical.logit(rows), np.zeros(0)
        calibrated = self.clinical.calibrator.probability(logits)
        return [
            PatientReading(float(logit), float(chance), np.zeros(len(bag)), nothing)
            for logit, chance, bag in zip(logits, calibrated, bags, strict=True)
        ]
