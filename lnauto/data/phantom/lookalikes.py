"""What passes for a node at a glance: as thick and as dense as one, told apart by form, course and place.

In the middle: stretches of vein (tubes), cysts (water), chalk-rimmed pouches. Around it: muscle bundles in the armpit, vessel
stumps and small nodules in the lung, the tumour itself. Thymus, thyroid, azygos and glands are part of the anatomy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lnauto.data.phantom.acquisition import Phase
from lnauto.data.phantom.canvas import Array, Box, Canvas, Floats
from lnauto.data.phantom.nodes import Form, cover
from lnauto.data.phantom.placement import Room, mark, place
from lnauto.data.phantom.shapes import ellipsoid, ellipsoid_distance, inflated, local, tube, union

Rng = np.random.Generator

TUMOUR_RADIUS_MM = {1: (7, 13), 2: (13, 22), 3: (22, 30), 4: (30, 40)}  # by T stage


def draw_lookalikes(room: Room, rng: Rng, phase: Phase, plenty: float) -> None:
    """All of them but the tumour; `plenty` scales their number."""
    canvas = room.canvas
    free = (~room.taken).astype(np.float32)
    for _ in range(rng.poisson(2.5 * plenty)):
        _draw_vein(room, rng, phase)
    for _ in range(rng.poisson(0.4 * plenty)):
        _draw_pouch(room, rng, phase, chalk=bool(rng.random() < 0.4))
    for side in (-1, 1):
        for _ in range(int(rng.integers(4, 9))):
            _draw_bundle(room, rng, side, phase)
        for _ in range(rng.poisson(2.5)):
            _draw_in_lung(canvas, rng, side, phase, free)


def _like_a_node(rng: Rng, phase: Phase) -> float:
    return float(phase.node + rng.normal(0, 5))


def _draw_vein(room: Room, rng: Rng, phase: Phase) -> None:
    """A stretch of dilated vein in the fat, as thick as a node but three times as long or more."""
    canvas = room.canvas
    radius = float(np.clip(np.exp(rng.normal(np.log(5.2), 0.2)), 3.8, 8.5))
    region = ellipsoid((0, -4, 0), (58, 52, 95))
    length = radius * rng.uniform(6.5, 10)
    starts = room.candidates(rng, region, 2.0, 240)
    if not len(starts):
        return
    steep = rng.normal(0, [0.45, 0.45, 1.0], (len(starts), 3))
    steep /= np.linalg.norm(steep, axis=1, keepdims=True)
    curl = np.cross(steep, rng.normal(0, 1, steep.shape)) * 0.22
    t = np.linspace(-0.5, 0.5, 9)
    paths = starts[:, None] + length * (t[None, :, None] * steep[:, None] + (t**2)[None, :, None] * curl[:, None])
    around = (paths[:, :, None] + (radius + 1.0) * np.eye(3)[[0, 0, 1, 1, 2, 2]] * np.array([1, -1] * 3)[:, None]).reshape(
        len(starts), -1, 3
    )
    solid, taken, lung = room.parts(around)
    cost = solid + 0.35 * lung
    cost[(taken > 0) | (solid > 0.22) | (lung > 0.45)] = np.inf
    best = int(np.argmin(cost))
    if not np.isfinite(cost[best]):
        return
    sizes = radius * np.array([0.35, 0.8, 1, 1, 1, 1, 1, 0.8, 0.35]) * np.exp(rng.normal(0, 0.06, 9))
    shape = tube(paths[best], sizes)
    box = canvas.box_in_scan(shape.lower, shape.upper)
    if box is None:
        return
    covered = canvas.coverage(shape.distance(canvas.scan(box))) * (1 - canvas.solid[box])
    _leave(room, box, covered, float(phase.collateral + rng.normal(0, 5)))


def _draw_pouch(room: Room, rng: Rng, phase: Phase, chalk: bool) -> None:
    """A cyst, or a clotted outpouching of a vessel with chalk in its wall."""
    form = Form.draw(rng, metastatic=False).smaller(0.7)
    centre = place(room, rng, form, ellipsoid((0, -4, 0), (52, 46, 85)))
    found = None if centre is None else cover(room.canvas, form, centre, room.free)
    if centre is None or found is None:
        return
    box, taken = found
    canvas = room.canvas
    level = np.full(taken.shape, phase.collateral if chalk else rng.uniform(-2, 12), np.float32)
    if chalk:
        at = local(canvas.scan(box), centre, form.axes)
        rim = np.abs(ellipsoid_distance(at, form.radii) + 1.2) - 1.2
        level += canvas.coverage(rim) * np.float32(rng.uniform(250, 450))
    _leave(room, box, taken, level)


def _draw_bundle(room: Room, rng: Rng, side: int, phase: Phase) -> None:
    """A bundle of muscle in the fat of the armpit: in every slice like a node, but two to three times as high."""
    canvas = room.canvas
    form = Form.draw(rng, metastatic=False)
    long, short, high = form.radii
    stretch = float(rng.uniform(2.0, 3.0))
    form = replace(form, radii=(long, short, stretch * high), volume_mm3=stretch * form.volume_mm3, touches=False)
    centre = place(room, rng, form, ellipsoid((side * 122, -2, 42), (30, 38, 58)))
    found = None if centre is None else cover(canvas, form, centre, room.free)
    if found is not None:
        _leave(room, *found, _like_a_node(rng, phase))


def _leave(room: Room, box: Box, taken: Floats, hu: float | Floats) -> None:
    """Draw a look-alike and keep its place."""
    room.canvas.blend(box, taken, hu)
    np.maximum(room.canvas.solid[box], taken, out=room.canvas.solid[box])
    mark(room, taken > 0.5, box)


def _draw_in_lung(canvas: Canvas, rng: Rng, side: int, phase: Phase, free: Floats) -> None:
    """A vessel's stump, or a small nodule."""
    centre = np.array([side * rng.uniform(72, 105), rng.uniform(-40, 70), rng.uniform(-75, 65)])
    if rng.random() < 0.5:
        way = rng.normal(0, 1, 3)
        end = centre + way / np.linalg.norm(way) * rng.uniform(16, 34)
        canvas.paint(tube([centre, end], [float(rng.uniform(5, 8)), 2.5]), _like_a_node(rng, phase), within=free)
    else:
        canvas.paint(ellipsoid(centre, rng.uniform(6.5, 12, 3)), _like_a_node(rng, phase), within=free)


def draw_tumour(canvas: Canvas, rng: Rng, side: str, t_stage: int, phase: Phase, lung: Floats) -> None:
    """The primary, in the lung of its side, with spikes."""
    size = float(rng.uniform(*TUMOUR_RADIUS_MM[t_stage]))
    sign = 1 if side == "L" else -1
    x = max(82, 62 + size)
    centre: Array = np.array([sign * x, rng.uniform(-25, 55), rng.uniform(-55, 55)])
    lumps = [centre + rng.normal(0, 0.4 * size, 3) for _ in range(4)]
    mass = union(*(ellipsoid(lump, size * rng.uniform(0.45, 0.85, 3)) for lump in [centre, *lumps]), blend=0.2 * size)
    canvas.paint(mass, float(phase.node + rng.normal(0, 6)), solid=True, within=lung)
    if t_stage >= 3:
        canvas.paint(inflated(mass, -0.45 * size), 15.0, within=lung)
    for _ in range(int(rng.integers(5, 11))):
        way = rng.normal(0, 1, 3)
        tip = centre + way / np.linalg.norm(way) * size * rng.uniform(1.25, 1.7)
        canvas.paint(tube([centre, tip], [max(1.5, 0.2 * size), 0.6]), 30.0, opacity=0.7, within=lung)
