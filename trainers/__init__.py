"""What learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnauto.errors import InputError

if TYPE_CHECKING:
    from lnauto.trainers.lntrainer import LNTrainer

TRAINERS = {
    "LNTrainer": "lnauto.trainers.lntrainer",
    "LNTrainerIgnore": "lnauto.trainers.ignore",
    "LNTrainerPartial": "lnauto.trainers.partial",
    "LNTrainerScribble": "lnauto.trainers.scribble",
    "LNTrainerTune": "lnauto.trainers.tuning",
    "LNTrainerDGST": "lnauto.trainers.dgst",
    "LNTrainerJoint": "lnauto.trainers.joint",
}
"""Every trainer by the name a plan or `-tr` gives it, and where it lives; importing them costs seconds."""


def find_trainer(name: str) -> type[LNTrainer]:
    from importlib import import_module

    if name not in TRAINERS:
        raise InputError.of(f"there is no trainer {name} (there: {', '.join(TRAINERS)})", "-tr or the plan", "give one of them")
    trainer: type[LNTrainer] = getattr(import_module(TRAINERS[name]), name)
    return trainer
