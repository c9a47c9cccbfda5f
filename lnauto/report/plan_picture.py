"""The picture beside the plan: node sizes, intensities, coverage and budget at a glance."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.files import replacing
from lnauto.report.drawing import as_written
from lnauto.report.plan_facts import Channel, Lengths, PlanFacts, Share, times

SIZE, DPI = (13.0, 8.6), 100
NODE, ROUND, REFERENCE, MUTED = "#1f6fb4", "#d98324", "#2e8b57", "#6b6b6b"
REST, WHITE = "#e9e9e9", "#ffffff"
BINS = 24
LINE = 150  # characters of the reason, at its size
CHANNELS_SHOWN = 3
LOGARITHMIC_FROM = 50  # times the 5th percentile that the 95th is: images without a common scale


def draw_plan(facts: PlanFacts, path: Path) -> None:
    """One PNG from what was seen and what was decided."""
    with replacing(path) as temporary:
        temporary.write_bytes(plan_png(facts))


def plan_png(facts: PlanFacts) -> bytes:
    png = io.BytesIO()
    plan_figure(facts).savefig(png, format="png")
    return png.getvalue()


def plan_figure(facts: PlanFacts) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=SIZE, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06), facecolor=WHITE)
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(3, 1, height_ratios=(0.11, 0.445, 0.445))
    head, top, bottom = parts
    _head(head, facts)
    sizes, intensities = top.subfigures(1, 2)
    coverage, budget = bottom.subfigures(1, 2)
    _sizes(sizes, facts)
    _intensities(intensities, facts.channels[:CHANNELS_SHOWN])
    _coverage(coverage, facts)
    _budget(budget, facts)
    as_written(figure)
    return figure


def _head(figure: Any, facts: PlanFacts) -> None:
    figure.text(0.015, 0.9, f"{facts.dataset}: {facts.title}", fontsize=16, weight="bold", va="top")
    figure.text(0.015, 0.46, textwrap.fill(facts.reason, LINE, max_lines=2), fontsize=11, va="top", color=MUTED)


def _sizes(figure: Any, facts: PlanFacts) -> None:
    """On one logarithmic axis of millimetres: the voxel, the nodes, the patch."""
    figure.suptitle("Node sizes", fontsize=13, weight="bold")
    place = figure.subplots()
    low, high = min(*facts.voxel, *facts.short_axes) / 1.6, max(*facts.patch, *facts.short_axes) * 1.6  # of every node
    place.set_xscale("log")
    place.set_xlim(low, high)
    if facts.percentiles:
        place.hist(facts.short_axes, bins=np.geomspace(low, high, 2 * BINS), color=NODE, alpha=0.75)
        for mark in facts.percentiles:
            place.axvline(mark, color=NODE, linestyle="--", linewidth=1)
        across = [mark / max(facts.voxel[1:]) for mark in facts.percentiles]
        marks = " / ".join(f"{mark:.3g}" for mark in facts.percentiles)
        title = f"short axis, 5th / 50th / 95th percentile: {marks} mm"
        place.set_title(f"{title}\n{' / '.join(f'{number:.2g}' for number in across)} voxels across, in plane", fontsize=10)
    else:
        place.text(0.5, 0.5, "no node is drawn", transform=place.transAxes, ha="center", color=MUTED, fontsize=12)
    for lengths, name, at, side in (
        (facts.voxel, "voxel", max(facts.voxel), "left"),
        (facts.patch, "patch", min(facts.patch), "right"),
    ):
        place.axvspan(min(lengths) / 1.02, max(lengths) * 1.02, color=REFERENCE, alpha=0.25, linewidth=0)
        place.text(
            at * (1.08 if side == "left" else 1 / 1.08),
            0.95,
            f"{name} {times(lengths)} mm",
            transform=place.get_xaxis_transform(),
            rotation=90,
            va="top",
            ha=side,
            fontsize=9,
            color=REFERENCE,
        )
    _millimetres(place, low, high)
    place.set(xlabel="mm", ylabel="nodes")
    _plain(place)


def _millimetres(place: Any, low: float, high: float) -> None:
    ticks = [step * 10.0**power for power in range(-2, 4) for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    place.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    place.minorticks_off()


def _intensities(figure: Any, channels: Sequence[Channel]) -> None:
    figure.suptitle("Intensities", fontsize=13, weight="bold")
    places = figure.subplots(len(channels), 1, squeeze=False)[:, 0]
    for place, channel in zip(places, channels, strict=True):
        _channel(place, channel)
    places[-1].set_xlabel("mean of a node, and of 4 mm round it")


def _channel(place: Any, channel: Channel) -> None:
    place.set_title(f"{channel.name}: {channel.normalisation}", fontsize=10)
    place.set_ylabel("nodes")
    _plain(place)
    if not channel.inside:
        place.text(0.5, 0.5, "no node is drawn", transform=place.transAxes, ha="center", color=MUTED, fontsize=12)
        return
    values = np.array([*channel.inside, *channel.shell])
    low, high = np.percentile(values, [5, 95])
    if low > 0 and high > LOGARITHMIC_FROM * low:
        place.set_xscale("log")
        bins = np.geomspace(values[values > 0].min(), values.max(), BINS)
    else:
        width = max(float(np.ptp(values)), 0.01 * abs(values.max())) or 1.0  # also where all are the same
        bins = values.min() + np.linspace(0, width, BINS)
    place.hist(channel.inside, bins=bins, color=NODE, alpha=0.75, label="inside nodes")
    place.hist(channel.shell, bins=bins, color=ROUND, histtype="step", linewidth=1.8, label="round them")
    if channel.clipped_to:
        name = "clipped to {:.0f} .. {:.0f}".format(*channel.clipped_to)
        place.axvspan(*channel.clipped_to, color=REFERENCE, alpha=0.12, linewidth=0, label=name)
    place.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _coverage(figure: Any, facts: PlanFacts) -> None:
    figure.suptitle("Coverage", fontsize=13, weight="bold")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    shares, counts = left.subplots(2, 1, height_ratios=(1.1, 1))
    _shares(shares, facts.shares)
    if facts.nodes_per_case:
        most = max(facts.nodes_per_case)
        step = max(1, (most + 1) // 20)
        bins = np.arange(-0.5, most + 0.5 + step, step)  # to the end of the bin that the fullest case is in
        counts.hist(facts.nodes_per_case, bins=bins, color=NODE, alpha=0.75)
    counts.set(xlabel="nodes drawn in a case", ylabel="cases")
    _plain(counts)
    counts.xaxis.get_major_locator().set_params(integer=True)
    _in_scale(right.subplots(), facts)


def _shares(place: Any, shares: Sequence[Share]) -> None:
    """A bar for each, and a whisker for an interval."""
    rows = range(len(shares))
    place.barh(rows, [1] * len(shares), color=REST, height=0.55)
    place.barh(rows, [share.value or 0 for share in shares], color=NODE, alpha=0.75, height=0.55)
    for row, share in zip(rows, shares, strict=True):
        if share.interval:
            place.plot(share.interval, (row, row), "k|-", linewidth=1.5, markersize=9)
    place.set_yticks(rows, [f"{share.name}\n{share.told}" for share in shares], fontsize=9)
    place.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    place.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5))
    _plain(place)


def _in_scale(place: Any, facts: PlanFacts) -> None:
    """The patch in the median image, along the array's z and along its y, and the 95th percentile node in its middle."""
    from matplotlib.patches import Circle, Rectangle

    depth, height, width = (max(pair) for pair in zip(facts.image, facts.patch, strict=True))
    gap = 0.12 * max(height, depth)
    for rows, bottom in ((1, depth + gap), (0, 0.0)):
        tall = (depth, height)[rows]
        for lengths, colour, fill in ((facts.image, MUTED, REST), (facts.patch, REFERENCE, "none")):
            side, up = lengths[2], lengths[rows]
            corner = ((width - side) / 2, bottom + (tall - up) / 2)
            place.add_patch(Rectangle(corner, side, up, edgecolor=colour, facecolor=fill, linewidth=1.6))
        if facts.long_axis:
            place.add_patch(Circle((width / 2, bottom + tall / 2), facts.long_axis / 2, color=NODE))
        place.text(-0.03 * width, bottom + tall / 2, facts.planes[rows], rotation=90, ha="right", va="center", fontsize=9)
    place.set(xlim=(-0.12 * width, 1.02 * width), ylim=(-0.02 * depth, depth + gap + height * 1.02), aspect="equal")
    place.set_axis_off()
    _name_lengths(place, facts.image, facts.patch, facts.long_axis)


def _name_lengths(place: Any, image: Lengths, patch: Lengths, node: float | None) -> None:
    whole = [[round(side) for side in lengths] for lengths in (image, patch)]
    place.set_title(f"median image {times(whole[0])} mm", fontsize=9, color=MUTED)
    told = [(f"patch {times(whole[1])} mm", REFERENCE)]
    told += [(f"node of {node:.0f} mm (95th percentile)", NODE)] if node else []
    for row, (line, colour) in enumerate(told):
        place.text(0.5, -0.02 - 0.06 * row, line, transform=place.transAxes, ha="center", va="top", fontsize=9, color=colour)


def _budget(figure: Any, facts: PlanFacts) -> None:
    figure.suptitle("Budget", fontsize=13, weight="bold")
    place = figure.subplots()
    place.set_axis_off()
    place.set(xlim=(0, 1), ylim=(0, 1))
    for number, (value, name) in enumerate(facts.tiles):
        middle = (number + 0.5) / len(facts.tiles)
        place.text(middle, 0.9, value, fontsize=20, weight="bold", ha="center", va="center", color=NODE)
        place.text(middle, 0.77, name, fontsize=10, ha="center", va="center", color=MUTED)
    height = 0.62
    for name, told in facts.lines:
        lines = textwrap.wrap(told, 62, max_lines=2)
        place.text(0.0, height, name, fontsize=10, va="top", color=MUTED)
        place.text(0.17, height, "\n".join(lines), fontsize=10, va="top")
        height -= 0.05 + 0.07 * len(lines)


def _plain(place: Any) -> None:
    place.spines[["top", "right"]].set_visible(False)
    place.tick_params(labelsize=9)
    if place.get_ylabel():  # a number of nodes or cases
        place.yaxis.get_major_locator().set_params(integer=True)
