"""How long a training lasts, and the learning rate on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass

POLY_EXPONENT = 0.9  # nnU-Net's


@dataclass(frozen=True)
class Length:
    """A training ends after so many iterations, or after so many seconds; just one of them is given."""

    iterations: int | None
    seconds: float | None
    iterations_per_epoch: int
    validation_iterations: int


class Clock:
    """How far a training is. Seconds count training only, over all the runs it took; time between two runs does not."""

    def __init__(self, length: Length, iteration: int = 0, seconds: float = 0.0, stopped: bool = False) -> None:
        self.length = length
        self.iteration = iteration
        self._seconds_before = seconds
        self._started = time.monotonic()
        self.stopped = stopped  # before its end

    @property
    def seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """From 0 to 1. With a number of iterations it depends on nothing else, so that a continued training repeats itself."""
        if self.length.iterations is not None:
            return min(self.iteration / self.length.iterations, 1.0)
        assert self.length.seconds is not None
        return min(self.seconds / self.length.seconds, 1.0)

    @property
    def done(self) -> bool:
        return self.stopped or self.progress >= 1.0

    @property
    def epoch(self) -> int:
        return self.iteration // self.length.iterations_per_epoch

    @property
    def epoch_is_full(self) -> bool:
        return self.iteration % self.length.iterations_per_epoch == 0


def learning_rate(initial: float, progress: float, iteration: int, warm_up: int) -> float:
    """nnU-Net's polynomial decay, over the iterations instead of the epochs, because a short training has few epochs."""
    rise = min((iteration + 1) / warm_up, 1.0) if warm_up else 1.0
    return float(rise * initial * (1 - progress) ** POLY_EXPONENT)
