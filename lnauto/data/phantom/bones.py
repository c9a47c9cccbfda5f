"""Spine, ribs, sternum, collar bones and shoulder blades: a dense rim round softer marrow."""

from __future__ import annotations

import numpy as np

from lnauto.data.phantom.canvas import Array, Canvas, Coordinates, Floats, Shape
from lnauto.data.phantom.shapes import ellipsoid, inflated, tube, vessel
from lnauto.data.phantom.thorax import APEX, DEPTH, LEVELS, MIDDLE, WIDTH, Build, cavity, radial

Rng = np.random.Generator

BONE, MARROW, CARTILAGE, CORD = 620.0, 190.0, 95.0, 30.0
REACH = 400.0  # mm along the spine, beyond any scan


def draw_bones(canvas: Canvas, rng: Rng, build: Build) -> None:
    _draw_spine(canvas, rng)
    _draw_ribs(canvas, rng, build)
    tilt = rng.uniform(-3, 3)
    sternum = [(0, -45 + tilt, 62), (0, -55, 35), (0, -66, 0), (0, -74, -50), (0, -77, -92)]
    _bone(canvas, tube(sternum, [6.5, 5.5, 5, 5, 4], stretch=(3, 1, 1)), 1.8)
    inside = cavity(build)
    for side in (-1, 1):
        _bone(
            canvas,
            vessel([(side * 16, -42, 64), (side * 60, -42, 82), (side * 105, -18, 96), (side * 145, 10, 104)], [8, 6, 5.5, 6]),
        )
        _bone(canvas, _shoulder_blade(side, inside), 1.8)
        _bone(canvas, ellipsoid((side * 158, 18, 94), (21, 21, 24)))


def _bone(canvas: Canvas, shape: Shape, rim: float = 2.0) -> None:
    canvas.paint(shape, BONE, solid=True)
    canvas.paint(inflated(shape, -rim), MARROW)


def _shoulder_blade(side: int, inside: Shape) -> Shape:
    """A plate behind the ribs, narrow below, with a spine of its own above."""

    def distance(at: Coordinates) -> Floats:
        x, y, z = at
        turn = np.arctan2(y - 14, side * x)
        away = inside.distance(at)
        half = np.float32(0.42) * np.clip((z + 34) / 60, 0.1, 1)
        plate = np.maximum(np.abs(away - 25) - np.float32(2.2), 90 * (np.abs(turn - 0.66) - half))
        ridge = np.maximum(np.abs(turn - 0.55) * 60 - 3, np.maximum(np.abs(away - 33) - 10, np.abs(z - 66) - 14))
        return np.maximum(np.minimum(plate, ridge), np.abs(z - 36) - 68).astype(np.float32)

    near, far = side * 40, side * 165
    return Shape(np.array([min(near, far), -15, -34]), np.array([max(near, far), 125, 106]), distance)


def _draw_spine(canvas: Canvas, rng: Rng) -> None:
    period, offset = rng.uniform(22, 26), rng.uniform(0, 24)

    def from_disc(at: Coordinates) -> Floats:
        """Distance along the spine from the middle of the nearest vertebra."""
        return np.abs(np.mod(at[2] + np.float32(offset), np.float32(period)) - np.float32(period / 2))

    def column(at: Coordinates) -> Floats:
        waist = np.float32(1.8) * (1 - (from_disc(at) / np.float32(period / 2)) ** 2)
        return radial(at[0], at[1] - 47, np.float32(16) - waist, np.float32(14) - waist, 2.4)

    def discs(at: Coordinates) -> Floats:
        return np.maximum(column(at) + 0.8, np.float32(period / 2 - 2.4) - from_disc(at)).astype(np.float32)

    def arch(at: Coordinates) -> Floats:
        x, y, _ = at
        near = from_disc(at)
        ring = np.abs(np.hypot(x, y - 69) - 11.5) - 3.2
        process = np.maximum(np.abs(x) - 3, np.abs(y - 94 - np.float32(0.2) * near) - 16)
        wings = np.maximum(np.abs(y - 70 - np.float32(0.3) * np.abs(x)) - 4, np.abs(x) - 32)
        found = np.minimum(np.minimum(ring, process), np.where(np.abs(x) > 10, wings, 9))
        return np.maximum(found, near - np.float32(period * 0.34)).astype(np.float32)

    lower, upper = np.array([-45.0, 25.0, -REACH]), np.array([45.0, 125.0, REACH])
    _bone(canvas, Shape(lower, upper, column), 1.7)
    canvas.paint(Shape(lower, upper, discs), CARTILAGE)
    _bone(canvas, Shape(lower, upper, arch), 1.5)
    canvas.paint(tube([(0, 69, -REACH), (0, 69, REACH)], 8.0), CORD)


def _draw_ribs(canvas: Canvas, rng: Rng, build: Build) -> None:
    """From the spine round the side and down to the front, where they end in cartilage."""
    period, offset = rng.uniform(24, 27), rng.uniform(-8, 8)
    for number in range(-5, 8):
        head = (number - 1) * period + offset
        for side in (-1, 1):
            path = _rib(side, head, number, build.squareness)
            _bone(canvas, tube(path, 3.8, stretch=(1, 1, 1.6)), 1.5)
            if head > -70:
                end = path[-1]
                joint = (side * 16, float(np.interp(end[2] + 12, LEVELS, np.subtract(MIDDLE, DEPTH))) - 5, end[2] + 12)
                canvas.paint(tube([end, joint], 4.2, stretch=(1, 1, 1.4)), CARTILAGE)


def _rib(side: int, head: float, number: int, power: float) -> Array:
    turns = np.linspace(1.12, -1.12 if head > -70 else -0.3, 17)
    part = (1.12 - turns) / 2.24
    drop = (92 if number < 5 else 92 - 22 * (number - 4)) * (part - 0.12 * np.sin(2 * np.pi * part))
    z = np.minimum(head + 4 - drop, APEX - 6)
    width, depth, middle = (np.interp(z, LEVELS, row) for row in (WIDTH, DEPTH, MIDDLE))
    reach = (np.abs(np.cos(turns) / width) ** power + np.abs(np.sin(turns) / depth) ** power) ** (-1 / power) + 4.5
    arc = np.stack([side * reach * np.cos(turns), middle + reach * np.sin(turns), z], axis=1)
    return np.concatenate([[(side * 18, 60, head + 3), (side * 34, 76, head + 5)], arc])
