"""A scan in memory: its channels as one array turned the way a network was trained on, and a mask turned back onto it.

Turning is changing the order of an array's axes and the way they run: no voxel is interpolated. Which way is meant is told by
three letters, as SimpleITK has them: LPS is an image whose x, y and z count towards the patient's left, back and head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from lnauto.data.grids import differences
from lnauto.errors import InputError
from lnauto.nodes import Array

if TYPE_CHECKING:
    import SimpleITK as sitk


READS_TURNED = {"SimpleITKIOWithReorient": "RAS", "NibabelIOWithReorient": "RAS"}  # nnU-Net's readers that turn images, and how
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


def way_to_lie(plans: Mapping[str, Any]) -> str | None:
    """The orientation that images are turned to before a network sees them, if they are."""
    by_reader = READS_TURNED.get(plans["image_reader_writer"])
    return by_reader or plans.get("lnauto", {}).get("inference", {}).get("orientation")


def left_right(orientation: str | None) -> int:
    """Which axis of an array (z, y, x) goes from side to side of the patient; where that is not known x, as in most scans."""
    return 2 if orientation is None else 2 - next(place for place, letter in enumerate(orientation) if letter in "RL")


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
    return _as_nnunet(turned)


def _as_nnunet(channels: Sequence[sitk.Image]) -> tuple[Array, dict[str, Any]]:
    import SimpleITK as sitk

    geometry = {key: getattr(channels[0], f"Get{key.title()}")() for key in ("spacing", "origin", "direction")}
    image = np.stack([sitk.GetArrayFromImage(channel) for channel in channels])
    return image, {"sitk_stuff": geometry, "spacing": [abs(side) for side in geometry["spacing"][::-1]]}


def lies(properties: Mapping[str, Any], orientation: str | None) -> bool:
    """Whether an image lies so; without an orientation it may lie as it will."""
    return orientation is None or orientation_of(properties["sitk_stuff"]["direction"]) == orientation


def turn(channels: Array, properties: dict[str, Any], orientation: str | None) -> tuple[Array, dict[str, Any]]:
    """What was read, channels first, turned to an orientation, and nnU-Net's properties of it then."""
    if lies(properties, orientation):
        return channels, properties
    import SimpleITK as sitk

    return _as_nnunet([sitk.DICOMOrient(_image(values, properties), orientation) for values in channels])


def _image(values: Array, properties: Mapping[str, Any]) -> sitk.Image:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    for key in ("spacing", "origin", "direction"):
        getattr(image, f"Set{key.title()}")(properties["sitk_stuff"][key])
    return image


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

    here, there = (np.reshape(way, (3, 3))[:, ::-1] for way in (grid.direction, properties["sitk_stuff"]["direction"]))
    # not by letters: an axis at 45 degrees has two, and would be turned by the one and back by the other
    ways = np.rint(np.linalg.inv(here) @ there)  # by its axes, the turned ones: 1, or -1 where they run the other way
    order, is_flipped = np.abs(ways).argmax(axis=1), ways.sum(axis=1) < 0
    found = sitk.GetImageFromArray(np.flip(mask.transpose(order), tuple(np.flatnonzero(is_flipped))))
    found.SetSpacing(grid.spacing)
    found.SetOrigin(grid.origin)
    found.SetDirection(grid.direction)
    return found


def upright(direction: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The array's axes in the order of the patient's z, y and x (LPS), and which of these then run the other way."""
    cosines = np.asarray(direction).reshape(3, 3)[::-1, ::-1]  # patient's axes z, y, x by the array's
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[at, axis]) for at, axis in enumerate(axes)))
    return order, tuple(at for at, axis in enumerate(order) if cosines[at, axis] < 0)
