"""Masks of a fold's training patients by networks that never saw them.

A head that learned from masks of a network's own training cases would meet worse ones at use. So the fold's training patients are
parted in two, a short training on each half predicts the other half, and the head learns from these masks. The fold's own network
predicts who is held out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lnauto.data.folds import make_folds
from lnauto.data.gathered import Gathered
from lnauto.data.preprocess import provenance_path
from lnauto.data.provenance import Provenance
from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.planners.plan import Plan, hash_of
from lnauto.workflow.fold import Request, length_of, train_network

log = logging.getLogger(__name__)

PARTS = 2  # each network learns from the cases of the other part [our choice]
SHARE_OF_LENGTH = 0.25  # of the fold's own training, for each of them [our choice]
RECORD = "predicted.json"
FINAL = "checkpoint_final.pth"
INNER = "inner_networks"  # their folder, in that of the fold


@dataclass(frozen=True)
class InnerNetworks:
    """The networks of one fold, and where they are left."""

    plan: Plan
    description: dict[str, Any]
    fold: str
    request: Request
    preprocessed: Path
    folder: Path
    cases: Sequence[str]  # the fold's training cases
    patient_of: Mapping[str, str]

    @property
    def parts(self) -> list[dict[str, list[str]]]:
        """Who trains and who is predicted; a patient is on one side."""
        found = make_folds(self.cases, self.patient_of, n_folds=PARTS)
        if len(found) < PARTS:
            what = f"fold {self.fold} trains on one patient, who cannot be predicted by a network that never saw the patient"
            raise InputError.of(what, self.preprocessed, "add patients, or train on given masks")
        return found

    def place(self, number: int) -> Path:
        return self.folder / f"part_{number}"

    @property
    def predicted(self) -> dict[Path, list[str]]:
        """The checkpoint of each network, and the cases it never saw."""
        return {self.place(number) / FINAL: part["val"] for number, part in enumerate(self.parts)}

    def masks(self, ending: str, seconds: float | None) -> dict[str, Path]:
        """The mask of each training case; `seconds` is what all networks together may take, None: as the plan has it."""
        parts, found = self.parts, dict[str, Path]()
        for number, part in enumerate(parts):
            self._predict(number, part, None if seconds is None else seconds / len(parts))
            found |= {case: self.place(number) / "validation" / f"{case}{ending}" for case in part["val"]}
        return found

    def _predict(self, number: int, part: dict[str, list[str]], seconds: float | None) -> None:
        from lnauto.trainers.material import Material

        record, made_of = self.place(number) / RECORD, self._made_of(part)
        if record.is_file() and read_json(record, "remove it").get("made_of") == made_of:
            return
        request = replace(self.request, proceed=False, overwrite=True, epochs=None, trainer=None, rounds=None)
        whole = length_of(self.plan, self.request)
        if whole.iterations is not None:
            request = replace(request, iterations=max(1, round(SHARE_OF_LENGTH * whole.iterations)), minutes=None)
        else:
            seconds = seconds or SHARE_OF_LENGTH * (whole.seconds or 0)
            request = replace(request, iterations=None, minutes=seconds / 60)
        material = Material(Gathered(dict.fromkeys(part["train"], self.preprocessed)), tuple(part["val"]), self.place(number))
        name = f"Inner network {number + 1} of {PARTS}, fold {self.fold}"
        trainer = train_network(self.plan, self.description, self.fold, request, seconds, name=name, material=material)
        trainer.validate()
        write_json(record, {"made_of": made_of, "trained_on": part["train"], "predicted": part["val"]})

    def _made_of(self, part: dict[str, list[str]]) -> str:
        """Also of the cases' scans and masks: where these are corrected, masks predicted from the old ones would be stale."""
        request, files = self.request, Provenance(provenance_path(self.preprocessed)).digests(self.cases)
        length = [request.minutes, request.epochs, request.iterations]
        return hash_of([self.plan.hash(), part, request.seed, length, request.configuration, files])
