"""The page of a training: its plan with the evidence, how each fold learned, how it was validated, and cases to look at.

All figures come from one dictionary, which is written beside the page as `report.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lnauto.planners.explain import in_words, says_something
from lnauto.report import curves
from lnauto.report.checklists import write as checklists
from lnauto.report.drawing import Drawing
from lnauto.report.figures import columns_of, names_of, with_interval
from lnauto.report.head_part import head_part
from lnauto.report.page import Page, Piece, Section, embedded, facts
from lnauto.report.tables import Cell, Column, Html, Share, Table, escape

CASES = [
    Column("case"),
    Column("fold"),
    Column("Dice", ".3f", "mean over the labels that the case has"),
    Column("nodes", "d", "true ones"),
    Column("found", "d"),
    Column("missed", "d"),
    Column("false", "d", "predicted nodes that stand for no true one"),
    Column("F1", ".2f"),
    Column("true, ml", ".2f", "of all labels together"),
    Column("predicted, ml", ".2f", "of all labels together"),
]
SIZES = [
    Column("short axis"),
    Column("found", "", "of the true nodes"),
    Column("recall", "", "Wilson's interval"),
    Column("false", "d"),
]
NODES = [Column("node", "d"), Column("is"), Column("short axis, mm", ".1f"), Column("volume, ml", ".2f")]
KEY = (
    "<p class=quiet>Outlines: <span class='key drawn'></span> drawn by a person,"
    " <span class='key predicted'></span> predicted by the fold that was validated on the case.</p>"
)


@dataclass(frozen=True)
class Look:
    """A case to look at: which, why, and the pictures, or why there are none."""

    case: str
    why: str
    nodes: Sequence[Mapping[str, Any]] = ()  # number, kind (drawn, node), is (missed, false, found), short_axis_mm, volume_mm3
    viewer: Mapping[str, Any] | None = None
    missing: str = ""

    @property
    def figures(self) -> list[dict[str, Any]]:
        """What the page shows of its nodes."""
        return [
            {
                **{key: node[key] for key in ("number", "is", "short_axis_mm")},
                "volume_ml": node["volume_mm3"] / 1000,
            }
            for node in self.nodes
        ]


def training_page(figures: Mapping[str, Any], looks: Sequence[Look]) -> Page:
    """The page of the figures, with the cases to look at."""
    folds, validation = figures["folds"], figures["validation"]
    bodies = [piece for number, look in enumerate(looks, start=1) for piece in _look(look, number)]
    links = {case: f"look-{number}" for number, case in enumerate(figures["looked_at"], start=1)}
    sections = [Section("plan", "The plan", _plan(figures["plan"]))]
    if folds or not figures["heads"]:  # a head may be all there is
        sections.append(Section("learning", "Learning curves", _curves(folds, figures["names"])))
        sections.append(Section("validation", "Validation", _validation(validation)))
    if validation is not None:
        sections.append(Section("cases", "Cases", [_cases(validation, links)]))
        told = f"<p>{escape(figures['looks'])}</p>"
        sections.append(Section("looks", "Worst and best cases", [told, KEY if bodies else "", *bodies]))
    if figures["heads"]:
        heads = [piece for number, head in enumerate(figures["heads"], start=1) for piece in head_part(head, number)]
        sections.append(Section("patients", "Patients", heads))
    sections.append(Section("checklists", "Reporting checklists", checklists.section(figures["checklists"])))
    sections.append(Section("made-by", "How this was made", facts(figures["made_by"])))
    return Page(figures["title"], f"<p>{escape(_lead(figures))}</p>", sections)


def _lead(figures: Mapping[str, Any]) -> str:
    count = len(figures["folds"])
    if not count and figures["heads"]:
        best = figures["heads"][0]["judged"][0]
        area = best["figures"]["auc"]
        return f"A patient head; {best['figures']['patients']} patients validated ({best['of']}): AUC {area['value']:.2f}."
    told = f"{count} fold{'s' if count != 1 else ''} trained"
    rows = [] if figures["validation"] is None else figures["validation"]["rows"]
    if not rows:
        return f"{told}, none validated."
    best = rows[-1]
    names = names_of(list(best["figures"]))
    parts = [
        f"{names[name]} {best['figures'][name]['value']:.2f}" for name in names if best["figures"][name]["value"] is not None
    ]
    return f"{told}; {best['cases']} case{'s' if best['cases'] != 1 else ''} validated ({best['of']}): {', '.join(parts)}."


def _plan(plan: Mapping[str, Any]) -> list[Piece]:
    known = {name: entry for name, entry in plan["evidence"].items() if says_something(entry["value"])}
    rows: list[list[Cell]] = [[name, _told(entry["value"]), entry["how"]] for name, entry in known.items()]
    parts: list[Piece] = [facts(plan["reasons"])]
    if plan["strategy"]:
        parts += ["<h3>Behind the strategy</h3>", facts(plan["strategy"])]
    if rows:
        columns = [Column("what was found out"), Column("figure"), Column("how")]
        inside = Table("evidence", columns, rows, "What the plan rests on", filtered=True)
        unknown = [name for name in plan["evidence"] if name not in known]
        rest = f"<p class=quiet>Nothing known of: {escape(', '.join(unknown))}.</p>" if unknown else ""
        summary = f"<summary><h3>Evidence</h3><span class=quiet>{len(rows)} figures</span></summary>"
        parts += [f'<details class="case">{summary}', inside, f"{rest}</details>"]
    return parts


def _told(value: Any) -> Cell:
    """In words; a file of numbers has a number in full."""
    words = in_words(value)
    return Html(escape(words), value) if isinstance(value, int | float) and not isinstance(value, bool) else words


def _curves(folds: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[Piece]:
    drawn: list[Piece] = []
    for fold in folds:
        if not fold["history"]:
            drawn.append(f"<p class=quiet>Fold {escape(fold['fold'])} left no history.json.</p>")
            continue
        name, history = fold["fold"], fold["history"]
        told = f"Fold {name}: {history[-1]['iteration']:,} iterations in {history[-1]['seconds'] / 60:.1f} min."
        curve, numbers = curves.learning_curves(history, names), curves.learning_numbers(history)
        drawn.append(Drawing(f"learning-curve-fold-{name}", curve, f"Learning curve of fold {name}", told, numbers))
    return ['<div class="pair">', *drawn, "</div>"] if drawn else ["<p>No fold of a network is here.</p>"]


def _validation(validation: Mapping[str, Any] | None) -> list[Piece]:
    if validation is None:
        return ["<p>No fold was validated: there is no fold_*/validation/evaluation.json.</p>"]
    told = names_of(list(dict.fromkeys(name for row in validation["rows"] for name in row["figures"])))
    counted = bool(validation["sizes"])
    columns = [Column("validated on"), Column("cases", "d"), *([Column("found", "", "of the true nodes")] if counted else [])]
    rows: list[list[Cell]] = []
    for row in validation["rows"]:
        found = [Share(row["found"], row["true"])] if counted else []
        rows.append([row["of"], row["cases"], *found, *(with_interval(row["figures"].get(name)) for name in told)])
    whole = Table("figures", [*columns, *columns_of(told)], rows, "Validation", notes=validation["notes"])
    return [whole, *(_sizes(validation) if counted else ())]


def _sizes(validation: Mapping[str, Any]) -> list[Piece]:
    sizes, axes = validation["sizes"], validation["short_axes_mm"]
    rows: list[list[Cell]] = [
        [
            size["size"].removeprefix("short axis "),
            Share(size["found"], size["true"]),
            with_interval(size["recall"]),
            size["false"],
        ]
        for size in sizes
    ]
    whole = Table(
        "sizes", SIZES, rows, "Nodes found and false, by short axis; recall with Wilson's 95 % interval", "nodes-by-size"
    )
    by_axis = curves.axis_bars(axes["found"], axes["missed"])
    false = curves.false_bars([case["false"] for case in validation["each_case"]])
    drawings = [
        Drawing(
            "recall-by-size",
            curves.recall_by_size(sizes),
            "Share of nodes found by size",
            "Nodes found, by size, with Wilson's 95 % interval.",
            curves.recall_numbers(sizes),
        ),
        Drawing(
            "nodes-by-short-axis",
            curves.nodes_by_size(by_axis),
            "Nodes found and missed by short axis",
            "Nodes found and missed.",
            by_axis,
        ),
        Drawing(
            "false-nodes-per-case",
            curves.false_nodes(false),
            "False nodes per case",
            "In how many cases so many nodes are false.",
            false,
        ),
    ]
    return ["<h3>Nodes by size</h3>", whole, '<div class="pair">', *drawings, "</div>"]


def _cases(validation: Mapping[str, Any], links: Mapping[str, str]) -> Table:
    rows: list[list[Cell]] = []
    for case in validation["each_case"]:
        name, fold = case["case"], case["fold"]
        link = links.get(name)
        shown = Html(f'<a href="#{link}">{escape(name)}</a>', name) if link else name
        numbers = [case[key] for key in ("dice", "true", "found", "missed", "false", "f1", "true_ml", "predicted_ml")]
        rows.append([shown, fold, *numbers])
    told = "Validated cases" + (", each predicted by the fold that did not train on it" if validation["unseen"] else "")
    return Table("each-case", CASES, rows, told, "cases", filtered=len(rows) > 1)


def _look(look: Look, number: int) -> list[Piece]:
    rows = [_node(node) for node in look.nodes]
    told = "Nodes of the worst and best cases that are missed, false or found"
    nodes: Piece = "<p>Nothing is missed and nothing is false.</p>"
    if rows:
        nodes = Table(f"look-nodes-{number}", NODES, rows, told, "nodes-of-worst-and-best-cases", look.case)
    seen = f'<div class="viewer" aria-label="Slices of {escape(look.case)}"></div>' if look.viewer is not None else ""
    seen += f"<p class=quiet>{escape(look.missing)}</p>" if look.missing else ""
    data = embedded(f"look-data-{number}", look.viewer) if look.viewer is not None else ""
    attribute = f' data-case="look-data-{number}"' if look.viewer is not None else ""
    return [
        f'<details class="case" id="look-{number}"{attribute}{" open" if number == 1 else ""}>'
        f"<summary><h3>{escape(look.case)}</h3><span class=quiet>{escape(look.why)}</span></summary>"
        f'<div class="inside">{seen}',
        nodes if look.viewer is not None else "",
        f"</div>{data}</details>",
    ]


def _node(node: Mapping[str, Any]) -> list[Cell]:
    number = int(node["number"])
    button = Html(
        f'<button type="button" data-{"drawn" if node["kind"] == "drawn" else "node"}="{number}">{number}</button>', number
    )
    return [button if node["shown"] else number, node["is"], node["short_axis_mm"], node["volume_mm3"] / 1000]
