"""What learns of patients: a probability of nodal metastasis for each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lnauto.errors import InputError

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag_trainer import BagTrainer
    from lnauto.trainers.patient.clinical import LNMTrainerClinical

CLINICAL = "LNMTrainerClinical"
PATIENT_TRAINERS = {
    CLINICAL: "lnauto.trainers.patient.clinical",
    "LNMTrainerABMIL": "lnauto.trainers.patient.abmil",
    "LNMTrainerMaskGate": "lnauto.trainers.patient.mask_gate",
}
"""Every patient trainer by the name a plan or `-tr` gives it, and where it lives."""


def find_patient_trainer(name: str) -> type[LNMTrainerClinical]:
    """The one on the clinical row alone."""
    _check(name, (CLINICAL,))
    trainer: type[LNMTrainerClinical] = getattr(import_module(PATIENT_TRAINERS[name]), name)
    return trainer


def find_bag_trainer(name: str) -> type[BagTrainer]:
    """One that looks at nodes."""
    _check(name, [known for known in PATIENT_TRAINERS if known != CLINICAL])
    trainer: type[BagTrainer] = getattr(import_module(PATIENT_TRAINERS[name]), name)
    return trainer


def _check(name: str, known: object) -> None:
    names = list(known)  # type: ignore[call-overload]
    if name not in names:
        raise InputError.of(
            f"there is no trainer {name} for patients (there: {', '.join(names)})", "-tr or the plan", "give one of them"
        )
