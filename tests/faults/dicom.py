"""DICOM that is cut off, incomplete, mixed, or drawn on something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from dicom_files import OBLIQUE, stored, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian

from faults.rows import Attempt, Place, Rows, partly, refused, works

ROWS = Rows("dicom")
Spoil = Callable[[Path], None]  # of a case's folder, with a series in ct/ and a drawing in drawn/


def slices(case: Path) -> list[Path]:
    return sorted((case / "ct").iterdir())


def drawing(case: Path) -> Path:
    return case / "drawn" if (case / "drawn").is_file() else next((case / "drawn").iterdir())


def cut_off(case: Path) -> None:
    path = slices(case)[2]
    path.write_bytes(path.read_bytes()[:-60])


def cut_off_in_header(case: Path) -> None:
    path = slices(case)[2]
    path.write_bytes(path.read_bytes()[:400])


def all_text(case: Path) -> None:
    for path in slices(case):
        path.write_text("by post")


def gap(case: Path) -> None:
    slices(case)[2].unlink()


def one_slice(case: Path) -> None:
    for path in slices(case)[1:]:
        path.unlink()


def element(**values: Any) -> Spoil:
    """Other elements in the third slice; None: without."""

    def spoil(case: Path) -> None:
        path = slices(case)[2]
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)

    return spoil


def everywhere(**values: Any) -> Spoil:
    def spoil(case: Path) -> None:
        for path in slices(case):
            dataset = pydicom.dcmread(path)
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)

    return spoil


def other_size(case: Path) -> None:
    dataset = pydicom.dcmread(path := slices(case)[2])
    dataset.Rows, dataset.PixelData = 8, np.zeros((8, 12), np.uint16).tobytes()
    dataset.save_as(path)


def second_series(case: Path) -> None:
    write_series(case / "ct2", stored(seed=1))


def other_direction(case: Path) -> None:
    element(ImageOrientationPatient=list(OBLIQUE))(case)


def drawing_cut_off(case: Path) -> None:
    path = drawing(case)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drawn_on_another(case: Path) -> None:
    shutil.rmtree(case / "ct")
    write_series(case / "ct", stored(seed=2), origin=(500.0, 500.0, 500.0))


def unknown_compression(case: Path) -> None:
    """The bytes as they are, but said to be of a transfer syntax that there is not."""
    for path in slices(case):
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0", 1))


def packed_bomb(case: Path) -> None:
    """A deflated file of a slice and 300 MB of zeros."""
    path = slices(case)[2]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(300 << 20)
    dataset.save_as(path)


def other_bytes(old: bytes, new: bytes) -> Spoil:
    """In every slice."""

    def spoil(case: Path) -> None:
        for path in slices(case):
            content = path.read_bytes()
            assert old in content
            path.write_bytes(content.replace(old, new))

    return spoil


def nested(case: Path) -> None:
    """Sequences in sequences in the third slice, beyond what is read."""
    path = slices(case)[2]
    begin = bytes.fromhex("4000 30a7 5351 0000 ffffffff feff 00e0 ffffffff")
    end = bytes.fromhex("feff 0de0 00000000 feff dde0 00000000")
    content = path.read_bytes()
    at = content.rfind(bytes.fromhex("e07f 1000"))
    path.write_bytes(content[:at] + begin * 3000 + end * 3000 + content[at:])


def drawing_flipped(case: Path) -> None:
    """A bit in the kind of an element."""
    path = drawing(case)
    path.write_bytes(path.read_bytes().replace(b"\x62\x00\x04\x00US", b"\x62\x00\x04\x00UA"))


BAD: dict[str, tuple[Spoil, str]] = {
    "a slice cut off": (cut_off, "cannot be decoded"),
    "a slice cut off in its header": (cut_off_in_header, "missing"),
    "texts, called .dcm": (all_text, "no DICOM image"),
    "a slice missing": (gap, "slice"),
    "one slice": (one_slice, "slice"),
    "a slice of another size": (other_size, "different sizes"),
    "a slice of another direction": (other_direction, "orientations"),
    "a slice without its position": (element(ImagePositionPatient=None), "where in the patient"),
    "a slice whose rows have no direction": (element(ImageOrientationPatient=[1, 0, 0, 0, 0, 0]), "orientations"),
    "two series, and no choice": (second_series, "series"),
    "a spacing of zero": (everywhere(PixelSpacing=[0, 0]), "how large their pixels are"),
    "a compression that nobody knows": (unknown_compression, "cannot be decoded"),
    "a header that promises 10^9 images": (everywhere(NumberOfFrames=10**9), "there is no DICOM image"),
    "slices of 65535x65535 pixels": (everywhere(Rows=65535, Columns=65535), "memory"),
    "a deflated slice that swells": (packed_bomb, "slice"),
    "sequences nested beyond what is read": (nested, "slice"),
    "positions that are words": (other_bytes(b"-20.000000", b"twenty mm "), "there is no DICOM image"),
    "a scale that is a word": (other_bytes(b"-1024.0", b"-1O24.O"), "damaged"),
    "a kind of element that there is not": (other_bytes(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00UA"), "there is no DICOM image"),
    "a drawing cut off": (drawing_cut_off, "the SEG is cut off or damaged"),
    "a drawing with a bit flipped": (drawing_flipped, "the SEG is cut off or damaged"),
    "a drawing on another series": (drawn_on_another, "drawn on"),
}


def converting(spoil: Spoil, told: str) -> Callable[[Place], Attempt]:
    """Beside a good case, which is converted all the same."""

    def make(place: Place) -> Attempt:
        place.copy(place.material.dicom, "in/anna")
        spoil(place.copy(place.material.dicom, "in/bad"))

        def right() -> None:
            assert {path.name for path in Path("Dataset501_A").glob("*/*.nii.gz")} == {"anna_0000.nii.gz", "anna.nii.gz"}

        return partly("convert", "in", "Dataset501_A", "--roi", "LN.*", "--quiet", names=("bad", told), right=right)

    return make


for _fault, (_spoil, _told) in BAD.items():
    ROWS.add(f"case to convert: {_fault}")(converting(_spoil, _told))


def predicting(spoil: Spoil) -> Callable[[Place], Attempt]:
    """Alone: nothing can be predicted."""

    def make(place: Place) -> Attempt:
        spoil(place.copy(place.material.dicom, "in"))
        (place.here / "in/drawn").unlink()
        return refused("predict", *place.predict(scans="in"), names="in")

    return make


for _fault, (_spoil, _) in BAD.items():
    if "drawing" not in _fault and _fault != "two series, and no choice":  # each is a case of its own
        ROWS.add(f"series to predict: {_fault}")(predicting(_spoil))


@ROWS.add("series to predict: into their own folder")
def into_own_folder(place: Place) -> Attempt:
    place.copy(place.material.dicom / "ct", "in")
    return refused("predict", *place.predict("-o", "in", scans="in"), names="one folder")


@ROWS.add("case to convert: a slice twice")
def slice_twice(place: Place) -> Attempt:
    case = place.copy(place.material.dicom, "in/anna")
    shutil.copyfile(slices(case)[2], case / "ct/again.dcm")

    def right() -> None:
        image = sitk.ReadImage("Dataset501_A/imagesTr/anna_0000.nii.gz")
        assert image.GetSize() == (12, 10, 6)
        assert np.array_equal(sitk.GetArrayFromImage(image), stored().astype(int) - 1024)

    return works("convert", "in", "Dataset501_A", "--roi", "LN.*", "--quiet", right=right)


@ROWS.add("case to convert: no ROI of the names that are asked for")
def no_roi(place: Place) -> Attempt:
    place.copy(place.material.dicom, "in/anna")

    def right() -> None:
        assert not list(Path("Dataset501_A").glob("*/*.nii.gz"))

    return partly("convert", "in", "Dataset501_A", "--roi", "Spleen", "--quiet", names=("anna", "Spleen"), right=right)


@ROWS.add("case to convert: no series that is asked for")
def no_series(place: Place) -> Attempt:
    place.copy(place.material.dicom, "in/anna")

    def right() -> None:
        assert not list(Path("Dataset501_A").glob("*/*.nii.gz"))

    return partly("convert", "in", "Dataset501_A", "--series", "MR", "--quiet", names=("anna", "MR"), right=right)
