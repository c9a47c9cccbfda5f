"""What learns of patients: a probability of nodal metastasis for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnauto.errors import InputError

if TYPE_CHECKING:
    from lnauto.trainers.patient.clinical import LNMTrainerClinical

PATIENT_TRAINERS = {"LNMTrainerClinical": "lnauto.trainers.patient.clinical"}
"""Every patient trainer by the name a plan or `-tr` gives it, and where it lives."""


def find_patient_trainer(name: str) -> type[LNMTrainerClinical]:
    from importlib import import_module

    if name not in PATIENT_TRAINERS:
        known = ", ".join(PATIENT_TRAINERS)
        raise InputError.of(f"there is no trainer {name} for patients (there: {known})", "-tr or the plan", "give one of them")
    trainer: type[LNMTrainerClinical] = getattr(import_module(PATIENT_TRAINERS[name]), name)
    return trainer
