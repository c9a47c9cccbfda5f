"""Figures as cells and rows of the page's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lnauto.report.tables import Column, Interval

NODE_FIGURES = {"recall": "recall", "precision": "precision", "f1": "F1", "false_per_case": "false nodes per case"}
HOW = {
    "recall": "share of the true nodes that are found",
    "precision": "share of the predicted nodes that stand for a true one",
    "f1": "twice the found, by the true and the predicted together",
    "false_per_case": "predicted nodes that stand for no true one",
}


def with_interval(estimate: Mapping[str, Any] | None, form: str = ".2f") -> Interval:
    """What JSON holds of an estimate, as a cell."""
    value, low, high = (None if estimate is None else estimate[key] for key in ("value", "low", "high"))
    return Interval(value, low, high, form)


def names_of(figures: Sequence[str]) -> dict[str, str]:
    """What the figures of an evaluation are called: `dice LABEL`, and those of nodes."""
    labels = [name.removeprefix("dice ") for name in figures if name.startswith("dice ")]
    dice = {f"dice {label}": "Dice" if len(labels) == 1 else f"Dice, {label}" for label in labels}
    return dice | {name: told for name, told in NODE_FIGURES.items() if name in figures}


def columns_of(names: Mapping[str, str]) -> list[Column]:
    return [Column(told, "", HOW.get(name, "mean over cases")) for name, told in names.items()]
