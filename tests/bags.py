"""Bags drawn by lot, for tests of patient heads: what is in them is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lnauto.trainers.patient.bag import NODE, SHAPES, Bag, View
from lnauto.trainers.patient.crops import CropPlan
from lnauto.trainers.patient.signs import signs_of

PLAN = CropPlan((8, 8, 8), (1, 1, 1), False)

Draw = Callable[[np.random.Generator, int], Bag]


def drawn_bag(rng: np.random.Generator, patient: str, nodes: int, bright: float = 0.0, label: int | None = None) -> Bag:
    """`nodes` balls in noise, the first of them brighter by `bright`."""
    crops = rng.normal(0, 1, (nodes, 1, 8, 8, 8)).astype(np.float32)
    ball = sum((axis - 3.5) ** 2 for axis in np.meshgrid(*[np.arange(8)] * 3, indexing="ij")) < 9
    masks = np.repeat(ball[None].astype(np.float32), nodes, axis=0)
    crops += masks[:, None]
    if nodes:
        crops[0] += bright * masks[0]
    image = rng.normal(0, 1, (1, 24, 32, 32)).astype(np.float32)
    return Bag(
        patient=patient,
        crops=crops,
        masks=masks,
        shapes=rng.normal(0, 1, (nodes, len(SHAPES))).astype(np.float32),
        signs=signs_of(crops, masks),
        points=rng.normal(0, 40, (nodes, 3)).astype(np.float32),
        kinds=np.full(nodes, NODE),
        sources=tuple((patient, number + 1) for number in range(nodes)),
        row={"age": float(rng.normal(60, 10))},
        label=label,
        view=View(image, np.zeros((24, 32, 32), np.float32), np.diag([4.0, 4.0, 4.0, 1.0])),
    )


def bright_bags(patients: int, seed: int = 0, bright: float = 2.0) -> list[Bag]:
    """A patient has metastasis if one of the nodes is bright."""
    rng = np.random.default_rng(seed)
    return [
        drawn_bag(rng, f"p{number:03d}", int(rng.integers(1, 7)), bright * (number % 2), number % 2) for number in range(patients)
    ]
