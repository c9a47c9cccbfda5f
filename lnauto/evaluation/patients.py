"""A patient-level model judged on patients it has not seen: every figure with its interval, in one summary.

The statistics themselves are in `discrimination.py`, `decisions.py` and `calibration.py`, and can be had from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
    auc_of,
    average_precision,
    bootstrap_auc,
    bootstrap_average_precision,
    difference_of,
    paired_delong,
    roc,
)
from lnauto.evaluation.estimates import (
    Difference,
    Estimate,
    Flags,
    Floats,
    finite,
    labelled,
    labelled_probabilities,
    not_hard,
    with_both_classes,
)

__all__ = [
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

FEWEST = 10  # patients of a subgroup; below, a figure says more about these few than about the model
UNKNOWN_VALUE = "unknown"


@dataclass(frozen=True)
class Fold:
    """One model's predictions of the patients it was kept from, and the threshold it came with."""

    name: str
    patients: Sequence[str]
    truth: Sequence[float]
    probability: Sequence[float]
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
    twice = sorted({patient for patient in patients if patients.count(patient) > 1})
    if twice:
        raise ValueError(f"predicted in more than one fold: {', '.join(twice[:5])}{' ...' if len(twice) > 5 else ''}")
    return Pooled(
        patients,
        np.concatenate([np.asarray(fold.truth, float) for fold in folds]),
        np.concatenate([np.asarray(fold.probability, float) for fold in folds]),
        np.concatenate([np.full(len(fold.patients), fold.threshold) for fold in folds]),
        tuple(fold.name for fold in folds for _ in fold.patients),
    )


@dataclass(frozen=True)
class Subgroup:
    """Some of the patients; `auc` is None where there are too few of them, or all have the same label: `said` tells."""

    column: str
    value: str
    patients: int
    positive: int
    auc: Estimate | None
    said: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**vars(self), "auc": self.auc.to_json() if self.auc else None}


def by_subgroup(
    truth: ArrayLike, score: ArrayLike, groups: Mapping[str, Sequence[object]], fewest: int = FEWEST
) -> tuple[Subgroup, ...]:
    """AUC within each value of each column; where a patient's value is missing it is `unknown`, a group like any other."""
    labels, scores = labelled(truth, score)
    not_hard(scores)
    found = []
    for column, values in groups.items():
        if len(values) != labels.size:
            raise ValueError(f"{column}: one value for each of {labels.size} patients is needed, not {len(values)}")
        named = [UNKNOWN_VALUE if _missing(value) else str(value) for value in values]
        for value in sorted(set(named), key=lambda name: (name == UNKNOWN_VALUE, name)):
            inside = np.array([name == value for name in named])
            found.append(_subgroup(column, value, labels[inside], scores[inside], fewest))
    return tuple(found)


def _subgroup(column: str, value: str, labels: Flags, scores: Floats, fewest: int) -> Subgroup:
    count, positive = int(labels.size), int(labels.sum())
    if count < fewest:
        return Subgroup(column, value, count, positive, None, f"fewer than {fewest} patients")
    if positive in (0, count):
        return Subgroup(column, value, count, positive, None, "one class only")
    return Subgroup(column, value, count, positive, auc_of(labels, scores))


def _missing(value: object) -> bool:
    return value is None or value == "" or value != value  # NaN, and pandas' NaT


def in_bands(values: ArrayLike, edges: Sequence[float]) -> list[str | None]:
    """Numbers as the bands they lie in, so that they can be subgroups: `in_bands(mm, [5, 8])` has "< 5", "5 to < 8", ">= 8"."""
    names = [f"< {edges[0]:g}", *(f"{low:g} to < {high:g}" for low, high in pairwise(edges))]
    names.append(f">= {edges[-1]:g}")
    numbers = np.asarray(values, float)
    return [None if math.isnan(number) else names[np.searchsorted(edges, number, side="right")] for number in numbers]


@dataclass(frozen=True, eq=False)
class Comparator:
    """Another score of the same patients, NaN where there is none; with a threshold it is a rule that has a class."""

    name: str
    score: ArrayLike
    threshold: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A comparator on the patients it has a score of, and the model less the comparator on these; or why there is none."""

    name: str
    patients: int
    auc: Estimate | None
    difference: Difference | None
    threshold: float | None = None
    decisions: Decisions | None = None
    said: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        parts = {name: getattr(self, name) for name in ("auc", "difference", "decisions")}
        return {**vars(self), **{name: part.to_json() if part else None for name, part in parts.items()}}


def _compare(labels: Flags, probability: Floats, comparator: Comparator) -> Comparison:
    score = np.asarray(comparator.score, float)
    if score.shape != labels.shape:
        raise ValueError(f"{comparator.name}: one score for each of {labels.size} patients is needed")
    there = ~np.isnan(score)
    labels, probability, score = labels[there], probability[there], score[there]
    count = int(labels.size)
    if not count or labels.all() or not labels.any():
        return Comparison(comparator.name, count, None, None, said="one class only" if count else "no patient has it")
    rule = None if comparator.threshold is None else decide(labels, score, comparator.threshold)
    difference = difference_of(labels, probability, score)
    return Comparison(comparator.name, count, auc_of(labels, score), difference, comparator.threshold, rule)


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
            "decision_curve": self.decision_curve.to_json(),
            "roc": self.roc.to_json(),
            "bootstrap_repeats": self.repeats,
        }


def summarise_patients(
    truth: ArrayLike,
    probability: ArrayLike,
    threshold: ArrayLike,
    groups: Mapping[str, Sequence[object]] | None = None,
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
    with_both_classes(labels)
    not_hard(probabilities)
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
        decision_curve=decision_curve(labels, probabilities),
        repeats=repeats,
        folds=by_subgroup(labels, probabilities, {"fold": folds}, fewest=2) if folds else (),
        subgroups=by_subgroup(labels, probabilities, groups or {}),
        comparisons=tuple(_compare(labels, probabilities, comparator) for comparator in comparators),
    )
