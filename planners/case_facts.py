"""What one case shows: geometry, the intensities of what was drawn, its nodes, and how it was drawn.

A case is read once, and everything is measured where something was drawn: the cost is that of reading, plus a little for each
node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects

from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array, bounding_box, label_components, measure_nodes

SAMPLES_PER_CASE = 50_000
SHELL_MM = 4.0  # round a node: wide enough for a voxel of thick slices, narrow enough for what touches it
BODY_ABOVE_HU = -300.0
LUNG_BELOW_HU = -500.0
LOOK_EVERY_MM = 4.0  # how finely body and lungs are looked for


@dataclass(frozen=True)
class NodeFacts:
    """One drawn node."""

    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    at_border: bool  # of the image
    filled: float  # share of its voxels that lie in a full square of 3x3 voxels of their slice; a stroke's is next to 0
    inside: tuple[float, ...]  # mean intensity, channel by channel
    shell: tuple[float, ...]  # the same of what lies round it and is no node


@dataclass(frozen=True)
class CaseFacts:
    """One case."""

    spacing: list[float]
    shape: list[int]  # after cropping to what is not zero
    kept: float  # share of the image that cropping keeps
    intensities: NDArray[np.float32]  # of what was drawn as foreground: channels x samples
    annotated: bool
    nodes: tuple[NodeFacts, ...]
    drawn: float  # share of voxels that are not `ignore`
    background_drawn: float  # share of voxels that are drawn as background
    body_mm: tuple[float, float, float] | None  # extent (z, y, x), CT only
    lung_mm: tuple[float, float, float] | None


def look_at(dataset: RawDataset, case: Case, seed: int) -> CaseFacts:
    """Read a case and measure it; `seed` draws the sample of its intensities."""
    from lnauto.compat.images import SimpleITKIO

    reader = SimpleITKIO()
    image, properties = reader.read_images([str(path) for path in case.images])
    spacing = [float(side) for side in properties["spacing"]]
    box = _content_box(image)
    label = reader.read_seg(str(case.label))[0][0] if case.label is not None else None
    foreground: Array | None = None
    nodes: tuple[NodeFacts, ...] = ()
    drawn, background = 0.0, 0.0
    if label is not None:
        ignored = label == dataset.ignore_label if dataset.ignore_label is not None else np.zeros(label.shape, bool)
        foreground = (label > 0) & ~ignored
        drawn, background = 1.0 - float(ignored.mean()), float((label == 0).mean())
        instances = label if dataset.instances else label_components(np.isin(label, dataset.node_labels))[0]
        nodes = tuple(_look_at_nodes(image, instances, spacing))
    is_ct = next(iter(dataset.channel_names.values()), "").lower() == "ct"
    body, lung = _extents(image[0], spacing) if is_ct else (None, None)
    return CaseFacts(
        spacing=spacing,
        shape=[int(stop - start) for start, stop in box],
        kept=float(np.prod([stop - start for start, stop in box]) / np.prod(image.shape[1:])),
        intensities=_sample(image, foreground, seed),
        annotated=label is not None,
        nodes=nodes,
        drawn=drawn,
        background_drawn=background,
        body_mm=body,
        lung_mm=lung,
    )


def _look_at_nodes(image: Array, instances: Array, spacing: list[float]) -> list[NodeFacts]:
    numbers = instances.astype(np.int32, copy=False)
    boxes = {number: box for number, box in enumerate(find_objects(numbers), 1) if box is not None}
    margin = [max(1, round(SHELL_MM / side)) for side in spacing]
    found = []
    for node in measure_nodes(numbers, tuple(spacing)):
        box = boxes[node.number]
        wide = tuple(
            slice(max(0, side.start - more), min(size, side.stop + more))
            for side, more, size in zip(box, margin, numbers.shape, strict=True)
        )
        own = numbers[wide] == node.number
        shell = _grown(own, margin) & (numbers[wide] == 0)
        around = image[:, wide[0], wide[1], wide[2]]
        found.append(
            NodeFacts(
                volume_mm3=node.volume_mm3,
                long_axis_mm=node.long_axis_mm,
                short_axis_mm=node.short_axis_mm,
                at_border=any(side.start == 0 or side.stop == size for side, size in zip(box, numbers.shape, strict=True)),
                filled=filled_share(own),
                inside=_means(around, own),
                shell=_means(around, shell),
            )
        )
    return found


def _means(image: Array, mask: Array) -> tuple[float, ...]:
    return tuple(float(channel[mask].mean(dtype=np.float64)) if mask.any() else float("nan") for channel in image)


def _grown(mask: Array, by: list[int]) -> Array:
    grown: Array = binary_dilation(mask, np.ones([2 * side + 1 for side in by], bool))
    return grown


def filled_share(mask: Array) -> float:
    """The share of a mask's voxels that belong to a full 3x3 square within a slice."""
    padded = np.pad(mask, ((0, 0), (2, 2), (2, 2)))
    corners = np.ones((mask.shape[0], mask.shape[1] + 2, mask.shape[2] + 2), bool)
    for row in range(3):
        for column in range(3):
            corners &= padded[:, row : row + corners.shape[1], column : column + corners.shape[2]]
    filled = np.zeros_like(padded)
    for row in range(3):
        for column in range(3):
            filled[:, row : row + corners.shape[1], column : column + corners.shape[2]] |= corners
    return float(filled.sum() / max(mask.sum(), 1))


def _extents(image: Array, spacing: list[float]) -> tuple[tuple[float, float, float] | None, tuple[float, float, float] | None]:
    """How far body and lungs reach, looked at every few millimetres."""
    steps = [max(1, int(LOOK_EVERY_MM // side)) for side in spacing]
    coarse = image[tuple(slice(None, None, step) for step in steps)]
    side = [step * mm for step, mm in zip(steps, spacing, strict=True)]
    components, count = label_components(coarse > BODY_ABOVE_HU)
    if count == 0:
        return None, None
    body = components == 1
    box = bounding_box(body)
    assert box is not None
    extent = _millimetres(box, side)
    air, found = label_components((coarse[box] < LUNG_BELOW_HU) & ~_open_to_the_side(coarse[box] < LUNG_BELOW_HU))
    lungs = bounding_box(air > 0) if found else None
    return extent, _millimetres(lungs, side) if lungs is not None else None


def _open_to_the_side(air: Array) -> Array:
    """Air that reaches the image's border within its slices: what lies outside the body."""
    components, _ = label_components(air)
    border = {*np.unique(components[:, 0]), *np.unique(components[:, -1]), *np.unique(components[:, :, 0])}
    border |= {*np.unique(components[:, :, -1])}
    return np.isin(components, sorted(border - {0}))


def _millimetres(box: tuple[slice, ...], side: list[float]) -> tuple[float, float, float]:
    z, y, x = ((part.stop - part.start) * mm for part, mm in zip(box, side, strict=True))
    return round(z, 1), round(y, 1), round(x, 1)


def _content_box(image: Array) -> list[tuple[int, int]]:
    """Where any channel is not zero. Holes do not matter to a box, so nothing needs filling as in nnU-Net's crop."""
    content = (image != 0).any(axis=0)
    box = []
    for axis in range(content.ndim):
        filled = np.flatnonzero(content.any(axis=tuple(a for a in range(content.ndim) if a != axis)))
        box.append((int(filled[0]), int(filled[-1]) + 1))
    return box


def _sample(image: Array, foreground: Array | None, seed: int) -> NDArray[np.float32]:
    """Foreground intensities of every channel; of an un-annotated case none, so that air does not count as node."""
    if foreground is None or not foreground.any():
        return np.empty((len(image), 0), np.float32)
    voxels = image[:, foreground]
    if voxels.shape[1] > SAMPLES_PER_CASE:
        voxels = voxels[:, np.random.default_rng(seed).choice(voxels.shape[1], SAMPLES_PER_CASE, replace=False)]
    return voxels.astype(np.float32)
