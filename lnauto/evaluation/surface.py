"""Distances between the surfaces of two masks.

A mask's surface is its inner contour: voxels of the mask with a face neighbour outside it. What lies beyond the image counts as
inside, as in SimpleITK's LabelContour, so a mask cut by the image's edge has no surface there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from lnauto.nodes import Array, bounding_box


@dataclass(frozen=True)
class SurfaceDistances:
    """The distance in mm from each voxel of one surface to the nearest of the other.

    A mask that fills the whole image has no surface; what is averaged is then NaN, as with LNQ2023.
    """

    true_to_predicted: Array
    predicted_to_true: Array

    @classmethod
    def of(cls, true: Array, predicted: Array, spacing: Sequence[float]) -> SurfaceDistances:
        """Of two boolean masks, neither of them empty."""
        if not (true.any() and predicted.any()):
            raise ValueError("an empty mask has no surface to measure from")
        box = bounding_box(true | predicted, margin=1)  # the margin tells the image's edge from the box's
        true_surface, predicted_surface = (np.argwhere(contour(mask[box])) for mask in (true, predicted))
        if not (len(true_surface) and len(predicted_surface)):
            return cls(np.full(1, np.nan), np.full(1, np.nan))
        return cls(
            true_to_predicted=nearest_distances(true_surface, predicted_surface, spacing),
            predicted_to_true=nearest_distances(predicted_surface, true_surface, spacing),
        )

    def assd(self) -> float:
        """Average symmetric surface distance of LNQ2023: the average of the two means, not the mean of all distances."""
        return float(self.true_to_predicted.mean() + self.predicted_to_true.mean()) / 2

    def pooled_assd(self) -> float:
        """The mean of all distances of both surfaces, in which the larger surface weighs more."""
        return float(self._all.mean())

    def hausdorff95(self) -> float:
        """The 95th percentile of all distances of both surfaces."""
        return float(np.percentile(self._all, 95))

    @property
    def _all(self) -> Array:
        return np.concatenate([self.true_to_predicted, self.predicted_to_true])


def contour(mask: Array) -> Array:
    """The inner, 6-connected contour of a boolean mask."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        kept, whole = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        kept[1:] &= whole[:-1]
        kept[:-1] &= whole[1:]
    return mask & ~inner


def nearest_distances(points: Array, others: Array, spacing: Sequence[float]) -> Array:
    """From each of `points` (voxel indices) the distance in mm to the nearest of `others`.

    A tree over surface voxels costs by surface, a distance transform by volume: much more for nodes scattered over a chest.
    """
    steps = np.asarray(spacing, float)
    _, nearest = KDTree(others * steps, balanced_tree=False, compact_nodes=False).query(points * steps)
    # from whole index steps: the tree's own distances differ in the last digit, enough to fall off a tolerance
    return np.sqrt((((points - others[nearest]) * steps) ** 2).sum(axis=1))
