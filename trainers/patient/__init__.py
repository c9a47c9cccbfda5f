"""What learns of patients: a probability of nodal metastasis for each."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from lnauto.errors import InputError

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag_trainer import BagTrainer
    from lnauto.trainers.patient.clinical import LNMTrainerClinical

CLINICAL = "LNMTrainerClinical"
AUTOENCODER = "LNMTrainerVAE"  # whose latents can be drawn
PATIENT_TRAINERS = {
    CLINICAL: "lnauto.trainers.patient.clinical",
    "LNMTrainerRadiomics": "lnauto.trainers.patient.radiomics",
    "LNMTrainerABMIL": "lnauto.trainers.patient.abmil",
    AUTOENCODER: "lnauto.trainers.patient.vae",
    "LNMTrainerWeGA": "lnauto.trainers.patient.wega",
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


def check_head(name: str) -> str:
    """The name, if there is such a trainer."""
    _check(name, tuple(PATIENT_TRAINERS))
    return name


def check_block_head(name: str) -> str:
    """The name, if there is such a trainer and it can do without nodes."""
    if name not in PATIENT_TRAINERS or not (name == CLINICAL or find_bag_trainer(name).reads_blocks):
        reads = "reads nodes" if name in PATIENT_TRAINERS else "is no trainer of patients"
        remedy = "give LNMTrainerABMIL or LNMTrainerClinical, or draw the nodes"
        raise InputError.of(f"{name} {reads}, and the plan is for scans without masks", "-tr or the plan", remedy)
    return name


def _check(name: str, known: Sequence[str]) -> None:
    if name not in known:
        what = f"there is no trainer {name} for patients (there: {', '.join(known)})"
        raise InputError.of(what, "-tr or the plan", "give one of them")
