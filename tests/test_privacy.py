"""Who a patient is: read with DICOM, and written only into the DICOM objects that the standard files under the patient."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import stored, three_nodes, write_series

from lnauto.dicom.listing import read_folder
from lnauto.dicom.write_rtstruct import write_rtstruct
from lnauto.dicom.write_seg import write_seg
from lnauto.errors import InputError

Command = Callable[..., tuple[int, str, str]]
QUICK = ("--device", "cpu", "-f", 0, "--precision", "fp32", "--engine", "torch", "--tta", "none", "--overlap", 0)
NEEDED = {  # without these a SEG or RTSTRUCT could not be filed with its images
    "PatientName": "Geheimrat^Ottilie",
    "PatientID": "QX4711QX",
    "PatientBirthDate": "19330217",
    "AccessionNumber": "ACC998877",
    "ReferringPhysicianName": "Hausarzt^Balduin",
}
NEEDLESS = {
    "OtherPatientIDs": "ZZ0815ZZ",
    "PatientAddress": "Lindenallee 17",
    "PatientComments": "Stammtischbruder",
    "PatientTelephoneNumbers": "0761-5557788",
    "MilitaryRank": "Oberstleutnant",
    "StudyDescription": "Geheimsache",
    "InstitutionName": "Klinikum Verschwiegen",
    "OperatorsName": "Roentgen^Wilhelmine",
    "RequestingPhysician": "Chefarzt^Leopold",
}


def words(elements: dict[str, str]) -> set[str]:
    """A name in DICOM may be written in other ways elsewhere: each of its parts counts."""
    return {part for value in elements.values() for part in value.split("^")}


def found(secrets: set[str], content: bytes) -> set[str]:
    return {secret for secret in secrets if secret.lower().encode() in content.lower()}


def content_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_scan(folder: Path, image: sitk.Image) -> None:
    x, y, z = image.GetSpacing()
    values = (sitk.GetArrayFromImage(image) + 1024).astype(np.int16)
    write_series(folder, values, spacing=(z, y, x), origin=image.GetOrigin(), **NEEDED, **NEEDLESS)


def test_a_prediction_tells_who_the_patient_is_only_where_the_standard_wants_it(
    prepared: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setenv("nnUNet_results", str(model.parents[1]))
    monkeypatch.chdir(tmp_path)
    write_scan(tmp_path / "in/case_7/CT", sitk.ReadImage(prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz"))
    code, said, wrong = command("predict", "-i", "in", "-o", "out", "--rtstruct", "--log", "log.txt", *QUICK)
    assert code == 0, wrong
    everywhere = words(NEEDED) | words(NEEDLESS)
    assert found(everywhere, (said + wrong).encode()) == set()
    assert found(everywhere, Path("log.txt").read_bytes()) == set()
    objects = [path for path in files_of(tmp_path / "out") if path.suffix == ".dcm"]
    assert len(objects) == 2
    for path in files_of(tmp_path / "out"):
        secrets = words(NEEDLESS) if path in objects else everywhere
        assert found(secrets, content_of(path)) == set(), path
        assert found(secrets, path.name.encode()) == set()
    for path in objects:
        written = pydicom.dcmread(path)
        assert {keyword: str(written[keyword].value) for keyword in NEEDED} == NEEDED
        assert [keyword for keyword in NEEDLESS if written.get(keyword)] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"19330217", b"17.02.33"),  # no date of DICOM's
        (b"DA\x08\x0019330217", b"IS\x08\x0019330217"),  # another kind of element
        (b"PN", b"XX"),
    ],
)
def test_headers_that_break_the_standard_are_told_without_what_stands_in_them(
    tmp_path: Path, command: Command, recwarn: pytest.WarningsRecorder, old: bytes, new: bytes
) -> None:
    folder = tmp_path / "in/case_7"
    write_series(folder / "ct", stored(seed=0), **NEEDED)
    for path in (folder / "ct").iterdir():
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
    everywhere = words(NEEDED)
    _, said, wrong = command("convert", tmp_path / "in", tmp_path / "Dataset501_Nodes", "--log", tmp_path / "log.txt")
    assert found(everywhere, (said + wrong).encode() + (tmp_path / "log.txt").read_bytes()) == set()
    for series in read_folder(folder).series:
        for write in (write_seg, write_rtstruct):
            told = ""
            try:
                write(three_nodes(), series, tmp_path / "made.dcm")
            except InputError as error:
                told = str(error)
            assert found(everywhere, told.encode()) == set()
    warned = " ".join(str(one.message) for one in recwarn)
    assert found(everywhere, warned.encode()) == set()


def test_a_converted_data_set_does_not_tell_who_the_patients_are(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "in/case_7"
    write_series(folder / "ct", stored(seed=0), **NEEDED, **NEEDLESS)
    [series] = read_folder(folder / "ct").series
    write_seg(three_nodes(), series, folder / "drawn", names={1: "LN 1", 2: "LN 2", 3: "LN 3"})
    code, said, wrong = command("convert", tmp_path / "in", tmp_path / "Dataset501_Nodes", "--log", tmp_path / "log.txt")
    assert code == 0, wrong
    everywhere = words(NEEDED) | words(NEEDLESS)
    assert found(everywhere, (said + wrong).encode()) == set()
    written = [tmp_path / "log.txt", *files_of(tmp_path / "Dataset501_Nodes")]
    assert len(written) > 3
    assert {path.name: found(everywhere, content_of(path)) for path in written} == {path.name: set() for path in written}
