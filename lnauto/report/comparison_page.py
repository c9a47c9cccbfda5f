"""The page of two evaluations of the same cases: figures beside each other, their paired differences, and every case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnauto.report.curves import against_each_other, differences
from lnauto.report.figures import HOW, names_of, with_interval
from lnauto.report.page import Column, Html, Section, Value, escape, facts, figure, page, table

SIDES = ("A", "B")  # names of folders are too long for headings
DICE = "mean over cases"


def comparison_page(figures: Mapping[str, Any]) -> str:
    """The page as text."""
    count = figures["cases"]
    called = {side: name for side, name in zip(SIDES, figures["called"], strict=True) if name}
    lead = f"<p>{count} case{'s' if count != 1 else ''} in both.</p>{facts(called) if called else ''}"
    sections = [Section("figures", "Side by side", _figures(figures))]
    if figures["sizes"]:
        sections.append(Section("sizes", "Nodes by size", _sizes(figures)))
    sections += [
        Section("cases", "Cases", _cases(figures)),
        Section("made-by", "How this was made", facts(figures["made_by"])),
    ]
    return page(figures["title"], lead, sections)


def _figures(figures: Mapping[str, Any]) -> str:
    told = names_of([row["figure"] for row in figures["rows"]])
    columns = [Column("figure"), *map(Column, SIDES), Column("B less A", "", "on the same cases and the same draws")]
    rows: list[list[Value | Html]] = [
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
    shares = [{**row, "figure": told[row["figure"]]} for row in figures["rows"] if row["figure"] != "false_per_case"]
    first, second = ([case["dice"][side] for case in figures["each_case"]] for side in (0, 1))
    drawings = [
        figure(differences(shares, "Differences of the figures"), "B less A, with 95 % intervals."),
        figure(against_each_other(first, second, "Dice of each case"), "A point for each case; above the line B is better."),
    ]
    notes = "".join(f"<p class=quiet>{escape(note)}</p>" for note in figures["notes"] if note)
    return table(columns, rows, "side-by-side") + f'<div class="pair">{"".join(drawings)}</div>' + notes


def _sizes(figures: Mapping[str, Any]) -> str:
    columns = [Column("short axis"), Column("nodes", "d")]
    for name in SIDES:
        columns += [Column(f"recall, {name}", "", "Wilson's interval"), Column(f"false, {name}", "d")]
    rows: list[list[Value | Html]] = []
    for size in figures["sizes"]:
        sides = [cell for side in ("first", "second") for cell in (with_interval(size[side]["recall"]), size[side]["false"])]
        rows.append([size["size"].removeprefix("short axis "), size["true"], *sides])
    return table(columns, rows, "sizes-compared")


def _cases(figures: Mapping[str, Any]) -> str:
    columns = [Column("case"), *(Column(f"Dice, {name}", ".3f") for name in SIDES), Column("B less A", "+.3f")]
    counted = bool(figures["sizes"])
    if counted:
        columns.append(Column("nodes", "d"))
        columns += [Column(f"{key}, {name}", "d") for key in ("found", "false") for name in SIDES]
    rows: list[list[Value | Html]] = []
    for case in figures["each_case"]:
        nodes = [case["true"], *case["found"], *case["false"]] if counted else []
        rows.append([case["case"], *case["dice"], case["difference"], *nodes])
    return table(columns, rows, "cases-compared", filtered=len(rows) > 1)
