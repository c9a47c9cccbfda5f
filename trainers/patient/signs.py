"""What a reader of scans notes of a node beside its form, in numbers: how bright it is, how even, and what is round it.

A dead core is a middle darker than the rim, a fatty hilum a dark tail, chalk a bright one. These are averages over tens of
voxels or more, which a hundred patients are enough to learn from; what a convolution could see besides takes more of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lnauto.trainers.patient.bag import SIGNS, Floats

PERCENTILES = (5, 25, 50, 75, 95)
CORE = 0.6  # of the greatest depth: deeper is core, less deep is rim [our choice]
RING = 2  # voxels round a node, the first of which is left out: it is partly node
LEAST = 4  # voxels; with fewer below the surface, the surface counts too


def signs_of(crops: Floats, masks: Floats) -> Floats:
    """Instances x (channels x SIGNS), each channel's signs one after the other; of an empty mask all 0."""
    found = np.zeros((len(crops), crops.shape[1] * len(SIGNS)), np.float32)
    for row, (crop, mask) in enumerate(zip(crops, masks, strict=True)):
        node = mask > 0 if not (mask > 0.5).any() else mask > 0.5
        if node.any():
            parts = _parts(node)
            found[row] = [number for channel in crop for number in _of_channel(channel, *parts)]
    return found


def _parts(node: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """The node, what of it lies below the surface, its core, and what is round it."""
    flat = [axis for axis, side in enumerate(node.shape) if side == 1]  # a slice has depth in its plane alone
    sides = [(0, 0) if axis in flat else (1, 1) for axis in range(3)]
    depth = ndimage.distance_transform_edt(np.pad(node, sides).squeeze(tuple(flat)))
    depth = np.expand_dims(depth, tuple(flat))[tuple(slice(None) if axis in flat else slice(1, -1) for axis in range(3))]
    below = node & (depth > 1)
    near = ndimage.binary_dilation(node)
    ring = ndimage.binary_dilation(near, iterations=RING - 1) & ~near
    return node, below if below.sum() >= LEAST else node, depth >= CORE * depth.max(), ring


def _of_channel(
    channel: Floats, node: NDArray[np.bool_], below: NDArray[np.bool_], core: NDArray[np.bool_], ring: NDArray[np.bool_]
) -> list[float]:
    rim = node & ~core
    inside = channel[below]
    return [
        float(channel[node].mean()),
        float(inside.std()),
        *(float(value) for value in np.percentile(inside, PERCENTILES)),
        float(channel[core].mean() - channel[rim].mean()) if rim.any() else 0.0,
        float(channel[ring].mean()) if ring.any() else 0.0,
    ]
