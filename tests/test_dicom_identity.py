"""A SEG or RTSTRUCT is filed with its images, however little or much against the standard their headers hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import stored, three_nodes, write_series

from lnauto.dicom.identity import IDENTITY
from lnauto.dicom.listing import read_folder
from lnauto.dicom.masks import Mask, read_mask
from lnauto.dicom.write_rtstruct import write_rtstruct
from lnauto.dicom.write_seg import write_seg
from lnauto.errors import InputError

Writer = Callable[..., None]
pytestmark = [
    pytest.mark.parametrize("write", [write_seg, write_rtstruct]),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),  # of headers that are wrong on purpose
]


def written(folder: Path, write: Writer, **names: Any) -> tuple[pydicom.Dataset, Mask]:
    """The object of three nodes on the series in a folder, as it stands there and as it is read."""
    [series] = read_folder(folder).series
    write(three_nodes(), series, folder / "drawn", **names)
    contents = read_folder(folder)
    return pydicom.dcmread(folder / "drawn"), read_mask(contents.drawings, contents, ".*")


def remove(folder: Path, *keywords: str) -> None:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for keyword in keywords:
            delattr(dataset, keyword)
        dataset.save_as(path)


def test_what_images_lack_is_empty(tmp_path: Path, write: Writer) -> None:
    write_series(tmp_path, stored(), study="1.2.3")
    lacking = [keyword for keyword in IDENTITY if keyword != "StudyInstanceUID"]
    remove(tmp_path, *lacking, "FrameOfReferenceUID", "SliceThickness")
    dataset, mask = written(tmp_path, write)
    assert np.array_equal(sitk.GetArrayFromImage(mask.instances), three_nodes())
    assert dataset.StudyInstanceUID == "1.2.3"
    assert not [keyword for keyword in lacking if dataset[keyword].value]
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or [dataset]
    assert frames[0].FrameOfReferenceUID
    if write is write_seg:
        assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 3.0


def test_an_object_of_no_study_cannot_be_filed(tmp_path: Path, write: Writer) -> None:
    write_series(tmp_path, stored())
    remove(tmp_path, "StudyInstanceUID")
    with pytest.raises(InputError, match="do not say which study they are of"):
        written(tmp_path, write)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "Female"), ("PatientSex", "U"), ("PatientBirthDate", "1950"), ("PatientBirthDate", "00000000"),
        ("StudyDate", "2020-01-01"), ("StudyDate", "20201301"), ("StudyTime", "12:00:00"), ("StudyTime", "240000"),
    ],
)  # fmt: skip
def test_what_is_against_the_standard_is_left_out(tmp_path: Path, write: Writer, keyword: str, value: str) -> None:
    write_series(tmp_path, stored(), **{keyword: value})
    dataset, _ = written(tmp_path, write)
    assert not dataset[keyword].value
    others = {"PatientID": "4711", "PatientSex": "F", "PatientBirthDate": "19500101", "StudyDate": "20200101"}
    assert {name: dataset[name].value for name in others if name != keyword} == {
        name: value for name, value in others.items() if name != keyword
    }


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("GB18030", "王^小东"), ("ISO_IR 100", "Müller^Jörg"),
        ("latin1", "Müller^Jörg"), ("UTF-8", "Müller^Jörg"), ("ISO_IR 999", "Doe^Jane"), ("", "Doe^Jane"),
    ],
)  # fmt: skip
def test_names_are_kept_whatever_they_are_written_in(
    tmp_path: Path, write: Writer, characters: str | list[str], name: str
) -> None:
    write_series(tmp_path, stored(), SpecificCharacterSet=characters, PatientName=name)
    dataset, mask = written(tmp_path, write, names={1: "Лимфоузел", 2: "节点", 3: "LN 3"})
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert str(dataset.PatientName) == name
    assert mask.names == ("Лимфоузел", "节点", "LN 3")
