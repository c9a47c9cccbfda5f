"""`LNMTrainerClinical`: regularised logistic regression on the clinical row, the bar that every other patient head must clear.

Few patients, few columns: a straight line through standardised numbers and one-hot categories, held back by a penalty whose
strength is chosen by cross-validation inside the training patients, is hard to beat there, and its weights can be read. What it
knows is a file of plain JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lnauto.trainers.patient.columns import Column, encode, learn_columns
from lnauto.trainers.patient.decision import (
    N_FOLDS,
    REPEATS,
    Calibrator,
    Floats,
    Labels,
    Threshold,
    deviance,
    fit_calibrator,
    inner_folds,
)

STRENGTHS = tuple(float(strength) for strength in np.logspace(3, -1, 9))  # of the penalty, the strongest first


@dataclass(frozen=True)
class ClinicalHead:
    """A trained head: everything a prediction needs, and where it came from."""

    columns: tuple[Column, ...]
    dropped: dict[str, str]
    weights: tuple[float, ...]  # one per feature of the columns, in their order
    intercept: float
    strength: float
    calibrator: Calibrator
    threshold: Threshold
    patients: tuple[str, ...]  # it was trained on
    inner: dict[str, Any] = field(default_factory=dict)  # what the inner folds showed
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> ClinicalHead:
        return cls(
            columns=tuple(Column.from_json(column) for column in stored["columns"]),
            dropped=stored["dropped"],
            weights=tuple(feature["weight"] for feature in stored["features"]),
            intercept=stored["intercept"],
            strength=stored["strength"],
            calibrator=Calibrator(**stored["calibrator"]),
            threshold=Threshold(**stored["threshold"]),
            patients=tuple(stored["patients"]),
            inner=stored["inner"],
            provenance=stored["provenance"],
        )

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.features)

    def logit(self, rows: pd.DataFrame) -> Floats:
        """Before calibration; a row per patient, a column at least for each the head learned."""
        return np.asarray(self.intercept + encode(self.columns, rows) @ np.array(self.weights))

    def probability(self, rows: pd.DataFrame) -> Floats:
        """Calibrated."""
        return self.calibrator.probability(self.logit(rows))

    def to_json(self) -> dict[str, Any]:
        pairs = zip(self.features, self.weights, strict=True)
        return {
            "trainer": LNMTrainerClinical.__name__,
            "columns": [column.to_json() for column in self.columns],
            "dropped": self.dropped,
            "features": [{"name": name, "weight": weight} for name, weight in pairs],
            "intercept": self.intercept,
            "strength": self.strength,
            "calibrator": self.calibrator.to_json(),
            "threshold": self.threshold.to_json(),
            "patients": list(self.patients),
            "inner": self.inner,
            "provenance": self.provenance,
        }


@dataclass(frozen=True)
class LNMTrainerClinical:
    """How to train the head; `sensitivity` None: the threshold is Youden's."""

    seed: int = 0
    sensitivity: float | None = None

    def train(self, rows: pd.DataFrame, labels: pd.Series, columns: Sequence[str]) -> ClinicalHead:
        """A head from the training patients' rows (index: their names) and labels (0 or 1); it looks at nobody else."""
        rows = rows.sort_index()  # sums in another order would differ in their last digits
        truth = labels[rows.index].to_numpy(int)
        patients = tuple(str(name) for name in rows.index)
        learned, dropped = learn_columns(rows, columns)
        strength, logits, inner = self._inner(rows, truth, [column.name for column in learned])
        calibrator = fit_calibrator(truth, logits)
        threshold = Threshold.choose(truth, calibrator.probability(logits), self.sensitivity)
        intercept, weights = fit(encode(learned, rows), truth, strength)
        return ClinicalHead(learned, dropped, weights, intercept, strength, calibrator, threshold, patients, inner)

    def _inner(self, rows: pd.DataFrame, truth: Labels, columns: Sequence[str]) -> tuple[float, Floats, dict[str, Any]]:
        """The strength, and each training patient's logit by models that had not seen the patient, averaged over the repeats."""
        names = [str(name) for name in rows.index]
        predicted = np.zeros((len(STRENGTHS), REPEATS, len(truth)))
        for repeat, folds in enumerate(inner_folds(names, truth, self.seed)):
            for train, kept in folds:
                learned, _ = learn_columns(rows.iloc[train], columns)
                design, unseen = encode(learned, rows.iloc[train]), encode(learned, rows.iloc[kept])
                for place, strength in enumerate(STRENGTHS):
                    intercept, weights = fit(design, truth[train], strength)
                    predicted[place, repeat, kept] = intercept + unseen @ np.array(weights)
        logits = predicted.mean(axis=1)
        worth = [_worth(truth, of_strength) for of_strength in logits]
        best = int(np.argmin(worth))  # of equals the strongest
        told = {"folds": N_FOLDS, "repeats": REPEATS, "deviance": dict(zip(map(str, STRENGTHS), worth, strict=True))}
        return STRENGTHS[best], logits[best], told


def _worth(truth: Labels, logits: Floats) -> float:
    """The deviance of the logits as the head will give them, recalibrated; of a ranking upside down, that of the share alone."""
    calibrator = fit_calibrator(truth, logits)
    if not calibrator.calibrates:
        logits = np.full(len(truth), np.log(truth.mean() / (1 - truth.mean())))
        return float(deviance(truth, logits).mean())
    return float(deviance(truth, calibrator.logit(logits)).mean())


def fit(design: Floats, truth: Labels, strength: float) -> tuple[float, tuple[float, ...]]:
    """Intercept, which the penalty leaves alone, and weights."""
    from sklearn.linear_model import LogisticRegression  # a second to import, and images are trained on without it

    if design.shape[1] == 0:
        share = truth.mean()
        return float(np.log(share / (1 - share))), ()
    model = LogisticRegression(C=1 / strength, solver="newton-cholesky", tol=1e-8, max_iter=200).fit(design, truth)
    return float(model.intercept_[0]), tuple(float(weight) for weight in model.coef_[0])
