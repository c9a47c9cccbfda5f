"""A scan with what was drawn and what was predicted, as one picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnauto.files import replacing

SOFT_TISSUE = (-160.0, 240.0)  # HU; the window radiologists read nodes in
AXIAL_SLICES = 4
TRUTH, PREDICTION = "#ffd166", "#06d6e0"  # told apart by the colour-blind too, on grey


def draw_overlay(
    image: NDArray[Any],
    predicted: NDArray[Any],
    spacing: Sequence[float],
    path: Path,
    title: str,
    truth: NDArray[Any] | None = None,
    is_ct: bool = True,
    predicted_is: str = "predicted",
) -> None:
    """Four axial slices through the nodes, one coronal and one sagittal; arrays are (z, y, x), `predicted_is` is its word."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    masks = {PREDICTION: predicted > 0} if truth is None else {TRUTH: truth > 0, PREDICTION: predicted > 0}
    low, high = SOFT_TISSUE if is_ct else np.percentile(image, [1, 99.5])
    figure = Figure(figsize=(13, 8.6), dpi=90, layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    nodes = masks[PREDICTION] if truth is None else masks[TRUTH] | masks[PREDICTION]
    for place in axes:
        place.set_axis_off()  # of few slices some stay empty
        place.set(xticks=[], yticks=[])  # they would be laid out all the same, for a quarter of the time that a picture takes
    for place, (axis, number) in zip(axes, _planes(nodes), strict=False):
        height, width = (spacing[other] for other in range(3) if other != axis)
        flip = axis != 0  # the array's z grows towards the head, a picture's rows towards the feet
        plane = _plane(image, axis, number, flip)
        place.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=height / width, interpolation="bicubic")
        for colour, mask in masks.items():
            shown = _plane(mask, axis, number, flip)
            if shown.any():
                place.contour(shown, levels=[0.5], colors=colour, linewidths=1.3)
        at = f"{('axial', 'coronal', 'sagittal')[axis]} {number + 1} of {image.shape[axis]}"  # as the page counts
        place.set_title(at, color="white", fontsize=10)
    entries = {TRUTH: "drawn", PREDICTION: predicted_is}
    handles = [Line2D([], [], color=colour, label=entries[colour]) for colour in masks]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, labelcolor="white")
    figure.suptitle(title, color="white", fontsize=12, parse_math=False)  # a dollar sign begins no formula
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a case's name may have letters that the font lacks; boxes stand for them
        figure.savefig(temporary, facecolor="black")


def _planes(nodes: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where to cut: axial slices with much node, spread over the body, and the middle of most of it otherwise."""
    area = nodes.sum(axis=(1, 2))
    groups = np.array_split(np.flatnonzero(area), AXIAL_SLICES) if area.any() else []
    axial = [int(group[np.argmax(area[group])]) for group in groups if len(group)]
    spread = np.linspace(0, len(area) - 1, AXIAL_SLICES + 2)[1:-1].astype(int)
    axial = (axial + [int(number) for number in spread if number not in axial])[:AXIAL_SLICES]
    across = []
    for axis in (1, 2):
        sums = nodes.sum(axis=tuple(other for other in range(3) if other != axis))
        across.append((axis, int(np.argmax(sums)) if sums.any() else nodes.shape[axis] // 2))
    return [(0, number) for number in sorted(axial)] + across


def _plane(volume: NDArray[Any], axis: int, number: int, flip: bool) -> NDArray[Any]:
    plane = np.take(volume, number, axis=axis)
    return plane[::-1] if flip else plane
