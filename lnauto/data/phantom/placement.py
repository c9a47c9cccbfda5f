"""Finding room: where something the size of a node can lie without running through vessels, bone or another node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnauto.data.phantom.canvas import Array, Canvas, Floats, Shape
from lnauto.data.phantom.nodes import Form

Rng = np.random.Generator

_DIRECTIONS = np.random.default_rng(0).normal(size=(160, 3))
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)
BALL = _DIRECTIONS * np.cbrt(np.linspace(0.001, 1, 160))[:, None]  # even over the inside
GAP_MM = 4.5  # what stays between a node and a vessel it does not touch
MOST_GIVEN = 0.35  # part of a node that may have to grow elsewhere
LUNG_HU = -500.0


@dataclass(frozen=True, eq=False)
class Room:
    """What is where while nodes are placed; `taken` marks nodes and look-alikes with a margin."""

    canvas: Canvas
    taken: NDArray[np.bool_]

    @property
    def free(self) -> Floats:
        """How much of each voxel something new can have."""
        return (1 - self.canvas.solid) * ~self.taken

    def candidates(self, rng: Rng, region: Shape, margin_mm: float, most: int) -> Array:
        """Voxel centres in a region, (x, y, z) in the scan's mm, at least so far inside the volume."""
        box = self.canvas.box_of(region.lower, region.upper)
        if box is None:
            return np.zeros((0, 3))
        inside = region.distance(self.canvas.atlas(box)) < 0
        for axis, (size, spacing) in enumerate(zip(self.canvas.shape, self.canvas.spacing, strict=True)):
            index = np.arange(box[axis].start, box[axis].stop)
            clear = np.minimum(index, size - 1 - index) * spacing >= margin_mm
            inside &= clear.reshape([-1 if n == axis else 1 for n in range(3)])
        found = np.argwhere(inside)
        if len(found) > most:
            found = found[rng.choice(len(found), most, replace=False)]
        index = found + [side.start for side in box] + rng.uniform(-0.5, 0.5, found.shape)
        return (index * self.canvas.spacing)[:, ::-1] + self.canvas.start

    def parts(self, points: Array) -> tuple[Array, Array, Array]:
        """Of sets of points (set, point, xyz): what part of each set is solid, taken, and lung; outside the volume is taken."""
        index = np.rint((points - self.canvas.start) / self.canvas.spacing[::-1]).astype(int)[..., ::-1]
        outside = ((index < 0) | (index >= self.canvas.shape)).any(axis=-1)
        at = tuple(np.moveaxis(np.clip(index, 0, np.array(self.canvas.shape) - 1), -1, 0))
        solid, lung = self.canvas.solid[at], self.canvas.hu[at] < LUNG_HU
        return solid.mean(axis=-1), (self.taken[at] | outside).mean(axis=-1), lung.mean(axis=-1)


def place(room: Room, rng: Rng, form: Form, region: Shape) -> Array | None:
    """The best of some places in the region; None if every one runs too far into something."""
    centres = room.candidates(rng, region, form.radii[1], 160)
    if not len(centres):
        return None
    ball = (BALL * form.radii) @ form.axes.T
    ring = (_DIRECTIONS * (np.array(form.radii) + GAP_MM)) @ form.axes.T
    solid, taken, lung = room.parts(centres[:, None] + ball)
    beside, near, _ = room.parts(centres[:, None] + ring)
    wanted = 0.2 if form.touches else 0.0
    cost = 3 * np.maximum(solid + taken - 0.03, 0) + np.abs(beside - wanted) + 0.5 * lung + near
    cost[(solid + taken > MOST_GIVEN) | (lung > 0.9)] = np.inf
    best = int(np.argmin(cost))
    return centres[best] if np.isfinite(cost[best]) else None


def mark(room: Room, mask: Array, box: tuple[slice, ...]) -> None:
    """Take the mask's voxels and their neighbours, 26 of them, so that components stay apart."""
    wide = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
    there = room.taken[wide]
    found = np.zeros(there.shape, bool)
    found[tuple(slice(side.start - w.start, side.stop - w.start) for side, w in zip(box, wide, strict=True))] = mask
    for axis in range(3):
        grown = found.copy()
        for ahead, behind in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            to = tuple(ahead if n == axis else slice(None) for n in range(3))
            of = tuple(behind if n == axis else slice(None) for n in range(3))
            grown[to] |= found[of]
        found = grown
    there |= found
