"""What a head has to beat: rules that anybody could read off the nodes. One number for each patient, 0 without any node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lnauto.evaluation.estimates import Floats

SHORT_AXIS_MM = 10.0
"""From this short axis on a node counts as enlarged (RECIST 1.1 calls it normal below)."""


def largest_short_axis(patients: Sequence[str], node_patients: Sequence[str], short_axis_mm: ArrayLike) -> Floats:
    """The short-axis rule's score, in mm: its class is `>= SHORT_AXIS_MM`."""
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
