"""What a head has to beat: rules that anybody could read off the nodes, and other models; and by how much it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lnauto.evaluation.decisions import Decisions, decide
from lnauto.evaluation.discrimination import auc_of, difference_of
from lnauto.evaluation.estimates import Difference, Estimate, Flags, Floats

SHORT_AXIS_MM = 10.0
"""From this short axis on a node counts as enlarged (RECIST 1.1 calls it normal below)."""


def largest_short_axis(patients: Sequence[str], node_patients: Sequence[str], short_axis_mm: ArrayLike) -> Floats:
    """The short-axis rule's score, in mm: its class is `>= SHORT_AXIS_MM`. Without a node it is 0, as for all three."""
    return _largest(patients, node_patients, short_axis_mm, "short axis")


def max_node_score(patients: Sequence[str], node_patients: Sequence[str], scores: ArrayLike) -> Floats:
    """The score of the most suspicious node; scores are probabilities, or at least not negative."""
    return _largest(patients, node_patients, scores, "score")


def node_count(patients: Sequence[str], node_patients: Sequence[str]) -> Floats:
    """How many nodes a patient has."""
    return np.bincount(_rows(patients, node_patients)[0], minlength=len(patients)).astype(float)


def _largest(patients: Sequence[str], node_patients: Sequence[str], measure: ArrayLike, name: str) -> Floats:
    rows, kept = _rows(patients, node_patients)
    measures = np.asarray(measure, float)
    if measures.shape != (len(node_patients),) or not (measures >= 0).all():
        raise ValueError(f"one {name} for each node is needed, and none may be negative or NaN")
    largest = np.zeros(len(patients))
    np.maximum.at(largest, rows, measures[kept])
    return largest


def _rows(patients: Sequence[str], node_patients: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each node its patient's row, and which nodes these are: nodes of other patients are not asked about."""
    if len(set(patients)) < len(patients):
        raise ValueError("a patient is named twice")
    row_of = {patient: row for row, patient in enumerate(patients)}
    kept = np.array([patient in row_of for patient in node_patients], bool)
    return np.array([row_of[patient] for patient in node_patients if patient in row_of], int), kept


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


def compare(labels: Flags, probability: Floats, comparator: Comparator) -> Comparison:
    """Both on the patients the comparator has a score of; classes (0 or 1 throughout) are counted, and have no AUC."""
    score = np.asarray(comparator.score, float)
    if score.shape != labels.shape:
        raise ValueError(f"{comparator.name}: one score for each of {labels.size} patients is needed")
    name, there, threshold = comparator.name, ~np.isnan(score), comparator.threshold
    labels, probability, score = labels[there], probability[there], score[there]
    if not labels.size:
        return Comparison(name, 0, None, None, said="no patient has it")
    hard = bool(np.isin(score, (0, 1)).all())
    threshold = 0.5 if hard and threshold is None else threshold
    decisions = None if threshold is None else decide(labels, score, threshold)
    if hard or labels.all() or not labels.any():
        said = "a class, which has no AUC" if hard else "one class only"
        return Comparison(name, int(labels.size), None, None, threshold, decisions, said)
    difference = difference_of(labels, probability, score)
    return Comparison(name, int(labels.size), auc_of(labels, score), difference, threshold, decisions)
