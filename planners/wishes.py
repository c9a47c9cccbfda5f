"""What a person has decided before the planner does."""

from __future__ import annotations

from dataclasses import dataclass

FLAGS = {
    "strategy": "--strategy",
    "trainer": "-tr",
    "spacing": "--spacing",
    "patch": "--patch",
    "budget": "--budget",
    "masks": "--masks",
}
PLANNER = "lnauto"


@dataclass(frozen=True)
class Wishes:
    """None: the planner decides."""

    strategy: str | None = None
    trainer: str | None = None
    spacing: tuple[float, float, float] | None = None  # mm, in the image's order (z, y, x)
    patch: tuple[int, int, int] | None = None  # voxels of that spacing, in the same order
    minutes: float | None = None  # that training one fold may take, the whole command
    masks: str | None = None  # which masks a patient head reads: "given" ones, or "predicted" ones

    def decided_by(self) -> dict[str, str]:
        """Who decided what, decision by decision."""
        given = {
            "strategy": self.strategy,
            "trainer": self.trainer,
            "spacing": self.spacing,
            "patch": self.patch,
            "budget": self.minutes,
            "masks": self.masks,
        }
        return {name: PLANNER if wish is None else FLAGS[name] for name, wish in given.items()}


NONE = Wishes()
