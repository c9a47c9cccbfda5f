"""Whether probabilities mean what they say: of patients given 30 %, about 30 in 100 should have metastasis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from lnauto.evaluation.decisions import wilson
from lnauto.evaluation.discrimination import REPEATS, percentile_interval, redrawn
from lnauto.evaluation.estimates import UNKNOWN, Estimate, Flags, Floats, Z, labelled_probabilities, with_both_classes

NEVER = 1e-6  # a probability of 0 or 1 has no logit: it is taken for this far from it
PATIENTS_A_GROUP, MOST_GROUPS = 15, 10


class Calibration(NamedTuple):
    """`logit P(metastasis) = intercept + slope * logit probability`, fitted to the patients."""

    slope: Estimate
    intercept: Estimate


def brier(truth: ArrayLike, probability: ArrayLike) -> float:
    """The mean squared distance of the probability from what came true."""
    labels, probabilities = labelled_probabilities(truth, probability)
    return float(((probabilities - labels) ** 2).mean())


def bootstrap_brier(truth: ArrayLike, probability: ArrayLike, seed: int, repeats: int = REPEATS) -> Estimate:
    """The same with the percentile interval over patients drawn again."""
    labels, probabilities = labelled_probabilities(truth, probability)
    squares = (probabilities - labels) ** 2
    return percentile_interval(float(squares.mean()), redrawn(labels, seed, repeats) @ squares / labels.size)


def calibration(truth: ArrayLike, probability: ArrayLike) -> Calibration:
    """Slope and intercept by maximum likelihood, with Wald's intervals.

    Unknown where no finite line is the most likely one: the probabilities separate the classes, or are all the same.
    """
    labels, probabilities = labelled_probabilities(truth, probability)
    with_both_classes(labels)
    line = logit(np.clip(probabilities, NEVER, 1 - NEVER))
    with_it, without = line[labels], line[~labels]
    if with_it.max() <= without.min() or without.max() <= with_it.min():
        return Calibration(UNKNOWN, UNKNOWN)
    intercept, slope = _logistic(labels, line)
    return Calibration(slope, intercept)


def _logistic(labels: Flags, line: Floats) -> list[Estimate]:
    """Intercept and slope of a logistic regression without any penalty."""
    from scipy.optimize import minimize

    design = np.stack([np.ones_like(line), line], axis=1)

    def loss(beta: Floats) -> float:
        logits = design @ beta
        return float(np.logaddexp(0, logits).sum() - logits[labels].sum())

    def gradient(beta: Floats) -> Floats:
        return design.T @ (expit(design @ beta) - labels)

    def curvature(beta: Floats) -> Floats:
        fitted = expit(design @ beta)
        return (design * (fitted * (1 - fitted))[:, None]).T @ design

    beta = minimize(loss, np.array([0.0, 1.0]), jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-6}).x
    reach = Z * np.sqrt(np.diag(np.linalg.inv(curvature(beta))))
    return [Estimate(float(b), float(b - r), float(b + r)) for b, r in zip(beta, reach, strict=True)]


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of similar probability: how many, what was said of them on average, and how many had metastasis."""

    patients: int
    predicted: float
    observed: Estimate

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"patients": self.patients, "predicted": self.predicted, "observed": self.observed.to_json()}


def calibration_groups(truth: ArrayLike, probability: ArrayLike) -> tuple[CalibrationGroup, ...]:
    """Up to ten groups of about as many patients each, 15 at least; the same probability is never in two groups."""
    labels, probabilities = labelled_probabilities(truth, probability)
    count = int(np.clip(labels.size // PATIENTS_A_GROUP, 1, MOST_GROUPS))
    edges = np.quantile(probabilities, np.arange(1, count) / count)
    group = np.searchsorted(np.unique(edges), probabilities, side="right")
    return tuple(
        CalibrationGroup(
            int((group == number).sum()),
            float(probabilities[group == number].mean()),
            wilson(int(labels[group == number].sum()), int((group == number).sum())),
        )
        for number in np.unique(group)
    )
