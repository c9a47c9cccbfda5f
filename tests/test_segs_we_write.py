"""A SEG that we write, as others read it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, OBLIQUE, stored, three_nodes, write_series

from lnauto.dicom.listing import Series, read_folder
from lnauto.dicom.masks import read_mask
from lnauto.dicom.write_seg import write_seg

BESIDE_PYTHON = str(Path(sys.executable).parent)
DCMQI = shutil.which("segimage2itkimage", path=BESIDE_PYTHON) or shutil.which("segimage2itkimage")


def written_series(folder: Path, orientation: tuple[float, ...] = AXIAL) -> Series:
    write_series(folder, stored(), orientation=orientation)
    [found] = read_folder(folder).series
    return found


@pytest.fixture
def axial(tmp_path: Path) -> Series:
    return written_series(tmp_path)


@pytest.fixture
def written(axial: Series, tmp_path: Path) -> Path:
    write_seg(three_nodes() * 3, axial, tmp_path / "mask.dcm", algorithm="LNTrainer", version="1.2", abnormal=True)
    return tmp_path / "mask.dcm"


def test_highdicom_reads_the_same(written: Path, axial: Series) -> None:
    seg = highdicom.seg.segread(written)
    volume = seg.get_volume(combine_segments=True)
    mine = places(axial.grid.image(three_nodes()))
    assert np.array_equal(np.unique(volume.array, return_counts=True)[1][1:], np.bincount(three_nodes().ravel())[1:])
    for value in (1, 2, 3):
        indices = np.argwhere(volume.array == value)
        assert {rounded(point) for point in volume.map_indices_to_reference(indices)} == mine[value]


def test_simpleitk_reads_the_same(written: Path) -> None:
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(written)))
    dataset = pydicom.dcmread(written)
    volume = np.zeros((6, 10, 12), int)
    for pixels, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        z = round((float(groups.PlanePositionSequence[0].ImagePositionPatient[2]) + 100) / 3)
        volume[z][pixels > 0] = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    assert np.array_equal(volume, three_nodes())


def test_what_it_says(written: Path, axial: Series) -> None:
    dataset = pydicom.dcmread(written)
    segment = dataset.SegmentSequence[1]
    assert [one.SegmentLabel for one in dataset.SegmentSequence] == ["Lymph node 3", "Lymph node 6", "Lymph node 9"]
    code = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("59441001", "SCT")
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning.lower() == "morphologically abnormal structure"
    made_by = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == ("LNTrainer", "1.2")
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == axial.uid
    assert dataset.FrameOfReferenceUID == axial.frame_of_reference


def test_code_alone_says_that_it_is_a_node(axial: Series, tmp_path: Path) -> None:
    write_seg(three_nodes(), axial, tmp_path / "mask", names={1: "A", 2: "B", 3: "C"})
    contents = read_folder(tmp_path)
    assert read_mask(contents.drawings, contents).names == ("A", "B", "C")


@pytest.mark.skipif(DCMQI is None, reason="there is no segimage2itkimage: pip install dcmqi")
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_dcmqi_reads_the_same_in_other_colours(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    """dcmqi reads SEG for 3D Slicer."""
    series = written_series(tmp_path / "series", orientation)
    write_seg(three_nodes() * 3, series, tmp_path / "mask.dcm")
    (tmp_path / "read").mkdir()
    command = [str(DCMQI), "--inputDICOM", str(tmp_path / "mask.dcm"), "--outputDirectory", str(tmp_path / "read")]
    subprocess.run([*command, "--outputType", "nii", "--mergeSegments"], check=True, capture_output=True)
    theirs, mine = sitk.ReadImage(str(tmp_path / "read/1.nii.gz")), series.grid.image(three_nodes())
    assert places(theirs) == places(mine)
    meta = json.loads((tmp_path / "read/meta.json").read_text())
    colours = [segment["recommendedDisplayRGBValue"] for group in meta["segmentAttributes"] for segment in group]
    assert len({tuple(colour) for colour in colours}) == 3


def places(image: sitk.Image) -> dict[int, set[tuple[float, ...]]]:
    """Where each value's voxels lie in the world, to 0.01 mm."""
    values = sitk.GetArrayFromImage(image)
    found: dict[int, set[tuple[float, ...]]] = {}
    for index in np.argwhere(values):
        point = image.TransformIndexToPhysicalPoint(index[::-1].tolist())
        found.setdefault(int(values[tuple(index)]), set()).add(rounded(point))
    return found


def rounded(point: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(one), 2) + 0.0 for one in point)  # no -0.0
