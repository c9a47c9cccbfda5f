"""What a figure over patients is made of: a value with its interval, and the checks its input has to pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CONFIDENCE = 0.95
Z = float(ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; NaN where the data do not determine it."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: None instead of NaN."""
        return {"value": finite(self.value), "low": finite(self.low), "high": finite(self.high)}


@dataclass(frozen=True)
class Difference:
    """First minus second on the same patients, its 95 % interval, and the two-sided p of there being none."""

    value: float
    low: float
    high: float
    p: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: None instead of NaN."""
        return {"value": finite(self.value), "low": finite(self.low), "high": finite(self.high), "p": finite(self.p)}


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def finite(value: float) -> float | None:
    """The number as JSON knows it."""
    return float(value) if math.isfinite(value) else None


def labelled(truth: ArrayLike, score: ArrayLike) -> tuple[Flags, Floats]:
    """Labels and scores, one of each for every patient, once they are known to be that; a missing one is never filled in."""
    labels, scores = np.asarray(truth, float), np.asarray(score, float)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"one label and one score for each patient are needed, not {labels.shape} and {scores.shape}")
    if not labels.size:
        raise ValueError("there is no patient")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels have to be 0 or 1; patients without a label are left out before")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} patients have no score (NaN or infinite)")
    return labels == 1, scores


def labelled_probabilities(truth: ArrayLike, probability: ArrayLike) -> tuple[Flags, Floats]:
    """The same where the scores have to be probabilities."""
    labels, probabilities = labelled(truth, probability)
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError("probabilities have to lie between 0 and 1")
    return labels, probabilities


def with_both_classes(labels: Flags) -> None:
    if labels.all() or not labels.any():
        raise ValueError(f"all {labels.size} patients have the label {int(labels[0])}; both classes are needed")


def not_hard(scores: Floats) -> None:
    """Refuse classes where scores are meant: the figure would be that of one threshold, under the name of all of them."""
    if np.isin(scores, (0, 1)).all():
        raise ValueError("these scores are all 0 or 1: they are classes; what ranks patients needs scores or probabilities")
