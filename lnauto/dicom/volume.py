"""A series as a volume: CT in HU, PET in SUV, anything else as its header scales it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from lnauto.dicom.damage import INTACT, told_as_damaged
from lnauto.dicom.frames import functional
from lnauto.dicom.geometry import Array
from lnauto.dicom.listing import Series
from lnauto.dicom.suv import suv_factor
from lnauto.errors import InputError
from lnauto.image_files import UnreadableError, check_bytes

BYTES_A_VOXEL = 4 + 2  # as it is read, and as it is kept
AIR = -1024.0  # HU of what a CT did not see
JPEG_BEYOND_8_BITS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (51, 57, 70))  # extended, and lossless


def read_volume(series: Series) -> sitk.Image:
    """The volume in LPS, x along the rows; the slices run in the direction of their normal."""
    grid, frames = series.lay_out()
    by_file: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        by_file.setdefault(frame.path, []).append(place)
    _check_memory(series, math.prod(grid.size))
    with told_as_damaged("a header of this PET is damaged", series.where, INTACT):
        factor = _suv_factor(series, list(by_file)) if series.modality == "PT" else 1.0
    volume = np.empty(grid.size[::-1], np.float32)
    for path, places in by_file.items():  # one at a time: a scan of a thousand slices would not fit into memory twice
        with told_as_damaged(f"{path.name} is cut off or damaged", series.where, INTACT):
            dataset = pydicom.dcmread(path)
            pixels = _decode(path, dataset, frames[0].shape, series)
            for place in places:
                number = frames[place].number
                volume[place] = _values(pixels[number], dataset, number, series.modality) * factor
    return grid.image(_smallest_type(volume))


def _check_memory(series: Series, voxels: int) -> None:
    try:
        check_bytes(BYTES_A_VOXEL * voxels)
    except UnreadableError as error:
        raise InputError.of(str(error), series.where, "read it on a machine with more memory, or leave it out") from error


def _suv_factor(series: Series, paths: Sequence[Path]) -> float:
    return suv_factor([pydicom.dcmread(path, stop_before_pixels=True) for path in paths], series.where)


def _decode(path: Path, dataset: Dataset, shape: tuple[int, int], series: Series) -> Array:
    """The stored numbers of a file's frames."""
    try:
        decode = _by_pydicom if dataset.file_meta.TransferSyntaxUID not in JPEG_BEYOND_8_BITS else _by_simpleitk
        return np.reshape(decode(path, dataset), (-1, *shape))
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        what = f"the pixels of {path.name} ({syntax}) cannot be decoded ({' '.join(str(error).split())[:200]})"
        raise InputError.of(what, series.where, "replace it with an intact copy, or store it without compression") from error


def _by_pydicom(_: Path, dataset: Dataset) -> Array:
    return dataset.pixel_array


def _by_simpleitk(path: Path, dataset: Dataset) -> Array:
    """SimpleITK decodes what pydicom's free decoders do not; it has scaled the numbers, which is undone."""
    scaled = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float64)
    slope, intercept = _scale(dataset, 0)
    stored: Array = np.round((scaled - intercept) / slope)
    return stored


def _values(stored: Array, dataset: Dataset, number: int, modality: str) -> Array:
    """Stored numbers as the header scales them, slice by slice; slopes may differ between slices."""
    slope, intercept = _scale(dataset, number)
    values = stored.astype(np.float64) * slope + intercept
    if modality == "CT":
        values[_is_padding(stored, dataset)] = AIR
        np.maximum(values, AIR, out=values)
    return values


def _scale(dataset: Dataset, number: int) -> tuple[float, float]:
    slope, intercept = (
        functional(dataset, number, "PixelValueTransformationSequence", keyword)
        for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    return float(slope or 1), float(intercept or 0)


def _is_padding(stored: Array, dataset: Dataset) -> Array:
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(padding), int(padding if limit is None else limit)))
    padded: Array = (stored >= low) & (stored <= high)
    return padded


def _smallest_type(volume: Array) -> Array:
    """Whole numbers, as CT has them, take a quarter of the memory."""
    if np.abs(volume).max() < 2**15 and (volume == np.round(volume)).all():
        return volume.astype(np.int16)
    return volume.astype(np.float32)
