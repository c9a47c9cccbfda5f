"""The line a person watches while a network trains."""

from __future__ import annotations

from types import TracebackType

from tqdm import tqdm

from lnauto.trainers.schedule import Clock

SMOOTHING = 0.95


class ProgressBar:
    """Loss, Dice and the time left: of the iterations to come, or of the budget."""

    def __init__(self, clock: Clock, quiet: bool, activity: str, score: str) -> None:
        self.clock = clock
        self.loss: float | None = None
        self.dice: float | None = None
        self.score = score  # what Dice is called where it is not that of whole masks
        by_time = clock.length.iterations is None
        total = clock.length.seconds if by_time else clock.length.iterations
        bar_format = "{desc} {percentage:3.0f}%|{bar}| {postfix}" if by_time else None
        self.bar = tqdm(
            total=total, initial=self._position(), desc=activity, unit="it", disable=quiet, bar_format=bar_format, mininterval=1
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()

    def step(self, loss: float) -> None:
        self.loss = loss if self.loss is None else SMOOTHING * self.loss + (1 - SMOOTHING) * loss
        facts = [f"loss {self.loss:.3f}"]
        if self.dice is not None:
            facts.append(f"{self.score} {self.dice:.3f}")
        if self.clock.length.seconds is not None:
            left = max(self.clock.length.seconds - self.clock.seconds, 0)
            facts.append(f"iteration {self.clock.iteration}, {left // 60:.0f} min {left % 60:.0f} s left")
        self.bar.set_postfix_str(", ".join(facts), refresh=False)
        self.bar.update(self._position() - self.bar.n)

    def _position(self) -> float:
        length = self.clock.length
        if length.seconds is not None:
            return min(self.clock.seconds, length.seconds)
        return self.clock.iteration
