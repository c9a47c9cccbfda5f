"""Attention on blocks, as an image: how much each block of a scan counted, in the scan's own geometry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnauto.files import replacing

if TYPE_CHECKING:
    from lnauto.trainers.patient.crops import CropPlan
    from lnauto.workflow.bags import Grid


def paint_blocks(shares: Mapping[int, float], scan: Path, grid: Grid, crops: CropPlan, path: Path) -> None:
    """`shares`: of each block, by its number. What no block covers, because the plan does not look at it, is 0."""
    import SimpleITK as sitk

    from lnauto.trainers.patient.crops import block_layout

    image = sitk.ReadImage(str(scan))
    counts, _ = block_layout(grid.shape, crops)
    size = image.GetSize()[::-1]  # z, y, x
    to_grid = np.linalg.inv(grid.to_mm) @ _to_world(image)
    values = np.array([0.0, *(shares.get(number, 0.0) for number in range(1, int(np.prod(counts)) + 1))], np.float32)
    number = np.ones((1, 1, 1), np.int64)
    outside = np.zeros((1, 1, 1), bool)
    for axis, (count, side) in enumerate(zip(counts, grid.shape, strict=True)):
        own = int(np.argmax(np.abs(to_grid[axis, :3])))  # the image's axis that this one is
        place = (to_grid[axis, own] * np.arange(size[own]) + to_grid[axis, 3] + 0.5) / side
        lies = [1, 1, 1]
        lies[own] = size[own]
        outside = outside | ((place < 0) | (place >= 1)).reshape(lies)
        part = np.clip(np.floor(place * count), 0, count - 1).astype(np.int64)
        number = number + (part * int(np.prod(counts[axis + 1 :]))).reshape(lies)
    painted = sitk.GetImageFromArray(values[np.where(outside, 0, number)])
    painted.CopyInformation(image)
    with replacing(path) as temporary:
        sitk.WriteImage(painted, str(temporary))


def _to_world(image: Any) -> NDArray[np.float64]:
    """From a voxel (z, y, x) of an image to the world (x, y, z) in mm; 4 x 4."""
    turned = np.asarray(image.GetDirection(), float).reshape(3, 3) @ np.diag(image.GetSpacing())
    found = np.eye(4)
    found[:3, :3] = turned[:, ::-1]
    found[:3, 3] = image.GetOrigin()
    return found
