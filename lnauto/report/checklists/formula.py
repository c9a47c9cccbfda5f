"""A head that is a line, written so that a reader can compute with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lnauto.trainers.patient.columns import FURTHEST, OTHER, Column

HOW_TO_READ = f"what is divided is kept between {-FURTHEST:g} and {FURTHEST:g}, and is 0 where the entry is missing"


def formula(head: Mapping[str, Any]) -> str:
    """From the entries of a row to the probability, by what `head.json` holds."""
    columns = [Column.from_json(column) for column in head["columns"]]
    left = iter(feature["weight"] for feature in head["features"])
    weights = [[next(left) for _ in column.features] for column in columns]
    intercept, terms = head["intercept"], list[str]()
    for column, own in zip(columns, weights, strict=True):
        if column.kind == "number":
            terms += _of_number(column, own)
        else:
            average = _average(column, own)
            intercept -= average
            terms += _of_category(column, own, average)
    calibrator = head["calibrator"]
    scale = f"{calibrator['intercept']:.6g} {calibrator['slope']:+.6g} logit"
    return f"logit = {' '.join([f'{intercept:.6g}', *terms])}, and probability = 1 / (1 + exp(-({scale})))"


def _average(column: Column, weights: Sequence[float]) -> float:
    """What categories speak for on average, which the head takes off each of them, and an entry it does not know gets."""
    return sum(weight * share for weight, share in zip(weights, column.shares, strict=False))


def _of_number(column: Column, weights: Sequence[float]) -> Iterator[str]:
    yield f"{weights[0]:+.6g} ({column.name} {-column.mean:+.6g}) / {column.deviation:.6g}"
    if column.indicator:
        yield f"{weights[1]:+.6g} if {column.name} is missing"


def _of_category(column: Column, weights: Sequence[float], average: float) -> Iterator[str]:
    for level, weight in zip(column.levels, weights, strict=False):
        yield f"{weight:+.6g} if {column.name} is {level}"
    missing = average + (weights[-1] if column.indicator else 0)
    yield f"{missing:+.6g} if {column.name} is missing"
    if OTHER not in column.levels:
        yield f"{average:+.6g} if {column.name} is anything else"
