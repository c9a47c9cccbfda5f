"""What an annotator leaves behind: every node, some nodes, or strokes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from lnauto.data.phantom.canvas import Array
from lnauto.data.phantom.nodes import LARGEST_ML, MEDIAN_ML, SMALLEST_ML, part_below

Rng = np.random.Generator

BACKGROUND, NODE, IGNORE = 0, 1, 2
PREFERENCE = 1.3  # log-odds of being annotated per e-fold of volume: LNQ2023's readers marked the large ones
MOST_OF_NODE = 0.1
STROKES_OF_BACKGROUND = 0.006
ROUNDS = 3  # through the slices, one stroke in each, until enough is drawn


def partial(rng: Rng, volumes_mm3: Array, fraction: float) -> list[int]:
    """Numbers of the annotated nodes: about `fraction` of all over many cases, large ones rather; at least one per case."""
    if not len(volumes_mm3):
        return []
    chance = annotation_chance(np.asarray(volumes_mm3) / 1000, fraction)
    chosen = np.flatnonzero(rng.random(len(chance)) < chance)
    if not chosen.size:
        chosen = np.array([int(np.argmax(volumes_mm3))])
    return [int(number) + 1 for number in chosen]


def annotation_chance(volume_ml: Array, fraction: float) -> Array:
    """Rises with size, and is `fraction` on average over the nodes the model makes."""
    if fraction >= 1:
        return np.ones(len(volume_ml))
    edges = np.geomspace(SMALLEST_ML, LARGEST_ML, 200)
    weights = np.diff(part_below(edges))
    middles = np.sqrt(edges[1:] * edges[:-1])

    def chance(offset: float, volumes: Array) -> Array:
        return 1 / (1 + np.exp(-(offset + PREFERENCE * np.log(volumes / MEDIAN_ML))))

    offset = brentq(lambda value: float((weights * chance(value, middles)).sum() / weights.sum() - fraction), -30, 30)
    return chance(float(offset), np.asarray(volume_ml, float))


def scribbles(rng: Rng, instances: Array, body: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Thin strokes in every node and through the background; the rest is `IGNORE`."""
    drawn = np.full(instances.shape, IGNORE, np.uint8)
    for number in range(1, int(instances.max(initial=0)) + 1):
        _stroke_node(rng, drawn, instances == number)
    stroke_background(rng, drawn, instances, body)
    return drawn


def _stroke_node(rng: Rng, drawn: NDArray[np.uint8], mask: Array) -> None:
    """A curve along the node in its largest slice, and in two more if it is tall."""
    slices = mask.sum(axis=(1, 2))
    budget = int(MOST_OF_NODE * slices.sum())
    present = np.flatnonzero(slices)
    best = int(slices.argmax())
    wanted = [best] if len(present) < 6 else [best, int((best + present[0]) / 2), int((best + present[-1]) / 2)]
    for left, z in zip(range(len(wanted), 0, -1), wanted, strict=True):
        line = curve_in(rng, mask[z])[: budget // left]
        drawn[z, line[:, 0], line[:, 1]] = NODE
        budget -= len(line)


def curve_in(rng: Rng, plane: Array) -> Array:
    """Pixels of a bent line through the middle of a blob, from the middle outwards so that it can be cut short."""
    pixels = np.argwhere(plane)
    middle = pixels.mean(axis=0)
    spread = np.cov((pixels - middle).T) if len(pixels) > 2 else np.eye(2) * 0.1
    sizes, ways = np.linalg.eigh(spread)
    along, across = ways[:, 1] * 1.7 * np.sqrt(max(sizes[1], 0.1)), ways[:, 0] * np.sqrt(max(sizes[0], 0.0))
    t = np.linspace(0, 1, 8 * (int(np.linalg.norm(along)) + 2))
    t = np.stack([t, -t], axis=1).ravel()
    bend = rng.uniform(-0.6, 0.6)
    line = middle + t[:, None] * along + (bend * (t**2 - 0.3))[:, None] * across
    return pixels_on(line, plane)


def pixels_on(line: Array, allowed: Array) -> Array:
    """The pixels a finely sampled line meets, each once, in its order, where allowed."""
    index = np.rint(line).astype(int)
    index = index[((index >= 0) & (index < allowed.shape)).all(axis=1)]
    index = index[allowed[index[:, 0], index[:, 1]]]
    _, first = np.unique(index, axis=0, return_index=True)
    return index[np.sort(first)]


def stroke_background(
    rng: Rng, drawn: NDArray[np.uint8], instances: Array, body: NDArray[np.bool_], most: float = STROKES_OF_BACKGROUND
) -> None:
    """Wandering strokes through the body, in slices all over the volume, over that share of what is no node at most."""
    left = int(most * (instances == 0).sum())
    for z in np.concatenate([rng.permutation(len(drawn)) for _ in range(ROUNDS)]):
        allowed = body[z] & (instances[z] == 0) & (drawn[z] == IGNORE)
        inside = np.argwhere(allowed)
        if left <= 0 or not len(inside):
            continue
        start = inside[rng.integers(len(inside))]
        steps = 5 * allowed.shape[0]
        turn = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12 * np.sqrt(48 / steps), steps))
        line = start + np.cumsum(0.3 * np.stack([np.sin(turn), np.cos(turn)], axis=1), axis=0)
        stroke = pixels_on(line, allowed)[:left]
        drawn[z, stroke[:, 0], stroke[:, 1]] = BACKGROUND
        left -= len(stroke)
