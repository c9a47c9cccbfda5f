"""Gaussians as products of matrices: a processor multiplies matrices several times as fast as it slides a window.

A Gaussian reaches only so far, so a few voxels of a row at a time are made, of those near them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float32]
Widths = tuple[float, float, float]
Orders = tuple[int, int, int]

WIDE = 2.5  # standard deviations, to either side
ROWS = 16  # made at a time: of fewer, more is read than is made; of more, most factors are 0
RISE = ((1, 0, 0), (0, 1, 0), (0, 0, 1))  # which derivative along each axis
BEND = {(0, 0): (2, 0, 0), (1, 1): (0, 2, 0), (2, 2): (0, 0, 2), (0, 1): (1, 1, 0), (0, 2): (1, 0, 1), (1, 2): (0, 1, 1)}


def smooth(values: Floats, widths: Widths) -> Floats:
    """`values` smoothed, by so many voxels along each axis."""
    return derivative(values, widths, (0, 0, 0))


def steepness(values: Floats, widths: Widths) -> Floats:
    """How steeply they rise or fall, smoothed: the length of the gradient, in values a voxel."""
    squares = np.zeros_like(values)
    for rise in derivatives(values, widths, RISE):
        squares += np.square(rise)
    return np.sqrt(squares, out=squares)


def bends(values: Floats, widths: Widths) -> Iterator[tuple[tuple[int, int], Floats]]:
    """How they bend, smoothed: the second derivatives, each with the two axes it is along."""
    return zip(BEND, derivatives(values, widths, list(BEND.values())), strict=True)


def derivative(values: Floats, widths: Widths, orders: Orders) -> Floats:
    """Of the smoothed values, so many times along each axis."""
    return next(derivatives(values, widths, [orders]))


def derivatives(values: Floats, widths: Widths, wanted: Sequence[Orders]) -> Iterator[Floats]:
    """Several of them; those that are alike along the last axis, or the last two, have these in common."""
    along_third: dict[int, Floats] = {}
    along_second: dict[tuple[int, int], Floats] = {}
    for first, second, third in wanted:
        if third not in along_third:
            along_third[third] = _along_axis(values, 2, widths[2], third)
        if (second, third) not in along_second:
            along_second[second, third] = _along_axis(along_third[third], 1, widths[1], second)
        yield _along_axis(along_second[second, third], 0, widths[0], first)


def _along_axis(values: Floats, axis: int, width: float, order: int) -> Floats:
    """A Gaussian, or its derivative, along one axis."""
    found = np.empty(values.shape, np.float32)
    as_read, as_made = (values, found) if axis else (values.reshape(len(values), -1), found.reshape(len(values), -1))
    for made, read, factors in _pieces(values.shape[axis], width, order):
        if axis == 2:
            np.matmul(as_read[..., read], factors.T, out=as_made[..., made])
        elif axis == 1:
            np.matmul(factors, as_read[:, read], out=as_made[:, made])
        else:
            np.matmul(factors, as_read[read], out=as_made[made])
    return found


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
def _pieces(side: int, width: float, order: int) -> list[tuple[slice, slice, Floats]]:
    """Of a row of so many voxels: some to be made, those they are made of, and by which factors."""
    whole, found = _matrix(side, width, order), []
    for start in range(0, side, ROWS):
        made = slice(start, min(start + ROWS, side))
        met = np.flatnonzero(whole[made].any(axis=0))
        read = slice(int(met[0]), int(met[-1]) + 1) if len(met) else made
        found.append((made, read, np.ascontiguousarray(whole[made, read])))
    return found


def _matrix(side: int, width: float, order: int) -> Floats:
    """What a Gaussian, or its derivative, makes of a row of so many voxels; beyond its ends the row is mirrored."""
    return gaussian_filter1d(np.eye(side), width, axis=0, order=order, truncate=WIDE).astype(np.float32)
