"""From a score to what a clinic reads: a calibrated probability, and the threshold of a class.

Both are chosen on inner out-of-fold predictions: of training patients, by models that had not seen them. The outer fold is only
scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnauto.data.folds import make_folds
from lnauto.evaluation.patients import threshold_for_sensitivity, youden

Floats = NDArray[np.float64]
Labels = NDArray[np.int_]
Places = NDArray[np.int_]

N_FOLDS = 5
REPEATS = 3  # of the inner folds, drawn anew: with few patients one drawing is a gamble [our choice]


@dataclass(frozen=True)
class Calibrator:
    """Logistic recalibration: probability = sigmoid(intercept + slope * logit)."""

    slope: float = 1.0
    intercept: float = 0.0
    why: str = ""

    @property
    def calibrates(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)

    def logit(self, logits: Floats) -> Floats:
        return self.intercept + self.slope * logits

    def probability(self, logits: Floats) -> Floats:
        return sigmoid(self.logit(logits))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Threshold:
    """From which calibrated probability on a patient's class is "metastasis", and the rule that chose it."""

    value: float
    rule: str

    @classmethod
    def choose(cls, truth: Labels, probability: Floats, sensitivity: float | None) -> Threshold:
        if sensitivity is None:
            return cls(float(youden(truth, probability)), "Youden")
        return cls(float(threshold_for_sensitivity(truth, probability, sensitivity)), f"sensitivity {sensitivity:g}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def inner_folds(patients: Sequence[str], truth: Labels, seed: int) -> list[list[tuple[Places, Places]]]:
    """Repeat by repeat and fold by fold, who trains and who is predicted; names and labels decide, not their order."""
    place = {patient: number for number, patient in enumerate(patients)}
    strata = {patient: int(label) for patient, label in zip(patients, truth, strict=True)}
    repeats = (make_folds(patients, {}, strata, N_FOLDS, seed + repeat) for repeat in range(REPEATS))

    def places(names: Sequence[str]) -> Places:
        return np.array([place[name] for name in names])

    return [[(places(fold["train"]), places(fold["val"])) for fold in folds] for folds in repeats]


def fit_calibrator(truth: Labels, logits: Floats) -> Calibrator:
    """By maximum likelihood on inner out-of-fold logits, held back a little so that it stays finite where these part the classes.

    Where they rank upside down there is nothing to calibrate, and turning the model round would be learning from noise.
    """
    from sklearn.linear_model import LogisticRegression  # half a second to import, and prediction only needs what was fitted

    model = LogisticRegression(C=100.0, solver="newton-cholesky", tol=1e-8, max_iter=200).fit(logits[:, None], truth)
    slope = float(model.coef_[0, 0])
    if slope <= 0:
        return Calibrator(why="none: inner predictions do not rank the patients")
    return Calibrator(
        slope, float(model.intercept_[0]), why=f"slope {slope:.2f}, from inner predictions of {len(truth)} patients"
    )


def deviance(truth: Labels, logits: Floats) -> Floats:
    """Minus the logarithm of what each patient's own label was given, without overflow."""
    return np.logaddexp(0.0, np.where(truth == 1, -logits, logits))


def sigmoid(logit: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -logit))
