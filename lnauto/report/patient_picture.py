"""A patient-level validation in one picture: ROC with its band, calibration with counts, decision curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.evaluation.calibration import CalibrationGroup
from lnauto.evaluation.decisions import Decisions
from lnauto.evaluation.estimates import Estimate
from lnauto.evaluation.patients import PatientSummary
from lnauto.files import replacing

SIZE, DPI = (15.0, 5.4), 100
MODEL, RULE, WITHOUT, MUTED, WHITE = "#1f6fb4", "#d1495b", "#b8c4cf", "#6b6b6b", "#ffffff"
MARKERS = "sD^v"


def draw_patients(summary: PatientSummary, path: Path) -> None:
    """One PNG of the summary."""
    figure = patients_figure(summary)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def patients_figure(summary: PatientSummary) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=SIZE, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08), facecolor=WHITE)
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(1, 3)
    draw_roc(parts[0], summary)
    draw_calibration(parts[1], summary)
    draw_decision_curve(parts[2], summary)
    return figure


def draw_roc(figure: Any, summary: PatientSummary) -> None:
    figure.suptitle("Ranking", fontsize=13, weight="bold")
    place = figure.subplots()
    curve = summary.roc
    place.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=":")
    place.fill_between(curve.grid, curve.low, curve.high, color=MODEL, alpha=0.18, linewidth=0, label="95 % interval, bootstrap")
    place.plot(curve.false_positive_rate, curve.sensitivity, color=MODEL, linewidth=1.8, label="model")
    _decided(place, summary.decisions, MODEL, "o", "model, at its threshold")
    rules = [(one.name, one.decisions) for one in summary.comparisons if one.decisions is not None]
    for (name, decisions), marker in zip(rules, MARKERS, strict=False):  # as many as can be told apart
        _decided(place, decisions, RULE, marker, _short(name))
    place.set(xlabel="false positives (1 - specificity)", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    place.set_aspect("equal")
    place.set_title(f"AUC {_told(summary.auc)}, {summary.positive} of {summary.patients} with metastasis", fontsize=10)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    _plain(place)


def _decided(place: Any, decisions: Decisions, colour: str, marker: str, name: str) -> None:
    """A threshold as a point, with Wilson's intervals both ways."""
    found, spared = (decisions.estimates()[key] for key in ("sensitivity", "specificity"))
    if math.isnan(found.value) or math.isnan(spared.value):
        return
    place.errorbar(
        1 - spared.value,
        found.value,
        xerr=[[spared.high - spared.value], [spared.value - spared.low]],
        yerr=[[found.value - found.low], [found.high - found.value]],
        fmt=marker,
        color=colour,
        markersize=6,
        elinewidth=0.7,
        label=name,
    )


def draw_calibration(figure: Any, summary: PatientSummary) -> None:
    figure.suptitle("Calibration", fontsize=13, weight="bold")
    place, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    groups = summary.calibration_groups
    place.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=":")
    observed = np.array([(one.observed.value, one.observed.low, one.observed.high) for one in groups]).T
    place.errorbar(
        [one.predicted for one in groups],
        observed[0],
        yerr=np.maximum([observed[0] - observed[1], observed[2] - observed[0]], 0),
        fmt="o-",
        color=MODEL,
        linewidth=1,
        markersize=5,
    )
    slope, intercept = summary.calibration
    place.set_title(f"slope {_told(slope)}, intercept {_told(intercept)}\n{_sizes(groups)}", fontsize=10)
    place.set(ylabel="with metastasis", ylim=(-0.02, 1.02))
    _plain(place)
    steps = len(summary.spread.positive)
    left, width = np.arange(steps) / steps, 1 / steps
    counts.bar(left, summary.spread.negative, width, align="edge", color=WITHOUT, label="without metastasis")
    counts.bar(left, summary.spread.positive, width, summary.spread.negative, align="edge", color=MODEL, label="with")
    counts.set(xlabel="probability", ylabel="patients", xlim=(-0.01, 1.01))
    counts.set_ylim(0, 1.35 * max(np.add(summary.spread.positive, summary.spread.negative)))
    counts.legend(frameon=False, fontsize=8, ncols=2, loc="upper right", borderaxespad=0)
    counts.yaxis.get_major_locator().set_params(integer=True)
    _plain(counts)


def draw_decision_curve(figure: Any, summary: PatientSummary) -> None:
    figure.suptitle("Decision curve", fontsize=13, weight="bold")
    place = figure.subplots()
    curve = summary.decision_curve
    low, high = summary.thresholds[0], summary.thresholds[-1]
    place.axvspan(low - 0.003, high + 0.003, color=MUTED, alpha=0.2, linewidth=0, label="threshold in use")
    place.plot(curve.thresholds, curve.treat_none, color=MUTED, linewidth=1.2, label="treat none")
    place.plot(curve.thresholds, curve.treat_all, color=RULE, linewidth=1.2, linestyle="--", label="treat all")
    place.plot(curve.thresholds, curve.model, color=MODEL, linewidth=1.8, label="treat by the model")
    top = max(summary.observed, *curve.model)
    place.set(xlabel="probability from which one would treat", ylabel="net benefit, true positives a patient")
    place.set(xlim=(0, 1), ylim=(-0.25 * top, 1.1 * top))
    place.set_title("the highest line is the best choice", fontsize=10)
    place.legend(frameon=False, fontsize=9, loc="upper right")
    _plain(place)


def _told(estimate: Estimate) -> str:
    return "unknown" if math.isnan(estimate.value) else f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _sizes(groups: Sequence[CalibrationGroup]) -> str:
    sizes = sorted(one.patients for one in groups)
    told = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    return f"{len(groups)} groups of {told} patients" if len(groups) > 1 else f"one group of {told} patients"


def _short(name: str) -> str:
    return name if len(name) <= 30 else name[:27] + "..."


def _plain(place: Any) -> None:
    place.spines[["top", "right"]].set_visible(False)
    place.tick_params(labelsize=9)
