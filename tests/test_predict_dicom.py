"""Prediction on DICOM: series in, masks and SEG objects out that lie where the series lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import stored, write_series

from lnauto.dicom.listing import read_folder
from lnauto.dicom.masks import read_mask
from lnauto.errors import InputError
from lnauto.workflow.predict_dicom import find_dicom

Command = Callable[..., tuple[int, str, str]]
QUICK = ("--quiet", "--device", "cpu", "-f", 0, "--precision", "fp32", "--engine", "torch", "--tta", "none", "--overlap", 0)


@pytest.fixture
def volume(prepared: Path) -> sitk.Image:
    return sitk.Cast(sitk.ReadImage(prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz"), sitk.sitkInt16)


def write(volume: sitk.Image, folder: Path, **more: str) -> str:
    """The volume as a CT series, stored as scanners do."""
    x, y, z = volume.GetSpacing()
    stored = (sitk.GetArrayFromImage(volume) + 1024).astype(np.int16)
    return write_series(folder, stored, spacing=(z, y, x), origin=volume.GetOrigin(), **more)


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture
def place(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_results", str(model.parents[1]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_becomes_a_mask_and_objects_of_the_same_nodes(place: Path, volume: sitk.Image, command: Command) -> None:
    write(volume, place / "study/CT")
    (place / "plain").mkdir()
    sitk.WriteImage(volume, place / "plain/study_0000.nii.gz")
    code, _, complaint = command("predict", "-i", "study", "-o", "out", "--rtstruct", *QUICK)
    assert code == 0, complaint
    assert command("predict", "-i", "plain", "-o", "expected", *QUICK)[0] == 0
    expected = read(Path("expected/study.nii.gz"))
    assert expected.any()
    assert np.array_equal(read(Path("out/study.nii.gz")), expected)
    there = sorted(path.name for path in (place / "out").iterdir())
    tables = ["nodes.csv", "nodes.json", "report.html", "report.json", "run.json", "sources.json"]
    assert there == [*tables, "study.nii.gz", "study.rtstruct.dcm", "study.seg.dcm"]
    assert '"pictures":' in Path("out/report.html").read_text(encoding="utf-8")  # the scan was there when the page was made
    rows = Path("out/nodes.csv").read_text().splitlines()
    contents = read_folder(place / "study")
    for name in ("study.seg.dcm", "study.rtstruct.dcm"):
        drawings = [one for one in read_folder(place / "out").drawings if one.path.name == name]
        mask = read_mask(drawings, contents)
        numbers = sitk.GetArrayFromImage(mask.instances)
        assert np.array_equal(numbers > 0, expected > 0)
        assert numbers.max() == len(rows) - 1
    values = np.array([row.split(",")[rows[0].split(",").index("voxels")] for row in rows[1:]], int)
    assert values.tolist() == np.bincount(numbers.ravel())[1:].tolist()


def test_each_folder_is_a_case_and_a_bad_one_is_named(place: Path, volume: sitk.Image, command: Command) -> None:
    write(volume, place / "clinic/Doe, Jane")
    write(volume[:, :, ::2], place / "clinic/second", uid="1.2.3.4")
    next((place / "clinic/second").iterdir()).unlink()
    (sorted((place / "clinic/second").iterdir())[4]).unlink()  # a gap
    code, _, complaint = command("predict", "-i", "clinic", "-o", "out", *QUICK)
    assert code == 3
    assert complaint.count("\n") == 1
    assert "there is a gap of 8.00 mm after slice 4: 1 missing there" in complaint
    assert "1.2.3.4" in complaint
    assert sorted(path.name for path in (place / "out").glob("*.nii.gz")) == ["Doe_Jane.nii.gz"]
    assert not (place / "out/.scans").exists()


@pytest.mark.parametrize(("other", "said"), [("P_1", "several cases are called P_1"), ("___", "no letter and no digit")])
def test_folders_that_would_be_one_case_or_none_are_refused(tmp_path: Path, other: str, said: str) -> None:
    for name in ("P 1", other, "P2"):
        write_series(tmp_path / name, stored())
    with pytest.raises(InputError, match=said):
        find_dicom(tmp_path)


def test_several_series_are_listed_and_one_is_chosen(place: Path, volume: sitk.Image, command: Command) -> None:
    study = {"study": "1.2.3", "frame_of_reference": "1.2.9"}
    write(volume, place / "study/a", SeriesDescription="thin", uid="1.2.3.7", **study)
    write(volume[:, :, ::2], place / "study/b", SeriesDescription="thick", uid="1.2.3.8", **study)
    code, _, complaint = command("predict", "-i", "study", "-o", "out", *QUICK)
    assert code == 2
    assert '"thin"' in complaint
    assert '"thick"' in complaint
    assert "--series" in complaint
    assert command("predict", "-i", "study", "-o", "out", "--series", "thick", *QUICK)[0] == 0
    assert len(read(Path("out/study.nii.gz"))) == len(read_folder(place / "study/b").series[0].frames)


def test_what_is_there_is_kept_and_what_is_missing_is_made(place: Path, volume: sitk.Image, command: Command) -> None:
    write(volume, place / "study")
    assert command("predict", "-i", "study", "-o", "out", *QUICK)[0] == 0
    made = {path.name: path.stat().st_mtime_ns for path in (place / "out").glob("study.*")}
    (place / "out/study.seg.dcm").unlink()
    assert command("predict", "-i", "study", "-o", "out", *QUICK)[0] == 0
    again = {path.name: path.stat().st_mtime_ns for path in (place / "out").glob("study.*")}
    assert again.keys() == made.keys()
    assert again["study.nii.gz"] == made["study.nii.gz"]
    assert again["study.seg.dcm"] > made["study.seg.dcm"]


def test_a_folder_without_images_is_told(place: Path, command: Command) -> None:
    (place / "empty").mkdir()
    (place / "empty/notes.txt").write_text("nothing")
    code, _, complaint = command("predict", "-i", "empty", "-o", "out", *QUICK)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "neither DICOM nor one that SimpleITK reads" in complaint


def test_another_patients_study_of_the_same_name_does_not_get_the_nodes(
    place: Path, volume: sitk.Image, command: Command
) -> None:
    """Not even where the voxels are the same: the objects name patient and series."""
    write(volume, place / "A/ct", uid="1.2.3.1", PatientID="A")
    write(volume, place / "B/ct", uid="1.2.3.2", PatientID="B")
    asked = ("-o", "out", "--rtstruct", *QUICK)
    assert command("predict", "-i", "A/ct", *asked)[0] == 0
    (place / "out/ct.rtstruct.dcm").unlink()
    code, _, complaint = command("predict", "-i", "B/ct", *asked)
    assert (code, "the mask that is there was made of another scan, in out/ct.nii.gz; " in complaint) == (2, True)
    assert not (place / "out/ct.rtstruct.dcm").exists()
    assert "1.2.3" not in (place / "out/run.json").read_text()
    assert command("predict", "-i", "B/ct", *asked, "--overwrite")[0] == 0
    assert pydicom.dcmread(place / "out/ct.rtstruct.dcm").PatientID == "B"


def test_a_mask_that_does_not_lie_on_the_series_becomes_no_object(place: Path, volume: sitk.Image, command: Command) -> None:
    write(volume, place / "study")
    assert command("predict", "-i", "study", "-o", "out", *QUICK)[0] == 0
    mask = sitk.ReadImage("out/study.nii.gz")
    mask.SetOrigin([at + 50 for at in mask.GetOrigin()])
    sitk.WriteImage(mask, "out/study.nii.gz")
    (place / "out/study.seg.dcm").unlink()
    code, _, complaint = command("predict", "-i", "study", "-o", "out", *QUICK)
    assert (code, "the mask is not on the grid of the series" in complaint) == (3, True)
    assert not (place / "out/study.seg.dcm").exists()
