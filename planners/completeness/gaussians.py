"""Gaussians as products of matrices: a processor multiplies matrices several times as fast as it slides a window."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float32]
Widths = tuple[float, float, float]

WIDE = 2.5  # standard deviations, to either side
RISE = ((1, 0, 0), (0, 1, 0), (0, 0, 1))  # which derivative along each axis
BEND = {(0, 0): (2, 0, 0), (1, 1): (0, 2, 0), (2, 2): (0, 0, 2), (0, 1): (1, 1, 0), (0, 2): (1, 0, 1), (1, 2): (0, 1, 1)}


def smooth(values: Floats, widths: Widths) -> Floats:
    """`values` smoothed, by so many voxels along each axis."""
    return derivative(values, widths, (0, 0, 0))


def steepness(values: Floats, widths: Widths) -> Floats:
    """How steeply they rise or fall, smoothed: the length of the gradient, in values a voxel."""
    squares = np.zeros_like(values)
    for orders in RISE:
        squares += np.square(derivative(values, widths, orders))
    return np.sqrt(squares, out=squares)


def derivative(values: Floats, widths: Widths, orders: tuple[int, int, int]) -> Floats:
    """Of the smoothed values, so many times along each axis."""
    first, second, third = (_matrix(*of_axis) for of_axis in zip(values.shape, widths, orders, strict=True))
    along = np.matmul(second, values @ third.T)
    return (first @ along.reshape(len(along), -1)).reshape(values.shape)


def principal(bends: dict[tuple[int, int], Floats]) -> tuple[Floats, Floats, Floats]:
    """The second derivatives along the axes a place bends along, from lowest to highest: of a bright blob all three are below 0,
    of a bright tube two. Eigenvalues of symmetric matrices of three rows, in closed form."""
    mean = (bends[0, 0] + bends[1, 1] + bends[2, 2]) / 3
    a, b, c = (bends[axis, axis] - mean for axis in range(3))
    d, e, f = bends[0, 1], bends[0, 2], bends[1, 2]
    size = np.sqrt((a * a + b * b + c * c + 2 * (d * d + e * e + f * f)) / 6 + np.float32(1e-12))
    determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
    angle = np.arccos(np.clip(determinant / (2 * size**3), -1, 1)) / 3
    highest, lowest = mean + 2 * size * np.cos(angle), mean + 2 * size * np.cos(angle + np.float32(2 * np.pi / 3))
    return lowest, 3 * mean - lowest - highest, highest


@lru_cache(maxsize=256)
def _matrix(side: int, width: float, order: int) -> Floats:
    """What a Gaussian, or its derivative, makes of a row of so many voxels; beyond its ends the row is mirrored."""
    return gaussian_filter1d(np.eye(side), width, axis=0, order=order, truncate=WIDE).astype(np.float32)
