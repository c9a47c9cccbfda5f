"""Images and labels in the plan's spacing.

Plans of ours ask for linear interpolation. That is done here, slice by slice and without PyTorch, which takes longer to import
than a small data set takes to prepare; the results are those of nnU-Net's `resample_torch_fornnunet`, up to rounding.
What other plans ask for, nnU-Net does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from lnauto.allowance import usable_cores
from lnauto.nodes import Array

TORCH_RESAMPLING = "resample_torch_fornnunet"
LINEAR = {"is_seg", "force_separate_z", "memefficient_seg_resampling"}  # what our plans say to it; more means something else
VOXELS_AT_A_TIME = 2**20  # before or after, of each thread
MOST_BYTES = 3 * 4 * VOXELS_AT_A_TIME  # that a thread holds: a piece, and the values to both sides of those that are wanted
ONE_AT_A_TIME = Lock()  # nnU-Net's own in PyTorch: each sets the number of PyTorch's threads, and puts back what it found
PART = 1000  # nnU-Net's, in which it counts the share of a label in half precision


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, ...]:
    """The size in voxels of what fills the same place, as nnU-Net rounds it, but never none: nnU-Net fails there."""
    return tuple(max(1, round(old / new * side)) for old, new, side in zip(spacing, wanted, shape, strict=True))


def resample_image(image: Array, shape: Sequence[int], spacing: Sequence[float], configuration: Mapping[str, Any]) -> Array:
    """Channels x z x y x x, on a grid of `shape` over the same place."""
    if not _is_linear(configuration, "data"):
        return _as_nnunet(image, shape, spacing, configuration, "data")
    if tuple(shape) == image.shape[1:]:
        return image
    found = np.empty((len(image), *shape), np.float32)
    for channel, values in enumerate(image):
        linear(values, shape, found[channel])
    return found


def resample_label(label: Array, shape: Sequence[int], spacing: Sequence[float], configuration: Mapping[str, Any]) -> Array:
    """The same of labels: at each place the one that has the largest share in it."""
    if not _is_linear(configuration, "seg"):
        return _as_nnunet(label, shape, spacing, configuration, "seg")
    if tuple(shape) == label.shape[1:]:
        return label
    return np.stack([_largest_share(channel, shape) for channel in label])


def _is_linear(configuration: Mapping[str, Any], what: str) -> bool:
    given = configuration[f"resampling_fn_{what}_kwargs"]
    plain = given.get("force_separate_z", None) is False and not given.get("memefficient_seg_resampling", False)
    return configuration[f"resampling_fn_{what}"] == TORCH_RESAMPLING and plain and set(given) <= LINEAR


def _as_nnunet(
    values: Array, shape: Sequence[int], spacing: Sequence[float], configuration: Mapping[str, Any], what: str
) -> Array:
    from lnauto.compat.resampling import resampling_function

    name = configuration[f"resampling_fn_{what}"]
    resample, given = resampling_function(name), configuration[f"resampling_fn_{what}_kwargs"]
    with ONE_AT_A_TIME if "torch" in name else nullcontext():
        return np.asarray(resample(values, list(shape), list(spacing), configuration["spacing"], **given))


def _largest_share(label: Array, shape: Sequence[int]) -> Array:
    """Of labels with the same share the lowest; shares are rounded as nnU-Net rounds them, so that the same are the same."""
    values = np.unique(label)
    found, largest = np.full(shape, values[0], label.dtype), None
    for value in values:
        share = linear((label == value).astype(np.float32) * PART, shape).astype(np.float16)
        if largest is None:
            largest = share
        else:
            more = share > largest
            found[more], largest[more] = value, share[more]
    return found


def linear(volume: Array, shape: Sequence[int], found: Array | None = None) -> Array:
    """Values between the centres of voxels, and at the edge those of the outermost ones; put into `found`, if it is given."""
    axes = [_Between.of(side, wanted) for side, wanted in zip(volume.shape, shape, strict=True)]
    found = np.empty(tuple(shape), np.float32) if found is None else found
    height = max(1, VOXELS_AT_A_TIME * len(found) // max(volume.size, found.size))
    starts = range(0, len(found), height)

    def fill(start: int) -> None:
        planes = axes[0].part(start, start + height)
        piece = volume[planes.first : planes.last + 1].astype(np.float32, copy=False)
        lines = [planes.from_first(), *axes[1:]]
        for axis in np.argsort([len(along.low) / along.sides for along in lines]):  # what grows smaller first
            piece = lines[axis].interpolate(piece, int(axis))
        found[start : start + height] = piece

    if len(starts) == 1:
        fill(0)
    else:
        with ThreadPoolExecutor(usable_cores()) as pool:
            list(pool.map(fill, starts))
    return found


@dataclass(frozen=True, eq=False)
class _Between:
    """Where along an axis values are wanted: between which voxels, and how far from the first of them to the second."""

    sides: int
    low: Array
    high: Array
    weight: Array

    @classmethod
    def of(cls, side: int, wanted: int) -> _Between:
        scale = np.float32(side) / np.float32(wanted)
        at = np.maximum(scale * (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), np.float32(0))
        low = np.minimum(at.astype(np.int64), side - 1)
        return cls(side, low, np.minimum(low + 1, side - 1), at - low.astype(np.float32))

    @property
    def first(self) -> int:
        return int(self.low[0])

    @property
    def last(self) -> int:
        return int(self.high[-1])

    def part(self, start: int, stop: int) -> _Between:
        return _Between(self.sides, self.low[start:stop], self.high[start:stop], self.weight[start:stop])

    def from_first(self) -> _Between:
        """The same where the voxels before the first are left out, and those after the last."""
        return _Between(self.last + 1 - self.first, self.low - self.first, self.high - self.first, self.weight)

    def interpolate(self, values: Array, axis: int) -> Array:
        if np.array_equal(self.low, np.arange(self.sides)) and not self.weight.any():
            return values
        below, above = values.take(self.low, axis), values.take(self.high, axis)
        above -= below
        above *= self.weight.reshape([-1 if other == axis else 1 for other in range(values.ndim)])
        below += above
        return below
