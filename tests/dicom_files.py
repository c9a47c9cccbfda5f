"""Small DICOM series and drawings for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128", "MR": "1.2.840.10008.5.1.4.1.1.4"}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


def write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    modality: str = "CT",
    spacing: tuple[float, float, float] = (3.0, 1.5, 2.0),
    heights: Sequence[float] | None = None,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.0, 10.0, -100.0),
    shift: Sequence[float] = (0.0, 0.0, 0.0),
    name: str = "IM{:04d}.dcm",
    slope: Sequence[float] | float = 1.0,
    intercept: float = -1024.0,
    uid: str | None = None,
    study: str | None = None,
    frame_of_reference: str | None = None,
    each: dict[int, dict[str, Any]] | None = None,
    **elements: Any,
) -> str:
    """Write stored values (z, y, x), one file a slice; `each` changes single slices, `elements` all. Returns the series' UID."""
    folder.mkdir(parents=True, exist_ok=True)
    uid, study, frame = uid or generate_uid(), study or generate_uid(), frame_of_reference or generate_uid()
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    heights = [spacing[0] * number for number in range(len(volume))] if heights is None else heights
    for number, (pixels, height) in enumerate(zip(volume, heights, strict=True)):
        dataset = new_file(CLASSES[modality])
        dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = modality, uid, study
        dataset.FrameOfReferenceUID, dataset.SeriesDescription, dataset.SeriesNumber = frame, "A series", 3
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Doe^Jane", "4711", "19500101", "F"
        dataset.PatientAge, dataset.StudyDescription, dataset.InstitutionName = "070Y", "Chest of Jane", "Clinic"
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20200101", "120000", "1", "A1"
        dataset.ReferringPhysicianName, dataset.Manufacturer, dataset.PositionReferenceIndicator = "", "Maker", ""
        dataset.ImageType, dataset.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], number + 1
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelSpacing, dataset.SliceThickness = list(spacing[1:]), 99.0
        dataset.ImageOrientationPatient = list(orientation)
        place = np.array(origin) + height * normal + number * np.array(shift)
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in place]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, int(np.issubdtype(volume.dtype, np.signedinteger))
        dataset.RescaleSlope = slope[number] if isinstance(slope, Sequence) else slope
        dataset.RescaleIntercept = intercept
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        for keyword, value in {**elements, **(each or {}).get(number, {})}.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / name.format(number), enforce_file_format=True)
    return uid


def new_file(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = UID(sop_class), ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    return dataset


def item(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def stored(shape: tuple[int, int, int] = (6, 10, 12), seed: int = 0, dtype: type = np.uint16) -> np.ndarray:
    """Stored values that are no padding."""
    return np.random.default_rng(seed).integers(900, 1300, shape).astype(dtype)


def three_nodes(shape: tuple[int, int, int] = (6, 10, 12)) -> np.ndarray:
    """Three objects, two of them touching, one with a hole and at the border, one in a single slice."""
    mask = np.zeros(shape, np.uint8)
    mask[0:3, 0:5, 0:5] = 1
    mask[1, 2, 2] = 0
    mask[2:4, 5:7, 2:6] = 2
    mask[5, 8, 9] = 3
    return mask


def write_multiframe(path: Path, volume: np.ndarray, spacing: tuple[float, float, float] = (3.0, 1.5, 2.0)) -> None:
    """Stored values (z, y, x) as one enhanced CT, its frames from head to feet; the slopes of frames differ."""
    dataset = new_file("1.2.840.10008.5.1.4.1.1.2.1")
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "CT", generate_uid(), generate_uid()
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = generate_uid(), ""
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Doe^Jane", "4711", "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20200101", "120000", "1", ""
    dataset.ReferringPhysicianName, dataset.InstanceNumber, dataset.SeriesNumber = "", 1, 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.Rows, dataset.Columns = volume.shape[1:]
    dataset.NumberOfFrames = len(volume)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=list(spacing[1:]), SliceThickness=1.0)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-20.0, 10.0, spacing[0] * number])],
            PixelValueTransformationSequence=[item(RescaleIntercept=-1024.0, RescaleSlope=1.0 + number % 2, RescaleType="HU")],
        )
        for number in reversed(range(len(volume)))
    ]
    dataset.PixelData = np.ascontiguousarray(volume[::-1]).tobytes()
    dataset.save_as(path, enforce_file_format=True)
