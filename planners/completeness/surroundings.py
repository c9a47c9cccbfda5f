"""What surrounds each voxel of a case, on a coarse grid, as a classifier reads it.

All lengths are in units of a small drawn node's radius, all intensities relative to those of drawn nodes: nothing here is about
one modality or organ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, uniform_filter

from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array, label_components

Floats = NDArray[np.float32]

VOXELS_PER_RADIUS = 2.2  # of the grid everything is looked at on
MOST_VOXELS = 2_500_000
FINEST = 0.45  # scale of smoothing
SCALES = (0.9, 1.8, 3.6, 7.2)  # further ones
BOX_ABOVE = 2.0  # scales that two passes of a box stand in for, whose cost does not grow with them
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
    features: NDArray[np.float16]  # half precision: the classifier sorts them into 255 bins anyway


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
    found = []
    for channel in range(len(cases[0].image)):
        voxels = [smooth(case.image[channel], FINEST, radius, case.spacing)[case.numbers > 0] for case in cases]
        low, high = np.percentile(np.concatenate(voxels), INTENSITY_RANGE)
        found.append((float(low), max(float(high), float(low) + 1e-6)))
    return found


def smooth(values: Floats, scale: float, radius: float, spacing: Array) -> Floats:
    sigma = scale * radius / spacing
    if scale < BOX_ABOVE:
        smooth: Floats = gaussian_filter(values, sigma, truncate=2.5)
        return smooth
    widths = np.rint(np.sqrt(6 * sigma**2 + 1)).astype(int)
    smooth = uniform_filter(uniform_filter(values, widths), widths)
    return smooth


def look_round(case: Coarse, radius: float, ranges: list[tuple[float, float]]) -> Looked:
    """Every voxel that may be node, and what is round it."""
    relative = [
        np.clip((channel - np.float32(low)) / np.float32(high - low), -CLIP, 1 + CLIP)
        for channel, (low, high) in zip(case.image, ranges, strict=True)
    ]
    slightly = [smooth(channel, FINEST, radius, case.spacing) for channel in relative]
    possible = np.logical_and.reduce([(channel >= 0) & (channel <= 1) for channel in slightly])
    features = [values[possible].astype(np.float16) for values in _maps(relative, slightly, radius, case.spacing)]
    places = [values[possible].astype(np.float16) for values in _places(case.image[0], case.spacing / radius)]
    return Looked(case.spacing, case.numbers, case.volumes, possible, np.stack([*features, *places], axis=1))


def _maps(relative: list[Floats], slightly: list[Floats], radius: float, spacing: Array) -> Iterator[Floats]:
    """What each voxel's surroundings are like, one after the other to spare memory."""
    for channel, level in zip(relative, slightly, strict=True):
        yield channel
        yield level
        for axis in range(3):
            step = max(1, round(ASIDE * radius / spacing[axis]))
            for way in (-1, 1):
                yield np.roll(level, way * step, axis)
        finer = level
        for scale in SCALES:
            coarser = smooth(channel, scale, radius, spacing)
            yield coarser
            yield finer - coarser
            finer = coarser
        yield gaussian_gradient_magnitude(channel, FINEST * radius / spacing, truncate=2.5)
        for outside in (channel < 0, channel > 1):
            for scale in SHARE_SCALES:
                yield smooth(outside.astype(np.float32), scale, radius, spacing)


def _places(channel: Floats, steps: Array) -> list[Floats]:
    """Where each voxel lies from the middle of what is bright, and how far aside."""
    bright = channel > channel.mean()
    places = []
    for axis in range(3):
        along = np.arange(channel.shape[axis]) * steps[axis]
        profile = bright.sum(axis=tuple(other for other in range(3) if other != axis))
        offset = (along - np.average(along, weights=profile + 1e-6)).astype(np.float32)
        places.append(np.broadcast_to(offset.reshape([-1 if n == axis else 1 for n in range(3)]), channel.shape))
    return [*places, np.abs(places[2])]
