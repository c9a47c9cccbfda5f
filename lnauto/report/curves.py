"""Drawings for the page as SVG: learning curves, nodes found by size, false nodes, two evaluations, and patients.

They are made of the figures that `report.json` holds, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lnauto.evaluation.patients import PatientSummary
from lnauto.report.drawing import figure_of
from lnauto.report.tables import Record

# Inches: of what fills half of the page, and a third, beside others or by itself on a narrow screen.
CURVES_WITH_NODES, CURVES, SMALL, SQUARE, PATIENTS = (5.4, 6.2), (5.4, 4.6), (4.4, 3.4), (4.4, 4.4), (4.9, 4.8)
TRAINING, VALIDATION, DICE, NODE, FALSE, MUTED = "#1f6fb4", "#d1495b", "#2e8b57", "#7b2d8b", "#7a6c5d", "#6b6b6b"
FOUND, MISSED = "#1f6fb4", "#e3a857"
BINS = 24


def learning_curves(history: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Any:
    """Losses, Dice and nodes over the iterations of one fold; `names` says what the figures are called."""
    nodes = [record for record in history if record.get("nodes")]
    figure = figure_of(CURVES_WITH_NODES if nodes else CURVES)
    places = figure.subplots(3 if nodes else 2, 1, sharex=True, height_ratios=(1, 1, 0.6) if nodes else (1, 1))
    losses, scores = places[:2]
    style = {"linewidth": 1.6, "marker": "o", "markersize": 3 if len(history) > 1 else 5}
    at = [record["iteration"] for record in history]
    for key, name, colour in (("train_loss", "training", TRAINING), ("val_loss", "validation patches", VALIDATION)):
        losses.plot(at, [record[key] for record in history], color=colour, label=name, **style)
    losses.set(ylabel="loss")
    scores.plot(
        at, _gaps(record["dice"] for record in history), color=DICE, label=f"{names['dice']}, validation patches", **style
    )
    if nodes:
        at = [record["iteration"] for record in nodes]
        recall = _gaps(record["nodes"]["recall"] for record in nodes)
        scores.plot(at, recall, color=NODE, label=f"{names['found']}, whole cases", **{**style, "marker": "s"})
        places[2].plot(at, [record["nodes"]["false_per_case"] for record in nodes], color=FALSE, **{**style, "marker": "s"})
        places[2].set_ylabel(f"{names['false']}\na case")
        places[2].set_ylim(bottom=0)
    scores.set(ylim=(-0.02, 1.02), ylabel="share")
    places[-1].set_xlabel("iteration")
    places[-1].set_xlim(left=0)
    for place in places[:2]:
        place.legend(frameon=False, fontsize=9, loc="best")
    return _finished(figure, places)


def learning_numbers(history: Sequence[Mapping[str, Any]]) -> list[Record]:
    keys, of_nodes = ("iteration", "seconds", "train_loss", "val_loss", "dice"), ("recall", "false_per_case")
    return [
        {**{key: one[key] for key in keys}, **{f"nodes_{key}": (one["nodes"] or {}).get(key) for key in of_nodes}}
        for one in history
    ]


def recall_by_size(sizes: Sequence[Mapping[str, Any]]) -> Any:
    """The share found of each size, with its interval."""
    figure = figure_of(SMALL)
    place = figure.subplots()
    for number, size in enumerate(sizes):
        share = size["recall"]
        if share["value"] is not None:
            reach = [[share["value"] - share["low"]], [share["high"] - share["value"]]]
            place.errorbar(number, share["value"], yerr=reach, fmt="o", color=FOUND, markersize=7, elinewidth=1.4, capsize=4)
    names = [f"{size['size'].removeprefix('short axis ')}\n{size['found']} of {size['true']}" for size in sizes]
    place.set_xticks(range(len(sizes)), names)
    place.set(xlim=(-0.6, len(sizes) - 0.4), ylim=(-0.02, 1.02), ylabel="share of nodes found", xlabel="short axis")
    return _finished(figure, [place])


def recall_numbers(sizes: Sequence[Mapping[str, Any]]) -> list[Record]:
    return [
        {
            "short_axis": size["size"].removeprefix("short axis "),
            "true": size["true"],
            "found": size["found"],
            **estimate_numbers("recall", size["recall"]),
        }
        for size in sizes
    ]


def axis_bars(found: Sequence[float], missed: Sequence[float]) -> list[Record]:
    """How many nodes of each short axis are found and missed."""
    import numpy as np

    longest = max(int(np.ceil(max([*found, *missed], default=1.0))), 1)
    edges = np.linspace(0, longest, min(BINS, longest) + 1)
    counts = [np.histogram(axes, edges)[0] for axes in (found, missed)]
    return [
        {"from_mm": float(low), "to_mm": float(high), "found": int(right), "missed": int(wrong)}
        for low, high, right, wrong in zip(edges, edges[1:], *counts, strict=False)
    ]


def nodes_by_size(bars: Sequence[Mapping[str, Any]]) -> Any:
    """The bars of nodes found, and on top of them those missed."""
    figure = figure_of(SMALL)
    place = figure.subplots()
    left, widths = [bar["from_mm"] for bar in bars], [bar["to_mm"] - bar["from_mm"] for bar in bars]
    found, missed = ([bar[key] for bar in bars] for key in ("found", "missed"))
    place.bar(left, found, widths, align="edge", color=FOUND, label="found")
    place.bar(left, missed, widths, found, align="edge", color=MISSED, label="missed")
    place.set(xlabel="short axis, mm", ylabel="nodes")
    place.yaxis.get_major_locator().set_params(integer=True)
    place.legend(frameon=False, fontsize=9)
    return _finished(figure, [place])


def false_bars(counts: Sequence[int]) -> list[Record]:
    """In how many cases so many nodes are false."""
    most = max(counts, default=0)
    width = max(1, -(-(most + 1) // BINS))
    return [
        {"from": low, "to": low + width - 1, "cases": sum(low <= count < low + width for count in counts)}
        for low in range(0, most + 1, width)
    ]


def false_nodes(bars: Sequence[Mapping[str, Any]]) -> Any:
    """A bar for each number of false nodes."""
    figure = figure_of(SMALL)
    place = figure.subplots()
    middles, widths = [(bar["from"] + bar["to"]) / 2 for bar in bars], [0.9 * (bar["to"] - bar["from"] + 1) for bar in bars]
    place.bar(middles, [bar["cases"] for bar in bars], widths, color=FALSE)
    place.set(xlabel="false nodes in a case", ylabel="cases")
    for axis in (place.xaxis, place.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return _finished(figure, [place])


def against_each_other(first: Sequence[float | None], second: Sequence[float | None]) -> Any:
    """A point for each case, its Dice in one evaluation and in the other."""
    figure = figure_of(SQUARE)
    place = figure.subplots()
    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    place.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=":")
    place.plot([one for one, _ in pairs], [other for _, other in pairs], "o", color=TRAINING, markersize=6, alpha=0.75)
    place.set(xlabel="Dice, A", ylabel="Dice, B", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return _finished(figure, [place])


def differences(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Shares that differ, each with its interval, against none."""
    figure = figure_of(SQUARE)
    place = figure.subplots()
    place.axvline(0, color=MUTED, linewidth=1, linestyle=":")
    for number, row in enumerate(rows):
        known = row["difference"]
        if known["value"] is None:
            continue
        if known["low"] is not None:
            place.plot((known["low"], known["high"]), (number, number), color=TRAINING, linewidth=1.6)
        place.plot(known["value"], number, "o", color=TRAINING, markersize=7)
    place.set_yticks(range(len(rows)), [row["figure"] for row in rows])
    place.set(xlabel="B less A", ylim=(len(rows) - 0.5, -0.5))
    place.margins(x=0.15)
    return _finished(figure, [place])


def of_patients(summary: PatientSummary, draw: Callable[[Any, PatientSummary], None]) -> Any:
    """One part of the picture that a patient-level validation has."""
    figure = figure_of(PATIENTS)
    draw(figure, summary)
    return figure


def estimate_numbers(name: str, estimate: Mapping[str, Any]) -> Record:
    """A figure and its interval, in columns of their own."""
    return {name: estimate["value"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}


def _finished(figure: Any, places: Any) -> Any:
    for place in places:
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=9)
        place.grid(color="#e4e7eb", linewidth=0.6)
        place.set_axisbelow(True)
    return figure


def _gaps(values: Any) -> list[float]:
    return [float("nan") if value is None else value for value in values]
