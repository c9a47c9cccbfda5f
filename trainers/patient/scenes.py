"""A case as heads see it: its image as the plan prepares it, and a mask, given or predicted, laid on the same grid.

There is one way here for training and for use, and it begins at the files of an image and of a mask, so that both see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnauto.data.prepare import prepare
from lnauto.data.scans import Grid, read_channels, turned
from lnauto.nodes import Array, label_components
from lnauto.trainers.patient.crops import Scene, forms_of


def read_scene(
    case: str,
    images: Sequence[Path],
    mask: Path | None,
    plans: Any,
    configuration: Any,
    region: str,
    nodes: Sequence[int],
    instances: bool = False,
    orientation: str | None = None,
) -> Scene:
    """A case that is turned to `orientation`, if there is one, as it is before a network looks at it.

    `nodes` are the mask's values that are lymph node; with `instances` each value is a node of its own. None: no mask.
    """
    import SimpleITK as sitk

    channels = [sitk.ReadImage(str(path)) for path in images]
    image, properties = read_channels(channels, orientation, case)
    data = prepare(image, properties, plans.plans, configuration.configuration, region)
    shape = data.shape[1:]
    spacing = tuple(float(side) for side in configuration.spacing)
    found, forms = np.zeros(shape, np.int32), dict[int, tuple[float, ...]]()
    if mask is not None:  # numbered before it is turned and resampled, so that a node has the number it has in the tables
        drawn, grid = read_mask(mask), Grid.of(channels[0])
        numbers = drawn.astype(np.int32) if instances else label_components(np.isin(drawn, list(nodes)))[0]
        forms = forms_of(numbers, grid.spacing[::-1], grid.direction)
        found = _on_grid(turned(numbers, grid, orientation), properties, plans.transpose_forward, shape)
    return Scene(case, data, found, (spacing[0], spacing[1], spacing[2]), grid_to_world(properties, plans, shape), forms)


def read_mask(path: Path) -> Array:
    """(z, y, x)"""
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def _on_grid(mask: Array, properties: dict[str, Any], forward: Sequence[int], shape: Sequence[int]) -> Array:
    """The nearest value of the mask at each voxel of the prepared image."""
    box = tuple(slice(first, last) for first, last in properties["bbox_used_for_cropping"])
    cropped = mask.transpose(forward)[box]
    places = [
        np.clip(np.rint((np.arange(size) + 0.5) * side / size - 0.5).astype(int), 0, side - 1)
        for size, side in zip(shape, cropped.shape, strict=True)
    ]
    return cropped[np.ix_(*places)]


def grid_to_world(properties: dict[str, Any], plans: Any, shape: Sequence[int]) -> NDArray[np.float64]:
    """From a voxel (z, y, x) of the prepared image to the world (x, y, z) in mm, LPS; 4 x 4."""
    cropped = np.array(properties["shape_after_cropping_and_before_resampling"], float)
    starts = np.array([first for first, _ in properties["bbox_used_for_cropping"]], float)
    scale = cropped / np.array(shape, float)
    to_whole = np.eye(4)
    to_whole[:3, :3] = np.diag(scale)
    to_whole[:3, 3] = 0.5 * scale - 0.5 + starts
    back = np.zeros((4, 4))  # from the plan's order of axes to the image's own z, y, x, then to x, y, z
    for place, axis in enumerate(plans.transpose_forward):
        back[2 - axis, place] = 1
    back[3, 3] = 1
    image = properties["sitk_stuff"]
    world = np.eye(4)
    world[:3, :3] = np.asarray(image["direction"], float).reshape(3, 3) @ np.diag(image["spacing"])
    world[:3, 3] = image["origin"]
    return np.asarray(world @ back @ to_whole)
