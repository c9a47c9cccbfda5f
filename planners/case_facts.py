"""What one case shows: geometry, the intensities of what was drawn, its nodes, and how it was drawn.

A case is read once, and everything is measured where something was drawn: the cost is that of reading, plus a little for each
node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects

from lnauto.data.raw import Case, RawDataset
from lnauto.data.region import REGIONS, Anatomy, choose_box, extent_mm, find_anatomy
from lnauto.data.scans import orientation_of
from lnauto.data.trusted_background import SMOOTH_MM, smoothed
from lnauto.nodes import Array, Box, label_components, measure_nodes

SAMPLES_PER_CASE = 50_000
SHELL_MM = 4.0  # round a node: wide enough for a voxel of thick slices, narrow enough for what touches it
STRIPES_APART = 5  # slices, at most, from one that is drawn to the next
HELD_MM = 10.0  # round a node that a region has to hold, too


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
    held_by: tuple[str, ...] = ()  # the regions it lies in, with a margin
    middle: tuple[tuple[float, float], ...] = ()  # 10th and 90th percentile of its smoothed intensities, channel by channel


@dataclass(frozen=True)
class RegionFacts:
    """What cropping to a region leaves of a case."""

    shape: list[int]
    kept: float  # share of the image


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
    neck_mm: tuple[float, float, float] | None = None
    regions: dict[str, RegionFacts] = field(default_factory=dict)  # CT only
    orientation: str = "LPS"  # where x, y and z count to
    darkest: float = -1000.0  # 1st percentile of the first channel
    stripes: int = 0  # nodes that are a slice thick, with such another a few slices away


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
    drawn, background, striped = 0.0, 0.0, 0
    is_ct = next(iter(dataset.channel_names.values()), "").lower() == "ct"
    direction = properties["sitk_stuff"]["direction"]
    anatomy = find_anatomy(image[0], spacing, direction) if is_ct else Anatomy(None, None, None)
    boxes = {name: choose_box(anatomy, name, image.shape[1:], spacing, direction) for name in REGIONS[1:] if is_ct}
    if label is not None:
        ignored = label == dataset.ignore_label if dataset.ignore_label is not None else np.zeros(label.shape, bool)
        foreground = (label > 0) & ~ignored
        drawn, background = 1.0 - float(ignored.mean()), float((label == 0).mean())
        instances = label if dataset.instances else label_components(np.isin(label, dataset.node_labels))[0]
        striped = stripes(instances)
        nodes = tuple(_look_at_nodes(image, instances, spacing, direction, boxes))
    extents = [extent_mm(box, spacing) if box else None for box in (anatomy.body, anatomy.lungs, anatomy.neck)]
    return CaseFacts(
        spacing=spacing,
        shape=[int(stop - start) for start, stop in box],
        kept=float(np.prod([stop - start for start, stop in box]) / np.prod(image.shape[1:])),
        intensities=_sample(image, foreground, seed),
        annotated=label is not None,
        nodes=nodes,
        drawn=drawn,
        background_drawn=background,
        body_mm=extents[0],
        lung_mm=extents[1],
        neck_mm=extents[2],
        regions={name: _cropped(region, box, image.shape[1:]) for name, region in boxes.items()},
        orientation=orientation_of(direction),
        darkest=float(np.percentile(image[0][::3, ::3, ::3], 1)),
        stripes=striped,
    )


def _cropped(region: Box, content: list[tuple[int, int]], shape: tuple[int, ...]) -> RegionFacts:
    sides = [min(part.stop, stop) - max(part.start, start) for part, (start, stop) in zip(region, content, strict=True)]
    return RegionFacts(sides, float(np.prod(sides) / np.prod(shape)))


def _look_at_nodes(
    image: Array, instances: Array, spacing: list[float], direction: Sequence[float], regions: dict[str, Box]
) -> list[NodeFacts]:
    numbers = instances.astype(np.int32, copy=False)
    boxes = {number: box for number, box in enumerate(find_objects(numbers), 1) if box is not None}
    margin = [max(1, round(SHELL_MM / side)) for side in spacing]
    found = []
    for node in measure_nodes(numbers, tuple(spacing), direction=direction):
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
                held_by=tuple(name for name, region in regions.items() if _holds(region, box, numbers.shape, spacing)),
                middle=tuple(_middle(smoothed(channel, spacing, SMOOTH_MM)[own]) for channel in around),
            )
        )
    return found


def stripes(instances: Array) -> int:
    """Nodes that are one slice thick, along whichever axis that holds of most, and lie above or below such another."""
    boxes = [box for box in find_objects(instances.astype(np.int32, copy=False)) if box is not None]
    if len(boxes) < 2:
        return 0
    start = np.array([[side.start for side in box] for box in boxes]).T
    stop = np.array([[side.stop for side in box] for box in boxes]).T
    meet = (start[:, :, None] < stop[:, None]) & (start[:, None] < stop[:, :, None])
    found = []
    for axis in range(3):
        thin = stop[axis] - start[axis] == 1
        apart = np.abs(start[axis][:, None] - start[axis])
        beside = (apart > 1) & (apart <= STRIPES_APART) & meet[axis - 2] & meet[axis - 1] & thin
        found.append(int((thin & beside.any(axis=1)).sum()))
    return max(found)


def _middle(values: Array) -> tuple[float, float]:
    low, high = np.percentile(values, [10, 90])
    return float(low), float(high)


def _holds(region: Box, node: Box, shape: tuple[int, ...], spacing: list[float]) -> bool:
    """Whether a region holds a node's box and a margin round it, or as much as there is of the image."""
    return all(
        part.start <= max(own.start - HELD_MM / side, 0) and part.stop >= min(own.stop + HELD_MM / side, size)
        for part, own, size, side in zip(region, node, shape, spacing, strict=True)
    )


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
