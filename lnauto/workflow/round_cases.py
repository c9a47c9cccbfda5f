"""Which cases of a fold are to be labelled, and which of its two labellers learns from which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lnauto.data.gathered import Gathered
from lnauto.data.preprocess import provenance_path
from lnauto.data.provenance import Provenance
from lnauto.errors import InputError
from lnauto.trainers.agreement import KEEP

LABELLERS = (1, 2)


@dataclass(frozen=True)
class RoundCases:
    """The cases of one fold. What it validates on is only ever looked at, never labelled and never learned from."""

    annotated: tuple[str, ...]  # training cases with a label
    validation: tuple[str, ...]
    partly: tuple[str, ...]  # annotated cases with voxels of which nothing is known
    unannotated: tuple[str, ...]
    folders: Mapping[str, Path]  # where each case but those for validation is preprocessed
    half_of: Mapping[str, int]  # the labeller that learns from a case

    @property
    def to_label(self) -> tuple[str, ...]:
        return tuple(sorted([*self.partly, *self.unannotated]))

    def gathered(self, names: Sequence[str], labels: Path | None = None) -> Gathered:
        return Gathered({name: self.folders[name] for name in names}, labels)

    def made_of(self) -> str:
        """What the pseudo labels depend on besides the networks, as a short hash: files, plan and labels of every case."""
        known: dict[Path, Provenance] = {}
        facts = {}
        for name in sorted(self.folders):
            folder = self.folders[name]
            known.setdefault(folder, Provenance(provenance_path(folder)))
            record = known[folder].cases[name]
            facts[name] = [record["hash"], [source["digest"] for source in record["sources"]]]
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=12).hexdigest()


def choose_cases(
    split: Mapping[str, Sequence[str]],
    unannotated: Sequence[str],
    patient_of: Mapping[str, str],
    folders: tuple[Path, Path],
    labels: Any,
    where: str,
    quiet: bool = False,
) -> RoundCases:
    """The cases of a fold.

    Args:
        split: what it trains on (`train`) and validates on (`val`).
        unannotated: all cases without a label; those of a patient the fold validates on stay out.
        patient_of: every case's patient.
        folders: of the preprocessed cases with a label, and of those without.
        labels: nnU-Net's LabelManager, with an ignore label.
        where: the fold, for messages.
        quiet: no progress bar.
    """
    held_back = {patient_of.get(name, name) for name in split["val"]}
    free = tuple(sorted(name for name in unannotated if patient_of.get(name, name) not in held_back))
    annotated = tuple(sorted(split["train"]))
    place = {**dict.fromkeys(annotated, folders[0]), **dict.fromkeys(free, folders[1])}
    drawn, partly = {}, []
    for name in tqdm(annotated, desc="Looking for what is not drawn", unit="case", disable=quiet, delay=2):
        _, seg, _, properties = Gathered({name: folders[0]}).load_case(name)
        drawn[name] = _places_to_centre_at(properties["class_locations"])
        if (np.asarray(seg[:]) == labels.ignore_label).any():
            partly.append(name)
    _check(len(partly) + len(free), drawn, patient_of, where)
    half_of = deal(drawn, free, patient_of)
    return RoundCases(annotated, tuple(sorted(split["val"])), tuple(partly), free, place, half_of)


def deal(drawn: Mapping[str, int], unannotated: Sequence[str], patient_of: Mapping[str, str]) -> dict[str, int]:
    """Each case to a labeller, patient by patient: first those with labels, in turn by how much is drawn, then the others."""
    amount: dict[str, int] = {}
    for name, voxels in drawn.items():
        patient = patient_of.get(name, name)
        amount[patient] = amount.get(patient, 0) + voxels
    patients = sorted(amount, key=lambda patient: (-amount[patient], patient))
    patients += sorted({patient_of.get(name, name) for name in unannotated} - set(amount))
    turns = {patient: LABELLERS[(place + 1) // 2 % 2] for place, patient in enumerate(patients)}  # 1 2 2 1 1 2 2 ...
    return {name: turns[patient_of.get(name, name)] for name in [*drawn, *unannotated]}


def _places_to_centre_at(locations: Mapping[Any, Any]) -> int:
    """Voxels of nodes that nnU-Net may centre a patch at: about how much is drawn."""
    return sum(len(rows) for label, rows in locations.items() if not (isinstance(label, tuple) and -1 in label))


def _check(to_label: int, drawn: Mapping[str, int], patient_of: Mapping[str, str], where: str) -> None:
    if to_label == 0:
        what = "there is nothing to label: every training case is taken as wholly annotated, and none is without annotation"
        raise InputError.of(what, where, "leave out --rounds, or add scans without masks in imagesUn")
    patients = {patient_of.get(name, name) for name, voxels in drawn.items() if voxels}
    if len(patients) < len(LABELLERS):
        what = f"two labellers need drawn nodes of two patients to learn from, and there are {len(patients)}"
        raise InputError.of(what, where, "leave out --rounds, or annotate more cases")
    if int(KEEP * to_label) == 0:
        what = f"of {to_label} case to label the rounds would keep none (they keep {KEEP:.0%}, rounded down)"
        raise InputError.of(what, where, "leave out --rounds, or add scans")
