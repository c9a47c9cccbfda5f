"""Overlap of two masks, in mm3, so that cases of different spacing can be added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lnauto.nodes import Array


@dataclass(frozen=True)
class Overlap:
    """Volumes of the true mask, of the predicted one, and of what they share."""

    true_mm3: float
    predicted_mm3: float
    shared_mm3: float

    @classmethod
    def of(cls, true: Array, predicted: Array, spacing: Sequence[float]) -> Overlap:
        """Of two boolean masks."""
        voxel = float(np.prod(spacing))
        return cls(*(int(np.count_nonzero(mask)) * voxel for mask in (true, predicted, true & predicted)))

    @property
    def dice(self) -> float:
        """Twice the shared volume over the sum of both; NaN if both are empty."""
        total = self.true_mm3 + self.predicted_mm3
        return 2 * self.shared_mm3 / total if total else float("nan")


def pooled(overlaps: Iterable[Overlap]) -> Overlap:
    """Many cases as one: its Dice is DSCagg, NaN only if every case is empty on both sides."""
    overlaps = list(overlaps)
    return Overlap(
        sum(overlap.true_mm3 for overlap in overlaps),
        sum(overlap.predicted_mm3 for overlap in overlaps),
        sum(overlap.shared_mm3 for overlap in overlaps),
    )
