"""Whose the masks in a folder of results are: of which scan, of which model; and that no scan is replaced by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
QUICK = ("--quiet", "--device", "cpu", "--precision", "fp32", "--engine", "torch", "--no-report")


@pytest.fixture
def asked(beside_scan: Path) -> tuple[object, ...]:
    return ("-m", beside_scan, "-f", 0, *QUICK)


SCAN = Path("scans/ball_06_0000.nii.gz")


def test_a_scan_given_as_a_file_is_not_replaced_by_its_mask(asked: tuple[object, ...], command: Command) -> None:
    scan = SCAN.rename("scans/a.nii.gz")
    before = scan.read_bytes()
    for flags in ((), ("--overwrite",)):
        code, _, complaint = command("predict", "-i", scan, "-o", "scans/../scans", *asked, *flags)
        assert code == 2
        assert complaint.startswith("lnauto: the scans and the results are in one folder, in scans/../scans; ")
    assert scan.read_bytes() == before
    assert [path.name for path in Path("scans").iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("kind", [".", "probabilities", "attention"])
def test_a_scan_that_a_link_leads_to_is_not_replaced(asked: tuple[object, ...], command: Command, kind: str) -> None:
    scan = Path("out", kind, "a.nii.gz")
    scan.parent.mkdir(parents=True)
    shutil.move(SCAN, scan)
    Path("scans/a_0000.nii.gz").symlink_to(scan.resolve())
    before = scan.read_bytes()
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", *asked, "--overwrite")
    assert code == 2
    what = "lnauto: the scan would be replaced by what is predicted for case a"
    assert complaint == f"{what}, in {scan}; give another folder with -o\n"
    assert scan.read_bytes() == before
