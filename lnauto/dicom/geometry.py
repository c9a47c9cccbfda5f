"""From slices to a grid: in which order they lie, how far apart, and why some are no volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lnauto.dicom.frames import Frame, Numbers

Array = NDArray[Any]

COSINE = 1e-3  # directions closer than this are the same: half a voxel, 500 voxels away
SLICE_SHARE = 0.1  # how far off its place a slice may lie, as a share of the spacing: headers are rounded
SLICE_MM = 0.06  # and in any case: 0.045 mm occurs
PIXEL_SHARE = 0.5  # how far slices may lie to the side of the first, in pixels
WHOLE_SERIES = "fetch the whole series again from where it came from"


class NotAVolumeError(Exception):
    """These slices are no volume: why, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


@dataclass(frozen=True)
class Grid:
    """The voxels of a volume, in SimpleITK's terms: x along a row, y down the columns, z from slice to slice; LPS, mm."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: Numbers
    direction: Numbers  # row by row, as SimpleITK gives it

    @property
    def matrix(self) -> Array:
        """Its columns are the directions of x, y and z."""
        return np.reshape(self.direction, (3, 3))

    def index_of(self, points: Array) -> Array:
        """Where points of the world (..., 3) lie on the grid, as (x, y, z)."""
        found: Array = (np.asarray(points, float) - self.origin) @ self.matrix / self.spacing
        return found

    def world_of(self, index: Array) -> Array:
        """Where (x, y, z) of the grid (..., 3) lies in the world."""
        found: Array = (np.asarray(index, float) * self.spacing) @ self.matrix.T + self.origin
        return found

    def slice_near(self, z: float) -> int | None:
        """The slice at a place between them, if one is as near as headers are exact."""
        near = round(z)
        off = abs(z - near) * self.spacing[2]
        is_there = 0 <= near < self.size[2] and off <= slice_tolerance(self.spacing[2])
        return near if is_there else None

    def image(self, array: Array) -> sitk.Image:
        """An array (z, y, x) with this geometry."""
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image


def slice_tolerance(spacing: float) -> float:
    return max(SLICE_SHARE * spacing, min(SLICE_MM, spacing / 3))


def lay_out(frames: Sequence[Frame]) -> tuple[Grid, tuple[Frame, ...]]:
    """The grid, and the frames in the order of its slices; NotAVolumeError says why there is none."""
    _check_headers(frames)
    row, column = _axes(frames)
    normal = np.cross(row, column)
    positions = np.array([frame.position for frame in frames], float)
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(frames[place] for place in order)
    positions = positions[order]
    heights = positions @ normal
    spacing = _slice_spacing(heights)
    down, right = _pixel(frames)
    _check_straight(positions, normal, min(down, right))
    grid = Grid(
        size=(frames[0].shape[1], frames[0].shape[0], len(frames)),
        spacing=(right, down, spacing),
        origin=tuple(float(number) for number in positions[0]),
        direction=tuple(float(number) for number in np.stack([row, column, normal], axis=1).ravel()),
    )
    return grid, ordered


def _check_headers(frames: Sequence[Frame]) -> None:
    if any(frame.position is None or frame.orientation is None for frame in frames):
        raise NotAVolumeError("its images do not say where in the patient they lie, so they are no volume", "use another series")
    if any(frame.pixel is None or min(frame.pixel) <= 0 for frame in frames):
        raise NotAVolumeError("its images do not say how large their pixels are", "use another series")
    if len(frames) == 1:
        raise NotAVolumeError("it is a single slice, no volume", WHOLE_SERIES)
    if len(shapes := {frame.shape for frame in frames}) > 1:
        listed = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(shapes))
        raise NotAVolumeError(f"its slices have different sizes ({listed})", "keep those of one size in the folder")


def _axes(frames: Sequence[Frame]) -> tuple[Array, Array]:
    """The directions along a row and down the columns, the same for all slices."""
    all_of_them = np.array([frame.orientation for frame in frames], float)
    mean = all_of_them.mean(axis=0)
    if np.abs(all_of_them - mean).max() > COSINE:
        ways = np.unique(np.round(all_of_them, 2), axis=0)
        what = f"its slices have mixed orientations ({len(ways)} different ones)"
        raise NotAVolumeError(what, "keep the slices of one orientation in the folder; localisers are often among them")
    row = mean[:3] / np.linalg.norm(mean[:3])
    column = mean[3:] - (mean[3:] @ row) * row
    return row, column / np.linalg.norm(column)


def _pixel(frames: Sequence[Frame]) -> Numbers:
    sizes = np.array([frame.pixel for frame in frames], float)
    if not np.allclose(sizes, sizes[0], rtol=1e-3, atol=0):
        raise NotAVolumeError("its slices have pixels of different sizes", "keep the slices of one size in the folder")
    return float(sizes[0, 0]), float(sizes[0, 1])


def _slice_spacing(heights: Array) -> float:
    """From the positions alone: the thickness of slices says nothing about how far apart they are."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if np.ptp(heights) < SLICE_MM:
        raise NotAVolumeError(f"its {len(heights)} slices all lie at one position, so they are no volume", "use another series")
    if (close := gaps < max(SLICE_MM, 0.02 * usual)).any():
        at = heights[int(np.argmax(close))]
        what = f"several slices lie at one position ({int(close.sum())} pairs, the first at {at:.2f} mm along the stack)"
        raise NotAVolumeError(what, "keep one time point, echo or reconstruction in the folder")
    steps = np.arange(len(heights))
    spacing = float((heights[-1] - heights[0]) / (len(heights) - 1))
    centred = heights - heights.mean() - spacing * (steps - steps.mean())
    uneven = max(np.abs(centred).max(), np.abs(gaps - usual).max() / 2)
    if uneven > slice_tolerance(usual):
        widest = int(gaps.argmax())
        missing = round(float(gaps[widest]) / usual) - 1
        lack = f": {missing} missing there" if missing > 0 else ""
        what = f"its slices are {usual:.2f} mm apart, but there is a gap of {gaps[widest]:.2f} mm after slice {widest + 1}{lack}"
        raise NotAVolumeError(what, f"{WHOLE_SERIES}, or resample it to even slices")
    return spacing


def _check_straight(positions: Array, normal: Array, pixel: float) -> None:
    """Each slice straight above the first; a tilted gantry shifts them step by step."""
    ways = positions - positions[0]
    aside = ways - np.outer(ways @ normal, normal)
    if np.linalg.norm(aside, axis=1).max() <= PIXEL_SHARE * pixel:
        return
    angle = np.degrees(np.arctan2(np.linalg.norm(aside[-1]), ways[-1] @ normal))
    steps = np.linspace(0, 1, len(ways))[:, None] * aside[-1]
    if np.linalg.norm(aside - steps, axis=1).max() <= PIXEL_SHARE * pixel:
        what = f"it was taken with a tilted gantry ({angle:.1f} degrees), so its slices are sheared"
    else:
        what = "its slices are shifted sideways against each other"
    raise NotAVolumeError(what, "resample it to straight slices first, for example with dcm2niix or 3D Slicer")
