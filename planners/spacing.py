"""The spacing to resample to: fine enough for the smallest nodes that matter, no finer than the images.

nnU-Net takes the median of the images, which is too coarse where thick slices are the rule and small nodes fall between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

VOXELS_ACROSS = 4.0  # of the 5th percentile short axis: below that a node's border is most of the node [our choice]
COARSEST_VOXELS_ACROSS = 3.0  # of the same: no coarser than that, whatever else would call for it [our choice]
COARSENING_STEP = 1.05
FINEST_PERCENTILE = 10  # of the images' spacings: finer than that, most images would be blown up


def median_spacing(spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[NDArray[np.float64], str]:
    """nnU-Net's rule: the median, or the 10th percentile along an axis far coarser than the others."""
    from lnauto.compat.planning import ANISO_THRESHOLD

    target = np.median(spacings, axis=0)
    shape = np.median(shapes, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > ANISO_THRESHOLD * max(target[others])
    few_slices = shape[worst] * ANISO_THRESHOLD < min(shape[others])
    if not (coarse and few_slices):
        return target, "the median of the images"
    target[worst] = max(np.percentile(np.array(spacings)[:, worst], 10), max(target[others]) + 1e-5)
    return target, "the median of the images; across the thick slices the 10th percentile, so that thinner ones are not blurred"


def target_spacing(
    spacings: Sequence[Sequence[float]],
    shapes: Sequence[Sequence[int]],
    smallest_short_axis_mm: float | None,
    short_of_time: bool,
) -> tuple[NDArray[np.float64], str]:
    """The spacing (z, y, x) and why. Short of time it is nnU-Net's: more voxels would mean
    fewer looks at each."""
    target, reason = median_spacing(spacings, shapes)
    if smallest_short_axis_mm is None:
        return target, f"{reason}; there are no node sizes to go by"
    enough = smallest_short_axis_mm / VOXELS_ACROSS
    finest = np.percentile(spacings, FINEST_PERCENTILE, axis=0)
    nodes = f"{VOXELS_ACROSS:g} voxels across the 5th percentile short axis ({smallest_short_axis_mm:.3g} mm)"
    if short_of_time:
        return target, reason
    wanted = np.maximum(np.minimum(target, enough), np.minimum(finest, target))
    if (wanted >= target * 0.999).all():
        return target, f"{reason}, which give {nodes} or more"
    limit = "" if (wanted <= enough * 1.001).all() else ", as far as the images are that fine"
    return wanted, f"finer than the median of the images, for {nodes}{limit}"


def coarser(spacing: NDArray[np.float64], smallest_short_axis_mm: float | None) -> Iterator[NDArray[np.float64]]:
    """Ever coarser spacings: the finest axes give way first, until the smallest nodes would be lost."""
    if smallest_short_axis_mm is None:
        return
    edge = spacing.min() * COARSENING_STEP
    while edge <= smallest_short_axis_mm / COARSEST_VOXELS_ACROSS:
        yield np.maximum(spacing, edge)
        edge *= COARSENING_STEP
