"""`LNTrainerTune`: a trained network learns from a few cases of another kind, the whole of it or a part."""

from __future__ import annotations

from lnauto.trainers.ignore import LNTrainerIgnore

PARTS = ("full", "head", "decoder", "bitfit", "norm", "lora")
MASKED = ("static", "random", "dgst")
METHODS = (*PARTS, *MASKED)


def trainer_for(method: str) -> str:
    """The name of the trainer that has this method."""
    return "LNTrainerDGST" if method in MASKED else "LNTrainerTune"


class LNTrainerTune(LNTrainerIgnore):
    """Fine-tuning of a part of the network, or of all."""
