"""The lungs and the vessels in them."""

from __future__ import annotations

import numpy as np

from lnauto.data.phantom.canvas import Array, Canvas, Coordinates, Floats, Shape, waves
from lnauto.data.phantom.shapes import everywhere, vessel
from lnauto.data.phantom.thorax import Build, cavity, height_over_diaphragm

Rng = np.random.Generator

LUNG = -865.0
ROOT = np.array([46.0, 2.0, -24.0])  # of the left lung; the right one's is mirrored
FORKS = 4
FAINTEST = 0.2  # part of a voxel a vessel must fill to be worth forking


def draw_lungs(canvas: Canvas, rng: Rng, build: Build, mediastinum: Shape, blood: float) -> Floats:
    """Darker in front, mottled, with vessels; returns how much of each voxel is lung."""
    inside, above = cavity(build), height_over_diaphragm(build)

    def distance(at: Coordinates) -> Floats:
        return np.maximum(np.maximum(inside.distance(at) + 3, -above(at)), -mediastinum.distance(at))

    filled = canvas.covered(everywhere(distance), canvas.whole)
    level, slope = LUNG + rng.uniform(-25, 40), rng.uniform(0.2, 0.7)
    texture = level + np.float32(slope) * (canvas.atlas(canvas.whole)[1] - 10) + np.float32(10) * waves(rng, canvas, 9.0)
    canvas.blend(canvas.whole, filled, texture)
    for side in (-1, 1):
        for _ in range(12):
            aim = np.array([side * rng.uniform(70, 118), rng.uniform(-55, 75), rng.uniform(-100, 80)])
            start = ROOT * [side, 1, 1] + rng.normal(0, 5, 3)
            _branch(canvas, rng, start, aim, float(rng.uniform(3.2, 5.6)), FORKS, blood, filled)
    return filled


def _branch(canvas: Canvas, rng: Rng, start: Array, aim: Array, radius: float, forks: int, blood: float, within: Floats) -> None:
    """A vessel that thins and forks towards `aim`, as far as the lung goes."""
    way = (aim - start) * rng.uniform(0.4, 0.5)
    bend = rng.normal(0, 0.12, 3) * np.linalg.norm(way)
    end = start + way
    filling = 1.2 * np.pi * radius**2 / canvas.voxel_mm**2  # one that is thinner than a voxel fills only part of it
    canvas.paint(
        vessel([start, start + way / 2 + bend, end], [radius, radius * 0.9, radius * 0.72], step=20.0),
        blood,
        opacity=float(min(1.0, filling)),
        within=within,
    )
    if forks and filling > FAINTEST:
        for _ in range(2):
            further = aim + rng.normal(0, 22, 3) + (aim - start) * 0.2
            _branch(canvas, rng, end, further, radius * 0.7, forks - 1, blood, within)
