"""Which files are the scans to predict, by their names."""

from __future__ import annotations

from pathlib import Path

from lnauto.workflow.predict import find_scans


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_of_one_channel_a_name_may_end_in_four_digits(tmp_path: Path) -> None:
    put(tmp_path, "P1_2021.nii.gz", "P1_2022.nii.gz", "P2.nii.gz", "study_0017.mha", "P3_0000.nii.gz")
    cases, problems = find_scans(tmp_path, ["CT"])
    assert not problems
    assert [case.name for case in cases] == ["P1_2021", "P1_2022", "P2", "P3", "study_0017"]


def test_beside_channel_0_four_digits_are_a_channel(tmp_path: Path) -> None:
    put(tmp_path, "P1_0000.nii.gz", "P1_0001.nii.gz", "P2.nii.gz")
    cases, [problem] = find_scans(tmp_path, ["CT"])
    assert [case.name for case in cases] == ["P2"]
    assert "there is 0000, 0001" in problem.what


def test_files_that_are_one_case_by_their_names_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.nii.gz", "a.mha", "a_0000.nii.gz", "b.nii.gz")
    cases, [problem] = find_scans(tmp_path, ["CT"])
    assert [case.name for case in cases] == ["b"]
    assert (problem.what, problem.where) == (
        "several files are one scan by their names (a.mha, a.nii.gz, a_0000.nii.gz)",
        "case a",
    )


def test_a_channel_twice_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a_0000.nii.gz", "a_0000.mha", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    cases, [problem] = find_scans(tmp_path, ["CT", "PET"])
    assert [case.name for case in cases] == ["b"]
    assert "(a_0000.mha, a_0000.nii.gz)" in problem.what
