"""`comparison.html` and `comparison.json`: two evaluations of the same cases beside each other, with paired differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnauto import __version__
from lnauto.errors import InputError
from lnauto.workflow.evaluate import JSON_NAME, plain
from lnauto.workflow.page_files import write_page
from lnauto.workflow.report_training import VALIDATION, Names, is_training, read_evaluation

if TYPE_CHECKING:
    from lnauto.evaluation.over_cases import OverCases

PAGE = "comparison.html"
SAME = 1e-3  # part by which the volume of a case's truth may differ between the two
PAIRED = "The difference is B less A, on the same cases and the same draws: what is hard in both does not widen it."


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two: its cases, and how they were evaluated."""

    folder: Path
    cases: OverCases
    how: Mapping[str, Any]


def report_comparison(
    first: Path, second: Path, output: Path | None = None, anonymous: bool = False, paper: bool = False
) -> Path:
    """Write the page of two folders; returns where it is.

    Args:
        output: the folder for it; the first of the two, if there is none.
        anonymous: cases are numbered instead of named, and no path is told.
        paper: also its tables and figures, in `paper/`.
    """
    from lnauto.report.comparison_page import comparison_page

    figures = comparison_figures(_side(first), _side(second), anonymous)
    return write_page(comparison_page(figures), figures, (first if output is None else output) / PAGE, paper)


def comparison_figures(first: Side, second: Side, anonymous: bool = False) -> dict[str, Any]:
    """Everything that the page shows."""
    from lnauto.evaluation.over_cases import HOW, differences

    common = [name for name in first.cases.names if name in set(second.cases.names)]
    where = f"{first.folder} and {second.folder}"
    if not common:
        raise InputError.of("no case is in both", where, "give two evaluations of the same cases")
    for key, noun in (("protocol", "under another protocol"), ("node_found", "by another definition of a found node")):
        if first.how.get(key) != second.how.get(key):
            raise InputError.of(f"the two were evaluated {noun}", where, "evaluate both in the same way")
    one, other = first.cases.only(common), second.cases.only(common)
    _check_truth(one, other, where)
    alone = {side: len(cases) - len(common) for side, cases in (("A", first.cases), ("B", second.cases))}
    estimates, paired = (one.estimates(), other.estimates()), differences(one, other)
    rows = [
        {
            "figure": name,
            "first": estimates[0][name].to_json(),
            "second": estimates[1][name].to_json(),
            "difference": difference.to_json(),
        }
        for name, difference in paired.items()
    ]
    names = Names(anonymous)
    called = ("", "") if anonymous else _called(first.folder, second.folder)
    counted = one.counted and other.counted
    sizes = [
        {"size": a["size"], "true": a["true"], "first": a, "second": b}
        for a, b in (zip(one.sizes(), other.sizes(), strict=True) if counted else ())
    ]
    left_out = [f"{count} cases are in {side} only, and left out." for side, count in alone.items() if count]
    figures = {
        "title": "Two evaluations compared",
        "called": list(called),
        "cases": len(common),
        "notes": [HOW, PAIRED, *_uneven(one, other), first.how.get("node_found", "") if counted else "", *left_out],
        "rows": rows,
        "sizes": sizes,
        "each_case": [_case(one, other, row, names, counted) for row in range(len(common))],
        "made_by": {**({} if anonymous else {"A": str(first.folder), "B": str(second.folder)}), "lnauto": __version__},
    }
    whole: dict[str, Any] = plain(figures)
    return whole


def _side(folder: Path) -> Side:
    """What a folder holds: the folds of a model together, or predictions."""
    from lnauto.evaluation.over_cases import OverCases

    files = sorted(folder.glob(f"fold_*/{VALIDATION}/{JSON_NAME}")) if is_training(folder) else [folder / JSON_NAME]
    if not files or not files[0].is_file():
        remedy = "evaluate the masks with lnauto_evaluate, or validate the model with lnauto_train"
        raise InputError.of(f"there is no {JSON_NAME} to compare", folder, remedy)
    contents = [read_evaluation(path) for path in files]
    each = [case for content in contents for case in content["each_case"]]
    twice = [name for name, times in Counter(case["case"] for case in each).items() if times > 1]
    if twice:
        what = f"{twice[0]} was validated in more than one fold"
        raise InputError.of(what, folder, "compare the folds' own folders, fold_0/validation and its like")
    return Side(folder, OverCases.of(each, folder), contents[0])


def _check_truth(one: OverCases, other: OverCases, where: str) -> None:
    """The figures of two evaluations compare only if they were taken against the same masks."""
    for name, first, second in zip(one.names, one.each, other.each, strict=True):
        for label in first["labels"].keys() & second["labels"].keys():
            volumes = [side["labels"][label]["true_mm3"] for side in (first, second)]
            if not math.isclose(*volumes, rel_tol=SAME):
                raise InputError.of(f"{name} was evaluated against another truth", where, "evaluate both against the same masks")


def _uneven(one: OverCases, other: OverCases) -> Iterator[str]:
    """The labels whose Dice is over other cases in A than in B, and so is their difference."""
    for label in (name for name in one.dice if name in other.dice):
        first, second = (~np.isnan(side.dice[label]) for side in (one, other))
        if (first != second).any():
            counts = f"{first.sum()} of {len(one)} cases in A and {second.sum()} in B"
            yield f"Dice of {label} is over {counts}: a case in which nothing was drawn and nothing predicted has none."


def _called(first: Path, second: Path) -> tuple[str, str]:
    """The ends of their paths, as long as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in (first, second)]
    for length in range(1, max(map(len, parts)) + 1):
        one, other = ("/".join(names[-length:]) for names in parts)
        if one != other:
            return one, other
    return parts[0][-1], parts[1][-1]


def _case(one: OverCases, other: OverCases, row: int, names: Names, counted: bool) -> dict[str, Any]:
    from lnauto.evaluation.over_cases import dice_of_case

    dice = [dice_of_case(side.each[row]) for side in (one, other)]
    told: dict[str, Any] = {"case": names.of(one.names[row]), "dice": dice, "difference": dice[1] - dice[0]}
    if counted:
        told["true"] = int(one.true[row])
        told |= {key: [int(getattr(side, key)[row]) for side in (one, other)] for key in ("found", "false")}
    return told
