"""A patient-level model judged on patients it has not seen: every figure with its interval, in one summary.

The statistics themselves are in `discrimination.py`, `decisions.py`, `calibration.py`, `subgroups.py` and `comparators.py`, and
can be had from here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lnauto.evaluation.calibration import (
    Calibration,
    CalibrationGroup,
    bootstrap_brier,
    brier,
    calibration,
    calibration_groups,
)
from lnauto.evaluation.comparators import Comparator, Comparison, compare
from lnauto.evaluation.decisions import (
    DecisionCurve,
    Decisions,
    at_threshold,
    decide,
    decision_curve,
    threshold_for_sensitivity,
    wilson,
    youden,
)
from lnauto.evaluation.discrimination import (
    REPEATS,
    Roc,
    auc,
    average_precision,
    bootstrap_auc,
    bootstrap_average_precision,
    paired_delong,
    roc,
)
from lnauto.evaluation.estimates import (
    Difference,
    Estimate,
    Flags,
    Floats,
    finite,
    labelled_probabilities,
)
from lnauto.evaluation.subgroups import Band, Subgroup, by_subgroup, in_bands

__all__ = [
    "Band",
    "Calibration",
    "CalibrationGroup",
    "Comparator",
    "Comparison",
    "DecisionCurve",
    "Decisions",
    "Difference",
    "Estimate",
    "Fold",
    "PatientSummary",
    "Pooled",
    "Roc",
    "Spread",
    "Subgroup",
    "at_threshold",
    "auc",
    "average_precision",
    "bootstrap_auc",
    "bootstrap_average_precision",
    "bootstrap_brier",
    "brier",
    "by_subgroup",
    "calibration",
    "calibration_groups",
    "decide",
    "decision_curve",
    "in_bands",
    "paired_delong",
    "pool",
    "roc",
    "summarise_patients",
    "threshold_for_sensitivity",
    "wilson",
    "youden",
]


@dataclass(frozen=True, eq=False)
class Fold:
    """One model's predictions of the patients it was kept from, and the threshold it came with."""

    name: str
    patients: Sequence[str]
    truth: ArrayLike
    probability: ArrayLike
    threshold: float


@dataclass(frozen=True, eq=False)
class Pooled:
    """All folds' patients in one row each: every one was predicted by a model that had not seen them."""

    patients: tuple[str, ...]
    truth: Floats
    probability: Floats
    threshold: Floats
    fold: tuple[str, ...]


def pool(folds: Sequence[Fold]) -> Pooled:
    """Put folds together; a patient in two of them is refused."""
    patients = tuple(patient for fold in folds for patient in fold.patients)
    twice = sorted(patient for patient, times in Counter(patients).items() if times > 1)
    if twice:
        raise ValueError(f"predicted in more than one fold: {', '.join(twice[:5])}{' ...' if len(twice) > 5 else ''}")
    return Pooled(
        patients,
        np.concatenate([np.asarray(fold.truth, float) for fold in folds]),
        np.concatenate([np.asarray(fold.probability, float) for fold in folds]),
        np.concatenate([np.full(len(fold.patients), fold.threshold) for fold in folds]),
        tuple(fold.name for fold in folds for _ in fold.patients),
    )


BINS = 20


@dataclass(frozen=True)
class Spread:
    """How many patients with and without metastasis were given a probability in each of these equal steps from 0 to 1."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]

    @classmethod
    def of(cls, labels: Flags, probabilities: Floats) -> Spread:
        counts = [np.histogram(probabilities[chosen], BINS, (0, 1))[0] for chosen in (labels, ~labels)]
        return cls(*(tuple(int(count) for count in each) for each in counts))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"positive": list(self.positive), "negative": list(self.negative)}


@dataclass(frozen=True)
class PatientSummary:
    """One model on patients it has not seen."""

    patients: int
    positive: int
    auc: Estimate
    auc_bootstrap: Estimate
    average_precision: Estimate
    brier: Estimate
    calibration: Calibration
    expected: float
    """The mean probability; the share of patients with metastasis should be the same."""
    thresholds: tuple[float, ...]
    decisions: Decisions
    roc: Roc
    calibration_groups: tuple[CalibrationGroup, ...]
    spread: Spread
    decision_curve: DecisionCurve
    repeats: int
    folds: tuple[Subgroup, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    @property
    def observed(self) -> float:
        """The share of patients with metastasis."""
        return self.positive / self.patients

    @property
    def brier_of_prevalence(self) -> float:
        """What saying the share of patients with metastasis of everybody would score."""
        return self.observed * (1 - self.observed)

    @property
    def fold_aucs(self) -> tuple[float, float, int]:
        """Mean and standard deviation of the folds' own AUCs, and how many folds have one."""
        values = [fold.auc.value for fold in self.folds if fold.auc]
        mean = float(np.mean(values)) if values else math.nan
        return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, len(values)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with None for what the data do not determine."""
        mean, deviation, with_auc = self.fold_aucs
        return {
            "patients": self.patients,
            "positive": self.positive,
            "auc": self.auc.to_json(),
            "auc_bootstrap": self.auc_bootstrap.to_json(),
            "auc_over_folds": {"mean": finite(mean), "sd": finite(deviation), "folds": with_auc},
            "average_precision": self.average_precision.to_json(),
            "brier": self.brier.to_json(),
            "brier_of_prevalence": self.brier_of_prevalence,
            "calibration": {name: estimate.to_json() for name, estimate in self.calibration._asdict().items()},
            "expected": self.expected,
            "observed": self.observed,
            "thresholds": list(self.thresholds),
            "decisions": self.decisions.to_json(),
            "comparisons": [one.to_json() for one in self.comparisons],
            "folds": [one.to_json() for one in self.folds],
            "subgroups": [one.to_json() for one in self.subgroups],
            "calibration_groups": [one.to_json() for one in self.calibration_groups],
            "spread": self.spread.to_json(),
            "decision_curve": self.decision_curve.to_json(),
            "roc": self.roc.to_json(),
            "bootstrap_repeats": self.repeats,
        }


def summarise_patients(
    truth: ArrayLike,
    probability: ArrayLike,
    threshold: ArrayLike,
    groups: Mapping[str, Sequence[Any]] | None = None,
    *,
    folds: Sequence[str] = (),
    comparators: Sequence[Comparator] = (),
    seed: int = 0,
    repeats: int = REPEATS,
) -> PatientSummary:
    """Every figure of patients with a label; the threshold is one for all or one for each, set without these patients.

    `folds` names the fold that predicted each patient. One class only, a missing probability, or classes in place of
    probabilities: ValueError.
    """
    labels, probabilities = labelled_probabilities(truth, probability)
    return PatientSummary(
        patients=int(labels.size),
        positive=int(labels.sum()),
        auc=auc(labels, probabilities),
        auc_bootstrap=bootstrap_auc(labels, probabilities, seed, repeats),
        average_precision=bootstrap_average_precision(labels, probabilities, seed, repeats),
        brier=bootstrap_brier(labels, probabilities, seed, repeats),
        calibration=calibration(labels, probabilities),
        expected=float(probabilities.mean()),
        thresholds=tuple(sorted({float(one) for one in np.asarray(threshold, float).ravel()})),
        decisions=decide(labels, probabilities, threshold),
        roc=roc(labels, probabilities, seed, repeats),
        calibration_groups=calibration_groups(labels, probabilities),
        spread=Spread.of(labels, probabilities),
        decision_curve=decision_curve(labels, probabilities),
        repeats=repeats,
        folds=by_subgroup(labels, probabilities, {"fold": folds}, fewest=2) if folds else (),
        subgroups=by_subgroup(labels, probabilities, groups or {}),
        comparisons=tuple(compare(labels, probabilities, comparator) for comparator in comparators),
    )
