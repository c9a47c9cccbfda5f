"""From a score to a decision: thresholds, what they catch and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lnauto.evaluation.estimates import UNKNOWN, Estimate, Flags, Floats, Z, labelled, labelled_probabilities, with_both_classes


@dataclass(frozen=True)
class Decisions:
    """Patients by truth and by what was said of them; said to have metastasis is who has at least the threshold."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    def estimates(self) -> dict[str, Estimate]:
        """Shares with Wilson's intervals; unknown where there is no patient to take the share of."""
        caught, alarms, missed, spared = vars(self).values()
        return {
            "sensitivity": wilson(caught, caught + missed),
            "specificity": wilson(spared, spared + alarms),
            "ppv": wilson(caught, caught + alarms),
            "npv": wilson(spared, spared + missed),
        }

    def to_json(self) -> dict[str, Any]:
        """Counts and what follows from them, JSON-ready."""
        return {**vars(self), **{name: estimate.to_json() for name, estimate in self.estimates().items()}}


def decide(truth: ArrayLike, score: ArrayLike, threshold: ArrayLike) -> Decisions:
    """Count decisions; one threshold for all patients, or one for each (that of the fold that predicted the patient)."""
    labels, scores = labelled(truth, score)
    thresholds = np.asarray(threshold, float)
    if thresholds.shape not in ((), scores.shape) or np.isnan(thresholds).any():
        raise ValueError("one threshold, or one for each patient, is needed, and none may be NaN")
    said = scores >= thresholds
    return Decisions(
        true_positive=int((labels & said).sum()),
        false_positive=int((~labels & said).sum()),
        false_negative=int((labels & ~said).sum()),
        true_negative=int((~labels & ~said).sum()),
    )


def at_threshold(truth: ArrayLike, score: ArrayLike, threshold: ArrayLike) -> dict[str, Estimate]:
    """Sensitivity, specificity, ppv and npv of `score >= threshold`."""
    return decide(truth, score, threshold).estimates()


def wilson(part: int, whole: int) -> Estimate:
    """A share with Wilson's score interval, which stays within 0 and 1 and has a width even at its ends."""
    if not whole:
        return UNKNOWN
    share = part / whole
    middle = share + Z**2 / (2 * whole)
    reach = Z * math.sqrt(share * (1 - share) / whole + Z**2 / (4 * whole**2))
    low, high = ((middle + side * reach) / (1 + Z**2 / whole) for side in (-1, 1))
    return Estimate(share, max(low, 0.0) if part else 0.0, min(high, 1.0) if part < whole else 1.0)


def youden(truth: ArrayLike, score: ArrayLike) -> float:
    """The threshold with the largest sensitivity + specificity - 1; of several, the most sensitive."""
    labels, scores, steps = _steps(truth, score)
    caught = np.array([(scores[labels] >= step).mean() for step in steps])
    alarms = np.array([(scores[~labels] >= step).mean() for step in steps])
    gain = caught - alarms
    return _below(steps, int(np.flatnonzero(gain >= gain.max() - 1e-12)[0]))


def threshold_for_sensitivity(truth: ArrayLike, score: ArrayLike, sensitivity: float) -> float:
    """The highest threshold that still catches this share of the patients with metastasis."""
    if not 0 < sensitivity <= 1:
        raise ValueError(f"a sensitivity lies above 0 and is at most 1, not {sensitivity}")
    labels, scores, steps = _steps(truth, score)
    positive = np.sort(scores[labels])[::-1]
    needed = math.ceil(sensitivity * positive.size - 1e-9)  # 0.55 * 100 is 55.00000000000001
    return _below(steps, int(np.searchsorted(steps, positive[needed - 1])))


def _steps(truth: ArrayLike, score: ArrayLike) -> tuple[Flags, Floats, Floats]:
    labels, scores = labelled(truth, score)
    with_both_classes(labels)
    return labels, scores, np.unique(scores)


def _below(steps: Floats, index: int) -> float:
    """Half-way from this score down to the next, so that a patient whose score differs in its last digit is decided alike."""
    if not index:
        return float(steps[0])
    lower, upper = steps[index - 1 : index + 1]
    middle = (lower + upper) / 2
    return float(middle if middle > lower else upper)


THRESHOLDS = tuple(round(0.01 * percent, 2) for percent in range(1, 100))


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit for each probability from which one would treat: by the model, of treating everybody, and nobody (0)."""

    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    treat_all: tuple[float, ...]
    treat_none: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: list(values) for name, values in vars(self).items()}


def decision_curve(truth: ArrayLike, probability: ArrayLike, thresholds: Sequence[float] = THRESHOLDS) -> DecisionCurve:
    """Net benefit: true positives a patient, less false positives weighed by the odds of the threshold."""
    labels, probabilities = labelled_probabilities(truth, probability)
    at = np.asarray(thresholds, float)
    if at.ndim != 1 or not ((at >= 0) & (at < 1)).all():
        raise ValueError("the thresholds of a decision curve lie between 0 and 1, without 1")
    odds = at / (1 - at)
    said = probabilities >= at[:, None]
    model = (said & labels).mean(axis=1) - (said & ~labels).mean(axis=1) * odds
    treat_all = labels.mean() - (1 - labels.mean()) * odds
    return DecisionCurve(*(tuple(map(float, values)) for values in (at, model, treat_all, np.zeros(at.size))))
