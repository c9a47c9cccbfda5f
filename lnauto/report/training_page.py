"""The page of a training: its plan with the evidence, how each fold learned, how it was validated, and cases to look at.

All figures come from one dictionary, which is written beside the page as `report.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lnauto.planners.explain import in_words, says_something
from lnauto.report.checklists import write as checklists
from lnauto.report.curves import false_nodes, learning_curves, nodes_by_size, recall_by_size
from lnauto.report.figures import columns_of, names_of, share, with_interval
from lnauto.report.head_part import head_part
from lnauto.report.page import Column, Html, Section, Value, embedded, escape, facts, figure, page, table

CASES = [
    Column("case"),
    Column("fold"),
    Column("Dice", ".3f", "mean over the labels that the case has"),
    Column("nodes", "d", "true ones"),
    Column("found", "d"),
    Column("missed", "d"),
    Column("false", "d", "predicted nodes that stand for no true one"),
    Column("F1", ".2f"),
    Column("true, ml", ".2f"),
    Column("predicted, ml", ".2f"),
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
    " <span class='key predicted'></span> predicted by the fold that did not train on the case.</p>"
)


@dataclass(frozen=True)
class Look:
    """A case to look at: which, why, and the pictures, or why there are none."""

    case: str
    why: str
    nodes: Sequence[Mapping[str, Any]] = ()  # number, kind (drawn, node), is (missed, false, found), short_axis_mm, volume_mm3
    viewer: Mapping[str, Any] | None = None
    missing: str = ""


def training_page(figures: Mapping[str, Any], looks: Iterable[Look]) -> str:
    """The page as text; looks are taken one after the other, so that one case's pictures are made at a time."""
    folds, validation = figures["folds"], figures["validation"]
    bodies = [_look(look, number) for number, look in enumerate(looks, start=1)]
    links = {case: f"look-{number}" for number, case in enumerate(figures["looked_at"], start=1)}
    sections = [Section("plan", "The plan", _plan(figures["plan"]))]
    if folds or not figures["heads"]:  # a head may be all there is
        sections.append(Section("learning", "Learning curves", _curves(folds, figures["names"])))
        sections.append(Section("validation", "Validation", _validation(validation)))
    if validation is not None:
        sections.append(Section("cases", "Cases", _cases(validation["each_case"], links)))
        told = f"<p>{escape(figures['looks'])}</p>"
        sections.append(Section("looks", "Worst and best cases", told + (KEY if bodies else "") + "".join(bodies)))
    if figures["heads"]:
        heads = "".join(head_part(head, number) for number, head in enumerate(figures["heads"], start=1))
        sections.append(Section("patients", "Patients", heads))
    sections.append(Section("checklists", "Reporting checklists", checklists.section(figures["checklists"])))
    sections.append(Section("made-by", "How this was made", facts(figures["made_by"])))
    return page(figures["title"], f"<p>{escape(_lead(figures))}</p>", sections)


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


def _plan(plan: Mapping[str, Any]) -> str:
    known = {name: entry for name, entry in plan["evidence"].items() if says_something(entry["value"])}
    rows: list[list[Value | Html]] = [[name, in_words(entry["value"]), entry["how"]] for name, entry in known.items()]
    parts = [facts(plan["reasons"])]
    if plan["strategy"]:
        parts += ["<h3>Behind the strategy</h3>", facts(plan["strategy"])]
    if rows:
        columns = [Column("what was found out"), Column("figure"), Column("how")]
        inside = table(columns, rows, "evidence", filtered=True)
        unknown = [name for name in plan["evidence"] if name not in known]
        inside += f"<p class=quiet>Nothing known of: {escape(', '.join(unknown))}.</p>" if unknown else ""
        summary = f"<summary><h3>Evidence</h3><span class=quiet>{len(rows)} figures</span></summary>"
        parts.append(f'<details class="case">{summary}{inside}</details>')
    return "".join(parts)


def _curves(folds: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    drawn = []
    for fold in folds:
        if not fold["history"]:
            drawn.append(f"<p class=quiet>Fold {escape(fold['fold'])} left no history.json.</p>")
            continue
        last = fold["history"][-1]
        told = f"Fold {fold['fold']}: {last['iteration']:,} iterations in {last['seconds'] / 60:.1f} min"
        drawn.append(figure(learning_curves(fold["history"], names, f"Learning curve of fold {fold['fold']}"), f"{told}."))
    return f'<div class="pair">{"".join(drawn)}</div>' if drawn else "<p>No fold of a network is here.</p>"


def _validation(validation: Mapping[str, Any] | None) -> str:
    if validation is None:
        return "<p>No fold was validated: there is no fold_*/validation/evaluation.json.</p>"
    told = names_of(list(dict.fromkeys(name for row in validation["rows"] for name in row["figures"])))
    counted = bool(validation["sizes"])
    columns = [Column("validated on"), Column("cases", "d"), *([Column("found", "", "of the true nodes")] if counted else [])]
    rows: list[list[Value | Html]] = []
    for row in validation["rows"]:
        found = [share(row["found"], row["true"])] if counted else []
        rows.append([row["of"], row["cases"], *found, *(with_interval(row["figures"].get(name)) for name in told)])
    notes = "".join(f"<p class=quiet>{escape(note)}</p>" for note in validation["notes"])
    parts = [table([*columns, *columns_of(told)], rows, "figures"), notes]
    return "".join([*parts, *(_sizes(validation) if counted else ())])


def _sizes(validation: Mapping[str, Any]) -> list[str]:
    sizes, axes = validation["sizes"], validation["short_axes_mm"]
    rows: list[list[Value | Html]] = [
        [
            size["size"].removeprefix("short axis "),
            share(size["found"], size["true"]),
            with_interval(size["recall"]),
            size["false"],
        ]
        for size in sizes
    ]
    drawings = [
        figure(recall_by_size(sizes, "Share of nodes found by size"), "Nodes found, by size, with Wilson's 95 % interval."),
        figure(nodes_by_size(axes["found"], axes["missed"], "Nodes found and missed by short axis"), "Nodes found and missed."),
        figure(
            false_nodes([case["false"] for case in validation["each_case"]], "False nodes per case"),
            "In how many cases so many nodes are false.",
        ),
    ]
    return ["<h3>Nodes by size</h3>", table(SIZES, rows, "sizes"), f'<div class="pair">{"".join(drawings)}</div>']


def _cases(each: Sequence[Mapping[str, Any]], links: Mapping[str, str]) -> str:
    rows: list[list[Value | Html]] = []
    for case in each:
        name, fold = case["case"], case["fold"]
        link = links.get(name)
        shown: Value | Html = Html(f'<a href="#{link}">{escape(name)}</a>', name) if link else name
        numbers = [case[key] for key in ("dice", "true", "found", "missed", "false", "f1", "true_ml", "predicted_ml")]
        rows.append([shown, fold, *numbers])
    return table(CASES, rows, "each-case", filtered=len(rows) > 1)


def _look(look: Look, number: int) -> str:
    rows = [_node(node) for node in look.nodes]
    nodes = table(NODES, rows, f"look-nodes-{number}") if rows else "<p>Nothing is missed and nothing is false.</p>"
    seen = f'<div class="viewer" aria-label="Slices of {escape(look.case)}"></div>' if look.viewer is not None else ""
    seen += f"<p class=quiet>{escape(look.missing)}</p>" if look.missing else ""
    data = embedded(f"look-data-{number}", look.viewer) if look.viewer is not None else ""
    attribute = f' data-case="look-data-{number}"' if look.viewer is not None else ""
    return (
        f'<details class="case" id="look-{number}"{attribute}{" open" if number == 1 else ""}>'
        f"<summary><h3>{escape(look.case)}</h3><span class=quiet>{escape(look.why)}</span></summary>"
        f'<div class="inside">{seen}{nodes if look.viewer is not None else ""}</div>{data}</details>'
    )


def _node(node: Mapping[str, Any]) -> list[Value | Html]:
    number = int(node["number"])
    button = Html(
        f'<button type="button" data-{"drawn" if node["kind"] == "drawn" else "node"}="{number}">{number}</button>', number
    )
    return [button if node["shown"] else number, node["is"], node["short_axis_mm"], node["volume_mm3"] / 1000]
