"""Whether two images lie on one grid, and in what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

SPACING_RELATIVE = 1e-3  # 500 voxels along an axis then end within half a voxel of each other
DIRECTION_COSINE = 1e-3  # the same half voxel, 500 voxels away from the origin
ORIGIN_VOXELS = 0.1  # headers round to 1e-4 mm, DICOM-SEG frames lie up to 0.05 mm off their slices: neither moves a mask


class Placed(Protocol):
    """An image's size and place, as SimpleITK has them: x first, in mm."""

    @property
    def size(self) -> Sequence[int]: ...
    @property
    def spacing(self) -> Sequence[float]: ...
    @property
    def origin(self) -> Sequence[float]: ...
    @property
    def direction(self) -> Sequence[float]: ...


def differences(first: str, a: Placed, second: str, b: Placed) -> Iterator[str]:
    """In what the second of two images, called so, lies elsewhere than the first; nothing: they are on one grid."""
    if a.size != b.size:
        yield f"{first} is {times(a.size)} voxels but {second} is {times(b.size)}"
    if not np.allclose(a.spacing, b.spacing, rtol=SPACING_RELATIVE, atol=0):
        yield f"{first} has a spacing of {times(a.spacing)} mm but {second} {times(b.spacing)}"
    axes = np.reshape(a.direction, (3, 3))
    shift = axes.T @ np.subtract(b.origin, a.origin) / a.spacing  # in voxels, along the image's own axes
    if not np.all(np.abs(shift) <= ORIGIN_VOXELS):
        yield f"{first} has its origin at ({_listed(a.origin)}) mm but {second} at ({_listed(b.origin)})"
    if not np.allclose(a.direction, b.direction, rtol=0, atol=DIRECTION_COSINE):
        yield f"{first} has the direction ({_matrix(a.direction)}) but {second} ({_matrix(b.direction)})"


def times(numbers: Sequence[float]) -> str:
    return "x".join(f"{number:g}" for number in numbers)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number + 0.0:g}" for number in numbers)  # adding zero takes the sign off -0


def _matrix(numbers: Sequence[float]) -> str:
    return "; ".join(" ".join(f"{round(number, 4) + 0.0:g}" for number in row) for row in np.reshape(numbers, (3, 3)))
