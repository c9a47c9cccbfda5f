"""The grid a phantom is drawn on, and the drawing itself: soft edges, so that a voxel holds what part of it is inside.

Shapes are given in the anatomy's own coordinates: (x, y, z) in mm from the carina, towards the patient's left, back and head.
A patient differs from the atlas by a smooth map whose parts depend on one axis each, so that coordinates of a box are sums of
three vectors and nothing the size of the volume has to be kept for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[Any]
Box = tuple[slice, slice, slice]
Coordinates = tuple[Floats, Floats, Floats]
Distance = Callable[[Coordinates], Floats]

SLAB_VOXELS = 2_000_000  # large volumes are drawn slab by slab, so that memory stays a small multiple of the volume's own


@dataclass(frozen=True, eq=False)
class Shape:
    """Something to draw: the corners of a box that holds it, and the signed distance (mm, negative inside).

    `pieces` make up the same thing together, each in a smaller box: a long vessel is drawn piece by piece.
    """

    lower: Array
    upper: Array
    distance: Distance
    pieces: tuple[Shape, ...] = ()


@dataclass(frozen=True, eq=False)
class Warp:
    """From the scan's millimetres to the atlas's: an affine map and, per pair of axes, one slow wave."""

    matrix: Array
    amplitude: Array  # [to axis, from axis], mm
    wavelength: Array
    phase: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, scale: float) -> Warp:
        """A patient `scale` times the atlas's size, tilted and bent a little."""
        size = scale * rng.normal(1.0, [0.02, 0.03, 0.02])
        tilt = rng.normal(0.0, 0.025, (3, 3))
        return cls(
            matrix=(np.eye(3) + tilt - tilt.T) / size,
            amplitude=rng.uniform(0.5, 3.0, (3, 3)) * (1 - np.eye(3)),
            wavelength=rng.uniform(140.0, 260.0, (3, 3)),
            phase=rng.uniform(0.0, 2 * np.pi, (3, 3)),
        )

    def part(self, to: int, of: int, along: Array) -> Floats:
        """What the scan's coordinate `of` adds to the atlas's coordinate `to`."""
        wave = np.sin(2 * np.pi * along / self.wavelength[to, of] + self.phase[to, of]) - np.sin(self.phase[to, of])
        return (self.matrix[to, of] * along + self.amplitude[to, of] * wave).astype(np.float32)

    def bounds(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Corners, in the scan, of a box that holds an atlas box."""
        half = self._backwards[1] @ ((upper - lower) / 2 + 2 * self.amplitude.sum(axis=1))
        middle = self._backwards[0] @ ((upper + lower) / 2)
        return middle - half, middle + half

    @cached_property
    def _backwards(self) -> tuple[Array, Array]:
        back = np.linalg.inv(self.matrix)
        return back, np.abs(back)


@dataclass(eq=False)
class Canvas:
    """A volume of HU (z, y, x) being drawn; `start` is the scan's (x, y, z) of the first voxel's centre, in mm from the carina.

    `solid` is the part of each voxel that is taken by what a node cannot grow into: airways, vessels, heart, bone.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    start: tuple[float, float, float]
    warp: Warp
    hu: Floats = field(init=False)
    solid: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.hu = np.full(self.shape, -1000.0, np.float32)
        self.solid = np.zeros(self.shape, np.float32)
        self._axes = [np.arange(n) * s + o for n, s, o in zip(self.shape[::-1], self.spacing[::-1], self.start, strict=True)]
        self._parts = [[self.warp.part(to, of, self._axes[of]) for of in range(3)] for to in range(3)]

    @cached_property
    def voxel_mm(self) -> float:
        """The side of a cube of a voxel's volume."""
        return float(np.prod(self.spacing)) ** (1 / 3)

    @property
    def whole(self) -> Box:
        return slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2])

    def scan(self, box: Box) -> Coordinates:
        """The scan's own (x, y, z) in mm of a box's voxels, ready to broadcast."""
        x, y, z = (axis[side].astype(np.float32) for axis, side in zip(self._axes, box[::-1], strict=True))
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def atlas(self, box: Box) -> Coordinates:
        """The atlas's (x, y, z) in mm of a box's voxels."""
        z, y, x = box
        found = [of_x[x] + of_y[y][:, None] + of_z[z][:, None, None] for of_x, of_y, of_z in self._parts]
        return found[0], found[1], found[2]

    def box_of(self, lower: Array, upper: Array) -> Box | None:
        """The voxels an atlas box may touch; None if it lies outside the volume."""
        return self.box_in_scan(*self.warp.bounds(lower, upper))

    def box_in_scan(self, lower: Array, upper: Array) -> Box | None:
        """The voxels a box given in the scan's own millimetres may touch."""
        sides = []
        for axis in (2, 1, 0):
            spacing, size = self.spacing[2 - axis], self.shape[2 - axis]
            first = max(0, int(np.floor((lower[axis] - self.start[axis]) / spacing)) - 1)
            last = min(size, int(np.ceil((upper[axis] - self.start[axis]) / spacing)) + 2)
            if first >= last:
                return None
            sides.append(slice(first, last))
        return sides[0], sides[1], sides[2]

    def slabs(self, box: Box) -> Iterator[Box]:
        z, y, x = box
        thickness = max(1, SLAB_VOXELS // ((y.stop - y.start) * (x.stop - x.start)))
        for first in range(z.start, z.stop, thickness):
            yield slice(first, min(first + thickness, z.stop)), y, x

    def coverage(self, distance: Floats) -> Floats:
        """How much of a voxel is inside, from its centre's distance to the edge."""
        return np.clip(0.5 - distance / self.voxel_mm, 0.0, 1.0)

    def paint(self, shape: Shape, hu: float, *, solid: bool = False, opacity: float = 1.0, within: Floats | None = None) -> None:
        """Draw a shape over what is there; `within`, the size of the volume, says where it may show."""
        box = self.box_of(shape.lower, shape.upper)
        for slab in self.slabs(box) if box else ():
            covered = np.float32(opacity) * self.covered(shape, slab)
            if within is not None:
                covered *= within[slab]
            self.blend(slab, covered, hu)
            if solid:
                np.maximum(self.solid[slab], covered, out=self.solid[slab])

    def covered(self, shape: Shape, box: Box) -> Floats:
        """How much of each voxel of a box the shape takes."""
        if not shape.pieces:
            return np.concatenate([self.coverage(shape.distance(self.atlas(slab))) for slab in self.slabs(box)])
        found = np.zeros([side.stop - side.start for side in box], np.float32)
        for piece in shape.pieces:
            inner = _common(box, self.box_of(piece.lower, piece.upper))
            if inner is not None:
                there = found[tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, box, strict=True))]
                np.maximum(there, self.covered(piece, inner), out=there)
        return found

    def blend(self, box: Box, weight: Floats, value: float | Floats) -> None:
        there = self.hu[box]
        there += weight * (value - there)


def _common(box: Box, other: Box | None) -> Box | None:
    if other is None:
        return None
    z, y, x = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
    return (z, y, x) if z.start < z.stop and y.start < y.stop and x.start < x.stop else None


def waves(rng: np.random.Generator, canvas: Canvas, period_mm: float, box: Box | None = None) -> Floats:
    """A smooth random field of mean 0 and standard deviation about 1, the same in look whatever the grid."""
    box = box or canvas.whole
    axes = [axis.ravel() for axis in canvas.scan(box)[::-1]]
    sizes = [int(np.ceil((axis[-1] - axis[0]) / period_mm)) + 2 for axis in axes]
    field_ = rng.standard_normal(sizes).astype(np.float32)
    for number, axis in enumerate(axes):
        at = (axis - axis[0]) / period_mm
        first = at.astype(int)
        part = (at - first).astype(np.float32).reshape([-1 if n == number else 1 for n in range(3)])
        field_ = np.take(field_, first, number) * (1 - part) + np.take(field_, first + 1, number) * part
    return field_ * 1.8  # linear interpolation between independent values loses this much of the deviation
