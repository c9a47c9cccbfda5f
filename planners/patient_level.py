"""What is learned of patients: whether a table can carry a head, and which one goes beside the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lnauto.data.patient_labels import PatientLabels
from lnauto.data.patients import PatientTable
from lnauto.errors import InputError, Problem

LEAST_OF_EACH = 10  # patients with and without metastasis: below that, no validation says anything [our choice]
FEW_PATIENTS = 600  # below, a line through what is measured; above, a network that looks [our choice: measured with 116]
MEASURED, LOOKED_AT = "LNMTrainerRadiomics", "LNMTrainerABMIL"
HEADS_BEGIN = "LNMTrainer"
SIDE = "tumour_side"
MASKS = ("predicted", "given")


@dataclass(frozen=True)
class PatientHead:
    """What the plan says of patients; `settings` None: there is no head, and `reason` says why."""

    level: str | None  # image_level (metastasis or none), stage_level (N stage), or None
    settings: dict[str, Any] | None
    reason: str


def is_head(trainer: str | None) -> bool:
    """Whether this is the name of a trainer of patients, not of voxels."""
    return trainer is not None and trainer.startswith(HEADS_BEGIN)


def choose_patient_head(
    table: PatientTable | None, cases: Sequence[str], where: str, trainer: str | None = None, masks: str | None = None
) -> PatientHead:
    """The head beside the masks of these cases. With `trainer` or `masks` a person asked for one: then a table that cannot carry
    it is an error, else there is just none."""
    asked = trainer is not None or masks is not None
    if table is None:
        return _without(Problem("there is no patients.csv", where, "add the table"), asked)
    labels = PatientLabels.of(table)
    if problems := label_problems(labels, where):
        return _without(problems[0], asked)
    shown = {table.patient_of[case] for case in cases if case in table.patient_of}
    known = labels.known[[patient in shown for patient in labels.known.index]]
    without, having = int((known == 0).sum()), int((known == 1).sum())
    if min(without, having) < LEAST_OF_EACH:
        told = f"of the patients with masks, {without} are known to be without and {having} with metastasis"
        return _without(Problem(told, where, f"add patients: {LEAST_OF_EACH} of each kind are needed"), asked)
    columns = clinical_columns(table)
    few = without + having < FEW_PATIENTS
    chosen, masks = trainer or (MEASURED if few else LOOKED_AT), masks or "predicted"
    rests = "masks given, now and at use" if masks == "given" else "masks predicted by networks that had not seen the patient"
    with_columns = f" and {', '.join(columns)}" if columns else ""
    reason = (
        f"{chosen}, by {labels.told}: {without} patients without and {having} with metastasis; it reads {rests}{with_columns}"
    )
    if trainer is None and few:
        reason += f"; with fewer than {FEW_PATIENTS} patients it goes before heads on crops (documentation/methods/heads.md)"
    level = "image_level" if labels.by_lnm >= labels.by_stage else "stage_level"
    return PatientHead(level, {"trainer": chosen, "columns": columns, "sensitivity": None, "masks": masks}, reason)


def _without(problem: Problem, asked: bool) -> PatientHead:
    if asked:
        raise InputError([problem])
    return PatientHead(None, None, f"no head: {problem.what}; {problem.remedy}")


def label_problems(labels: PatientLabels, where: str) -> list[Problem]:
    """Why a table's labels cannot carry a head."""
    without, having = labels.counts
    if without + having == 0:
        return [Problem("no patient has a label", where, 'add the column "lnm" (0, 1) or "n_stage" (0 to 3)')]
    if without == 0 or having == 0:
        only = "with" if having else "without"
        told = f"all {without + having} patients with a label are {only} metastasis"
        return [Problem(told, where, f"add patients {'without' if having else 'with'} it: there is nothing to tell apart")]
    if min(without, having) < LEAST_OF_EACH:
        told = f"too few patients have a label: {without} without and {having} with metastasis"
        return [Problem(told, where, f"add patients: {LEAST_OF_EACH} of each kind are needed")]
    return []


def clinical_columns(table: PatientTable) -> list[str]:
    """What a head may learn from: not who and which scans, not the labels, not the centre."""
    side = [SIDE] if SIDE in table.frame else []
    return sorted([*table.clinical, *side])
