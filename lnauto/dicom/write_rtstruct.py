"""A mask as RTSTRUCT: the outline of each node in each slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from contourpy import contour_generator
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from lnauto import __version__
from lnauto.dicom.damage import INTACT, told_as_damaged
from lnauto.dicom.frames import Frame
from lnauto.dicom.geometry import Array, Grid
from lnauto.dicom.identity import identity_of
from lnauto.dicom.listing import RTSTRUCT_CLASS, Series
from lnauto.dicom.write_seg import MAKER, MODEL, SERIES_NUMBER, colour_of, on_grid
from lnauto.errors import InputError
from lnauto.files import replacing
from lnauto.nodes import bounding_box

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # retired, and still what RTSTRUCT names the study by


def write_rtstruct(
    instances: sitk.Image | Array,
    series: Series,
    path: Path,
    *,
    names: Mapping[int, str] | None = None,
    description: str = "Lymph nodes",
) -> None:
    """Write each value of a mask on the series' grid as an ROI. A hole is a contour within another (even-odd).

    Outlines run between the voxels' centres, so that filling them gives the same mask. A file that is there is replaced.
    """
    numbers = on_grid(instances, series)
    values = [int(value) for value in np.unique(numbers) if value]
    if not values:
        raise InputError.of("the mask is empty, and there is nothing to outline", path, "write none for this case")
    grid, frames = series.lay_out()
    with told_as_damaged("no RTSTRUCT can be made, as a header of its images is damaged", series.where, INTACT):
        source = pydicom.dcmread(frames[0].path, stop_before_pixels=True)
        sop_class = str(source.SOPClassUID)
        dataset = _header(identity_of(source, series), path, description)
    frame_of_reference = series.frame_of_reference or generate_uid()
    dataset.ReferencedFrameOfReferenceSequence = [_reference(series, frames, sop_class, frame_of_reference)]
    rois = [(place, value, (names or {}).get(value, f"LN {value}")) for place, value in enumerate(values, start=1)]
    dataset.StructureSetROISequence = [
        _dataset(
            ROINumber=place,
            ReferencedFrameOfReferenceUID=frame_of_reference,
            ROIName=name[:64],
            ROIGenerationAlgorithm="AUTOMATIC",
        )
        for place, _, name in rois
    ]
    dataset.ROIContourSequence = [
        _dataset(
            ReferencedROINumber=place,
            ROIDisplayColor=list(colour_of(place)),
            ContourSequence=_contours(numbers == value, grid, frames, sop_class),
        )
        for place, value, _ in rois
    ]
    dataset.RTROIObservationsSequence = [
        _dataset(ObservationNumber=place, ReferencedROINumber=place, RTROIInterpretedType="", ROIInterpreter="")
        for place, _, _ in rois
    ]
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _header(identity: Dataset, path: Path, description: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(RTSTRUCT_CLASS)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.update(identity)
    now = datetime.now()
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "RTSTRUCT", generate_uid(), SERIES_NUMBER
    dataset.SeriesDescription, dataset.InstanceNumber = description, 1
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions = MAKER, MODEL, __version__
    dataset.OperatorsName, dataset.ApprovalStatus = "", "UNAPPROVED"
    dataset.StructureSetLabel = description[:16]
    dataset.StructureSetDate, dataset.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    return dataset


def _reference(series: Series, frames: Sequence[Frame], sop_class: str, frame_of_reference: str) -> Dataset:
    """The series and its images, as RTSTRUCT nests them."""
    images = [_image(frame.instance, sop_class) for frame in {frame.instance: frame for frame in frames}.values()]
    one = _dataset(SeriesInstanceUID=series.uid, ContourImageSequence=images)
    study = _dataset(ReferencedSOPClassUID=STUDY_CLASS, ReferencedSOPInstanceUID=series.study, RTReferencedSeriesSequence=[one])
    return _dataset(FrameOfReferenceUID=frame_of_reference, RTReferencedStudySequence=[study])


def _image(instance: str, sop_class: str, number: int | None = None) -> Dataset:
    frame = {} if number is None else {"ReferencedFrameNumber": number + 1}
    return _dataset(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance, **frame)


def _contours(mask: Array, grid: Grid, frames: Sequence[Frame], sop_class: str) -> list[Dataset]:
    box = bounding_box(mask)
    contours: list[Dataset] = []
    if box is None:
        return contours
    single = len({frame.instance for frame in frames}) == len(frames)
    for z in range(box[0].start, box[0].stop):
        image = _image(frames[z].instance, sop_class, None if single else frames[z].number)
        padded = np.pad(mask[z][box[1:]], 1).astype(float)  # so that outlines close at the border of the image
        for line in map(np.asarray, contour_generator(z=padded).lines(0.5)):
            columns, rows = line[:-1, 0] - 1 + box[2].start, line[:-1, 1] - 1 + box[1].start
            points = grid.world_of(np.stack([columns, rows, np.full(len(rows), z)], axis=1))
            contours.append(
                _dataset(
                    ContourImageSequence=[image],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[format_number_as_ds(float(round(number, 6))) for number in points.ravel()],
                )
            )
    return contours


def _dataset(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset
