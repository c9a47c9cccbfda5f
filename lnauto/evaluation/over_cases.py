"""The figures of many cases with intervals over the cases, from what `evaluation.json` says of each.

Cases are drawn again, as many as there are, and every figure is made of each draw; its interval holds the middle 95 % of these.
Two evaluations of the same cases are compared on the same draws. Intervals do not tell how another training would have come out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnauto.errors import InputError
from lnauto.evaluation.decisions import wilson
from lnauto.evaluation.discrimination import REPEATS, TAILS
from lnauto.evaluation.estimates import Estimate, Floats
from lnauto.evaluation.matching import SIZE_CLASSES
from lnauto.evaluation.pair import ALL_NODES

SEED = 0
NODE_FIGURES = ("recall", "precision", "f1", "false_per_case")
HOW = (
    f"95 % intervals: cases drawn again {REPEATS} times with replacement (seed {SEED}), 2.5th and 97.5th percentile of the "
    "figure; with few cases that is too narrow, and scans of one patient count as if they were of several. Intervals of size "
    "classes are Wilson's, over nodes."
)


@dataclass(frozen=True, eq=False)
class OverCases:
    """Cases of one evaluation, a row for each: Dice by label (NaN where there is none), and nodes, if they were counted."""

    names: tuple[str, ...]
    dice: Mapping[str, Floats]
    true: Floats
    found: Floats
    false: Floats
    counted: bool
    each: tuple[Mapping[str, Any], ...]  # as the file has them

    @classmethod
    def of(cls, each_case: Sequence[Mapping[str, Any]], where: object) -> OverCases:
        """From `each_case` of an `evaluation.json`."""
        try:
            labels = dict.fromkeys(label for case in each_case for label in case["labels"])
            dice = {label: _numbers(case["labels"].get(label, {}).get("dice") for case in each_case) for label in labels}
            nodes = [case["nodes"].get(ALL_NODES) for case in each_case]
            counted = bool(each_case) and all(nodes)
            counts = ([one[key] for one in nodes] if counted else [0] * len(nodes) for key in ("true", "found", "false"))
            true, found, false = (np.array(column, float) for column in counts)
            return cls(tuple(str(case["case"]) for case in each_case), dice, true, found, false, counted, tuple(each_case))
        except (KeyError, TypeError, AttributeError) as error:
            what = f"this is no evaluation of cases as lnauto writes it ({error!r})"
            raise InputError.of(what, where, "evaluate again") from error

    def __len__(self) -> int:
        return len(self.names)

    def only(self, names: Sequence[str]) -> OverCases:
        """These cases, in this order."""
        row_of = {name: row for row, name in enumerate(self.names)}
        rows = [row_of[name] for name in names]
        dice = {label: values[rows] for label, values in self.dice.items()}
        each = tuple(self.each[row] for row in rows)
        return OverCases(tuple(names), dice, self.true[rows], self.found[rows], self.false[rows], self.counted, each)

    def figures(self, times: Floats) -> dict[str, Floats]:
        """Every figure of each draw (a row of `times`, which says how often each case is in it); NaN where it has none."""
        found = {f"dice {label}": _mean(values, times) for label, values in self.dice.items()}
        if self.counted:
            true, right, wrong = times @ self.true, times @ self.found, times @ self.false
            found |= {
                "recall": _share(right, true),
                "precision": _share(right, right + wrong),
                "f1": _share(2 * right, true + right + wrong),
                "false_per_case": _share(wrong, times.sum(axis=1)),
            }
        return found

    def estimates(self) -> dict[str, Estimate]:
        """Every figure with its interval; what one case alone tells has none."""
        values, draws, behind = self.figures(np.ones((1, len(self)))), self.figures(_draws(len(self))), self.behind()
        return {name: _interval(float(values[name][0]), draws[name], behind[name]) for name in values}

    def behind(self) -> dict[str, int]:
        """How many cases have a part in each figure: a label may be in few of them, and so may nodes."""
        found = {f"dice {label}": int((~np.isnan(values)).sum()) for label, values in self.dice.items()}
        if self.counted:
            drawn, said = self.true > 0, self.found + self.false > 0
            parts = {"recall": drawn, "precision": said, "f1": drawn | said}
            found |= {**{name: int(part.sum()) for name, part in parts.items()}, "false_per_case": len(self)}
        return found

    def sizes(self) -> list[dict[str, Any]]:
        """Nodes by short axis: how many there are and are found, with Wilson's interval, and how many are false."""
        nodes = [case["nodes"][ALL_NODES] for case in self.each] if self.counted else []
        true = [node for one in nodes for node in one["true_nodes"]]
        false = [node for one in nodes for node in one["false_nodes"]]
        rows = []
        for size in SIZE_CLASSES:
            inside = [node for node in true if size.low <= node["short_axis_mm"] < size.high]
            right = sum(bool(node["found"]) for node in inside)
            wrong = sum(size.low <= node["short_axis_mm"] < size.high for node in false)
            recall = wilson(right, len(inside)).to_json()
            rows.append({"size": size.name, "true": len(inside), "found": right, "false": wrong, "recall": recall})
        return rows


def differences(first: OverCases, second: OverCases) -> dict[str, Estimate]:
    """Second less first of every figure that both have, over the same cases in the same order."""
    if first.names != second.names:
        raise ValueError("differences need the same cases in the same order")
    once, draws = np.ones((1, len(first))), _draws(len(first))
    values = [one.figures(once) for one in (first, second)]
    drawn = [one.figures(draws) for one in (first, second)]
    behind = [one.behind() for one in (first, second)]
    return {
        name: _interval(
            float(values[1][name][0] - values[0][name][0]),
            drawn[1][name] - drawn[0][name],
            min(behind[0][name], behind[1][name]),
        )
        for name in values[0]
        if name in values[1]
    }


def dice_of_case(case: Mapping[str, Any]) -> float:
    """The mean over the labels that have one."""
    values = _numbers(label.get("dice") for label in case["labels"].values())
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else math.nan


def _draws(cases: int) -> Floats:
    generator = np.random.default_rng(SEED)
    return generator.multinomial(cases, np.full(cases, 1 / cases), size=REPEATS).astype(float)


def _interval(value: float, draws: Floats, cases: int) -> Estimate:
    known = draws[~np.isnan(draws)]
    if cases < 2 or math.isnan(value) or not known.size:
        return Estimate(value, math.nan, math.nan)
    low, high = np.percentile(known, TAILS)
    return Estimate(value, float(low), float(high))


def _mean(values: Floats, times: Floats) -> Floats:
    there = ~np.isnan(values)
    return _share(times @ np.where(there, values, 0), times @ there.astype(float))


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(part.shape, math.nan), where=whole > 0)


def _numbers(values: Any) -> Floats:
    return np.array([math.nan if value is None else float(value) for value in values], float)
