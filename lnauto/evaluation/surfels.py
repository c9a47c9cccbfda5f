"""Normalised surface Dice (NSD) with surface elements weighted by their area, as SegRap2023 counts it.

Between every eight neighbouring voxels lies a surface element if they are not all inside or all outside. Its area is that of the
marching-cubes triangles for the pattern. Beyond the image lies background, so a mask cut by the image's edge is closed there.
The definition, and the triangulation where marching cubes leave a choice, are those of google-deepmind/surface-distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations, product

import numpy as np

from lnauto.evaluation.surface import nearest_distances
from lnauto.nodes import Array, bounding_box

# Corners of a cube, one bit each, to the triangles between them. By symmetry every other pattern is one of these turned, mirrored
# or inverted. Triangles are of three kinds, given by how often they occur: across a corner, normal (1, 1, 1) / 8; along
# axis i and diagonal to the others, normal (0, 1, 1) / 4; square to axis i, normal (1, 0, 0) / 2.
_TRIANGLES: dict[int, tuple[int, tuple[int, int, int], tuple[int, int, int]]] = {
    0b00000001: (1, (0, 0, 0), (0, 0, 0)),
    0b00000011: (0, (0, 0, 2), (0, 0, 0)),
    0b00000110: (2, (0, 0, 0), (0, 0, 0)),
    0b00000111: (3, (0, 0, 0), (1, 0, 0)),
    0b00001111: (0, (0, 0, 0), (2, 0, 0)),
    0b00010110: (3, (0, 0, 0), (0, 0, 0)),
    0b00010111: (6, (0, 0, 0), (0, 0, 0)),
    0b00011000: (2, (0, 0, 0), (0, 0, 0)),
    0b00011001: (1, (2, 0, 0), (0, 0, 0)),
    0b00011011: (4, (1, 1, 0), (0, 0, 0)),
    0b00011110: (4, (0, 0, 0), (1, 0, 0)),
    0b00111100: (0, (0, 0, 4), (0, 0, 0)),
    0b01101001: (4, (0, 0, 0), (0, 0, 0)),
}
_CORNERS = tuple(product((0, 1), repeat=3))
_BITS = np.array([128, 64, 32, 16, 8, 4, 2, 1]).reshape(2, 2, 2)


def surface_dice(true: Array, predicted: Array, spacing: Sequence[float], tolerance_mm: float) -> float:
    """The part of both surfaces, by area, that lies within the tolerance of the other; NaN if both masks are empty."""
    box = bounding_box(true | predicted)
    if box is None:
        return float("nan")
    areas = element_areas(tuple(float(step) for step in spacing))
    surfaces = []
    for mask in (true, predicted):
        patterns = _patterns(mask[box])
        points = np.argwhere((patterns != 0) & (patterns != 255))
        surfaces.append((points, areas[patterns[tuple(points.T)]]))
    within = 0.0
    if all(len(points) for points, _ in surfaces):
        for (points, weights), (others, _) in (surfaces, surfaces[::-1]):
            within += float(weights[nearest_distances(points, others, spacing, tolerance_mm) <= tolerance_mm].sum())
    return within / float(sum(weights.sum() for _, weights in surfaces))


@cache
def element_areas(spacing: tuple[float, float, float]) -> Array:
    """The area in mm2 of the surface element of each of the 256 patterns."""
    faces = np.prod(spacing) / np.asarray(spacing)  # of a voxel, by the axis they are square to
    diagonals = np.array([np.hypot(*np.delete(faces, axis)) for axis in range(3)])
    areas = np.zeros(256)
    for pattern, corner, along, square in _all_triangles():
        areas[pattern] = corner * np.linalg.norm(faces) / 8 + np.dot(along, diagonals) / 4 + np.dot(square, faces) / 2
    return areas


def _all_triangles() -> Iterator[tuple[int, int, Array, Array]]:
    """The triangles of every pattern, by turning, mirroring and inverting the thirteen; several ways lead to one pattern."""
    for pattern, (corner, along, square) in _TRIANGLES.items():
        cube = (pattern & _BITS) > 0
        for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
            turned = cube.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
            turned_pattern = int(_BITS[turned].sum())
            triangles = corner, np.take(along, order), np.take(square, order)
            yield turned_pattern, *triangles
            yield 255 - turned_pattern, *triangles


def _patterns(mask: Array) -> Array:
    """Which of its eight voxels are inside, for every point between voxels and round the array's rim."""
    padded = np.pad(mask, 1)
    patterns = np.zeros([size - 1 for size in padded.shape], np.uint8)
    for corner in _CORNERS:
        part = tuple(slice(at, at + size) for at, size in zip(corner, patterns.shape, strict=True))
        patterns |= padded[part].astype(np.uint8) * np.uint8(_BITS[corner])
    return patterns
