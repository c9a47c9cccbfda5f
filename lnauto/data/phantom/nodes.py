"""One node: its size and form, drawn from the model of enlarged nodes, and its look, drawn onto the canvas.

Sizes follow the annotated mediastinal nodes of the NIH set (5/50/95 percentile: volume 0.80/3.78/21.0 ml, axial short axis
11/16/28 mm). Metastatic nodes are larger, rounder and lose their fatty hilum, and large ones die in the middle; every one of
these marks is loose, so that none alone tells them from benign nodes. What does not depend on whether a node is metastatic
(its height, bend, lobes and place) tells nothing, and `optimum.py` leaves it out: who lets it depend has to add it there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from lnauto.data.phantom.acquisition import Phase
from lnauto.data.phantom.canvas import Array, Box, Canvas, Coordinates, Floats, waves
from lnauto.data.phantom.shapes import ellipsoid_distance, local, rotation

Rng = np.random.Generator

MEDIAN_ML = 3.78
METASTATIC_PART = 0.19  # of all nodes, as patients.py makes them


@dataclass(frozen=True)
class LogNormal:
    """A number whose logarithm is normal, drawn again until it lies between two bounds."""

    mean: float  # of the logarithm, before bounds
    sd: float
    low: float
    high: float

    def draw(self, rng: Rng) -> float:
        while True:
            value = float(np.exp(rng.normal(self.mean, self.sd)))
            if self.low <= value <= self.high:
                return value

    def part_below(self, value: Array | float) -> Array:
        low, inside = self._bounds
        return np.asarray(np.clip((ndtr((np.log(value) - self.mean) / self.sd) - low) / inside, 0, 1))

    def log_density(self, value: float) -> float:
        """Of the logarithm, which is as good as the value's own where two densities of one value are compared."""
        return float(
            -0.5 * ((math.log(value) - self.mean) / self.sd) ** 2 - math.log(self.sd * self._bounds[1] * math.sqrt(2 * math.pi))
        )

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        """The part below the lower bound, and that between both."""
        low, high = (float(ndtr((math.log(v) - self.mean) / self.sd)) for v in (self.low, self.high))
        return low, high - low


SMALLEST_ML, LARGEST_ML = 0.5, 40.0
# By whether the node is metastatic:
VOLUME_ML = {
    False: LogNormal(1.15, 1.0, SMALLEST_ML, LARGEST_ML),
    True: LogNormal(2.03, 0.9, SMALLEST_ML, LARGEST_ML),
}
ELONGATION = {False: LogNormal(0.49, 0.24, 1.03, 3.0), True: LogNormal(0.32, 0.22, 1.03, 3.0)}  # long by short axis
HILUM = {False: 0.55, True: 0.25}  # chance of a fatty hilum
CHALK = {False: 0.08, True: 0.02}
NECROSIS = {False: 0.12, True: 0.45}  # chance of a dead core, at 3.78 ml
NECROSIS_RISE = {False: 0.0, True: 0.2}  # of this chance, per e-fold of volume
BEAN = 0.73  # chance of a bend that shows; the others are nearly straight, and may have lobes


@dataclass(frozen=True)
class Form:
    """What a node is before it has a place; radii in mm along its own axes (long, short, height)."""

    metastatic: bool
    volume_mm3: float
    radii: tuple[float, float, float]
    axes: Array
    bend: float
    lobes: tuple[float, float]  # height in mm, phase
    hilum: float  # radius of the fatty hilum as a part of the short radius, 0: none
    necrosis: float  # radius of the dead core as a part of the radii, 0: none
    chalk: bool
    touches: bool  # lies against a vessel

    @classmethod
    def draw(cls, rng: Rng, metastatic: bool) -> Form:
        volume = VOLUME_ML[metastatic].draw(rng)
        long = ELONGATION[metastatic].draw(rng)
        height = 1.12 * (volume / MEDIAN_ML) ** 0.12 * np.exp(rng.normal(0, 0.2))
        short = (6000 * volume / (np.pi * long * height)) ** (1 / 3) / 2
        dead = rng.random() < necrosis_chance(volume, metastatic)
        fatty = rng.random() < HILUM[metastatic]
        tilt = rng.normal(0, 0.22, 2)
        bean = rng.random() < BEAN
        return cls(
            metastatic=metastatic,
            volume_mm3=1000 * volume,
            radii=(short * long, short, short * height),
            axes=rotation(float(rng.uniform(0, np.pi)), *tilt),
            bend=float(rng.uniform(0.05, 0.35) if bean else rng.uniform(0, 0.08)),
            lobes=(float(rng.uniform(0.0, 0.04 if bean else 0.09) * short), float(rng.uniform(0, 2 * np.pi))),
            hilum=float(rng.uniform(0.34, 0.52)) if fatty else 0.0,
            necrosis=float(rng.uniform(0.5, 0.74)) if dead else 0.0,
            chalk=bool(rng.random() < CHALK[metastatic]),
            touches=bool(rng.random() < 0.2),
        )

    @property
    def elongation(self) -> float:
        return self.radii[0] / self.radii[1]

    def smaller(self, factor: float) -> Form:
        """The same node at `factor` of its volume."""
        return Form(
            **{**vars(self), "volume_mm3": self.volume_mm3 * factor, "radii": tuple(factor ** (1 / 3) * r for r in self.radii)}
        )


def necrosis_chance(volume_ml: float, metastatic: bool) -> float:
    rise = NECROSIS_RISE[metastatic] * np.log(volume_ml / MEDIAN_ML)
    return float(np.clip(NECROSIS[metastatic] + rise, 0.02, 0.9))


def part_below(volume_ml: Array) -> Array:
    """The part of all nodes that the model makes smaller than this."""
    parts = {True: METASTATIC_PART, False: 1 - METASTATIC_PART}
    return sum((part * VOLUME_ML[kind].part_below(volume_ml) for kind, part in parts.items()), np.zeros(np.shape(volume_ml)))


def node_distance(form: Form, at: Coordinates, grown: float = 1.0) -> Floats:
    """Signed distance to the node's surface; `at` is along its own axes from its centre."""
    radii = np.array(form.radii) * grown
    a, b, c = at
    b = b - np.float32(form.bend * radii[1]) * (1.2 * (a / np.float32(radii[0])) ** 2 - 0.4)  # the bean
    found = ellipsoid_distance((a, b, c), radii)
    height, phase = form.lobes
    turn = np.arctan2(b, a)
    return found + np.float32(height) * np.sin(3 * turn + np.float32(phase)) * np.cos(2 * c / np.float32(radii[2]))


def cover(canvas: Canvas, form: Form, centre: Array, free: Floats) -> tuple[Box, Floats] | None:
    """How much of each voxel the node takes, once it has given way to what is solid and grown elsewhere to keep its volume."""
    reach = 1.35 * max(form.radii) + 3
    box = canvas.box_in_scan(centre - reach, centre + reach)
    if box is None:
        return None
    at = local(canvas.scan(box), centre, form.axes)
    voxel, grown = float(np.prod(canvas.spacing)), 1.0
    for _ in range(3):
        taken = canvas.coverage(node_distance(form, at, grown)) * free[box]
        grown = min(1.25, grown * float(form.volume_mm3 / max(float(taken.sum()) * voxel, 1.0)) ** (1 / 3))
    return box, taken


def paint(canvas: Canvas, rng: Rng, form: Form, centre: Array, phase: Phase, texture_hu: float, box: Box, taken: Floats) -> None:
    """Draw the node's inside where it lies."""
    radii = np.array(form.radii)
    at = local(canvas.scan(box), centre, form.axes)
    level = phase.node + rng.normal(0, 3)
    inside = np.full(taken.shape, level, np.float32)
    inside += np.float32(texture_hu) * waves(rng, canvas, 6.0, box)
    edge = canvas.voxel_mm
    if form.necrosis:
        core = ellipsoid_distance(_shifted(at, rng.normal(0, 0.1, 3) * radii), radii * form.necrosis)
        rim = (phase.node - 38) * 0.25  # the living rim takes up more contrast medium
        inside += np.float32(rim)
        inside += np.clip(0.5 - core / edge, 0, 1) * (np.float32(rng.uniform(6, 20)) - inside)
    if form.hilum:
        size = np.maximum(form.hilum * radii[1] * np.array([1.5, 0.9, 1.2]), 2.2)
        fat = ellipsoid_distance(_shifted(at, np.array([0, -0.3 * radii[1], 0])), size)
        inside += np.clip(0.5 - fat / edge, 0, 1) * (np.float32(rng.uniform(-85, -45)) - inside)
    if form.chalk:
        grain = ellipsoid_distance(_shifted(at, rng.uniform(-0.4, 0.4, 3) * radii), np.maximum(radii * 0.25, 1.5))
        inside += np.clip(0.5 - grain / edge, 0, 1) * (np.float32(rng.uniform(250, 600)) - inside)
    canvas.blend(box, taken, inside)


def _shifted(at: Coordinates, by: Array) -> Coordinates:
    a, b, c = (side - np.float32(step) for side, step in zip(at, by, strict=True))
    return a, b, c
