import contextlib
import gzip
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from lnauto import image_files
from lnauto.data import checks
from lnauto.data.checks import check, read_and_check
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError

IMAGE, LABEL = "Dataset501_Tiny/imagesTr/a_0000.nii.gz", "Dataset501_Tiny/labelsTr/a.nii.gz"
INTACT = "replace it with an intact copy"
ON_GRID = "draw or resample the label on the image's grid"
ONE_GRID = "resample the channels to one grid"
ONE_VOLUME = "save one volume (3D, one value per voxel) per file"
FINITE = "replace them, for example by the value of air"


def cut_off(data, voxels):
    path = data.folder / "imagesTr/a_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-300])


def flipped_bit(data, voxels):
    path = data.folder / "imagesTr/a_0000.nii.gz"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def fewer_bytes_than_stated(data, voxels):
    path = data.folder / "imagesTr/a_0000.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:1500]))


def header_only_zero_spacing(data, voxels):
    path = data.folder / "imagesTr/a_0000.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[84:88] = struct.pack("<f", 0.0)
    path.write_bytes(gzip.compress(bytes(content)))


def negative_spacing(data, voxels):
    path = data.folder / "labelsTr/a.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[84:88] = struct.pack("<f", -2.0)
    path.write_bytes(gzip.compress(bytes(content)))


def with_values(*values):
    def spoil(data, voxels):
        image = voxels.noise()
        image.flat[: len(values)] = values
        data.write("imagesTr/a_0000.nii.gz", image)

    return spoil


def with_image(make):
    return lambda data, voxels: data.write("imagesTr/a_0000.nii.gz", make(voxels))


def with_label(make, **geometry):
    return lambda data, voxels: data.write("labelsTr/a.nii.gz", make(voxels), **geometry)


def with_label_values(*values):
    def make(voxels):
        mask = voxels.cube().astype(np.float32 if any(isinstance(value, float) for value in values) else np.int16)
        mask.flat[: len(values)] = values
        return mask

    return with_label(make)


def replaced(place, content):
    return lambda data, voxels: (data.folder / place).write_bytes(content)


FAULTS = {
    "empty file": (replaced("imagesTr/a_0000.nii.gz", b""), [f"the file cannot be read (it is empty), in {IMAGE}; {INTACT}"]),
    "no image": (
        replaced("labelsTr/a.nii.gz", b"nothing like it"),
        [f"the file cannot be read (SimpleITK knows no such format), in {LABEL}; {INTACT}"],
    ),
    "cut off": (cut_off, [f"the file cannot be read (its compressed data are cut off or damaged), in {IMAGE}; {INTACT}"]),
    "flipped bit": (flipped_bit, [f"the file cannot be read (its compressed data are cut off or damaged), in {IMAGE}; {INTACT}"]),
    "fewer bytes": (
        fewer_bytes_than_stated,
        [f"the file cannot be read (it is cut off, with 1148 of 2048 bytes of voxels), in {IMAGE}; {INTACT}"],
    ),
    "size": (
        with_label(lambda voxels: voxels.cube(shape=(7, 8, 8))),
        [f"the image is 8x8x8 voxels but its label is 8x8x7, in case a; {ON_GRID}"],
    ),
    "spacing": (
        with_label(lambda voxels: voxels.cube(), spacing=[1.0, 1.0, 1.002]),
        [f"the image has a spacing of 1x1x1 mm but its label 1x1x1.002, in case a; {ON_GRID}"],
    ),
    "origin": (
        with_label(lambda voxels: voxels.cube(), origin=[0.0, 0.0, 0.5]),
        [f"the image has its origin at (0, 0, 0) mm but its label at (0, 0, 0.5), in case a; {ON_GRID}"],
    ),
    "direction": (
        with_label(lambda voxels: voxels.cube(), direction=[-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0]),
        [f"the image has the direction (1 0 0; 0 1 0; 0 0 1) but its label (-1 0 0; 0 -1 0; 0 0 1), in case a; {ON_GRID}"],
    ),
    "undeclared value": (
        with_label_values(3),
        [f'the label holds 3, but dataset.json declares only 0, 1, in {LABEL}; add it to "labels", or correct the mask'],
    ),
    "many undeclared values": (
        with_label_values(*range(-1, 9)),
        [
            "the label holds -1, 2, 3, 4, 5 and 3 more, but dataset.json declares only 0, 1,"
            f' in {LABEL}; add it to "labels", or correct the mask'
        ],
    ),
    "fractions": (
        with_label_values(0.5, 1.0),
        [f"the label holds values that are no whole numbers (0.5), in {LABEL}; save it as whole numbers, without interpolation"],
    ),
    "NaN in the label": (
        with_label_values(float("nan"), float("nan")),
        [f"the label holds NaN or infinity (2 voxels), in {LABEL}; give those voxels a label"],
    ),
    "NaN": (with_values(np.nan), [f"the image holds 1 voxel that is NaN or infinite, in {IMAGE}; {FINITE}"]),
    "infinity": (with_values(np.inf, -np.inf), [f"the image holds 2 voxels that are NaN or infinite, in {IMAGE}; {FINITE}"]),
    "constant": (
        with_image(lambda voxels: np.full((8, 8, 8), -1000, np.int16)),
        [f"the image is constant (every voxel is -1000), in {IMAGE}; replace it, or leave the case out"],
    ),
    "flat": (with_image(lambda voxels: voxels.noise()[0]), [f"the image has 2 dimensions (8x8), in {IMAGE}; {ONE_VOLUME}"]),
    "single slice": (
        with_image(lambda voxels: voxels.noise()[:1]),
        [f"the image is a single slice (8x8x1 voxels), in {IMAGE}; {ONE_VOLUME}"],
    ),
    "colours": (
        with_image(lambda voxels: np.stack([voxels.noise()] * 3, axis=-1)),
        [f"the image holds 3 values per voxel, in {IMAGE}; {ONE_VOLUME}"],
    ),
    "zero spacing": (
        header_only_zero_spacing,
        [f"the image has a spacing of 1x0x1 mm, in {IMAGE}; write the true spacing into its header"],
    ),
    "negative spacing": (
        negative_spacing,
        [f"the label has a spacing of 1x-2x1 mm, in {LABEL}; write the true spacing into its header"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_exactly_its_line(fault, tiny, voxels, lines):
    spoil, expected = FAULTS[fault]
    data = tiny()
    spoil(data, voxels)
    assert lines(check, RawDataset.read(data.folder)) == [f"lnauto: {line}" for line in expected]


@pytest.mark.parametrize("place", [0, 500, 7 * 9 * 11 - 1])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("packed", [True, False])
def test_nan_in_nifti_is_seen_although_simpleitk_hides_it(kind, place, packed, tiny, voxels, lines, monkeypatch):
    monkeypatch.setattr(image_files, "CHUNK", 512)
    data = tiny(file_ending=".nii.gz" if packed else ".nii", cases=(), masks=(), unannotated=["a"])
    image = np.zeros((7, 9, 11), kind)
    image.flat[1], image.flat[place] = 1, np.nan
    path = data.write(f"imagesTr/a_0000{data.description['file_ending']}", image.astype(image.dtype.newbyteorder("=")))
    content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    if kind.startswith(">"):
        content = big_endian_header(content) + image.tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)
    assert "1 voxel that is NaN" in lines(check, RawDataset.read(data.folder))[0]


def big_endian_header(content):
    """The same NIfTI header in the other byte order: the fields that count, all others zero."""
    header = bytearray(352)
    for form, start, end in (("i", 0, 4), ("8h", 40, 56), ("2h", 70, 74), ("9f", 76, 112)):
        header[start:end] = struct.pack(f">{form}", *struct.unpack(f"<{form}", content[start:end]))
    header[344:348] = b"n+1\0"
    return bytes(header)


def test_nan_is_seen_in_other_formats_too(tiny, voxels, lines):
    data = tiny(file_ending=".nrrd", cases=(), masks=(), unannotated=["a"])
    image = voxels.noise()
    image[0, 0, 0] = np.nan
    data.write("imagesTr/a_0000.nrrd", image)
    assert "1 voxel that is NaN" in lines(check, RawDataset.read(data.folder))[0]


@pytest.mark.parametrize("length", [348, 352, 353, 2000, 2396])
def test_an_uncompressed_file_that_is_cut_off(length, tiny, voxels, lines):
    data = tiny(file_ending=".nii", cases=(), masks=(), unannotated=["a"])
    path = data.write("imagesTr/a_0000.nii", voxels.noise())
    path.write_bytes(path.read_bytes()[:length])
    assert f"it is cut off, with {max(length - 352, 0)} of 2048 bytes" in lines(check, RawDataset.read(data.folder))[0]


@pytest.mark.parametrize("offset", [1e17, float("nan")])
def test_a_header_that_makes_no_sense(offset, tiny, voxels, lines):
    data = tiny(file_ending=".nii", cases=(), masks=(), unannotated=["a"])
    path = data.write("imagesTr/a_0000.nii", voxels.noise())
    content = bytearray(path.read_bytes())
    content[108:112] = struct.pack("<f", offset)
    path.write_bytes(content)
    assert lines(check, RawDataset.read(data.folder)) == [
        f"lnauto: the file cannot be read (its header is damaged), in {IMAGE.removesuffix('.gz')}; {INTACT}"
    ]


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_header_is_told_in_lines_or_does_no_harm(seed, tiny, voxels):
    """Whatever stands in a header: an `InputError`, or nothing; no other exception."""
    data = tiny(file_ending=".nii", cases=(), masks=(), unannotated=["a"])
    path = data.write("imagesTr/a_0000.nii", voxels.noise())
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for place in rng.integers(40, 124, size=4):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        check(RawDataset.read(data.folder))


def test_a_sound_data_set_passes(tiny):
    facts = check(RawDataset.read(tiny(masks=("a",), unannotated=["b"]).folder))
    assert (facts.cases, facts.annotated, facts.files_read) == (2, 1, 3)
    assert facts.label_values == {"a": (0, 1)}


def test_channels_of_one_case_must_lie_on_one_grid(tiny, voxels, lines):
    data = tiny(channels=("CT", "PET"))
    data.write("imagesTr/b_0001.nii.gz", voxels.noise(7), origin=[9.0, 0.0, 0.0])
    assert lines(check, RawDataset.read(data.folder)) == [
        f"lnauto: channel 0000 (CT) is 8x8x8 voxels but channel 0001 (PET) is 7x7x7, in case b; {ONE_GRID}",
        f"lnauto: channel 0000 (CT) has its origin at (0, 0, 0) mm but channel 0001 (PET) at (9, 0, 0), in case b; {ONE_GRID}",
    ]


@pytest.mark.parametrize(
    "geometry",
    [
        {"origin": [1e-4, -1e-4, 0.05]},
        {"spacing": [1.0, 1.0, 1.0005]},
        {"direction": [1.0, 0.0, 0.0, 0.0, np.cos(5e-4), -np.sin(5e-4), 0.0, np.sin(5e-4), np.cos(5e-4)]},
    ],
    ids=lambda geometry: next(iter(geometry)),
)
def test_rounded_headers_pass(geometry, tiny, voxels):
    data = tiny()
    data.write("labelsTr/a.nii.gz", voxels.cube(), **geometry)
    check(RawDataset.read(data.folder))


def test_an_origin_is_judged_in_voxels_along_the_image_axes(tiny, voxels, lines):
    data = tiny()
    turned = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]  # the image's third axis lies along the patient's first
    geometry = {"spacing": [1.0, 1.0, 10.0], "direction": turned}
    data.write("imagesTr/a_0000.nii.gz", voxels.noise(), **geometry)
    data.write("labelsTr/a.nii.gz", voxels.cube(), origin=[0.9, 0.0, 0.0], **geometry)
    check(RawDataset.read(data.folder))
    data.write("labelsTr/a.nii.gz", voxels.cube(), origin=[0.0, 0.9, 0.0], **geometry)
    assert "origin" in lines(check, RawDataset.read(data.folder))[0]


def test_no_foreground_anywhere(tiny, voxels, lines):
    data = tiny(masks=("a", "b"))
    for case in "ab":
        data.write(f"labelsTr/{case}.nii.gz", voxels.cube(0))
    assert lines(check, RawDataset.read(data.folder)) == [
        "lnauto: no label holds any foreground (2 of 2 are empty), in Dataset501_Tiny; "
        'draw nodes in at least one case, or declare "annotation": "patient"'
    ]


def test_ignore_is_no_foreground(tiny, voxels, lines):
    data = tiny(masks=("a", "b"))
    data.describe(labels={"background": 0, "node": 1, "ignore": 2})
    for case in "ab":
        data.write(f"labelsTr/{case}.nii.gz", voxels.cube(2))
    assert "no label holds any foreground" in lines(check, RawDataset.read(data.folder))[0]


def test_a_single_empty_label_is_a_case_without_nodes(tiny, voxels):
    data = tiny()
    data.write("labelsTr/b.nii.gz", voxels.cube(0))
    assert check(RawDataset.read(data.folder)).empty_labels == ("b",)


def test_instances_may_be_numbered_beyond_what_is_declared(tiny, voxels):
    data = tiny(instances=True)
    data.write("labelsTr/a.nii.gz", voxels.cube(7))
    assert check(RawDataset.read(data.folder)).label_values["a"] == (0, 7)


def test_everything_is_told_together_layout_and_files(tiny, voxels, lines):
    data = tiny(cases=("a", "b", "c", "d"))
    data.describe(unannotated=["d", "x"], annotation="most")
    data.write("imagesTr/d_0001.nii.gz", voxels.noise())
    data.write("labelsTr/b.nii.gz", voxels.cube(4, shape=(7, 8, 8)), spacing=[1.0, 1.0, 2.0])
    data.patients("patient,cases\nP1,a;b\nP1,c\nP2,y\n")
    with_values(np.nan)(data, voxels)
    cases_column = 'all cases in the column "cases" separated by semicolons'
    assert lines(read_and_check, data.folder) == [
        'lnauto: "annotation" is "most", in Dataset501_Tiny/dataset.json; '
        "write one of full, partial, scribble, patient, table, or leave it out",
        'lnauto: channel 0001 is surplus: "channel_names" does not declare it, in Dataset501_Tiny/imagesTr/d_0001.nii.gz; '
        "declare it, or remove the file",
        f"lnauto: patient P1 is repeated (rows 2, 3), in Dataset501_Tiny/patients.csv; keep one row per patient, {cases_column}",
        "lnauto: patient P2 has the case y, of which there is no image, in Dataset501_Tiny/patients.csv; "
        "correct the name, or remove it",
        f"lnauto: the image holds 1 voxel that is NaN or infinite, in {IMAGE}; {FINITE}",
        f"lnauto: the label holds 4, but dataset.json declares only 0, 1, in {LABEL.replace('a.nii', 'b.nii')}; "
        'add it to "labels", or correct the mask',
        f"lnauto: the image is 8x8x8 voxels but its label is 8x8x7, in case b; {ON_GRID}",
        f"lnauto: the image has a spacing of 1x1x1 mm but its label 1x1x2, in case b; {ON_GRID}",
    ]


def test_more_than_one_can_read_go_to_a_file(tiny, voxels, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "MOST_LINES", 1)
    data = tiny()
    for case in "ab":
        data.write(f"imagesTr/{case}_0000.nii.gz", np.zeros((8, 8, 8), np.uint8))
    cache = tmp_path / "made" / "checked.json"
    told = lines(read_and_check, data.folder, cache=cache)
    full = cache.parent / "problems.txt"
    assert told[1:] == [f"lnauto: there are more problems than these (2 in all), in Dataset501_Tiny; see {full} for all of them"]
    assert len(full.read_text().splitlines()) == 2
    assert len(lines(read_and_check, data.folder)) == 2, "without a place for the file, nothing is held back"


def test_only_changed_files_are_read_again(tiny, voxels, lines, tmp_path):
    data = tiny()
    cache = tmp_path / "checked.json"
    first = read_and_check(data.folder, cache=cache)[1]
    again = read_and_check(data.folder, cache=cache)[1]
    assert (first.files_read, first.files_remembered, again.files_read, again.files_remembered) == (4, 0, 0, 4)
    assert again.label_values == first.label_values
    with_values(np.nan)(data, voxels)
    assert "NaN" in lines(read_and_check, data.folder, cache=cache)[0]
    assert "NaN" in lines(read_and_check, data.folder, cache=cache)[0], "what was wrong stays wrong when it is remembered"


def test_one_file_is_remembered_apart_as_image_and_as_label(tiny, lines, tmp_path):
    data = tiny(cases=(), masks=())
    data.write("ones.nii.gz", np.ones((8, 8, 8), np.uint8))
    data.describe(dataset={"a": {"images": ["ones.nii.gz"], "label": "ones.nii.gz"}})
    for _ in range(2):
        (line,) = lines(read_and_check, data.folder, cache=tmp_path / "checked.json")
        assert "the image is constant (every voxel is 1)" in line


def test_faulty_labels_in_dataset_json_bring_no_lines_about_values(tiny, lines):
    data = tiny()
    data.describe(labels={"background": 0, "node": 2})
    (line,) = lines(read_and_check, data.folder)
    assert "not consecutive" in line


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 0, "files": {"x": 1}}', "null"])
def test_a_spoilt_memory_is_no_hindrance(content, tiny, tmp_path):
    cache = tmp_path / "checked.json"
    cache.write_text(content)
    assert read_and_check(tiny().folder, cache=cache)[1].files_read == 4
    assert json.loads(cache.read_text())["version"] == checks.CACHE_VERSION


def test_an_interrupted_check_goes_on_where_it_was(tiny, tmp_path, monkeypatch):
    cache = tmp_path / "checked.json"
    data = tiny()
    read = checks.read_facts

    def interrupted(path, is_label):
        if path.name == "b_0000.nii.gz":
            raise KeyboardInterrupt
        return read(path, is_label)

    monkeypatch.setattr(checks, "read_facts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_and_check(data.folder, cache=cache)
    monkeypatch.setattr(checks, "read_facts", read)
    assert read_and_check(data.folder, cache=cache)[1].files_remembered == 2


def test_the_number_of_workers_changes_nothing(tiny, voxels, lines):
    data = tiny(cases=("a", "b", "c", "d"), masks=("a", "b", "c", "d"))
    for case in "dbca":
        data.write(f"labelsTr/{case}.nii.gz", voxels.cube(2))
    assert lines(read_and_check, data.folder) == lines(read_and_check, data.folder, workers=3)


def test_nothing_but_the_lines_reaches_the_console(tiny, voxels):
    """ITK and its NIfTI library write warnings on their own; a header with odd scales provokes them."""
    data = tiny()
    negative_spacing(data, voxels)
    code = "import sys, pathlib; from lnauto.data.checks import read_and_check; read_and_check(pathlib.Path(sys.argv[1]))"
    ended = subprocess.run([sys.executable, "-c", code, str(data.folder)], capture_output=True, text=True, check=False)
    assert "InputError" in ended.stderr
    assert "WARNING" not in ended.stderr + ended.stdout


def test_a_table_only_data_set_opens_nothing(tiny):
    data = tiny(cases=(), masks=(), annotation="table")
    data.patients("patient,lnm\nP1,0\nP2,1\n")
    assert check(RawDataset.read(data.folder)).files_read == 0


def test_patient_labels_need_no_masks(tiny):
    data = tiny(masks=(), annotation="patient")
    data.describe(drop=["labels"])
    data.patients("patient,lnm\na,0\nb,1\n")
    assert check(RawDataset.read(data.folder)).annotated == 0


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["Dataset004_Hippocampus", "Dataset051_STSPETCT", "Dataset502_SemiRealChest"])
def test_real_data_pass(name, realdata):
    dataset, facts = read_and_check(realdata / name)
    assert facts.annotated == facts.cases == len(list((realdata / name / "labelsTr").glob("*.nii.gz")))
    assert not facts.empty_labels
    assert dataset.node_labels == {"Dataset004_Hippocampus": (1, 2)}.get(name, (1,))
