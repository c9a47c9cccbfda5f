"""Lymph nodes as things: the components of a mask, and one node of one mask with its measures.

Arrays are (z, y, x) and spacings (z, y, x) in mm, here and everywhere in lnauto; a point in the world is LPS (x, y, z) in mm,
and origins and directions are given as SimpleITK gives them.

Axes follow the radiologist's in-plane rule. In the axial slice where the node is longest, the long axis is the largest distance
between two of its pixel centres plus one pixel, the short axis the node's extent at right angles to it, again from centre to
centre plus one pixel; "one pixel" is the pixel's size in that direction. So a node of one voxel has the size of its voxel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from lnauto.errors import InputError

# Words for lymph nodes in a label's name, as words of their own: "gland", "colon" and "GTVp" must not match.
NODE_WORDS = re.compile(
    r"(?<![a-z])(lymph(adenopathy)?|(lymph[\s_-]*)?nod(es?|al)|lns?|gtv[\s_-]*(n(d|odes?|odal)?|lns?))(?![a-z])"
)

Array = NDArray[Any]
Box = tuple[slice, ...]
Point = tuple[float, float, float]


def names_nodes(name: str) -> bool:
    """Whether a label's name speaks of lymph nodes."""
    return NODE_WORDS.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


@dataclass(frozen=True)
class Node:
    """One lymph node of one mask; what was not measured or is not known is None."""

    case: str
    number: int
    centroid_mm: Point | None
    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    station: str | None = None
    mean_intensity: float | None = None
    probability: float | None = None
    height_mm: float | None = None  # from its lowest slice to its highest


def bounding_box(mask: Array, margin: int = 0) -> Box | None:
    """The smallest box that holds every non-zero voxel, widened by `margin` inside the array; None if there is none."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hits = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if not hits.size:
            return None
        box.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(
        slice(max(0, side.start - margin), min(size, side.stop + margin)) for side, size in zip(box, mask.shape, strict=True)
    )


def label_components(mask: Array) -> tuple[NDArray[np.int32], int]:
    """The 26-connected components of a mask, numbered from 1 by descending volume, and how many there are."""
    labels = np.zeros(mask.shape, np.int32)
    box = bounding_box(mask)
    if box is None:
        return labels, 0
    # cc3d 4.1 fails on some thin boxes that components fill to both ends, such as 1 0 1; with a rim of background on none
    rimmed = np.pad(mask[box] != 0, 1)
    found, count = cc3d.connected_components(rimmed, connectivity=26, return_N=True)
    found = found[(slice(1, -1),) * mask.ndim]
    sizes = np.bincount(found[found > 0])[1:]
    number = np.zeros(count + 1, np.int32)
    number[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    labels[box] = number[found]
    return labels, count


def measure_nodes(
    instances: Array,
    spacing: Sequence[float],
    *,
    case: str = "",
    origin: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
    image: Array | None = None,
    probabilities: Array | None = None,
) -> list[Node]:
    """Measure every instance of an array (0 is background); a node's number is its value there.

    Centroids need the `origin`; without a `direction` the array's axes are taken for the patient's. Means are taken of `image`
    (one channel) and `probabilities` where they are given.
    """
    for name, array in (("image", image), ("probabilities", probabilities)):
        if array is not None and array.shape != instances.shape:
            what = f"the {name} have shape {array.shape}, the node instances {instances.shape}"
            raise InputError.of(what, case or "a case without a name", "give both on one grid")
    axial = _axial_axis(direction)
    voxel = float(np.prod(spacing))
    pixel = np.delete(np.asarray(spacing, float), axial)
    nodes = []
    for number, mask, box, centroid, count in _instances_of(instances):
        long, short = _longest_slice(np.moveaxis(mask, axial, 0), pixel)
        nodes.append(
            Node(
                case=case,
                number=number,
                centroid_mm=None if origin is None else world_point(centroid, spacing, origin, direction),
                volume_mm3=count * voxel,
                long_axis_mm=long,
                short_axis_mm=short,
                height_mm=mask.shape[axial] * float(spacing[axial]),
                mean_intensity=None if image is None else float(image[box][mask].mean(dtype=float)),
                probability=None if probabilities is None else float(probabilities[box][mask].mean(dtype=float)),
            )
        )
    return nodes


def world_point(
    index: Sequence[float], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float] | None = None
) -> Point:
    """Where the voxel at (z, y, x) lies in the world, LPS (x, y, z) in mm."""
    steps = np.asarray(index, float)[::-1] * np.asarray(spacing, float)[::-1]
    x, y, z = np.asarray(origin, float) + _matrix(direction) @ steps
    return float(x), float(y), float(z)


def _matrix(direction: Sequence[float] | None) -> Array:
    return np.eye(3) if direction is None else np.asarray(direction, float).reshape(3, 3)


def _axial_axis(direction: Sequence[float] | None) -> int:
    """The array axis that runs closest to the patient's own from feet to head."""
    return 2 - int(np.abs(_matrix(direction)[2]).argmax())


def _instances_of(instances: Array) -> Iterator[tuple[int, Array, Box, list[float], int]]:
    """Number, mask in its box, box, centroid (z, y, x) and voxel count of each instance."""
    whole = bounding_box(instances)
    if whole is None:
        return
    found = find_objects(instances[whole].astype(np.int32, copy=False))
    for number, inner in enumerate(found, start=1):
        if inner is None:
            continue
        box = tuple(slice(side.start + at.start, side.stop + at.start) for side, at in zip(inner, whole, strict=True))
        mask = instances[box] == number
        # by counts along each axis: a list of a huge component's voxels would not fit into memory
        along = [np.count_nonzero(mask, axis=others) for others in ((1, 2), (0, 2), (0, 1))]
        count = int(along[0].sum())
        centroid = [float(np.arange(side.start, side.stop) @ counts) / count for side, counts in zip(box, along, strict=True)]
        yield number, mask, box, centroid, count


def _longest_slice(planes: Array, pixel: Array) -> tuple[float, float]:
    """Long and short axis in mm of a node given slice by slice, from the slice with the largest long axis."""
    return max(_in_plane_axes(plane, pixel) for plane in planes if plane.any())


def _in_plane_axes(plane: Array, pixel: Array) -> tuple[float, float]:
    points = _hull(plane) * pixel
    ways = points[:, None] - points[None]
    lengths = np.hypot(ways[..., 0], ways[..., 1])
    longest = np.unravel_index(lengths.argmax(), lengths.shape)
    if lengths[longest] > 0:
        along = ways[longest] / lengths[longest]
    else:  # one pixel: its longer side is its long axis
        along = np.array([1.0, 0.0]) if pixel[0] >= pixel[1] else np.array([0.0, 1.0])
    across = np.array([-along[1], along[0]])
    reach = points @ across
    axes = float(lengths[longest] + np.hypot(*(along * pixel))), float(np.ptp(reach) + np.hypot(*(across * pixel)))
    return max(axes), min(axes)  # with oblong pixels a thin node can be wider than long


def _hull(plane: Array) -> Array:
    """The corners (row, column) of the convex hull of a plane's pixels, by Andrew's monotone chain."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
    left = _chain(list(zip(rows.tolist(), first.tolist(), strict=True)), 1)
    right = _chain(list(zip(rows.tolist(), last.tolist(), strict=True)), -1)
    return np.array(sorted({*left, *right}))


def _chain(points: list[tuple[int, int]], side: int) -> list[tuple[int, int]]:
    """Of points in order of rows, those where the outline bulges to `side` (1: towards small columns)."""
    chain: list[tuple[int, int]] = []
    for row, column in points:
        while len(chain) > 1:
            (row0, column0), (row1, column1) = chain[-2:]
            if side * ((row1 - row0) * (column - column0) - (column1 - column0) * (row - row0)) > 0:
                break
            chain.pop()
        chain.append((row, column))
    return chain
