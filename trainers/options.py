"""What the command line decides about a training, beyond the plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lnauto.errors import InputError
from lnauto.trainers.schedule import Length

PARTS = ("full", "head", "decoder", "bitfit", "norm", "lora")
MASKED = ("static", "random", "dgst")


@dataclass(frozen=True)
class Tune:
    """How a trained network is adapted to other cases."""

    method: str = "dgst"
    k: float | None = None  # weights of an output that may move: so many, or, below 1, this share of them

    def __post_init__(self) -> None:
        if self.method not in PARTS + MASKED:
            remedy = f"give one of {', '.join(PARTS + MASKED)}, or auto"
            raise InputError.of(f"there is no way of tuning called {self.method}", "--tune", remedy)
        if self.method in MASKED and self.k is None:
            object.__setattr__(self, "k", 1)
        if self.k is None:
            return
        if self.method not in MASKED:
            raise InputError.of(f"{self.method} has no number of weights", "--tune", f"give one to {', '.join(MASKED)} only")
        if not 0 < self.k < math.inf or (self.k >= 1 and self.k != int(self.k)):  # NaN is not above 0 either
            raise InputError.of(f"{self.k} weights of an output cannot move", "--tune", "give a whole number, or a share below 1")

    def of_row(self, length: int) -> int:
        """How many of so many weights may move."""
        assert self.k is not None
        return min(int(self.k), length) if self.k >= 1 else max(1, round(self.k * length))


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
    track: tuple[str, ...] = ()  # with what, by the names in `tracking.TRACKERS`
