"""Distances between the surfaces of two masks.

A mask's surface is its inner contour: voxels of the mask with a face neighbour outside it. What lies beyond the image counts as
inside, as in SimpleITK's LabelContour, so a mask cut by the image's edge has no surface there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from lnauto.nodes import Array, bounding_box

VOXELS_A_POINT = 100
"""Two ways lead to the same distances. A tree costs by surface point and is quicker where surfaces are sparse, as those of nodes
in a chest are; the distance transform costs by voxel, whatever the shapes (in a box, a tree can take a thousand times longer)."""


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


def nearest_distances(points: Array, others: Array, spacing: Sequence[float], at_most: float = math.inf) -> Array:
    """From each of `points` (voxel indices) the distance in mm to the nearest of `others`; inf where that is beyond `at_most`."""
    steps = np.asarray(spacing, float)
    low, high = np.minimum(points.min(axis=0), others.min(axis=0)), np.maximum(points.max(axis=0), others.max(axis=0))
    sparse = (len(points) + len(others)) * VOXELS_A_POINT < np.prod(high - low + 1.0)
    if sparse or at_most < math.inf:
        from scipy.spatial import KDTree

        tree = KDTree(others * steps, balanced_tree=False, compact_nodes=False)
        # a little more than asked: the tree is not exact to the last digit, and leaves out what lies on the bound
        _, places = tree.query(points * steps, distance_upper_bound=at_most * (1 + 1e-6) + 1e-6)
        nearest = np.vstack([others, np.full(others.shape[1], math.inf)])[places]  # the tree's word for none is one past the last
    else:
        empty = np.ones(high - low + 1, bool)
        empty[tuple((others - low).T)] = False
        transform = distance_transform_edt(empty, sampling=spacing, return_distances=False, return_indices=True)
        nearest = np.stack([index[tuple((points - low).T)] for index in transform], axis=1) + low
    # from whole index steps, so that what should meet a tolerance exactly does
    distances = np.sqrt((((points - nearest) * steps) ** 2).sum(axis=1))
    return np.where(distances <= at_most, distances, math.inf)
