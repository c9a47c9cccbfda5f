"""Bags with something round the nodes, and a small DINOv2 to look at it, for tests of heads with a global branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from bags import drawn_bag
from torch import nn

from lnauto.trainers.patient.bag import Bag, View

GRID = (8, 16, 16)
TO_MM = np.array([[0, 0, 8.0, -60], [0, 8, 0, -60], [8, 0, 0, -28], [0, 0, 0, 1]])

Drawing = tuple[float, np.ndarray, np.ndarray, int]
"""How bright a patient's nodes are, what lies round them, where nodes lie in that, and the label."""


def bags_with(patients: int, seed: int, draw: Callable[[np.random.Generator, int], Drawing]) -> list[Bag]:
    """Patients by what `draw` says of each number."""
    rng, found = np.random.default_rng(seed), []
    for number in range(patients):
        bag = drawn_bag(rng, f"p{number:03d}", int(rng.integers(1, 4)))
        bright, around, nodes, label = draw(rng, number)
        crops = (0.1 * bag.crops + bright * bag.masks[:, None]).astype(np.float32)
        view = View((around + rng.normal(0, 0.1, (1, *GRID))).astype(np.float32), nodes.astype(np.float32), TO_MM)
        shapes = np.zeros_like(bag.shapes)
        found.append(replace(bag, crops=crops, shapes=shapes, points=bag.points / 5, view=view, row={}, label=label))
    return found


def spotted_bags(patients: int, seed: int = 0) -> list[Bag]:
    """A node is bright, and a bright spot of the view, in a patient with metastasis; dim in one without."""

    def draw(rng: np.random.Generator, number: int) -> Drawing:
        nodes = np.zeros(GRID)
        for z, y, x in rng.integers(0, [7, 15, 15], (2, 3)):
            nodes[z : z + 2, y : y + 2, x : x + 2] = 1
        return 2.0 * (number % 2), (4 * (number % 2) + 1) * nodes, nodes, number % 2

    return bags_with(patients, seed, draw)


def without_nodes(bag: Bag) -> Bag:
    """The patient with nodes taken out of the image."""
    assert bag.view is not None
    gone = View(bag.view.image * (bag.view.nodes == 0), bag.view.nodes, bag.view.to_mm)
    return replace(bag, crops=bag.crops * (bag.masks[:, None] == 0), view=gone)


def small_vit(registers: int = 0, side: int = 4, patch: int = 14, width: int = 64) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(3)
    sizes: dict[str, Any] = {"patch_size": patch, "embed_dim": width, "depth": 2, "num_heads": 1, "init_values": 1.0}
    sizes |= {"reg_tokens": registers, "no_embed_class": registers > 0, "num_classes": 0}
    network = VisionTransformer(img_size=side * patch, dynamic_img_size=True, **sizes).eval()
    nn.init.normal_(network.pos_embed)
    return network
