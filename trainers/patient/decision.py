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
from sklearn.linear_model import LogisticRegression

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


def choose_calibrator(truth: Labels, logits: Floats, patients: Sequence[str], seed: int) -> Calibrator:
    """Recalibration where it pays: where it lowers the deviance of patients it was not fitted on by more than chance does."""
    calibrated = np.empty(len(truth))
    for train, kept in inner_folds(patients, truth, seed)[0]:
        calibrated[kept] = deviance(truth[kept], fit_calibrator(truth[train], logits[train]).logit(logits[kept]))
    gain = deviance(truth, logits) - calibrated
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    said = f"recalibrated, a patient's deviance changes by {-gain.mean():+.4f} (standard error {error:.4f})"
    fitted = fit_calibrator(truth, logits)
    if gain.mean() <= error or fitted.slope <= 0:  # a slope below 0 would turn the model round: there is nothing to calibrate
        return Calibrator(why=f"none: {said}")
    return Calibrator(fitted.slope, fitted.intercept, why=said)


def fit_calibrator(truth: Labels, logits: Floats) -> Calibrator:
    """By maximum likelihood, held back a little so that it stays finite where the logits part the classes."""
    model = LogisticRegression(C=100.0, solver="newton-cholesky", tol=1e-8, max_iter=200).fit(logits[:, None], truth)
    return Calibrator(float(model.coef_[0, 0]), float(model.intercept_[0]))


def deviance(truth: Labels, logits: Floats) -> Floats:
    """Minus the logarithm of what each patient's own label was given, without overflow."""
    return np.logaddexp(0.0, np.where(truth == 1, -logits, logits))


def sigmoid(logit: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -logit))
