"""What `lnauto_evaluate` sets in motion: evaluate a folder, write the figures beside the masks, and lay them out as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lnauto import __version__
from lnauto.errors import InputError
from lnauto.evaluation.cases import ALL_NODES, CaseResult, distinct
from lnauto.evaluation.folder import Evaluation, evaluate_folders
from lnauto.evaluation.matching import NodeCounts
from lnauto.evaluation.summary import NodeSummary, Summary
from lnauto.files import csv_text, write_json, write_text

JSON_NAME = "evaluation.json"
CSV_NAME = "evaluation.csv"
MADE_BY = ("numpy", "scipy", "SimpleITK", "connected-components-3d")
VOLUMES = ("true_mm3", "predicted_mm3", "shared_mm3")
COUNTS = tuple(f"nodes_{key}" for key in NodeCounts().to_json())
WIDTH = 30


def evaluate(truth: Path, predictions: Path, output: Path | None = None, **options: Any) -> tuple[Evaluation, str]:
    """Evaluate, write the figures into the output folder (the predictions' own), and return them with their table.

    `options` are those of `lnauto.evaluation.folder.evaluate_folders`.
    """
    evaluation = evaluate_folders(truth, predictions, **options)
    return evaluation, write_evaluation(evaluation, output or predictions)


def write_evaluation(evaluation: Evaluation, folder: Path) -> str:
    """Write `evaluation.json` and `evaluation.csv` into the folder, and return the summary as a table."""
    made_by = {"lnauto": __version__, **{package: version(package) for package in MADE_BY}}
    try:
        write_json(folder / JSON_NAME, plain({"made_by": made_by, **evaluation.to_json()}))
        write_text(folder / CSV_NAME, _csv(evaluation.cases))
    except OSError as error:
        raise InputError.of(f"the figures cannot be written ({error.strerror})", folder, "name another folder") from error
    return table(evaluation.summary)


def table(summary: Summary) -> str:
    """The summary as text, at most 100 columns wide."""
    count = "1 case" if summary.cases == 1 else f"{summary.cases} cases"
    lines = [f"{count}, protocol {summary.protocol.name}", "", *_label_lines(summary)]
    if summary.nodes:
        lines += ["", *_node_lines(distinct(summary.nodes))]
    return "\n".join(lines)


def _label_lines(summary: Summary) -> list[str]:
    protocol = summary.protocol
    last = "DSCagg" if protocol.aggregated else "pooled"
    lines = [f"{'label':{WIDTH}} {'score':13}" + "".join(f"{name:>10}" for name in ("mean", "sd", "median", last, "left out"))]
    for name, label in summary.labels.items():
        for score, values in label.scores.items():
            together = label.pooled_dice if score == "dice" else None
            numbers = "".join(_number(value) for value in (values.mean, values.sd, values.median, together))
            lines.append(f"{_short(name):{WIDTH}} {protocol.title(score):13}{numbers}{values.left_out:>10}")
            name = ""
    if protocol.aggregated or len(summary.labels) > 1:
        title = last if protocol.aggregated else protocol.title("dice")
        lines.append(f"{'mean over labels':{WIDTH}} {title:13}{_number(summary.mean())}")
    return lines


def _node_lines(nodes: Mapping[str, NodeSummary]) -> list[str]:
    titles = ("true", "found", "false", "recall", "precision", "F1")
    lines = [f"{'nodes':{WIDTH}}" + "".join(f"{title:>10}" for title in titles)]
    for name, label in nodes.items():
        lines.append(_counts_line(_short(name), label.counts))
        if name == ALL_NODES:
            lines += [_counts_line(f"  {size}", counts) for size, counts in label.by_size.items()]
            means = "".join(_number(label.per_case[score].mean) for score in ("recall", "precision", "f1"))
            lines.append(f"{'  mean over cases':{WIDTH}}{'':20}{label.false_per_case:>10.2f}{means}")
    return lines


def _counts_line(name: str, counts: NodeCounts) -> str:
    numbers = "".join(_number(value) for value in (counts.recall, counts.precision, counts.f1))
    return f"{name:{WIDTH}}{counts.true:>10}{counts.found:>10}{counts.false:>10}{numbers}"


def _number(value: float | None) -> str:
    return f"{'':10}" if value is None else f"{'-' if math.isnan(value) else f'{value:.3f}':>10}"


def _short(name: str) -> str:
    return name if len(name) < WIDTH else name[: WIDTH - 4] + "..."


def _csv(results: Sequence[CaseResult]) -> str:
    """A row for each case and label, and one for all nodes of a case where several labels are nodes; empty where undefined."""
    columns = ["case", "label", *results[0].protocol.scores, *VOLUMES, *COUNTS]
    rows = [[row.get(column) for column in columns] for result in results for row in _rows(result)]
    return csv_text([columns, *rows])


def _rows(case: CaseResult) -> Iterator[dict[str, Any]]:
    names = [*case.labels, *([ALL_NODES] if len(distinct(case.nodes)) > 1 else [])]
    for name in names:
        row: dict[str, Any] = {"case": case.case, "label": name}
        if name in case.labels:
            row |= case.labels[name].to_json()
        if name in case.nodes:
            row |= {f"nodes_{key}": value for key, value in case.nodes[name].counts.to_json().items()}
        yield {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def plain(value: Any) -> Any:
    """The same for strict JSON, which knows no NaN: null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
