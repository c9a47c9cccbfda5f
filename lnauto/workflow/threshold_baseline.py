"""The comparator every network has to beat: one HU window and a size filter, both chosen on the training cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lnauto.errors import InputError
from lnauto.evaluation.matching import MIN_VOLUME_MM3, NodeCounts, assign, total
from lnauto.nodes import Array, label_components

TrainingCase = tuple[Array, Sequence[float], Array]  # image (HU), spacing (z, y, x) in mm, mask of its nodes

LOWS = (-40.0, -20.0, 0.0, 15.0, 30.0, 45.0, 60.0)
HIGHS = (60.0, 75.0, 90.0, 105.0, 120.0, 150.0)
SMOOTHINGS_MM = (0.0, 2.0)
SMALLEST_MM3 = (MIN_VOLUME_MM3, 100.0, 300.0, 600.0, 1000.0, 2000.0)
LARGEST_MM3 = (5e3, 1e4, 2e4, 4e4, 1e5, float("inf"))


@dataclass(frozen=True)
class Threshold:
    """Components of a window of HU, if their volume is that of a node."""

    low: float
    high: float
    min_volume_mm3: float
    max_volume_mm3: float
    smoothing_mm: float = 0.0

    def predict(self, image: Array, spacing: Sequence[float]) -> NDArray[np.uint8]:
        components, volumes = _components(_smoothed(image, spacing, self.smoothing_mm), spacing, self.low, self.high)
        return _of_size(volumes, self.min_volume_mm3, self.max_volume_mm3)[components].astype(np.uint8)


def fit(cases: Sequence[TrainingCase]) -> Threshold:
    """The window, smoothing and size filter with the best node F1 on these cases, pooled."""
    if not cases:
        raise InputError.of("there is no case to choose a threshold on", "the training cases", "give at least one")
    true = [label_components(mask)[0] for _, _, mask in cases]
    if not any(nodes.any() for nodes in true):
        raise InputError.of("no case holds a node", "the training cases", "give some that do")
    best, _ = max(_tried(cases, true), key=lambda tried: tried[1].f1)
    return best


def predict(threshold: Threshold, image: Array, spacing: Sequence[float]) -> NDArray[np.uint8]:
    return threshold.predict(image, spacing)


def _tried(cases: Sequence[TrainingCase], true: Sequence[Array]) -> Iterator[tuple[Threshold, NodeCounts]]:
    for smoothing in SMOOTHINGS_MM:
        pictures = [_smoothed(image, spacing, smoothing) for image, spacing, _ in cases]
        for low, high in product(LOWS, HIGHS):
            if low >= high:
                continue
            found = [
                _Found.of(picture, case[1], nodes, low, high) for picture, case, nodes in zip(pictures, cases, true, strict=True)
            ]
            for least, most in product(SMALLEST_MM3, LARGEST_MM3):
                yield Threshold(low, high, least, most, smoothing), total(case.counts(least, most) for case in found)


@dataclass(frozen=True, eq=False)
class _Found:
    """The components of one window in one case; what lies outside the true nodes matters only by its number."""

    nodes: Array  # the true nodes' voxels in a row
    there: Array  # the component at each of them
    volumes: Array

    @classmethod
    def of(cls, picture: Array, spacing: Sequence[float], nodes: Array, low: float, high: float) -> _Found:
        components, volumes = _components(picture, spacing, low, high)
        return cls(nodes[nodes > 0], components[nodes > 0], volumes)

    def counts(self, least: float, most: float) -> NodeCounts:
        keep = _of_size(self.volumes, least, most)
        found = len(assign(self.nodes, np.where(keep[self.there], self.there, 0)))
        return NodeCounts(int(self.nodes.max(initial=0)), found, int(keep.sum()) - found)


def _smoothed(image: Array, spacing: Sequence[float], sigma_mm: float) -> Array:
    picture = np.asarray(image, np.float32)
    return gaussian_filter(picture, [sigma_mm / side for side in spacing], truncate=3) if sigma_mm else picture


def _components(picture: Array, spacing: Sequence[float], low: float, high: float) -> tuple[Array, Array]:
    """Components of the window, and the volume in mm3 of each, from the background's on."""
    components, _ = label_components((picture >= low) & (picture <= high))
    return components, np.bincount(components.ravel()) * float(np.prod(spacing))


def _of_size(volumes: Array, least: float, most: float) -> NDArray[np.bool_]:
    keep = (volumes >= max(least, MIN_VOLUME_MM3)) & (volumes <= most)
    keep[0] = False
    return keep
