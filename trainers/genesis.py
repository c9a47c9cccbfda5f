"""Model Genesis: what is done to a patch that a network then has to undo.

Every function takes a patch (channels, z, y, x) and a generator, and returns a new patch; which voxels move or vanish is the same
in all channels, because they show the same body. How often each is applied is `corrupted`'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Patch = NDArray[np.float32]

FLIP, SHUFFLE, CURVE, PAINT, PAINT_INSIDE = 0.4, 0.5, 0.9, 0.9, 0.2  # probabilities
MOST_FLIPS = 3
SHUFFLE_PART = 20  # a block's side is at most the patch's by that
SHUFFLED_SHARE = 0.18  # volume of the blocks over that of the patch, as in the published 8000 of a patch of 64 x 128 x 224
PERCENTILES = (0.1, 99.9)
CURVE_POINTS = 1000
INSIDE_BOXES, INSIDE_PARTS = 5, (8, 6)  # sides from an eighth to a sixth
OUTSIDE_BOXES, OUTSIDE_PARTS = 200, (8, 4)


def corrupted(clean: Patch, rng: np.random.Generator) -> tuple[Patch, Patch]:
    """What the network sees, and what it has to make of it: the clean patch, flipped as the other is."""
    target = flipped(clean, rng)
    seen = target
    if rng.random() < SHUFFLE:
        seen = shuffled(seen, rng)
    if rng.random() < CURVE:
        seen = recoloured(seen, rng)
    if rng.random() < PAINT:
        seen = painted_inside(seen, rng) if rng.random() < PAINT_INSIDE else painted_outside(seen, rng)
    return seen, target


def flipped(patch: Patch, rng: np.random.Generator) -> Patch:
    """Flipped along an axis, with luck along another, and so on."""
    for _ in range(MOST_FLIPS):
        if rng.random() >= FLIP:
            break
        patch = np.flip(patch, axis=1 + int(rng.integers(3)))
    return np.ascontiguousarray(patch)


def shuffled(patch: Patch, rng: np.random.Generator) -> Patch:
    """The voxels of many little blocks change places, each within its block.

    The voxels of all blocks are moved at once: a sort by block number plus a random fraction is a shuffle of every block.
    """
    shape = np.array(patch.shape[1:])
    longest = np.minimum(np.maximum(shape // SHUFFLE_PART, 2), shape)
    count = round(SHUFFLED_SHARE * np.prod(shape) / np.prod((1 + longest) / 2))
    sides = rng.integers(1, longest + 1, (count, 3))
    starts = rng.integers(0, shape - sides + 1)
    volumes = sides.prod(axis=1)
    block = np.repeat(np.arange(count), volumes)
    place = np.arange(len(block)) - np.repeat(np.cumsum(volumes) - volumes, volumes)
    within = np.stack([place // (sides[block, 1] * sides[block, 2]), place // sides[block, 2] % sides[block, 1]])
    index = np.ravel_multi_index((*(starts[block, :2].T + within), starts[block, 2] + place % sides[block, 2]), tuple(shape))
    source = index[np.argsort(block + rng.random(len(block)))]
    result = patch.copy()
    for old, new in zip(patch.reshape(len(patch), -1), result.reshape(len(patch), -1), strict=True):
        new[index] = old[source]  # where blocks overlap, the later one stands
    return result


def recoloured(patch: Patch, rng: np.random.Generator) -> Patch:
    """Intensities along a random Bezier curve: always rising, or, every other time, always falling; channel by channel."""
    result = np.empty_like(patch)
    for channel, changed in zip(patch, result, strict=True):
        low, high = np.percentile(channel, PERCENTILES)
        before, after = (_bezier(low, high, *rng.uniform(low, high, 2)) for _ in range(2))
        changed[:] = np.interp(channel, before, low + high - after if rng.random() < 0.5 else after)
    return result


def _bezier(first: float, last: float, second: float, third: float) -> NDArray[np.float64]:
    """One coordinate of a cubic curve; it never turns back while the inner points lie between the outer ones."""
    t = np.linspace(0, 1, CURVE_POINTS)
    curve: NDArray[np.float64] = (1 - t) ** 3 * first + 3 * (1 - t) ** 2 * t * second + 3 * (1 - t) * t**2 * third + t**3 * last
    return curve


def painted_inside(patch: Patch, rng: np.random.Generator) -> Patch:
    """A few boxes are replaced by noise."""
    return np.where(_boxes(patch.shape[1:], INSIDE_BOXES, INSIDE_PARTS, rng), _noise(patch, rng), patch)


def painted_outside(patch: Patch, rng: np.random.Generator) -> Patch:
    """Only what lies in many boxes stays; the rest is replaced by noise."""
    return np.where(_boxes(patch.shape[1:], OUTSIDE_BOXES, OUTSIDE_PARTS, rng), patch, _noise(patch, rng))


def _boxes(shape: Sequence[int], count: int, parts: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The union of boxes whose sides lie between two parts of the patch's."""
    inside = np.zeros(shape, bool)
    whole = np.array(shape)
    least, most = (np.maximum(whole // part, 1) for part in parts)
    sides = rng.integers(least, most + 1, (count, 3))
    for start, stop in zip(starts := rng.integers(0, whole - sides + 1), starts + sides, strict=True):
        inside[tuple(map(slice, start, stop))] = True
    return inside


def _noise(patch: Patch, rng: np.random.Generator) -> Patch:
    """Every channel's own range, evenly filled."""
    low, high = np.percentile(patch.reshape(len(patch), -1), PERCENTILES, axis=1).reshape(2, -1, 1, 1, 1).astype(np.float32)
    return low + (high - low) * rng.random(patch.shape, dtype=np.float32)
