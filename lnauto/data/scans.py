"""A scan in memory: its channels as one array turned the way a network was trained on, and a mask turned back onto it.

Turning is changing the order of an array's axes and the way they run: no voxel is interpolated. Which way is meant is told by
three letters, as SimpleITK has them: LPS is an image whose x, y and z count towards the patient's left, back and head.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from lnauto.data.grids import differences
from lnauto.errors import InputError
from lnauto.nodes import Array

if TYPE_CHECKING:
    import SimpleITK as sitk


PET = re.compile(r"(?<![a-z])(pet|pt|suv[a-z]*)(?![a-z])")


def shows_pet(channel: str) -> bool:
    """Whether a channel's name speaks of PET, as a word of its own."""
    return PET.search(channel.lower()) is not None


def orientation_of(direction: Sequence[float]) -> str:
    """The letters of a direction; an oblique one has those of the axes it is closest to."""
    import SimpleITK as sitk

    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines([float(cosine) for cosine in direction]))


def is_orientation(letters: object) -> bool:
    """Whether these are the three letters of a way to lie: one of each pair of ends."""
    return (
        isinstance(letters, str) and len(letters) == 3 and all(len(set(letters) & set(ends)) == 1 for ends in ("RL", "AP", "IS"))
    )


def read_channels(channels: Sequence[sitk.Image], orientation: str | None, name: str) -> tuple[Array, dict[str, Any]]:
    """Channels x z x y x x, turned to `orientation` if one is given, and nnU-Net's properties of the turned image."""
    import SimpleITK as sitk

    first = channels[0]
    for number, channel in enumerate(channels):
        if channel.GetDimension() != 3 or channel.GetNumberOfComponentsPerPixel() != 1:
            raise InputError.of(f"channel {number} is no 3D image of single numbers", name, "give one 3D image for each channel")
        if apart := list(differences("channel 0", Grid.of(first), f"channel {number}", Grid.of(channel))):
            raise InputError.of(apart[0], name, "resample the channels to one grid")
    turned = [sitk.DICOMOrient(channel, orientation) if orientation else channel for channel in channels]
    geometry = {key: getattr(turned[0], f"Get{key.title()}")() for key in ("spacing", "origin", "direction")}
    image = np.stack([sitk.GetArrayFromImage(channel) for channel in turned])
    return image, {"sitk_stuff": geometry, "spacing": [abs(side) for side in geometry["spacing"][::-1]]}


@dataclass(frozen=True)
class Grid:
    """Where an image lies, without its voxels."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def turned(array: Array, grid: Grid, orientation: str | None) -> Array:
    """An array (z, y, x) that lies on an image's grid, turned as `read_channels` turns the image."""
    import SimpleITK as sitk

    if orientation is None:
        return array
    found = sitk.GetImageFromArray(array)
    found.SetDirection(grid.direction)
    return np.asarray(sitk.GetArrayFromImage(sitk.DICOMOrient(found, orientation)))


def mask_on(mask: Array, properties: dict[str, Any], grid: Grid) -> sitk.Image:
    """The mask of a turned image, on the grid of the image as it was."""
    import SimpleITK as sitk

    found = sitk.GetImageFromArray(mask)
    for key, value in properties["sitk_stuff"].items():
        getattr(found, f"Set{key.title()}")(value)
    found = sitk.DICOMOrient(found, orientation_of(grid.direction))
    found.SetSpacing(grid.spacing)  # turning back leaves rounding behind
    found.SetOrigin(grid.origin)
    found.SetDirection(grid.direction)
    return found


def upright(direction: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The array's axes in the order of the patient's z, y and x (LPS), and which of these then run the other way."""
    cosines = np.asarray(direction).reshape(3, 3)[::-1, ::-1]  # patient's axes z, y, x by the array's
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[at, axis]) for at, axis in enumerate(axes)))
    return order, tuple(at for at, axis in enumerate(order) if cosines[at, axis] < 0)
