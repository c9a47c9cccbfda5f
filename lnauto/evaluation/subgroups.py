"""The same figure in parts of the patients: by centre, by stage, by size of the nodes, and fold by fold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lnauto.evaluation.discrimination import auc_of
from lnauto.evaluation.estimates import Estimate, Flags, Floats, labelled, not_hard

FEWEST = 10  # patients of a subgroup; below, a figure says more about these few than about the model
UNKNOWN_VALUE = "unknown"


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
    truth: ArrayLike, score: ArrayLike, groups: Mapping[str, Sequence[Any]], fewest: int = FEWEST
) -> tuple[Subgroup, ...]:
    """AUC within each value of each column; where a patient's value is missing it is `unknown`, a group like any other."""
    labels, scores = labelled(truth, score)
    not_hard(scores)
    found = []
    for column, values in groups.items():
        if len(values) != labels.size:
            raise ValueError(f"{column}: one value for each of {labels.size} patients is needed, not {len(values)}")
        there = {value for value in values if not _missing(value)}
        for value in sorted(there, key=lambda one: (type(one).__name__, one)):
            inside = np.array([one == value for one in values], bool)
            found.append(_subgroup(column, _name(value), labels[inside], scores[inside], fewest))
        absent = np.array([_missing(value) for value in values], bool)
        if absent.any():
            found.append(_subgroup(column, UNKNOWN_VALUE, labels[absent], scores[absent], fewest))
    return tuple(found)


def _subgroup(column: str, value: str, labels: Flags, scores: Floats, fewest: int) -> Subgroup:
    count, positive = int(labels.size), int(labels.sum())
    if count < fewest:
        return Subgroup(column, value, count, positive, None, f"fewer than {fewest} patients")
    if positive in (0, count):
        return Subgroup(column, value, count, positive, None, "one class only")
    return Subgroup(column, value, count, positive, auc_of(labels, scores))


def _missing(value: Any) -> bool:
    return value is None or value == "" or value != value  # NaN, and pandas' NaT


def _name(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, order=True)
class Band:
    """Numbers from `low` up to but not including `high`, as a subgroup."""

    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"< {self.high:g}"
        return f">= {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to < {self.high:g}"


def in_bands(values: ArrayLike, edges: Sequence[float]) -> list[Band | None]:
    """The band each number lies in, None where it is missing: edges 5 and 8 make "< 5", "5 to < 8" and ">= 8"."""
    bands = [Band(low, high) for low, high in pairwise((-math.inf, *edges, math.inf))]
    numbers = np.asarray(values, float)
    return [None if math.isnan(number) else bands[int(np.searchsorted(edges, number, side="right"))] for number in numbers]
