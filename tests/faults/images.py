"""Scans and masks that are damaged, odd, or not what they say."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from building import write_image

from faults.rows import Attempt, Place, Rows, partly, refused, works

ROWS = Rows("images")
Spoil = Callable[[Path], None]

# ---- ways to spoil a NIfTI


def with_header(start: int, form: str, *values: float) -> Spoil:
    """Other numbers at a place of the header."""

    def spoil(path: Path) -> None:
        content = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into(f"<{form}", content, start, *values)
        path.write_bytes(gzip.compress(bytes(content)))

    return spoil


def cut_off(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def short_of_voxels(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:2000]))


def header_alone(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:352]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("a scan, by post")


def page_of_a_login(path: Path) -> None:
    path.write_text("<!doctype html><title>Sign in</title>")


def bomb(path: Path) -> None:
    """Voxels as promised, and after them far more that unpacks."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(48 << 20), 1))


def not_finite(*values: float) -> Spoil:
    def spoil(path: Path) -> None:
        voxels = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
        voxels.flat[: len(values)] = values
        write_image(path, voxels)

    return spoil


def of_array(make: Callable[[], np.ndarray], vector: bool = False) -> Spoil:
    return lambda path: sitk.WriteImage(sitk.GetImageFromArray(make(), isVector=vector), str(path))


def nan_alone(path: Path) -> None:
    voxels = np.zeros((16, 16, 16), np.float32)
    voxels[3, 3, 3] = np.nan
    write_image(path, voxels)


def in_place_of(link_to: str) -> Spoil:
    def spoil(path: Path) -> None:
        path.unlink()
        path.symlink_to(link_to)

    return spoil


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


VAST = with_header(40, "8h", 3, 10000, 10000, 10000, 1, 1, 1, 1)
BAD_SCANS: dict[str, tuple[Spoil, str]] = {
    "gzip data cut off": (cut_off, "cut off or damaged"),
    "a bit flipped in the gzip data": (flipped, "cut off or damaged"),
    "fewer voxels than its header promises": (short_of_voxels, "of voxels"),
    "a header without voxels": (header_alone, "of voxels"),
    "no byte in it": (empty, "it is empty"),
    "text, called .nii.gz": (text, "no such format"),
    "the page of a login, called .nii.gz": (page_of_a_login, "no such format"),
    "10^12 voxels promised by the header": (VAST, "GB"),
    "a gzip bomb behind the voxels": (bomb, "long after its voxels"),
    "a spacing of zero": (with_header(80, "3f", 1.5, 1.5, 0.0), "spacing"),
    "a negative spacing": (with_header(80, "3f", -1.5, 1.5, 2.0), "spacing"),
    "a spacing of NaN": (with_header(80, "3f", float("nan"), 1.5, 2.0), "spacing"),
    "an infinite spacing": (with_header(80, "3f", float("inf"), 1.5, 2.0), "spacing"),
    "a side of -16 voxels": (with_header(42, "h", -16), "header"),
    "a side of no voxel": (with_header(42, "h", 0), "header"),
    "an unknown type of voxels": (with_header(70, "2h", 9999, 9), "type 9999"),
    "a singular direction matrix": (with_header(252, "2h12f", 0, 1, *[0.0, 0, 0, 0] * 3), "direction"),
    "an origin of NaN": (with_header(268, "3f", float("nan"), 0, 0), "NaN"),
    "two dimensions": (of_array(lambda: np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)), "2 dimensions"),
    "four dimensions": (
        of_array(lambda: np.random.default_rng(0).normal(size=(3, 8, 8, 8)).astype(np.float32)),
        "4 dimensions",
    ),
    "three colours": (
        of_array(lambda: np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3)).astype(np.uint8), vector=True),
        "3 values per voxel",
    ),
    "complex numbers": (of_array(lambda: np.ones((8, 8, 8), np.complex64)), "complex"),
    "a single slice": (of_array(lambda: np.random.default_rng(0).normal(size=(1, 16, 16)).astype(np.float32)), "single slice"),
    "one voxel of NaN": (not_finite(np.nan), "NaN"),
    "voxels of infinity": (not_finite(np.inf, -np.inf), "infinite"),
    "the same value everywhere": (of_array(lambda: np.full((16, 16, 16), -1000, np.int16)), "constant"),
    "a link that leads to itself": (in_place_of("bad_0000.nii.gz"), "leads nowhere"),
    "a folder of its name": (a_folder, "it is a folder"),
    "a link to nothing": (in_place_of("elsewhere.nii.gz"), "leads nowhere"),
}


def the_good_one_is_there() -> None:
    assert {path.name for path in Path("out").glob("*.nii.gz")} == {"scan.nii.gz"}


def predicting(spoil: Spoil, told: str) -> Callable[[Place], Attempt]:
    """Beside a good scan, which is predicted all the same."""

    def make(place: Place) -> Attempt:
        place.scan()
        spoil(place.scan("scans/bad_0000.nii.gz"))
        return partly("predict", *place.predict(), names=("bad", told), right=the_good_one_is_there)

    return make


for _fault, (_spoil, _told) in BAD_SCANS.items():
    ROWS.add(f"scan to predict: {_fault}")(predicting(_spoil, _told))


# ---- the same among masks, where a mask is measured or judged, and in a data set

BAD_MASKS: dict[str, tuple[Spoil, str]] = {
    "gzip data cut off": (cut_off, "cut off or damaged"),
    "fewer voxels than its header promises": (short_of_voxels, "of voxels"),
    "10^12 voxels promised by the header": (with_header(40, "8h", 3, 10000, 10000, 10000, 1, 1, 1, 1), "GB"),
    "values between whole numbers": (of_array(lambda: np.full((16, 16, 16), 0.5, np.float32)), "whole numbers"),
    "negative values": (of_array(lambda: np.full((16, 16, 16), -1, np.int16)), "whole numbers"),
    "one voxel of NaN": (nan_alone, "NaN"),
    "three colours": (of_array(lambda: np.zeros((8, 8, 8, 3), np.uint8), vector=True), "3 values per voxel"),
}


def the_good_mask_is_measured() -> None:
    assert {line.split(",")[0] for line in Path("out/nodes.csv").read_text().splitlines()[1:]} == {"good"}


def measuring(spoil: Spoil, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        place.copy(place.material.mask, "masks/good.nii.gz")
        spoil(place.copy(place.material.mask, "masks/bad.nii.gz"))
        return partly(
            "measure", "-i", "masks", "-o", "out", "--no-report", "--quiet", names=("bad", told), right=the_good_mask_is_measured
        )

    return make


for _fault, (_spoil, _told) in BAD_MASKS.items():
    ROWS.add(f"mask to measure: {_fault}")(measuring(_spoil, _told))


def the_good_mask_is_evaluated() -> None:
    rows = Path("masks/evaluation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["good"]


def evaluating(spoil: Spoil, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        for name in ("truth/good", "truth/bad", "masks/good", "masks/bad"):
            place.copy(place.material.mask, f"{name}.nii.gz")
        spoil(place.here / "masks/bad.nii.gz")
        return partly("evaluate", "-r", "truth", "-p", "masks", "--quiet", names=("bad", told), right=the_good_mask_is_evaluated)

    return make


def another_grid(path: Path) -> None:
    write_image(path, np.ones((16, 16, 16), np.uint8), (2.0, 1.5, 1.6))


JUDGED = {name: BAD_MASKS[name] for name in ("fewer voxels than its header promises", "values between whole numbers")}
JUDGED["another spacing than the truth's"] = (another_grid, "grid")
JUDGED["a spacing of zero"] = (with_header(80, "3f", 0.0, 1.5, 2.0), "spacing of 0x1.5x2 mm")
JUDGED["one voxel of NaN among zeros"] = (nan_alone, "NaN")
JUDGED["a folder of its name"] = (a_folder, "it is a folder")
JUDGED["a link that leads to itself"] = (in_place_of("bad.nii.gz"), "leads nowhere")
JUDGED["10^12 voxels promised by the header"] = (VAST, "GB")
for _fault, (_spoil, _told) in JUDGED.items():
    ROWS.add(f"mask to judge: {_fault}")(evaluating(_spoil, _told))


def in_data_set(spoil: Spoil, told: str, kind: str) -> Callable[[Place], Attempt]:
    """As one of the files to plan for, beside good ones."""

    def make(place: Place) -> Attempt:
        raw = place.copy(place.material.planned / "raw", "raw")
        path = next((raw / "Dataset901_Balls" / kind).glob("ball_01*"))
        spoil(path)
        return refused("plan_and_preprocess", "-d", "901", "--quiet", names=("ball_01", told), leaves="preprocessed*")

    return make


def undeclared(path: Path) -> None:
    write_image(path, np.full((24, 24, 24), 7, np.uint8))


def of_other_spacing(path: Path) -> None:
    write_image(path, np.random.default_rng(0).normal(size=(24, 24, 24)), (2.0, 1.5, 3.0))


OF_TRAINING = {
    ("imagesTr", "another spacing than its mask"): (of_other_spacing, "spacing"),
    ("imagesTr", "gzip data cut off"): (cut_off, "cut off or damaged"),
    ("imagesTr", "10^12 voxels promised by the header"): (VAST, "GB"),
    ("imagesTr", "an infinite spacing"): (with_header(80, "3f", float("inf"), 1.5, 2.0), "spacing"),
    ("imagesTr", "an origin of NaN"): (with_header(268, "3f", float("nan"), 0, 0), "NaN"),
    ("imagesTr", "a gzip bomb behind the voxels"): (bomb, "long after its voxels"),
    ("labelsTr", "a value beyond the declared"): (undeclared, "holds 7"),
    ("labelsTr", "values between whole numbers"): (of_array(lambda: np.full((24,) * 3, 0.5, np.float32)), "no whole numbers"),
    ("labelsTr", "one voxel of NaN"): (not_finite(np.nan), "NaN"),
    ("labelsTr", "a link that leads to itself"): (in_place_of("ball_01.nii.gz"), "leads nowhere"),
}
for (_kind, _fault), (_spoil, _told) in OF_TRAINING.items():
    ROWS.add(f"{_kind.removesuffix('Tr')} to plan for: {_fault}")(in_data_set(_spoil, _told, _kind))

# ---- geometry that is unlucky and well defined


@ROWS.add("scan with a left-handed matrix of directions")
def left_handed(place: Place) -> Attempt:
    image = sitk.ReadImage(str(place.material.scan))
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    (place.here / "scans").mkdir()
    sitk.WriteImage(image, "scans/scan_0000.nii.gz")

    def right() -> None:
        mask = sitk.ReadImage("out/scan.nii.gz")
        assert mask.GetDirection() == image.GetDirection()
        assert mask.GetSize() == image.GetSize()

    return works("predict", *place.predict(), right=right)


@ROWS.add("scan whose voxels are big-endian 64-bit floats, uncompressed and called .nii")
def big_endian(place: Place) -> Attempt:
    content = gzip.decompress(place.material.scan.read_bytes())
    header = bytearray(352)
    for form, start, end in (("i", 0, 4), ("8h", 40, 56), ("2h", 70, 74), ("9f", 76, 112), ("2h", 252, 256), ("18f", 256, 328)):
        header[start:end] = struct.pack(f">{form}", *struct.unpack(f"<{form}", content[start:end]))
    header[70:74], header[344:348] = struct.pack(">2h", 64, 64), b"n+1\0"
    (place.here / "scans").mkdir()
    voxels = np.frombuffer(content[352:], "<f4").astype(">f8")
    Path("scans/scan_0000.nii").write_bytes(bytes(header) + voxels.tobytes())

    def right() -> None:
        mask, scan = (sitk.ReadImage(str(path)) for path in ("out/scan.nii.gz", place.material.scan))
        assert mask.GetSize() == scan.GetSize()
        assert np.allclose(mask.GetOrigin(), scan.GetOrigin())

    return works("predict", *place.predict(), right=right)


@ROWS.add("mask of 32-bit floats that are whole numbers")
def whole_floats(place: Place) -> Attempt:
    mask = sitk.Cast(sitk.ReadImage(str(place.material.mask)), sitk.sitkFloat32)
    (place.here / "masks").mkdir()
    sitk.WriteImage(mask, "masks/case.nii.gz")
    return works("measure", "-i", "masks", "-o", "out", "--no-report", "--quiet", right=one_node)


def one_node() -> None:
    [row] = Path("out/nodes.csv").read_text().splitlines()[1:]
    assert row.split(",")[:2] == ["case", "1"]


@ROWS.add("mask whose name has spaces, Unicode and a leading hyphen")
def odd_name(place: Place) -> Attempt:
    place.copy(place.material.mask, "masks/-Müller Ä 淋巴 (1).nii.gz")

    def right() -> None:
        [row] = Path("out/nodes.csv").read_text(encoding="utf-8").splitlines()[1:]
        assert row.startswith("'-Müller Ä 淋巴 (1),1,")  # the apostrophe: no spreadsheet takes it for a formula
        assert Path("out/overlays/-Müller Ä 淋巴 (1).png").is_file()

    return works("measure", "-i", "masks", "-o", "out", "--no-report", "--quiet", right=right)
