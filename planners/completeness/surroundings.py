"""What surrounds each voxel of a case, on a coarse grid, as a classifier reads it.

All lengths are in units of a small drawn node's radius, all intensities relative to those of drawn nodes: nothing here is about
one modality or organ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array, label_components
from lnauto.planners.completeness import gaussians

Floats = gaussians.Floats

VOXELS_PER_RADIUS = 2.2  # of the grid everything is looked at on
MOST_VOXELS = 2_500_000
FINEST = 0.45  # scale of smoothing
SCALES = (0.9, 1.8)  # further ones; wider ones tell one place from another, and so which of two nodes was drawn
BLOB_SCALES = (0.7, 1.2)
FINE_ENOUGH = 3.0  # a smoothed map's voxels may be as long as its Gaussian's width over this; longer ones rank places worse
SHARE_SCALES = (1.8, 4.0)
ASIDE = 1.8  # how far the neighbours lie whose intensity is looked at
INTENSITY_RANGE = (2, 98)  # percentiles of drawn voxels, smoothed; what lies outside is no candidate
CLIP = 3.0  # in widths of that range


@dataclass(frozen=True, eq=False)
class Coarse:
    """A case on the coarse grid."""

    image: Floats
    spacing: Array
    numbers: NDArray[np.int32]  # of the drawn nodes
    volumes: Array  # of the drawn nodes, mm3


@dataclass(frozen=True, eq=False)
class Looked:
    """A case on the coarse grid; voxels that may be node, and what was seen of each."""

    spacing: Array
    numbers: NDArray[np.int32]  # of the drawn nodes
    volumes: Array  # of the drawn nodes, mm3
    possible: NDArray[np.bool_]
    features: NDArray[np.float16]  # features x voxels; half precision: the classifier sorts them into 255 bins anyway


def read_coarse(dataset: RawDataset, case: Case, radius: float) -> Coarse:
    """Image, spacing and node numbers on the coarse grid, and the nodes' volumes."""
    from lnauto.compat.images import SimpleITKIO

    reader = SimpleITKIO()
    image, properties = reader.read_images([str(path) for path in case.images])
    drawn = reader.read_seg(str(case.label))[0][0]
    spacing = np.array(properties["spacing"], float)
    numbers = drawn.astype(np.int32) if dataset.instances else label_components(np.isin(drawn, dataset.node_labels))[0]
    volumes = np.bincount(numbers.ravel())[1:] * np.prod(spacing)
    steps = _steps(numbers.shape, spacing, radius)
    names = list(dataset.channel_names.values())
    means = np.stack([_block_means(_comparable(image[n], names[n]), steps) for n in range(len(image))])
    middle = tuple(slice(step // 2, size // step * step, step) for step, size in zip(steps, numbers.shape, strict=True))
    return Coarse(means, spacing * steps, numbers[middle], volumes)


def _steps(shape: tuple[int, ...], spacing: Array, radius: float) -> list[int]:
    """Voxels to a side of the coarse grid's voxels; where that leaves too many, more along the finest side."""
    steps = [max(1, min(round(radius / VOXELS_PER_RADIUS / side), size // 8)) for side, size in zip(spacing, shape, strict=True)]
    while np.prod([size // step for size, step in zip(shape, steps, strict=True)]) > MOST_VOXELS:
        steps[int(np.argmin(spacing * steps))] += 1
    return steps


def _comparable(channel: Array, name: str) -> Array:
    """CT as it is; anything else has no unit of its own, so its own mean and spread serve."""
    if name.lower() == "ct":
        return channel
    content = channel[channel != 0]
    return (channel - content.mean()) / max(float(content.std()), 1e-6) if content.size else channel


def _block_means(channel: Array, steps: list[int]) -> Floats:
    z, y, x = (size // step for size, step in zip(channel.shape, steps, strict=True))
    whole = channel[: z * steps[0], : y * steps[1], : x * steps[2]]
    means: Floats = whole.reshape(z, steps[0], y, steps[1], x, steps[2]).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def drawn_intensities(cases: list[Coarse], radius: float) -> list[tuple[float, float]]:
    """Channel by channel, between what the smoothed intensity of drawn voxels lies."""
    boxes = [_drawn_box(case.numbers, np.ceil(3 * FINEST * radius / case.spacing)) for case in cases]
    found = []
    for channel in range(len(cases[0].image)):
        voxels = [
            smooth(case.image[channel][box], FINEST, radius, case.spacing)[case.numbers[box] > 0]
            for case, box in zip(cases, boxes, strict=True)
        ]
        low, high = np.percentile(np.concatenate(voxels), INTENSITY_RANGE)
        found.append((float(low), max(float(high), float(low) + 1e-6)))
    return found


def _drawn_box(numbers: NDArray[np.int32], margin: Array) -> tuple[slice, ...]:
    """What holds everything drawn and a margin; nothing where nothing is drawn."""
    held = find_objects((numbers > 0).astype(np.uint8))
    box = held[0] if held else (slice(0, 0),) * 3
    return tuple(slice(max(0, side.start - int(more)), side.stop + int(more)) for side, more in zip(box, margin, strict=True))


def smooth(values: Floats, scale: float, radius: float, spacing: Array) -> Floats:
    return gaussians.smooth(values, _in_voxels(scale, radius, spacing)) if values.size else values


def _in_voxels(scale: float, radius: float, spacing: Array) -> gaussians.Widths:
    z, y, x = (scale * radius / spacing).tolist()
    return z, y, x


def look_round(case: Coarse, radius: float, ranges: list[tuple[float, float]]) -> Looked:
    """Every voxel that may be node, and what is round it."""
    relative = [
        np.clip((channel - np.float32(low)) / np.float32(high - low), -CLIP, 1 + CLIP)
        for channel, (low, high) in zip(case.image, ranges, strict=True)
    ]
    slightly = [smooth(channel, FINEST, radius, case.spacing) for channel in relative]
    possible = np.logical_and.reduce([(channel >= 0) & (channel <= 1) for channel in slightly])
    places = Places(possible)
    features = [values.astype(np.float16) for values in _features(relative, slightly, radius, case.spacing, places)]
    features += [values.astype(np.float16) for values in _where(case.image[0], case.spacing / radius, places)]
    return Looked(case.spacing, case.numbers, case.volumes, possible, np.stack(features))


class Places:
    """Voxels that may be node, to take values at: what lies elsewhere is never computed where that can be helped."""

    def __init__(self, possible: NDArray[np.bool_]) -> None:
        self.shape = possible.shape
        self.along = [places.astype(np.int32) for places in np.nonzero(possible)]
        self._rows: dict[tuple[int, ...], NDArray[np.int64]] = {}

    def of(self, values: Floats, steps: tuple[int, ...] = (1, 1, 1)) -> Floats:
        """The values there, of a map whose voxels are so many of ours long."""
        if steps not in self._rows:
            self._rows[steps] = np.ravel_multi_index(
                [places // step for places, step in zip(self.along, steps, strict=True)], values.shape
            )
        taken: Floats = values.ravel()[self._rows[steps]]
        return taken

    def beside(self, values: Floats, axis: int, step: int) -> Floats:
        """The values so many voxels away; where the image ends, its last ones."""
        rows, stride = self._rows_of_ours(), int(np.prod(self.shape[axis + 1 :]))
        way = np.clip(self.along[axis] + step, 0, self.shape[axis] - 1) - self.along[axis]
        taken: Floats = values.ravel()[rows + way.astype(np.int64) * stride]
        return taken

    def _rows_of_ours(self) -> NDArray[np.int64]:
        if (1, 1, 1) not in self._rows:
            self._rows[1, 1, 1] = np.ravel_multi_index(self.along, self.shape)
        return self._rows[1, 1, 1]


def _features(relative: list[Floats], slightly: list[Floats], radius: float, spacing: Array, places: Places) -> Iterator[Floats]:
    """What each voxel's surroundings are like."""
    for channel, level in zip(relative, slightly, strict=True):
        yield places.of(channel)
        yield (finer := places.of(level))
        for axis in range(3):
            step = max(1, round(ASIDE * radius / spacing[axis]))
            yield places.beside(level, axis, -step)
            yield places.beside(level, axis, step)
        for coarser in smoothed_at(places, channel, SCALES, radius, spacing):
            yield coarser
            yield finer - coarser
            finer = coarser
        yield places.of(gaussians.steepness(channel, _in_voxels(FINEST, radius, spacing)))
        for scale in BLOB_SCALES:
            yield from _bends(channel, _in_voxels(scale, radius, spacing), places)
        for outside in (channel < 0, channel > 1):
            yield from smoothed_at(places, outside.astype(np.float32), SHARE_SCALES, radius, spacing)


def _bends(channel: Floats, widths: gaussians.Widths, places: Places) -> tuple[Floats, Floats, Floats]:
    """How sharply intensities bend along three directions of their own, downwards first; in values, over a width."""
    bends = {}
    for (one, other), bend in gaussians.bends(channel, widths):
        bends[one, other] = places.of(bend) * np.float32(widths[one] * widths[other])
    return gaussians.principal(bends)


def smoothed_at(places: Places, values: Floats, scales: Sequence[float], radius: float, spacing: Array) -> Iterator[Floats]:
    """`smooth` at some voxels, from small scales to large ones: the wider it reaches, the coarser the grid it is computed on."""
    steps = np.ones(3, int)
    for scale in scales:
        more = np.maximum(1, scale * radius / (spacing * steps) / FINE_ENOUGH).astype(int)
        if (more > 1).any():
            wide = [(0, -size % step) for size, step in zip(values.shape, more, strict=True)]
            values, steps = _block_means(np.pad(values, wide, mode="edge"), list(more)), steps * more
        yield places.of(smooth(values, scale, radius, spacing * steps), tuple(steps.tolist()))


def _where(channel: Floats, steps: Array, places: Places) -> list[Floats]:
    """Where each voxel lies from the middle of what is bright, and how far aside."""
    bright = channel > channel.mean()
    found = []
    for axis in range(3):
        along = np.arange(channel.shape[axis]) * steps[axis]
        profile = bright.sum(axis=tuple(other for other in range(3) if other != axis))
        offset = (along - np.average(along, weights=profile + 1e-6)).astype(np.float32)
        found.append(offset[places.along[axis]])
    return [*found, np.abs(found[2])]
