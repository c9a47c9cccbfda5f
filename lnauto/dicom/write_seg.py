"""A mask as DICOM-SEG, which viewers open on the series it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from lnauto import __version__
from lnauto.dicom.damage import INTACT, told_as_damaged
from lnauto.dicom.geometry import Array, Grid
from lnauto.dicom.identity import IDENTITY, identity_of
from lnauto.dicom.listing import Series
from lnauto.errors import InputError
from lnauto.files import replacing

MAKER, MODEL, SERIAL = "lnauto", "lnauto", "none"  # the standard wants a device, and a program has no serial number
LYMPH_NODE = Code("59441001", "SCT", "Lymph node")
SERIES_NUMBER = 9001  # far from those that a scanner gives
COLOURS = ((255, 80, 80), (80, 200, 80), (90, 140, 255), (240, 200, 60), (200, 100, 220), (80, 210, 210))
PATIENT_AND_STUDY_GROUPS = (0x0010, 0x0012, 0x0032, 0x0038, 0x0040)
STUDY_TEXTS = (
    "StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "AdmittingDiagnosesDescription",
    "InstitutionName", "InstitutionAddress", "ProcedureCodeSequence", "ContributingEquipmentSequence",
)  # fmt: skip


def write_seg(
    instances: sitk.Image | Array,
    series: Series,
    path: Path,
    *,
    names: Mapping[int, str] | None = None,
    algorithm: str = "lnauto",
    version: str = __version__,
    abnormal: bool = False,
    description: str = "Lymph nodes",
) -> None:
    """Write each value of a mask on the series' grid as a segment that is coded as a lymph node.

    `names` name the values (else "Lymph node N"); `abnormal` says that the nodes are pathological. A file that is there is
    replaced. A mask without a node cannot be written: a SEG has at least one segment.
    """
    numbers = on_grid(instances, series)
    values = [int(value) for value in np.unique(numbers) if value]
    if not values:
        raise InputError.of("the mask is empty, and a DICOM-SEG must hold an object", path, "write none for this case")
    labels = [(names or {}).get(value, f"Lymph node {value}") for value in values]
    with told_as_damaged("no DICOM-SEG can be made, as a header of its images is damaged", series.where, INTACT):
        sources, stacked = _sources(series, numbers)
        segments = np.searchsorted([0, *values], stacked).astype(np.uint16)  # 1, 2, ... without gaps, as the standard wants
        seg = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=segments,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_segments(labels, algorithm, version, abnormal),
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=SERIAL,
            series_description=description,
        )
    keep_only_needed(seg)
    with replacing(path) as temporary:
        seg.save_as(temporary)


def on_grid(instances: sitk.Image | Array, series: Series) -> Array:
    """The mask as an array (z, y, x), if it lies on the series' grid."""
    grid = series.grid
    if isinstance(instances, np.ndarray):
        array = instances
    else:
        if not _same_grid(instances, grid):
            raise InputError.of("the mask is not on the grid of the series", series.where, "resample it to the series first")
        array = sitk.GetArrayFromImage(instances)
    if array.shape != grid.size[::-1]:
        what = f"the mask has {'x'.join(map(str, array.shape))} voxels, the series {'x'.join(map(str, grid.size[::-1]))}"
        raise InputError.of(what, series.where, "resample it to the series first")
    return array


def _same_grid(image: sitk.Image, grid: Grid) -> bool:
    """The same to a tenth of a voxel, and to a thousandth in spacing and direction: headers are rounded."""
    return bool(
        np.allclose(image.GetSpacing(), grid.spacing, rtol=1e-3)
        and np.allclose(image.GetDirection(), grid.direction, rtol=0, atol=1e-3)
        and np.abs(grid.index_of(np.array(image.GetOrigin()))).max() < 0.1
    )


def colour_of(place: int) -> tuple[int, int, int]:
    """Neighbours differ: viewers that are told no colour draw all segments in one."""
    return COLOURS[place % len(COLOURS)]


def keep_only_needed(dataset: Dataset) -> None:
    """Take out what was copied from the images about patient and study, but is not needed to file the object with them."""
    for element in list(dataset):
        copied = element.tag.group in PATIENT_AND_STUDY_GROUPS or element.keyword in STUDY_TEXTS
        if copied and element.keyword not in IDENTITY:
            del dataset[element.tag]


def _sources(series: Series, numbers: Array) -> tuple[list[Dataset], Array]:
    """The series' headers, and the mask's slices in their order."""
    _, frames = series.lay_out()
    paths = list(dict.fromkeys(frame.path for frame in frames))
    headers: list[Dataset] = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    _mend(headers, series)
    if len(headers) == len(frames):
        return headers, numbers
    if len(headers) > 1:
        raise InputError.of("its slices are in several multi-frame files", series.where, "store it as one file")
    order = np.argsort([frame.number for frame in frames])
    return headers, numbers[order]


def _mend(headers: Sequence[Dataset], series: Series) -> None:
    """What highdicom asks of images, and does without in their SEG."""
    identity = identity_of(headers[0], series)
    frame_of_reference = series.frame_of_reference or generate_uid()
    for header in headers:
        keep_only_needed(header)
        header.update(identity)
        header.FrameOfReferenceUID = frame_of_reference
        if "SliceThickness" not in header:
            header.SliceThickness = format_number_as_ds(series.grid.spacing[2])


def _segments(labels: Sequence[str], algorithm: str, version: str, abnormal: bool) -> list[highdicom.seg.SegmentDescription]:
    made_by = highdicom.AlgorithmIdentificationSequence(name=algorithm, family=codes.DCM.ArtificialIntelligence, version=version)
    category = codes.SCT.MorphologicallyAbnormalStructure if abnormal else codes.SCT.AnatomicalStructure
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label[:64],  # the most the standard allows
            segmented_property_category=category,
            segmented_property_type=LYMPH_NODE,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
            tracking_uid=generate_uid(),
            tracking_id=label[:64],
            display_color=highdicom.color.CIELabColor.from_rgb(*colour_of(number)),
        )
        for number, label in enumerate(labels, start=1)
    ]
