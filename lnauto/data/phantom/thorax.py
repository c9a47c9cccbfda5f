"""The chest's wall and floor: skin, fat, muscle, breasts, the rib cage's inside, and what shows of the abdomen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lnauto.data.phantom.acquisition import Phase
from lnauto.data.phantom.canvas import Canvas, Coordinates, Floats, Shape, waves
from lnauto.data.phantom.shapes import common, ellipsoid, everywhere, inflated, rotation, union, without

Rng = np.random.Generator

FAT, SKIN, AIR, TABLE = -105.0, 20.0, -1000.0, -80.0

# The inside of the rib cage, level by level: half width, half depth and middle (y), in mm.
LEVELS = (-170, -120, -80, -40, 0, 35, 60, 80, 98, 112)
WIDTH = (128, 130, 128, 123, 115, 102, 86, 68, 46, 14)
DEPTH = (84, 86, 85, 82, 76, 66, 55, 44, 30, 10)
MIDDLE = (8, 6, 5, 5, 8, 15, 23, 30, 34, 35)
APEX = 112.0

# The outside of the body: half width, half depth and middle.
BODY_LEVELS = (-170, -80, 0, 40, 80, 100, 120, 150)
BODY_WIDTH = (152, 154, 153, 158, 166, 160, 126, 84)
BODY_DEPTH = (114, 114, 110, 103, 92, 86, 78, 72)
BODY_MIDDLE = (17, 16, 17, 21, 28, 32, 32, 28)


@dataclass(frozen=True)
class Build:
    """How one patient is built; millimetres unless stated."""

    fat: float
    muscle: float
    right_dome: float  # z of the top of the diaphragm
    left_dome: float
    breasts: float  # 0 to 1
    squareness: float

    @classmethod
    def draw(cls, rng: Rng) -> Build:
        return cls(
            fat=float(rng.uniform(-7, 9)),
            muscle=float(rng.uniform(0.75, 1.2)),
            right_dome=float(rng.uniform(-108, -86)),
            left_dome=float(rng.uniform(-122, -98)),
            breasts=float(rng.uniform(0.5, 1.0) if rng.random() < 0.5 else 0.0),
            squareness=float(rng.uniform(2.1, 2.5)),
        )


def at_level(at: Coordinates, levels: ArrayLike, values: ArrayLike) -> Floats:
    return np.interp(at[2], levels, values).astype(np.float32)  # type: ignore[arg-type]


def radial(x: Floats, y: Floats, width: ArrayLike, depth: ArrayLike, power: float) -> Floats:
    """Signed distance to a superellipse, measured along the ray from its middle."""
    ratio = ((np.abs(x) / width) ** power + (np.abs(y) / depth) ** power) ** np.float32(1 / power)
    return np.asarray(np.hypot(x, y) * (1 - 1 / np.maximum(ratio, 1e-3)), np.float32)


def cavity(build: Build) -> Shape:
    """The inside of the rib cage, its floor left open; the spine and the muscles beside it stand into it from behind."""

    def distance(at: Coordinates) -> Floats:
        x, y, z = at
        middle = at_level(at, LEVELS, MIDDLE)
        round_ = radial(x, y - middle, at_level(at, LEVELS, WIDTH), at_level(at, LEVELS, DEPTH), build.squareness)
        behind = radial(x, y - 106, np.float32(56), np.float32(38), 2.0)
        return np.maximum(np.maximum(round_, -behind), z - np.float32(APEX))

    return everywhere(distance)


def body(build: Build) -> Shape:
    def distance(at: Coordinates) -> Floats:
        y = at[1] - at_level(at, BODY_LEVELS, BODY_MIDDLE)
        width, depth = at_level(at, BODY_LEVELS, BODY_WIDTH), at_level(at, BODY_LEVELS, BODY_DEPTH)
        return radial(at[0], y, width, depth, 2.3) - np.float32(build.fat)

    outline = everywhere(distance)
    if not build.breasts:
        return outline
    out = 26 * build.breasts
    sides = [ellipsoid((side * 70, -78 - build.fat, -45), (54, 10 + out, 58)) for side in (-1, 1)]
    return everywhere(union(outline, *sides, blend=22).distance)


def height_over_diaphragm(build: Build) -> Callable[[Coordinates], Floats]:
    def height(at: Coordinates) -> Floats:
        x, y, z = at
        right = build.right_dome - ((x + 66) ** 2 / 85 + (y + 2) ** 2 / 110)
        left = build.left_dome - ((x - 66) ** 2 / 85 + (y + 2) ** 2 / 110)
        return np.asarray(z - np.maximum(right, left), np.float32)

    return height


def draw_wall(canvas: Canvas, rng: Rng, build: Build, phase: Phase) -> None:
    """Skin, fat and the muscles of the wall; lungs and abdomen are cut into it later."""
    outline = body(build)
    canvas.paint(outline, SKIN)
    canvas.paint(inflated(outline, -2.0), FAT)
    soft = canvas.hu > -300
    canvas.hu += np.float32(7) * waves(rng, canvas, 22.0) * soft
    seams = np.abs(waves(rng, canvas, 26.0))  # fat between muscles lies where this field crosses zero
    between = np.clip((seams - np.float32(0.05)) * np.float32(8), 0, 1)
    for layer, seamed in _muscles(build, outline, cavity(build)):
        canvas.paint(layer, phase.muscle, solid=True, within=between if seamed else None)
    if build.breasts:
        _draw_glands(canvas, rng, build, inflated(outline, -6))


def _muscles(build: Build, outline: Shape, inside: Shape) -> list[tuple[Shape, bool]]:
    """The muscles, and of each whether seams of fat run through it."""
    strong = build.muscle

    def bulk(at: Coordinates) -> Floats:
        """Pectorals in front, latissimus and serratus at the side, trapezius behind: thickness by direction and level."""
        x, y, z = at
        turn = np.arctan2(y - 14, np.abs(x))  # -pi/2 in front, 0 at the side
        high = 1 / (1 + np.exp(-(z + 12) / 9))
        front = 19 * high * np.exp(-(((turn + 0.95) / 0.42) ** 4))
        side = (11 + 9 * high) * np.exp(-(((turn - 0.25) / 0.5) ** 4))
        back = (12 + 9 * high) * np.exp(-(((turn - 1.0) / 0.5) ** 4))
        thick = strong * np.maximum(np.maximum(front, side), back)
        away = inside.distance(at) - 12.5
        return np.maximum(np.abs(away - thick / 2) - thick / 2, outline.distance(at) + 6).astype(np.float32)

    def shoulders(at: Coordinates) -> Floats:
        x, y, z = at
        armpit = ellipsoid((0, 0, 0), (26, 30, 58), rotation(roll=0.25)).distance((np.abs(x) - 118, y + 4, z - 48))
        under_skin = outline.distance(at) + np.float32(9 + max(build.fat, 0))
        found = np.maximum(np.maximum(under_skin, 14 - inside.distance(at)), -armpit)
        return np.maximum(found, 62 - z - np.float32(0.35) * (np.abs(x) - 60)).astype(np.float32)

    back = union(*(ellipsoid((side * 31, 96, -20), (25 * strong, 17, 400)) for side in (-1, 1)))
    wall = everywhere(lambda at: inside.distance(at) - np.float32(9.5))
    return [
        (wall, False),
        (everywhere(bulk), True),
        (common(back, inflated(outline, -6).distance), False),
        (everywhere(shoulders), True),
    ]


def _draw_glands(canvas: Canvas, rng: Rng, build: Build, under_skin: Shape) -> None:
    for side in (-1, 1):
        for _ in range(int(rng.integers(3, 9))):
            centre = np.array([side * 72, -92 - build.fat - 8 * build.breasts, -45]) + rng.normal(0, [16, 5, 16])
            radii = rng.uniform([5, 3, 6], [13, 8, 16])
            gland = ellipsoid(centre, radii, rotation(*rng.normal(0, 0.5, 3)))
            canvas.paint(common(gland, under_skin.distance), float(rng.uniform(10, 45)), opacity=0.9)


def draw_abdomen(canvas: Canvas, rng: Rng, build: Build, phase: Phase) -> None:
    """Liver on the right, stomach with its bubble and spleen on the left, under the diaphragm."""
    inside, above = cavity(build), height_over_diaphragm(build)

    def under(depth: float) -> Shape:
        top = max(build.right_dome, build.left_dome)
        return everywhere(lambda at: np.maximum(inside.distance(at) + 2, above(at) + np.float32(depth)), below=top)

    canvas.paint(under(0), phase.muscle, solid=True)
    canvas.paint(under(3), FAT)
    for _ in range(int(rng.integers(5, 11))):  # loops of bowel: as dense and as thick as nodes, but under the diaphragm
        loop = ellipsoid(
            (rng.uniform(-10, 108), rng.uniform(-66, 40), build.left_dome - rng.uniform(12, 50)), rng.uniform(6, 13, 3)
        )
        canvas.paint(common(loop, under(6).distance), float(phase.node + rng.normal(0, 6)))
    organs = (
        (ellipsoid((-48, -4, build.right_dome - 74), (92, 88, 80)), phase.liver),
        (ellipsoid((90, 46, build.left_dome - 46), (30, 36, 44)), phase.spleen),
        (ellipsoid((52, -14, build.left_dome - 44), (40, 46, 42)), 30.0),
    )
    for organ, value in organs:
        canvas.paint(common(organ, under(2.2).distance), value)
    bubble = ellipsoid((54, -34, build.left_dome - 32), rng.uniform(12, 24, 3))
    canvas.paint(common(bubble, under(6).distance), AIR)


def draw_table(canvas: Canvas) -> None:
    canvas.paint(without(_disc(571.0), _disc(564.0)), TABLE)


def _disc(radius: float) -> Shape:
    return everywhere(lambda at: (np.hypot(at[0], at[1] + 420) - radius).astype(np.float32))
