"""The page of a prediction: a row for each patient, and for each case its slices, its nodes and what is said of them.

All figures come from `CasePart.figures` and `prediction_figures`, which are written beside the page as `report.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lnauto.evaluation.comparators import SHORT_AXIS_MM
from lnauto.report.page import Page, Piece, Section, embedded, facts, picture
from lnauto.report.tables import Cell, Column, Html, Place, Table, Value, escape

CASES = {
    "case": Column("case"),
    "nodes": Column("nodes", "d"),
    "enlarged": Column("enlarged", "d", f"with a short axis of at least {SHORT_AXIS_MM:g} mm"),
    "largest_short_axis_mm": Column("largest short axis, mm", ".1f"),
    "volume_ml": Column("volume of all, ml", ".2f", "", "volume_ml"),
}
OF_HEAD = {
    "probability": Column("probability", ".2f", "of metastasis, calibrated"),
    "low": Column("from", ".2f", "the lowest of the folds", "probability_low"),
    "high": Column("to", ".2f", "the highest of the folds", "probability_high"),
    "class": Column("class", "", "positive: at the head's stored threshold or above"),
    "flags": Column("flags"),
}
NODES = {
    "node": Column("node", "d"),
    "short_axis_mm": Column(
        "short axis, mm", ".1f", "in the axial slice where the node is longest, at right angles to the long axis"
    ),
    "long_axis_mm": Column("long axis, mm", ".1f", "in the axial slice where the node is longest"),
    "volume_ml": Column("volume, ml", ".2f"),
    "centroid_mm": Column(
        "x, y, z in mm", "", "its middle in the world, LPS: to the patient's left, back and head", "centroid_mm"
    ),
    "station": Column("station"),
    "probability": Column("probability", ".2f", "of metastasis, of this node alone, not calibrated"),
}
ALWAYS = ("node", "short_axis_mm", "long_axis_mm", "volume_ml", "centroid_mm")
STATISTICS = {"mean": "mean {}", "max": "highest {}"}  # of what each channel shows


@dataclass(frozen=True)
class CasePart:
    """What the page says of a case."""

    name: str
    nodes: Sequence[Mapping[str, Any]]  # as nodes.json has them
    patient: Mapping[str, str] = field(default_factory=dict)  # its row of patients.csv
    viewer: Mapping[str, Any] | None = None  # of `draw_case`; None: its scan is not there
    thumbnail: bytes | None = None
    missing: str = ""  # why there are no pictures

    @property
    def figures(self) -> dict[str, Any]:
        """What the page shows of it in numbers and words."""
        axes = [node["short_axis_mm"] for node in self.nodes]
        return {
            "case": self.name,
            "nodes": len(axes),
            "enlarged": sum(axis >= SHORT_AXIS_MM for axis in axes),
            "largest_short_axis_mm": max(axes, default=None),
            "volume_ml": sum(node["volume_mm3"] for node in self.nodes) / 1000,
            **(_of_head(self.patient) if self.patient else {}),
            "each_node": _of_nodes(self.nodes),
        }


@dataclass(frozen=True)
class Story:
    """What the page says of the whole run."""

    title: str
    made_by: Mapping[str, object]
    failed: Sequence[str] = ()


def prediction_figures(story: Story, parts: Iterable[CasePart]) -> dict[str, Any]:
    """Everything that the page shows in numbers and words."""
    cases = [part.figures for part in parts]
    return {"title": story.title, "cases": cases, "failed": list(story.failed), "made_by": dict(story.made_by)}


def prediction_page(story: Story, parts: Iterable[CasePart]) -> Page:
    """The page. Parts are taken one after the other, so that one case's pictures are made at a time."""
    known: list[dict[str, Any]] = []
    bodies: list[Piece] = []
    for number, part in enumerate(parts, start=1):
        known.append(part.figures)
        bodies += _case_body(part, known[-1]["each_node"], number)
    with_head = any("probability" in case for case in known)
    columns = {**CASES, **OF_HEAD} if with_head else CASES
    rows = [[_case_cell(case, key, number) for key in columns] for number, case in enumerate(known, start=1)]
    told = "Patients, with what the head says of them" if with_head else "Cases, with their lymph nodes together"
    overview: list[Piece] = [Table("patients", list(columns.values()), rows, told, "cases", filtered=len(rows) > 1)]
    if story.failed:
        lines = "".join(f"<li>{escape(line)}</li>" for line in story.failed)
        overview.append(f"<p class=flag>Not predicted:</p><ul>{lines}</ul>")
    sections = [
        Section("overview", "Patients" if with_head else "Cases", overview),
        Section("cases", "Scans and nodes", bodies),
        Section("made-by", "How this was made", facts(story.made_by)),
    ]
    found = sum(case["nodes"] for case in known)
    lead = f"<p>{len(rows)} case{'s' if len(rows) != 1 else ''}, {found} lymph node{'s' if found != 1 else ''}.</p>"
    return Page(story.title, lead, sections)


def _case_cell(case: Mapping[str, Any], key: str, number: int) -> Cell:
    if key == "case":
        return Html(f'<a href="#case-{number}">{escape(case["case"])}</a>', case["case"])
    value: Value = case.get(key)
    return value


def _of_head(told: Mapping[str, str]) -> dict[str, Value]:
    """What a row of patients.csv says."""
    probability, low, high = (_number(told.get(key)) for key in ("probability_calibrated", "low", "high"))
    decided = {"1": "positive", "0": "negative"}.get(told.get("class", ""))
    return {"probability": probability, "low": low, "high": high, "class": decided, "flags": told.get("flags") or None}


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _case_body(part: CasePart, known: Sequence[Mapping[str, Any]], number: int) -> list[Piece]:
    columns = _node_columns(part.nodes)
    rows = [[_node_cell(node, key, part.viewer is not None) for key in columns] for node in known]
    nodes: Piece = "<p>No node was found.</p>"
    if rows:
        nodes = Table(f"nodes-{number}", list(columns.values()), rows, "Lymph nodes", "nodes", part.name)
    seen = f'<div class="viewer" aria-label="Slices of {escape(part.name)}"></div>' if part.viewer is not None else ""
    if part.missing:
        seen += f"<p class=quiet>{escape(part.missing)}</p>"
    still = (
        picture(part.thumbnail, "webp", f"{part.name}, seen from the front, brightest voxels, nodes outlined")
        if part.thumbnail
        else ""
    )
    data = embedded(f"data-{number}", part.viewer) if part.viewer is not None else ""
    count = f"{len(part.nodes)} node{'s' if len(part.nodes) != 1 else ''}"
    attribute = f' data-case="data-{number}"' if part.viewer is not None else ""
    return [
        f'<details class="case" id="case-{number}"{attribute}{" open" if number == 1 else ""}>'
        f"<summary><h3>{escape(part.name)}</h3><span class=quiet>{count}</span></summary>"
        f'<div class="inside">{seen}<div class="still">{still}<div>',
        nodes,
        f"</div></div></div>{data}</details>",
    ]


def _node_columns(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Those of nodes.json that are shown, and what one of the nodes has."""
    columns = {key: column for key, column in NODES.items() if key in ALWAYS or any(node.get(key) is not None for node in nodes)}
    for key in nodes[0] if nodes else ():
        statistic, _, channel = key.partition("_")
        if statistic in STATISTICS and channel:
            columns[key] = Column(STATISTICS[statistic].format(channel), ".4g")
    return columns


def _of_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of nodes.json what is shown, by column."""
    columns = _node_columns(nodes)
    return [{key: _node_figure(node, key) for key in columns} for node in nodes]


def _node_figure(node: Mapping[str, Any], key: str) -> Any:
    if key == "volume_ml":
        return float(node["volume_mm3"]) / 1000
    return [node[f"centroid_{axis}_mm"] for axis in "xyz"] if key == "centroid_mm" else node.get(key)


def _node_cell(node: Mapping[str, Any], key: str, has_viewer: bool) -> Cell:
    value: Value = node[key]
    if key == "node" and has_viewer:
        return Html(f'<button type="button" data-node="{value}">{value}</button>', value)
    return Place(*node[key]) if key == "centroid_mm" else value
