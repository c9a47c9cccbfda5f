"""The page of a prediction: a row for each patient, and for each case its slices, its nodes and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lnauto.evaluation.comparators import SHORT_AXIS_MM
from lnauto.report.page import Column, Html, Section, Value, embedded, escape, facts, page, picture, table

CASES = [
    Column("case"),
    Column("nodes", "d"),
    Column("enlarged", "d", f"with a short axis of at least {SHORT_AXIS_MM:g} mm"),
    Column("largest short axis, mm", ".1f"),
    Column("volume of all, ml", ".2f"),
]
OF_HEAD = [
    Column("probability", ".2f", "of metastasis, calibrated"),
    Column("from", ".2f", "the lowest of the folds"),
    Column("to", ".2f", "the highest of the folds"),
    Column("class", "", "positive: at the head's stored threshold or above"),
    Column("flags"),
]
NODES = {
    "node": Column("node", "d"),
    "short_axis_mm": Column(
        "short axis, mm", ".1f", "in the axial slice where the node is longest, at right angles to the long axis"
    ),
    "long_axis_mm": Column("long axis, mm", ".1f", "in the axial slice where the node is longest"),
    "volume_ml": Column("volume, ml", ".2f"),
    "place": Column("x, y, z in mm", "", "its middle in the world, LPS: to the patient's left, back and head"),
    "station": Column("station"),
    "probability": Column("probability", ".2f", "of metastasis, of this node alone, not calibrated"),
}
ALWAYS = ("node", "short_axis_mm", "long_axis_mm", "volume_ml", "place")
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


@dataclass(frozen=True)
class Story:
    """What the page says of the whole run."""

    title: str
    made_by: Mapping[str, object]
    failed: Sequence[str] = ()


def prediction_page(story: Story, parts: Iterable[CasePart]) -> str:
    """The page as text. Parts are taken one after the other, so that one case's pictures are made at a time."""
    rows: list[list[Value | Html]] = []
    bodies: list[str] = []
    of_head: list[bool] = []
    found = 0
    for number, part in enumerate(parts, start=1):
        rows.append([*_case_row(part, number), *_head_row(part)])
        of_head.append(bool(part.patient))
        found += len(part.nodes)
        bodies.append(_case_body(part, number))
    columns = [*CASES, *OF_HEAD] if any(of_head) else CASES
    rows = [row[: len(columns)] for row in rows]
    overview = table(columns, rows, "patients", filtered=len(rows) > 1)
    if story.failed:
        overview += (
            "<p class=flag>Not predicted:</p><ul>" + "".join(f"<li>{escape(line)}</li>" for line in story.failed) + "</ul>"
        )
    sections = [
        Section("overview", "Patients" if any(of_head) else "Cases", overview),
        Section("cases", "Scans and nodes", "".join(bodies)),
        Section("made-by", "How this was made", facts(story.made_by)),
    ]
    lead = f"<p>{len(rows)} case{'s' if len(rows) != 1 else ''}, {found} lymph node{'s' if found != 1 else ''}.</p>"
    return page(story.title, lead, sections)


def _case_row(part: CasePart, number: int) -> list[Value | Html]:
    axes = [node["short_axis_mm"] for node in part.nodes]
    return [
        Html(f'<a href="#case-{number}">{escape(part.name)}</a>', part.name),
        len(axes),
        sum(axis >= SHORT_AXIS_MM for axis in axes),
        max(axes, default=None),
        sum(node["volume_mm3"] for node in part.nodes) / 1000,
    ]


def _head_row(part: CasePart) -> list[Value | Html]:
    told = part.patient
    numbers = [_number(told.get(key)) for key in ("probability_calibrated", "low", "high")]
    return [*numbers, {"1": "positive", "0": "negative"}.get(told.get("class", "")), told.get("flags") or None]


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _case_body(part: CasePart, number: int) -> str:
    columns = _node_columns(part.nodes)
    rows = [[_node_cell(node, key, part.viewer is not None) for key in columns] for node in part.nodes]
    nodes = table(list(columns.values()), rows, f"nodes-{number}") if rows else "<p>No node was found.</p>"
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
    return (
        f'<details class="case" id="case-{number}"{attribute}{" open" if number == 1 else ""}>'
        f"<summary><h3>{escape(part.name)}</h3><span class=quiet>{count}</span></summary>"
        f'<div class="inside">{seen}<div class="still">{still}<div>{nodes}</div></div></div>{data}</details>'
    )


def _node_columns(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Those of nodes.json that are shown, and what one of the nodes has."""
    columns = {key: column for key, column in NODES.items() if key in ALWAYS or any(node.get(key) is not None for node in nodes)}
    for key in nodes[0] if nodes else ():
        statistic, _, channel = key.partition("_")
        if statistic in STATISTICS and channel:
            columns[key] = Column(STATISTICS[statistic].format(channel), ".1f")
    return columns


def _node_cell(node: Mapping[str, Any], key: str, has_viewer: bool) -> Value | Html:
    if key == "node" and has_viewer:
        return Html(f'<button type="button" data-node="{node["node"]}">{node["node"]}</button>', node["node"])
    if key == "volume_ml":
        return float(node["volume_mm3"]) / 1000
    if key == "place":
        return ", ".join(f"{node[f'centroid_{axis}_mm']:.0f}" for axis in "xyz")
    value: Value = node.get(key)
    return value
