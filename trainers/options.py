"""What the command line decides about a training, beyond the plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnauto.trainers.schedule import Length


@dataclass(frozen=True)
class Tune:
    """How a trained network is adapted to other cases."""

    method: str = "dgst"
    k: float | None = None  # weights per output neuron that may move: so many, or, below 1, this share; None: one


@dataclass(frozen=True)
class Options:
    """Everything `lnauto_train` may set; the plan holds the rest."""

    length: Length
    seed: int = 0
    precision: str = "auto"
    workers: int = 0  # processes that make batches in the background
    save_every_seconds: float = 180.0
    quiet: bool = False
    pretrained: Path | None = None  # the pre-training a new training starts from
    foundation: Path | None = None  # the foundation model it starts from
    tune: Tune | None = None  # None: as the trainer does it by default
