"""The middle of the chest: fat, heart, great vessels, airways, gullet, thymus and thyroid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lnauto.data.phantom.acquisition import Phase
from lnauto.data.phantom.canvas import Array, Canvas, Coordinates, Distance, Floats, Shape, waves
from lnauto.data.phantom.shapes import ellipsoid, everywhere, inflated, rotation, tube, union, vessel
from lnauto.data.phantom.thorax import at_level, radial

Rng = np.random.Generator

FAT = -100.0

# Half width and half depth of the fat between the lungs, level by level; above them it ends between the muscles of the neck.
LEVELS = (-150, -80, -40, -10, 20, 50, 80, 105, 130)
WIDTH = (26, 30, 35, 39, 39, 38, 37, 35, 30)
DEPTH = (62, 62, 62, 62, 62, 60, 50, 38, 30)


@dataclass(frozen=True, eq=False)
class Middle:
    """Everything the mediastinum is made of, ready to be drawn."""

    envelope: Shape
    heart: Shape
    chambers: dict[str, Shape]
    vessels: dict[str, tuple[Shape, ...]]  # by what they fill with: "aorta", "pulmonary", "vein"
    airway: Shape
    gullet: Shape
    gullet_gas: tuple[Shape, ...]


def plan_middle(rng: Rng) -> Middle:
    heart, chambers = _heart(rng)
    vessels = {"aorta": _arteries(rng), "pulmonary": _pulmonary(rng), "vein": _veins(rng)}
    gullet, gas = _gullet(rng)
    fat = rng.uniform(5, 13)
    hila = [ellipsoid((side * 42, 4, -24), (17, 18, 26)) for side in (-1, 1)]
    pads = [ellipsoid((-42, -42, -112), (26, 24, 24)), ellipsoid((52, -52, -118), (30, 22, 22))]
    whole = union(everywhere(_column(rng)), inflated(heart, fat), *hila, *pads, blend=9)
    return Middle(everywhere(whole.distance), heart, chambers, vessels, _airway(rng), gullet, gas)


def _column(rng: Rng) -> Distance:
    wider = rng.uniform(-3, 5)

    def distance(at: Coordinates) -> Floats:
        x, y, z = at
        width, depth = at_level(at, LEVELS, WIDTH) + np.float32(wider), at_level(at, LEVELS, DEPTH)
        front = np.clip((-y - 18) / 40, 0, 1) * np.clip((70 - z) / 40, 0, 1)
        return radial(x, y + 6 - np.float32(0.25) * (62 - depth), width * (1 - np.float32(0.55) * front), depth, 2.5)

    return distance


def _jitter(rng: Rng, rows: ArrayLike, amount: float = 2.0) -> Array:
    corners = np.array(rows, float)
    return corners + rng.normal(0, amount, corners.shape)


def _heart(rng: Rng) -> tuple[Shape, dict[str, Shape]]:
    grown = rng.uniform(0.9, 1.1)
    turn = rotation(yaw=-0.6, pitch=0.35)
    left = ellipsoid((33, -22, -88), (32 * grown, 44 * grown, 40 * grown), turn)
    right = ellipsoid((0, -42, -86), (40 * grown, 26 * grown, 40 * grown), rotation(yaw=0.2))
    atria = ellipsoid((6, 8, -58), (34 * grown, 17 * grown, 20 * grown))
    right_atrium = ellipsoid((-28, -22, -72), (18 * grown, 24 * grown, 30 * grown))
    heart = union(left, right, atria, right_atrium, blend=8)
    chambers = {
        "left_ventricle": ellipsoid((33, -22, -88), (19 * grown, 31 * grown, 27 * grown), turn),
        "right_ventricle": ellipsoid((6, -48, -88), (30 * grown, 15 * grown, 32 * grown), rotation(yaw=0.2)),
        "left_atrium": ellipsoid((6, 8, -58), (31 * grown, 14.5 * grown, 17.5 * grown)),
        "right_atrium": ellipsoid((-28, -22, -72), (15.5 * grown, 21 * grown, 27 * grown)),
    }
    return heart, chambers


def _arteries(rng: Rng) -> tuple[Shape, ...]:
    wide = rng.uniform(0.88, 1.15)
    rise = rng.uniform(-4, 6)
    arch = [(4, -20, -62), (-12, -30, -30), (-16, -30, 0), (-8, -24, 24 + rise), (8, -8, 34 + rise), (22, 14, 30 + rise),
            (27, 34, 10), (26, 40, -25), (24, 41, -70), (16, 38, -120), (10, 36, -170), (8, 36, -220)]  # fmt: skip
    sizes = np.array([15, 16, 16, 15, 14, 13, 12.5, 12, 11.5, 11, 10.5, 10.5]) * wide
    top = 34 + rise
    branches = [
        vessel(_jitter(rng, [(-3, -16, top), (-12, -10, top + 22), (-20, -6, top + 45), (-24, -4, 140)], 1.5), [7, 6.5, 6, 4.5]),
        vessel(_jitter(rng, [(8, -6, top), (13, -6, top + 25), (17, -6, top + 55), (18, -8, 140)], 1.5), [5.5, 4.5, 4.2, 4.2]),
        vessel(
            _jitter(rng, [(18, 8, top), (25, 8, top + 25), (36, 4, 86), (70, -8, 100), (120, 0, 102)], 1.5), [6, 5.5, 5.5, 5, 4]
        ),
        vessel(_jitter(rng, [(-20, -6, top + 45), (-40, -4, 92), (-75, -10, 102), (-120, 0, 102)], 1.5), [5.5, 5.5, 5, 4]),
    ]
    return (vessel(_jitter(rng, arch, 1.2), sizes), *branches)


def _pulmonary(rng: Rng) -> tuple[Shape, ...]:
    wide = rng.uniform(0.9, 1.15)
    trunk = [(14, -46, -62), (20, -42, -38), (24, -28, -16), (32, -8, -8), (44, 6, -12), (52, 14, -30), (56, 18, -55)]
    right = [(22, -26, -20), (4, -14, -20), (-16, -9, -22), (-36, -4, -25), (-47, 2, -38), (-50, 8, -60)]
    veins = [
        [(-22, 8, -56), (-44, 6, -52), (-66, 2, -46)], [(-18, 14, -66), (-42, 20, -74), (-64, 30, -88)],
        [(30, 4, -54), (50, -8, -44), (68, -18, -32)], [(28, 14, -64), (50, 24, -74), (70, 36, -92)],
    ]  # fmt: skip
    upper = [[(-38, -6, -22), (-50, -8, -2), (-62, -10, 22)], [(40, 0, -8), (52, -6, 10), (62, -10, 32)]]
    return (
        vessel(_jitter(rng, trunk, 1.5), np.array([13, 13.5, 13.5, 11.5, 10, 8, 5.5]) * wide),
        vessel(_jitter(rng, right, 1.5), np.array([11, 10.5, 10, 9, 7.5, 5.5]) * wide),
        *(vessel(_jitter(rng, path), [6.5, 6, 4]) for path in veins),
        *(vessel(_jitter(rng, path), [5.5, 5, 3.5]) for path in upper),
    )


def _veins(rng: Rng) -> tuple[Shape, ...]:
    cava = [(-26, -24, -62), (-27, -18, -25), (-26, -20, 8), (-25, -24, 34)]
    right = [(-25, -24, 34), (-31, -22, 56), (-38, -18, 82), (-44, -16, 100), (-48, -10, 140)]
    left = [(-24, -25, 36), (-6, -34, 46), (16, -30, 58), (34, -20, 78), (46, -16, 100), (50, -10, 140)]
    azygos = [(-8, 34, -220), (-9, 32, -120), (-9, 32, -40), (-12, 30, 0), (-22, 18, 14), (-27, 0, 12), (-26, -14, 8)]
    hemi = [(18, 52, -160), (19, 51, -90), (14, 44, -50), (-6, 36, -42)]
    inferior = [(-26, -10, -80), (-28, 4, -108), (-28, 12, -140), (-26, 16, -220)]
    mammary = [[(s * 22, -56, 60), (s * 25, -66, 20), (s * 26, -74, -60), (s * 26, -78, -110)] for s in (-1, 1)]
    wide = rng.uniform(0.85, 1.2)
    return (
        vessel(_jitter(rng, cava, 1.5), np.array([10, 9, 9, 8.5]) * wide),
        vessel(_jitter(rng, inferior, 1.5), [11, 11.5, 12, 12]),
        vessel(_jitter(rng, right, 1.5), np.array([8, 7, 6.5, 7, 6]) * wide),
        vessel(_jitter(rng, left, 1.5), np.array([7.5, 6, 6, 6.5, 7, 6]) * wide),
        vessel(_jitter(rng, azygos, 1.2), np.array([3.5, 3.8, 4, 4.4, 4.8, 4.8, 4.6]) * rng.uniform(0.85, 1.5)),
        vessel(_jitter(rng, hemi, 1.2), 2.6),
        *(vessel(_jitter(rng, path, 1.0), 1.8) for path in mammary),
    )


def _airway(rng: Rng) -> Shape:
    wide = rng.uniform(0.9, 1.15)
    trachea = tube(_jitter(rng, [(0, 0, 160), (0, 2, 90), (1, 3, 40), (0, 2, 8)], 0.8), 8.4 * wide)
    right = vessel(
        _jitter(rng, [(0, 2, 8), (-12, 4, -8), (-27, 6, -26), (-38, 9, -46), (-46, 14, -72)], 1.0), [8, 7.4, 6.5, 5, 3.2]
    )
    left = vessel(_jitter(rng, [(0, 2, 8), (14, 5, -10), (32, 9, -24), (46, 14, -36), (54, 22, -62)], 1.0), [8, 6.8, 6.2, 5, 3.2])
    upper_right = vessel(_jitter(rng, [(-24, 6, -20), (-38, 4, -14), (-54, 2, -2)], 1.0), [5, 4, 2.6])
    upper_left = vessel(_jitter(rng, [(42, 12, -32), (56, 4, -26), (66, -6, -14)], 1.0), [4.8, 4, 2.6])
    return union(*(piece for part in (trachea, right, left, upper_right, upper_left) for piece in (part.pieces or (part,))))


def _gullet(rng: Rng) -> tuple[Shape, tuple[Shape, ...]]:
    course = _jitter(
        rng, [(3, 17, 160), (5, 18, 90), (7, 20, 40), (6, 22, 0), (8, 24, -40), (12, 27, -85), (18, 26, -125), (24, 20, -160)], 1
    )
    wall = tube(course, float(rng.uniform(6.0, 7.5)), stretch=(1.3, 1, 1))
    gas = []
    for _ in range(int(rng.integers(0, 4))):
        z = rng.uniform(-110, 100)
        at = [np.interp(z, course[::-1, 2], course[::-1, axis]) for axis in (0, 1)]
        gas.append(ellipsoid((at[0], at[1] - 1, z), rng.uniform([2, 2, 8], [4.5, 3.5, 26])))
    return wall, tuple(gas)


def draw_fat(canvas: Canvas, rng: Rng, middle: Middle) -> None:
    """Fat, lightly streaked by small vessels and fibres; it wraps the great vessels where they border on lung."""
    level = FAT + rng.uniform(-8, 10)
    streaks = rng.uniform(4, 14)
    canvas.paint(middle.envelope, level)
    canvas.solid *= 1 - canvas.covered(middle.envelope, canvas.whole)  # nodes may lie here, also between the muscles of the neck
    for shapes in middle.vessels.values():
        for shape in shapes[:2]:
            canvas.paint(inflated(shape, 3.0), level)
    texture = waves(rng, canvas, 11.0)
    fatty = np.clip((-60 - canvas.hu) / 20, 0, 1) * np.clip((canvas.hu + 160) / 20, 0, 1)
    canvas.hu += np.float32(streaks) * np.maximum(texture, -0.5) * fatty


def draw_organs(canvas: Canvas, rng: Rng, middle: Middle, phase: Phase) -> None:
    """Heart, vessels, airways and gullet; nodes cannot grow into any of them."""
    canvas.paint(middle.heart, phase.myocardium, solid=True)
    for name, shape in middle.chambers.items():
        canvas.paint(shape, phase.left_heart if name.startswith("left") else phase.right_heart)
    for name in ("vein", "pulmonary", "aorta"):
        mean = getattr(phase, name)
        for shape in middle.vessels[name]:
            canvas.paint(shape, float(mean + rng.normal(0, 0.03 * abs(mean) + 1)), solid=True)
    if rng.random() < 0.5:
        _draw_plaques(canvas, rng)
    canvas.paint(middle.gullet, phase.gullet, solid=True)
    for shape in middle.gullet_gas:
        canvas.paint(shape, -850.0)
    canvas.paint(inflated(middle.airway, 1.6), 30.0, solid=True)
    canvas.paint(middle.airway, -985.0)
    _draw_thyroid(canvas, rng, phase)


def _draw_plaques(canvas: Canvas, rng: Rng) -> None:
    """Chalk in the wall of the arch."""
    for _ in range(int(rng.integers(1, 5))):
        centre = np.array([rng.uniform(0, 30), rng.uniform(-20, 40), rng.uniform(18, 34)])
        canvas.paint(ellipsoid(centre, rng.uniform(1.2, 3.0, 3)), 500.0, opacity=0.7)


def _draw_thyroid(canvas: Canvas, rng: Rng, phase: Phase) -> None:
    for side in (-1, 1):
        lobe = ellipsoid((side * 17, -3, 118 + rng.normal(0, 4)), rng.uniform([7, 8, 16], [10, 11, 26]))
        canvas.paint(lobe, phase.thyroid, solid=True)


def draw_thymus(canvas: Canvas, rng: Rng) -> None:
    """What is left of it, between sternum and aorta: two flat lobes, more fat than gland with age."""
    remnant = rng.uniform(0.2, 0.7)
    for side in (-1, 1):
        centre = np.array([side * 8 + 4, -47, 8]) + rng.normal(0, 2.5, 3)
        lobe = ellipsoid(centre, rng.uniform([8, 3, 15], [14, 5.5, 30]), rotation(yaw=side * 0.5, pitch=-0.25))
        canvas.paint(lobe, 38.0, opacity=float(remnant))
