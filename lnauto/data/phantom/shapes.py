"""Signed distances of what anatomy is made of: ellipsoids, tapering tubes, and their unions and differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lnauto.data.phantom.canvas import Array, Coordinates, Distance, Floats, Shape

FAR = 1e3  # mm, beyond any scan


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Columns are the turned axes; angles in radians about z, x and y."""
    cz, sz, cx, sx, cy, sy = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.asarray(about_z @ about_x @ about_y)


def local(at: Coordinates, centre: ArrayLike, axes: Array) -> Coordinates:
    """Coordinates along the columns of `axes`, from `centre`."""
    x, y, z = (side - np.float32(middle) for side, middle in zip(at, np.asarray(centre, float), strict=True))
    a, b, c = (np.float32(axis[0]) * x + np.float32(axis[1]) * y + np.float32(axis[2]) * z for axis in axes.T)
    return a, b, c


def ellipsoid_distance(at: Coordinates, radii: ArrayLike) -> Floats:
    """Close to the true distance near the surface, which is where it matters."""
    sizes = np.asarray(radii, float)
    a, b, c = (side * np.float32(1 / size) for side, size in zip(at, sizes, strict=True))
    ratio = np.sqrt(a * a + b * b + c * c)
    a, b, c = (side * np.float32(1 / size) for side, size in zip((a, b, c), sizes, strict=True))
    slope = np.sqrt(a * a + b * b + c * c)
    found = ratio * (ratio - 1) / np.maximum(slope, np.float32(1e-6))
    return np.asarray(np.where(ratio < 0.02, np.float32(-sizes.min()), found), np.float32)  # the quotient is 0/0 in the middle


def ellipsoid(centre: ArrayLike, radii: ArrayLike, axes: Array | None = None) -> Shape:
    turned = np.eye(3) if axes is None else axes
    middle, sizes = np.asarray(centre, float), np.asarray(radii, float)
    half = np.sqrt(((turned * sizes) ** 2).sum(axis=1)) + 2
    return Shape(middle - half, middle + half, lambda at: ellipsoid_distance(local(at, middle, turned), sizes))


def tube(path: ArrayLike, radii: ArrayLike, stretch: ArrayLike = (1.0, 1.0, 1.0)) -> Shape:
    """A tube along a polyline whose radius changes linearly from corner to corner, made wider along the axes by `stretch`."""
    corners = np.asarray(path, float)
    sizes, wider = np.broadcast_to(np.asarray(radii, float), len(corners)), np.asarray(stretch, float)
    pieces = [_piece(corners[n : n + 2], sizes[n : n + 2], wider) for n in range(len(corners) - 1)]
    return pieces[0] if len(pieces) == 1 else union(*pieces)


def _piece(ends: Array, sizes: Array, stretch: Array) -> Shape:
    margin = float(sizes.max()) * stretch + 2

    def distance(at: Coordinates) -> Floats:
        start, way = ends[0] / stretch, (ends[1] - ends[0]) / stretch
        x, y, z = (side * np.float32(1 / by) - np.float32(s) for side, by, s in zip(at, stretch, start, strict=True))
        along = (x * np.float32(way[0]) + y * np.float32(way[1]) + z * np.float32(way[2])) * np.float32(1 / max(way @ way, 1e-6))
        along = np.clip(along, 0, 1)
        x, y, z = (side - along * np.float32(step) for side, step in zip((x, y, z), way, strict=True))
        return np.asarray(np.sqrt(x * x + y * y + z * z) - (sizes[0] + along * np.float32(sizes[1] - sizes[0])), np.float32)

    return Shape(ends.min(axis=0) - margin, ends.max(axis=0) + margin, distance)


def union(*shapes: Shape, blend: float = 0.0) -> Shape:
    """Both; `blend` mm rounds the edge where they meet."""
    return Shape(
        np.min([shape.lower for shape in shapes], axis=0),
        np.max([shape.upper for shape in shapes], axis=0),
        lambda at: _joined([shape.distance(at) for shape in shapes], blend),
        pieces=() if blend else shapes,
    )


def _joined(distances: Sequence[Floats], blend: float) -> Floats:
    found = distances[0]
    for other in distances[1:]:
        if blend > 0:
            part = np.clip(0.5 + 0.5 / np.float32(blend) * (other - found), 0, 1)
            found = other + part * (found - other) - np.float32(blend) * part * (1 - part)
        else:
            found = np.minimum(found, other)
    return found


def without(shape: Shape, *others: Shape) -> Shape:
    def distance(at: Coordinates) -> Floats:
        found = shape.distance(at)
        for other in others:
            found = np.maximum(found, -other.distance(at))
        return found

    return Shape(shape.lower, shape.upper, distance)


def common(shape: Shape, *others: Distance) -> Shape:
    """The part of a shape that is inside all the others."""

    def distance(at: Coordinates) -> Floats:
        found = shape.distance(at)
        for other in others:
            found = np.maximum(found, other(at))
        return found

    return Shape(shape.lower, shape.upper, distance)


def inflated(shape: Shape, by: float) -> Shape:
    """Larger all round by so many mm; smaller if negative."""
    margin = max(by, 0)
    pieces = tuple(inflated(piece, by) for piece in shape.pieces)
    return Shape(shape.lower - margin, shape.upper + margin, lambda at: shape.distance(at) - np.float32(by), pieces)


def everywhere(distance: Distance, above: float = -FAR, below: float = FAR) -> Shape:
    """A shape without bounds, but that it may be known to lie above or below a level."""
    return Shape(np.array([-FAR, -FAR, above]), np.array([FAR, FAR, below]), distance)


def vessel(path: ArrayLike, radii: ArrayLike, step: float = 8.0) -> Shape:
    """A smoothly curved tube through the given corners."""
    corners = np.asarray(path, float)
    sizes = np.broadcast_to(np.asarray(radii, float), len(corners))
    rows = np.concatenate([corners, sizes[:, None]], axis=1)
    padded = np.concatenate([2 * rows[:1] - rows[1:2], rows, 2 * rows[-1:] - rows[-2:-1]])
    found = [rows[:1]]
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):  # Catmull-Rom, corner by corner
        count = max(1, int(np.ceil(np.linalg.norm((c - b)[:3]) / step)))
        t = (np.arange(1, count + 1) / count)[:, None]
        found.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    rounder = np.concatenate(found)
    return tube(rounder[:, :3], np.maximum(rounder[:, 3], 0.3))
