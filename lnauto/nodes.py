"""Lymph nodes as things: the components of a mask, and one node of one mask with its measures.

Arrays are (z, y, x) and spacings (z, y, x) in mm, here and everywhere in lnauto; a point in the world is LPS (x, y, z) in mm,
and origins and directions are given as SimpleITK gives them.

Axes follow the radiologist's in-plane rule. In the axial slice where the node is longest, the long axis is the largest distance
between two of its pixel centres plus one pixel, the short axis the node's extent at right angles to it, again from centre to
centre plus one pixel; "one pixel" is the pixel's size in that direction. So a node of one voxel has the size of its voxel. Of
slices or distances that are equally long the widest counts, so that turning or mirroring the array changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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

EQUALLY_LONG = 1e-6  # mm: less is rounding
DIGITS = 6  # of an axis in mm: further ones are rounding, too
PERCENTILES = (5, 50, 95)


def names_nodes(name: str) -> bool:
    """Whether a label's name speaks of lymph nodes."""
    return NODE_WORDS.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


@dataclass(frozen=True)
class Intensity:
    """What one channel shows in a node's voxels."""

    channel: str
    mean: float
    percentiles: tuple[float, ...]  # PERCENTILES
    highest: float


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
    voxels: int = 0
    centroid_voxel: Point | None = None  # index in the file: x first as viewers show it, from 0
    intensities: tuple[Intensity, ...] = ()


@dataclass(frozen=True, eq=False)
class Piece:
    """One instance cut out of its volume: thirty of them are small where the volume is large."""

    number: int
    box: Box
    mask: Array  # in the box

    def voxels_and_centroid(self) -> tuple[int, list[float]]:
        """How many, and their mean index (z, y, x) in the volume."""
        # by counts along each axis: a list of a huge component's voxels would not fit into memory
        along = [np.count_nonzero(self.mask, axis=others) for others in ((1, 2), (0, 2), (0, 1))]
        count = int(along[0].sum())
        return count, [
            float(np.arange(side.start, side.stop) @ counts) / count for side, counts in zip(self.box, along, strict=True)
        ]

    def intensity(self, image: Array, channel: str) -> Intensity:
        """Of an image on the volume's grid."""
        values = image[self.box][self.mask]
        percentiles = tuple(float(value) for value in np.percentile(values, PERCENTILES))
        return Intensity(channel, float(values.mean(dtype=float)), percentiles, float(values.max()))


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
    found, number = _components(mask, box)
    labels[box] = number[found]
    return labels, len(number) - 1


def component_pieces(mask: Array) -> list[Piece]:
    """The same components as pieces, in the order of their numbers, without an array of the whole volume's numbers."""
    box = bounding_box(mask)
    if box is None:
        return []
    found, number = _components(mask, box)
    pieces = [Piece(int(number[piece.number]), _moved(piece.box, box), piece.mask) for piece in pieces_of(found)]
    return sorted(pieces, key=lambda piece: piece.number)


def pieces_of(instances: Array) -> Iterator[Piece]:
    """Every instance of an array (0 is background); its number is its value there."""
    whole = bounding_box(instances)
    if whole is None:
        return
    inside = instances[whole]
    found = find_objects(inside if inside.dtype.kind in "ui" else inside.astype(np.int32))
    for number, inner in enumerate(found, start=1):
        if inner is not None:
            yield Piece(number, _moved(inner, whole), inside[inner] == number)


def _components(mask: Array, box: Box) -> tuple[Array, NDArray[np.int32]]:
    """The components in the box as cc3d counts them, and the number that each of those has by descending volume."""
    # cc3d 4.1 fails on some thin boxes that components fill to both ends, such as 1 0 1; with a rim of background on none
    rimmed = np.pad(mask[box] != 0, 1)
    found, count = cc3d.connected_components(rimmed, connectivity=26, return_N=True)
    found = found[(slice(1, -1),) * mask.ndim]
    sizes = np.bincount(found[found > 0])[1:]
    number = np.zeros(count + 1, np.int32)
    number[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    return found, number


def _moved(inner: Box, whole: Box) -> Box:
    return tuple(slice(side.start + at.start, side.stop + at.start) for side, at in zip(inner, whole, strict=True))


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
    nodes = []
    for piece in pieces_of(instances):
        node = measure_piece(piece, spacing, case=case, origin=origin, direction=direction)
        mean, probability = (
            None if array is None else float(array[piece.box][piece.mask].mean(dtype=float)) for array in (image, probabilities)
        )
        nodes.append(replace(node, mean_intensity=mean, probability=probability))
    return nodes


def measure_piece(
    piece: Piece,
    spacing: Sequence[float],
    *,
    case: str = "",
    origin: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
) -> Node:
    """One instance of a volume of this spacing, origin and direction."""
    axial = _axial_axis(direction)
    count, centroid = piece.voxels_and_centroid()
    long, short = _longest_slice(np.moveaxis(piece.mask, axial, 0), np.delete(np.asarray(spacing, float), axial))
    z, y, x = centroid
    return Node(
        case=case,
        number=piece.number,
        centroid_mm=None if origin is None else world_point(centroid, spacing, origin, direction),
        volume_mm3=count * float(np.prod(spacing)),
        long_axis_mm=long,
        short_axis_mm=short,
        height_mm=piece.mask.shape[axial] * float(spacing[axial]),
        voxels=count,
        centroid_voxel=(x, y, z),
    )


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


def _longest_slice(planes: Array, pixel: Array) -> tuple[float, float]:
    """Long and short axis in mm of a node given slice by slice, from the slice with the largest long axis."""
    long, short = _widest_of_the_longest([_in_plane_axes(plane, pixel) for plane in planes if plane.any()])
    return round(long, DIGITS), round(short, DIGITS)  # so that 25 pixels of 0.6 mm are 15 mm, and of that size class


def _widest_of_the_longest(axes: Sequence[tuple[float, float]]) -> tuple[float, float]:
    longest = max(long for long, _ in axes)
    return longest, max(short for long, short in axes if long > longest - EQUALLY_LONG)


def _in_plane_axes(plane: Array, pixel: Array) -> tuple[float, float]:
    points = _hull(plane) * pixel
    ways = points[:, None] - points[None]
    lengths = np.hypot(ways[..., 0], ways[..., 1])
    longest = lengths.max()
    if not longest > 0:  # one pixel: its longer side is its long axis
        return float(max(pixel)), float(min(pixel))
    found = []
    for first, second in np.argwhere(np.triu(lengths > longest - EQUALLY_LONG)):
        along = ways[first, second] / lengths[first, second]
        across = np.array([-along[1], along[0]])
        long = float(lengths[first, second] + np.hypot(*(along * pixel)))
        short = float(np.ptp(points @ across) + np.hypot(*(across * pixel)))
        found.append((max(long, short), min(long, short)))  # with oblong pixels a thin node can be wider than long
    return _widest_of_the_longest(found)


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
