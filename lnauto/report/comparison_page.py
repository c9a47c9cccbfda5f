"""The page of two evaluations of the same cases: figures beside each other, their paired differences, and every case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnauto.report import curves
from lnauto.report.drawing import Drawing
from lnauto.report.figures import HOW, names_of, with_interval
from lnauto.report.page import Page, Piece, Section, facts
from lnauto.report.tables import Cell, Column, Html, Table, escape

SIDES = ("A", "B")  # names of folders are too long for headings
DICE = "mean over cases"


def comparison_page(figures: Mapping[str, Any]) -> Page:
    """The page. Its files do not have the names of those of a model's page, which may lie in the same folder."""
    count = figures["cases"]
    called = {side: name for side, name in zip(SIDES, figures["called"], strict=True) if name}
    lead = f"<p>{count} case{'s' if count != 1 else ''} in both.</p>{facts(called) if called else ''}"
    sections = [Section("figures", "Side by side", _figures(figures))]
    if figures["sizes"]:
        sections.append(Section("sizes", "Nodes by size", [_sizes(figures)]))
    sections += [
        Section("cases", "Cases", [_cases(figures)]),
        Section("made-by", "How this was made", facts(figures["made_by"])),
    ]
    return Page(figures["title"], lead, sections)


def _figures(figures: Mapping[str, Any]) -> list[Piece]:
    told = names_of([row["figure"] for row in figures["rows"]])
    columns = [
        Column("figure"),
        *map(Column, SIDES),
        Column("B less A", "", "on the same cases and the same draws", "difference"),
    ]
    rows: list[list[Cell]] = [
        [
            Html(
                f'<span title="{escape(HOW.get(row["figure"], DICE))}">{escape(told[row["figure"]])}</span>', told[row["figure"]]
            ),
            with_interval(row["first"]),
            with_interval(row["second"]),
            with_interval(row["difference"], "+.3f"),
        ]
        for row in figures["rows"]
    ]
    whole = Table(
        "side-by-side",
        columns,
        rows,
        "Two evaluations of the same cases",
        "figures-compared",
        notes=list(filter(None, figures["notes"])),
    )
    shares = [{**row, "figure": told[row["figure"]]} for row in figures["rows"] if row["figure"] != "false_per_case"]
    first, second = ([case["dice"][side] for case in figures["each_case"]] for side in (0, 1))
    drawings = [
        Drawing(
            "differences",
            curves.differences(shares),
            "Differences of the figures",
            "B less A, with 95 % intervals.",
            [{"figure": row["figure"], **curves.estimate_numbers("difference", row["difference"])} for row in shares],
        ),
        Drawing(
            "dice-compared",
            curves.against_each_other(first, second),
            "Dice of each case",
            "A point for each case; above the line B is better.",
            [{"case": case["case"], "dice_a": case["dice"][0], "dice_b": case["dice"][1]} for case in figures["each_case"]],
        ),
    ]
    return [whole, '<div class="pair">', *drawings, "</div>"]


def _sizes(figures: Mapping[str, Any]) -> Table:
    columns = [Column("short axis"), Column("nodes", "d")]
    for name in SIDES:
        columns += [Column(f"recall, {name}", "", "Wilson's interval"), Column(f"false, {name}", "d")]
    rows: list[list[Cell]] = []
    for size in figures["sizes"]:
        sides = [cell for side in ("first", "second") for cell in (with_interval(size[side]["recall"]), size[side]["false"])]
        rows.append([size["size"].removeprefix("short axis "), size["true"], *sides])
    told = "Nodes found and false, by short axis; recall with Wilson's 95 % interval"
    return Table("sizes-compared", columns, rows, told, "nodes-by-size-compared")


def _cases(figures: Mapping[str, Any]) -> Table:
    columns = [Column("case"), *(Column(f"Dice, {name}", ".3f") for name in SIDES), Column("B less A", "+.3f", "", "difference")]
    counted = bool(figures["sizes"])
    if counted:
        columns.append(Column("nodes", "d"))
        columns += [Column(f"{key}, {name}", "d") for key in ("found", "false") for name in SIDES]
    rows: list[list[Cell]] = []
    for case in figures["each_case"]:
        nodes = [case["true"], *case["found"], *case["false"]] if counted else []
        rows.append([case["case"], *case["dice"], case["difference"], *nodes])
    return Table("cases-compared", columns, rows, "Cases of both evaluations", filtered=len(rows) > 1)
