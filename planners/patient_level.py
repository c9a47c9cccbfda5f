"""What is learned of patients beside their voxels: whether the table can carry a head, and which one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lnauto.data.patient_labels import PatientLabels
from lnauto.data.patients import PatientTable
from lnauto.errors import InputError
from lnauto.planners.evidence import Evidence
from lnauto.planners.table import CLINICAL, carrying_problems, clinical_columns

ON_NODES = "LNMTrainerABMIL"
HEAD_PREFIX = "LNMTrainer"
LEAST_WITH_CASES = 10  # patients of each kind who have scans, too
MASKS = ("predicted", "given")


@dataclass(frozen=True)
class PatientHead:
    """What the plan says of patients: `settings` None: no head, and why."""

    level: str | None  # image_level (metastasis or none), stage_level (N stage), or None
    settings: dict[str, Any] | None
    reason: str


def is_head(trainer: str | None) -> bool:
    """Whether the name is that of a trainer of patients, not of voxels."""
    return trainer is not None and trainer.startswith(HEAD_PREFIX)


def choose_patient_head(
    found: Evidence,
    table: PatientTable | None,
    cases: Sequence[str],
    dataset: str,
    trainer: str | None = None,
    masks: str | None = None,
) -> PatientHead:
    """The head for a data set with masks. `trainer` or `masks` given: a person asked for a head, so that a table that cannot
    carry one is an error; else it only means that there is none."""
    asked = trainer is not None or masks is not None
    if table is None:
        return _without("there is no patients.csv", asked, dataset)
    labels = PatientLabels.of(table)
    shown = {table.patient_of[case] for case in cases if case in table.patient_of}
    known = labels.known[[patient in shown for patient in labels.known.index]]
    having = int(known.sum())
    without = len(known) - having
    problems = [problem.what for problem in carrying_problems(labels, ["nodes"], f"{dataset}/patients.csv")]
    if not problems and min(without, having) < LEAST_WITH_CASES:
        problems = [f"of the patients with scans and masks {without} are known to be without and {having} with metastasis"]
    if problems:
        return _without(f"{problems[0]}; {LEAST_WITH_CASES} of each kind are needed", asked, dataset)
    level = "image_level" if labels.by_lnm >= labels.by_stage else "stage_level"
    columns = clinical_columns(table)
    chosen = trainer or ON_NODES
    masks = masks or "predicted"
    told = "masks given, in training and at use" if masks == "given" else "masks that networks predict which never saw the patient"
    reason = (
        f"{chosen} on {without} patients without and {having} with metastasis ({labels.told}), on {told}"
        + (f", with {', '.join(columns)}" if columns else ", without a clinical column")
    )
    return PatientHead(level, {"trainer": chosen, "columns": columns, "sensitivity": None, "masks": masks}, reason)


def _without(why: str, asked: bool, dataset: str) -> PatientHead:
    if asked:
        raise InputError.of(f"no patient head can be trained: {why}", f"{dataset}/patients.csv", "add patients, or ask for none")
    return PatientHead(None, None, f"no head: {why}")


__all__ = ["CLINICAL", "MASKS", "PatientHead", "choose_patient_head", "is_head"]
