"""What a folder holds: image series, and the SEG and RTSTRUCT objects drawn on them, whatever the files are called."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from lnauto.dicom.damage import BROKEN, swells
from lnauto.dicom.frames import Frame, frames_of
from lnauto.dicom.geometry import Grid, NotAVolumeError, lay_out
from lnauto.errors import InputError

log = logging.getLogger(__name__)

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segmentation, label map
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
FEWEST_OF_3D = 4  # slices; no scanner acquires a slab of fewer in 3D


@dataclass(frozen=True, eq=False)
class Series:
    """An image series; `frames` in no particular order."""

    uid: str
    description: str
    modality: str
    study: str
    frame_of_reference: str
    folder: Path
    frames: tuple[Frame, ...]
    samples: int  # per pixel; more than one is colour
    image_type: tuple[str, ...]
    acquired_in_3d: bool
    declared_slices: int | None  # as PET says it

    @cached_property
    def _laid_out(self) -> tuple[Grid, tuple[Frame, ...]] | NotAVolumeError:
        try:
            self._check()
            return lay_out(self.frames)
        except NotAVolumeError as error:
            return error

    def _check(self) -> None:
        if self.samples > 1:
            raise NotAVolumeError("its images are in colour (RGB)", "use the series they were made from")
        if "LOCALIZER" in self.image_type:
            raise NotAVolumeError("it is a localiser, no volume", "use the series that was planned on it")
        if self.acquired_in_3d and 1 < len(self.frames) < FEWEST_OF_3D:
            what = f"slices are missing: of a slab that was acquired in 3D only {len(self.frames)} are there"
            raise NotAVolumeError(what, "fetch the whole series again from where it came from")
        if self.declared_slices and len(self.frames) < self.declared_slices:
            what = f"slices are missing: {len(self.frames)} of {self.declared_slices} are there"
            raise NotAVolumeError(what, "fetch the whole series again from where it came from")

    @property
    def fault(self) -> NotAVolumeError | None:
        """Why it is no volume, if it is none."""
        return self._laid_out if isinstance(self._laid_out, NotAVolumeError) else None

    def lay_out(self) -> tuple[Grid, tuple[Frame, ...]]:
        """Its grid, and its frames in the grid's order."""
        if isinstance(self._laid_out, NotAVolumeError):
            raise InputError.of(self._laid_out.what, self.where, self._laid_out.remedy)
        return self._laid_out

    @property
    def grid(self) -> Grid:
        return self.lay_out()[0]

    @property
    def instances(self) -> set[str]:
        return {frame.instance for frame in self.frames}

    @property
    def where(self) -> str:
        named = f' "{self.description}"' if self.description else ""
        return f"series {self.uid}{named} of {self.folder}"

    def __str__(self) -> str:
        """A line of a list to choose from."""
        named = f'"{self.description}"' if self.description else "without a description"
        if self.fault:
            size = f"{len(self.frames)} images; {self.fault.what}"
        else:
            size = f"{len(self.frames)} slices, {'x'.join(f'{side:.4g}' for side in self.grid.spacing)} mm"
        return f"{self.uid} {named} ({self.modality}, {size})"


@dataclass(frozen=True, eq=False)
class Drawing:
    """A SEG or RTSTRUCT object; what is drawn in it is read later."""

    uid: str  # of its series
    path: Path
    kind: str  # "SEG" or "RTSTRUCT"
    description: str
    names: tuple[str, ...]
    series: tuple[str, ...]  # UIDs of the series it says it was drawn on

    def __str__(self) -> str:
        named = f'"{self.description}"' if self.description else "without a description"
        return f"{self.uid} {named} ({self.kind}, {self.path.name}: {', '.join(self.names)})"


@dataclass(frozen=True, eq=False)
class Contents:
    """The DICOM objects of a folder that lnauto knows what to do with."""

    folder: Path
    series: tuple[Series, ...]
    drawings: tuple[Drawing, ...]


def read_folder(folder: Path) -> Contents:
    """Look into every file of a folder and of those in it; what is no DICOM is passed over."""
    found: dict[str, list[Series]] = {}
    drawings: list[Drawing] = []
    seen: set[tuple[str, int]] = set()
    for path in _files(folder):
        try:
            dataset = read_header(path)
            if dataset is None:
                continue
            known = (str(dataset.SOPInstanceUID), path.stat().st_size)
            if known in seen:  # the same file twice, for example in a backup
                continue
            if str(dataset.SOPClassUID) in (*SEG_CLASSES, RTSTRUCT_CLASS):
                drawings.append(_drawing(path, dataset))
            elif "Rows" in dataset and "Columns" in dataset:
                part = _series(folder, path, dataset)
                found.setdefault(part.uid, []).append(part)
            seen.add(known)
        except BROKEN as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "it is cut off or damaged"
            log.warning("%s looks like DICOM but cannot be read (%s); it is left out.", path, why)
    series = tuple(replace(parts[0], frames=tuple(frame for one in parts for frame in one.frames)) for parts in found.values())
    return Contents(folder, series, tuple(drawings))


def read_header(path: Path) -> Dataset | None:
    """All of a DICOM file but its pixels; None if it is none. What is damaged shows only when it is looked at."""
    if swells(path):
        log.warning("%s unpacks to far more than its size suggests; it is left out.", path)
        return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        if path.suffix.lower() == ".dcm":
            log.warning("%s is no DICOM file, though it ends in .dcm; it is left out.", path)
        return None
    needed = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")  # a DICOMDIR has none of them
    return dataset if all(dataset.get(keyword) for keyword in needed) else None


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def _series(folder: Path, path: Path, first: Dataset) -> Series:
    """As far as this file tells of it."""
    slices = first.get("NumberOfSlices")
    return Series(
        uid=str(first.SeriesInstanceUID),
        description=_text(first, "SeriesDescription"),
        modality=_text(first, "Modality"),
        study=_text(first, "StudyInstanceUID"),
        frame_of_reference=_text(first, "FrameOfReferenceUID"),
        folder=folder,
        frames=tuple(frames_of(first, path)),
        samples=int(first.get("SamplesPerPixel") or 1),
        image_type=tuple(str(word).upper() for word in first.get("ImageType") or ()),
        acquired_in_3d=_text(first, "MRAcquisitionType") == "3D",
        declared_slices=int(slices) if slices and _text(first, "Modality") == "PT" else None,
    )


def _drawing(path: Path, dataset: Dataset) -> Drawing:
    is_seg = str(dataset.SOPClassUID) in SEG_CLASSES
    items = dataset.get("SegmentSequence" if is_seg else "StructureSetROISequence") or []
    return Drawing(
        uid=str(dataset.SeriesInstanceUID),
        path=path,
        kind="SEG" if is_seg else "RTSTRUCT",
        description=_text(dataset, "SeriesDescription") or _text(dataset, "StructureSetLabel"),
        names=tuple(_text(item, "SegmentLabel" if is_seg else "ROIName") for item in items),
        series=tuple(dict.fromkeys(_referenced_series(dataset))),
    )


def _referenced_series(dataset: Dataset) -> Iterator[str]:
    for item in dataset.get("ReferencedSeriesSequence") or []:
        yield str(item.SeriesInstanceUID)
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            yield from (str(item.SeriesInstanceUID) for item in study.get("RTReferencedSeriesSequence") or [])


def _text(dataset: Any, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()
