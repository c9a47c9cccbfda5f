"""Masks on disk: read with their geometry, compared, and brought to one grid where a protocol allows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.errors import InputError
from lnauto.image_files import (
    UnreadableError,
    check_memory,
    check_there,
    header_reader,
    is_nifti,
    itk_reason,
    look_through,
    quiet_itk,
)
from lnauto.nodes import Array

SAME_PLACE = 0.1
"""Two grids are one if no corner of the volume lies further apart than this part of the finest spacing."""


@dataclass(frozen=True)
class Mask:
    """A label map and where it lies: spacing (z, y, x), origin and direction as SimpleITK gives them."""

    path: Path
    array: Array
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    def corners(self) -> Array:
        """The world positions of the volume's eight corner voxels, LPS in mm."""
        ends = np.array(np.meshgrid(*([0, size - 1] for size in self.array.shape[::-1]), indexing="ij")).reshape(3, -1)
        steps = ends * np.asarray(self.spacing[::-1])[:, None]
        return (np.asarray(self.origin)[:, None] + np.asarray(self.direction).reshape(3, 3) @ steps).T

    def lies_on(self, other: Mask) -> bool:
        """Whether both have one grid."""
        if self.array.shape != other.array.shape:
            return False
        return bool(np.abs(self.corners() - other.corners()).max() <= SAME_PLACE * min(other.spacing))

    def image(self, array: Array) -> Any:
        """An array of this shape as SimpleITK's image on this grid."""
        import SimpleITK

        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(self.spacing[::-1])
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def grid(self) -> str:
        """The grid in words, x first as viewers show it."""
        parts = {"size": self.array.shape[::-1], "spacing": self.spacing[::-1], "origin": self.origin}
        return ", ".join(f"{name} {' x '.join(f'{value:.6g}' for value in values)}" for name, values in parts.items())


def read_mask(path: Path) -> Mask:
    """Read a label map; whole numbers from 0, in three dimensions."""
    image = _read(path)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        has = f"{image.GetDimension()} and {image.GetNumberOfComponentsPerPixel()}"
        raise InputError.of(f"a mask has 3 dimensions and 1 channel, this has {has}", path, "give one label map for each case")
    return _mask(path, image)


def grid_of(path: Path) -> Mask:
    """Where an image lies, by its header: it has one number, which takes no memory, in place of its voxels."""
    header = header_reader(path)
    nothing = np.broadcast_to(np.uint8(0), header.GetSize()[::-1])
    return Mask(path, nothing, header.GetSpacing()[::-1], header.GetOrigin(), header.GetDirection())


def resampled(mask: Mask, grid: Mask) -> Mask:
    """The mask on another grid of its own spacing, by the nearest voxel; outside it is background."""
    import SimpleITK

    if not np.allclose(mask.spacing, grid.spacing, rtol=1e-4):
        what = f"another spacing than the truth's ({mask.grid()}; truth: {grid.grid()})"
        raise InputError.of(what, mask.path, "predict at the truth's spacing")
    images = (part.image(part.array) for part in (mask, grid))
    return _mask(mask.path, SimpleITK.Resample(*images, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0))


def _read(path: Path) -> Any:
    try:
        check_there(path)
        if is_nifti(path):
            _check_nifti(path)
        reader = header_reader(path)
        check_memory(reader)
        with quiet_itk():
            return reader.Execute()
    except UnreadableError as error:
        raise _unreadable(str(error), path) from error
    except RuntimeError as error:
        raise _unreadable(itk_reason(error), path) from error


def _check_nifti(path: Path) -> None:
    """What SimpleITK hides: it takes what a file lacks and NaN for background, and a spacing of zero for 1 mm."""
    header, not_finite = look_through(path)
    if not_finite:
        raise UnreadableError(f"{not_finite} of its voxels are NaN or infinite")
    if header is not None and not all(0 < side < math.inf for side in header.spacing):
        raise UnreadableError(f"it has a spacing of {'x'.join(f'{side:g}' for side in header.spacing)} mm")


def _unreadable(reason: str, path: Path) -> InputError:
    return InputError.of(f"this cannot be read as an image ({reason})", path, "replace it with a whole file")


def _mask(path: Path, image: Any) -> Mask:
    import SimpleITK

    array = _whole_numbers(SimpleITK.GetArrayFromImage(image), path)
    return Mask(path, array, image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection())


def _whole_numbers(array: Array, path: Path) -> Array:
    """The array in the smallest unsigned type that holds it."""
    if array.dtype == np.uint8:
        return array
    low, high = array.min(), array.max()
    if not (low >= 0 and np.isfinite(high) and (array.dtype.kind in "ui" or np.array_equal(array, np.round(array)))):
        what = "a mask holds whole numbers from 0, this does not"
        raise InputError.of(what, path, "give the label map, not probabilities or intensities")
    return array.astype(np.min_scalar_type(int(high)))
