"""The phantom: its look in numbers, its nodes' sizes, its annotations, its tables, and what is written where."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lnauto.commands.make_phantom import main
from lnauto.data.phantom import PhantomCase, make_case, make_phantom
from lnauto.data.phantom.acquisition import PHASES, STYLES, Scan
from lnauto.data.phantom.annotation import IGNORE, annotation_chance, partial, scribbles
from lnauto.data.phantom.canvas import Canvas, Warp
from lnauto.data.phantom.nodes import METASTATIC_PART, Form, cover, node_distance, paint, part_below
from lnauto.data.phantom.patients import Plan
from lnauto.data.phantom.placement import Room, mark, place
from lnauto.data.phantom.shapes import ellipsoid, local
from lnauto.data.phantom.stations import STATIONS
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.nodes import label_components, measure_nodes

SIZE = 32
NAME = "Dataset501_Phantom"


@pytest.fixture(scope="module")
def chest() -> PhantomCase:
    return make_case(1, size=48)


@pytest.fixture(scope="module")
def forms() -> list[Form]:
    rng = np.random.default_rng(5)
    return [form for _ in range(150) for _, form in Plan.draw(rng, list(STATIONS)).nodes]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


# What is written


def test_same_seed_same_bytes_whatever_the_number_of_cases(tmp_path: Path) -> None:
    few = files_of(make_phantom(tmp_path / "few" / NAME, cases=1, test_cases=1, size=SIZE, annotation="partial", quiet=True))
    more = files_of(make_phantom(tmp_path / "more" / NAME, cases=2, test_cases=1, size=SIZE, annotation="partial", quiet=True))
    again = files_of(make_phantom(tmp_path / "again" / NAME, cases=2, test_cases=1, size=SIZE, annotation="partial", quiet=True))
    assert again == more
    images = [name for name in few if name.endswith(".nii.gz")]
    assert len(images) == 2 * 4  # image, label, true label, instances
    assert all(few[name] == more[name] for name in images)
    assert more["patients.csv"].startswith(few["patients.csv"])


def test_processes_that_draw_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnauto.data.phantom.CASES_THAT_PAY", 2)
    folders = [make_phantom(tmp_path / str(n) / NAME, cases=2, size=SIZE, workers=n, quiet=True) for n in (0, 2)]
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in folders]
    assert files[0] == files[1]
    assert all((folders[0] / path).read_bytes() == (folders[1] / path).read_bytes() for path in files[0])


def test_another_seed_another_style_and_a_test_case_differ(chest: PhantomCase) -> None:
    others = [make_case(1, size=48, seed=1), make_case(1, size=48, style="b"), make_case(1, size=48, test=True)]
    for other in others:
        assert other.image.shape != chest.image.shape or (other.image != chest.image).any()


def test_layout_is_nnunets_and_the_truth_lies_apart(tmp_path: Path) -> None:
    out = make_phantom(tmp_path / NAME, cases=2, test_cases=1, size=SIZE, annotation="partial", declare=True, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]  # nothing temporary stays
    dataset = RawDataset.read(out)
    assert [case.name for case in dataset.cases] == ["phantom_000", "phantom_001"]
    assert [case.name for case in dataset.test_cases] == ["phantom_t000"]
    assert dataset.annotation == "partial"
    assert dataset.patients is not None
    assert dataset.patients.patients == ("phantom_000", "phantom_001")
    image = sitk.ReadImage(str(dataset.cases[0].images[0]))
    assert image.GetPixelID() == sitk.sitkInt16
    nodes = rows_of(out / "truth" / "nodes.csv")
    for case in ("phantom_000", "phantom_001", "phantom_t000"):
        part = "Ts" if "_t" in case else "Tr"
        label = sitk.ReadImage(str(out / f"labels{part}" / f"{case}.nii.gz"))
        image = sitk.ReadImage(str(out / f"images{part}" / f"{case}_0000.nii.gz"))
        assert label.GetPixelID() == sitk.sitkUInt8
        for own, other in ((label.GetSpacing(), image.GetSpacing()), (label.GetOrigin(), image.GetOrigin())):
            assert own == other
        instances = read(out / "truth" / "nodes" / f"{case}.nii.gz")
        truth = read(out / "truth" / f"labels{part}" / f"{case}.nii.gz")
        drawn = read(out / f"labels{part}" / f"{case}.nii.gz")
        own = [row for row in nodes if row["case"] == case]
        annotated = [int(row["node"]) for row in own if row["annotated"] == "1"]
        assert ((instances > 0) == truth).all()
        assert (drawn == np.isin(instances, annotated)).all()
        assert [int(row["node"]) for row in own] == list(range(1, instances.max() + 1))
        if part == "Ts":
            assert (drawn == truth).all()


def test_a_fraction_of_one_annotates_every_node(tmp_path: Path) -> None:
    out = make_phantom(tmp_path / NAME, cases=1, size=SIZE, annotation="partial", fraction=1.0, quiet=True)
    name = "labelsTr/phantom_000.nii.gz"
    assert (out / name).read_bytes() == (out / "truth" / name).read_bytes()
    assert len({row["node"] for row in rows_of(out / "truth" / "nodes.csv")}) > 1


def test_without_labels_only_patients_are_known(tmp_path: Path) -> None:
    out = make_phantom(tmp_path / NAME, cases=1, size=SIZE, annotation="none", quiet=True)
    assert not (out / "labelsTr").exists()
    assert (out / "truth" / "labelsTr" / "phantom_000.nii.gz").is_file()
    assert RawDataset.read(out).annotation == "patient"


def test_the_kind_of_annotation_is_left_to_be_found_out_unless_declared(tmp_path: Path) -> None:
    out = make_phantom(tmp_path / NAME, cases=1, size=SIZE, quiet=True)
    description = json.loads((out / "dataset.json").read_text())
    assert "annotation" not in description
    assert description["labels"] == {"background": 0, "node": 1}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["Phantom"], '"Phantom" is no name for an nnU-Net data set'),
        ([NAME, "--cases", "0"], "0 cases cannot be made, in --cases"),
        ([NAME, "--annotation", "some"], 'there is no annotation "some", in --annotation; choose from full, partial'),
        ([NAME, "--fraction", "1.5"], "1.5 is no fraction of the nodes"),
        ([NAME, "--size", "8"], "8 rows and columns are too few"),
        ([NAME, "--style", "c"], 'there is no style "c", in --style; choose from a, b'),
        ([NAME, "--seed", "-1"], "-1 is no seed"),
    ],
)
def test_wrong_input_is_told_in_a_line(
    options: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(options) == 2
    told = capsys.readouterr().err
    assert told.startswith("lnauto: ")
    assert told.count("\n") == 1
    assert complaint in told
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / NAME
    out.mkdir()
    make_phantom(out, cases=1, size=SIZE, quiet=True)  # empty: welcome
    before = files_of(out)
    with pytest.raises(InputError, match=r"there is something already, in .*; remove it"):
        make_phantom(out, cases=1, size=SIZE, seed=1, quiet=True)
    assert files_of(out) == before


def test_nothing_is_left_when_drawing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the pencil broke")

    monkeypatch.setattr("lnauto.data.phantom.make_case", fail)
    with pytest.raises(RuntimeError):
        make_phantom(tmp_path / NAME, cases=1, size=SIZE, quiet=True)
    assert not list(tmp_path.iterdir())


# Nodes


def test_sizes_follow_the_annotated_mediastinal_nodes(forms: list[Form]) -> None:
    measured = []
    for form in forms:
        reach = 1.4 * max(form.radii) + 3
        axis = np.arange(-reach, reach, 1.2, dtype=np.float32)
        at = local((axis[None, None, :], axis[None, :, None], axis[:, None, None]), np.zeros(3), form.axes)
        (node,) = measure_nodes((node_distance(form, at) < 0).astype(np.uint8), (1.2, 1.2, 1.2))
        measured.append((node.volume_mm3 / 1000, node.short_axis_mm))
    volumes, short = (np.percentile(column, [5, 50, 95]) for column in np.transpose(measured))
    np.testing.assert_allclose(volumes, [0.80, 3.78, 21.0], rtol=0.25)
    np.testing.assert_allclose(short, [11, 16, 28], rtol=0.12)


def test_the_size_model_knows_its_own_distribution(forms: list[Form]) -> None:
    volumes = np.sort([form.volume_mm3 / 1000 for form in forms])
    assert np.abs(part_below(volumes) - np.linspace(0, 1, len(volumes))).max() < 0.07
    assert np.mean([form.metastatic for form in forms]) == pytest.approx(METASTATIC_PART, abs=0.06)


def test_metastatic_nodes_are_larger_rounder_dead_inside_and_without_hilum(forms: list[Form]) -> None:
    bad, good = ([form for form in forms if form.metastatic is kind] for kind in (True, False))
    volume, length = (lambda form: form.volume_mm3), (lambda form: form.radii[0] / form.radii[1])
    assert np.median([volume(form) for form in bad]) > 1.5 * np.median([volume(form) for form in good])
    assert np.median([length(form) for form in bad]) < 0.9 * np.median([length(form) for form in good])
    assert np.mean([form.necrosis > 0 for form in bad]) > 0.3
    assert 0 < np.mean([form.necrosis > 0 for form in good]) < 0.2
    assert np.mean([form.hilum > 0 for form in good]) > 0.5 > 0.35 > np.mean([form.hilum > 0 for form in bad])
    smallest_bad, largest_good = min(volume(form) for form in bad), max(volume(form) for form in good)
    assert smallest_bad < np.median([volume(form) for form in good]) < largest_good  # size alone does not tell


def test_necrosis_and_hilum_show_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    form = replace(Form.draw(rng, True), radii=(12.0, 11.0, 11.0), volume_mm3=6082.0, bend=0.0, lobes=(0.0, 0.0), chalk=False)
    middles = {}
    for look, (necrosis, hilum) in {"plain": (0.0, 0.0), "dead": (0.7, 0.0), "hilum": (0.0, 0.5)}.items():
        canvas = Canvas((24, 24, 24), (2.0, 2.0, 2.0), (-23.0, -23.0, -23.0), Warp.draw(np.random.default_rng(0), 1.0))
        canvas.hu[:] = -100
        shown = replace(form, necrosis=necrosis, hilum=hilum)
        box, taken = cover(canvas, shown, np.zeros(3), 1 - canvas.solid) or ((), ())
        paint(canvas, np.random.default_rng(1), shown, np.zeros(3), PHASES["venous"], 2.0, box, taken)
        inside = canvas.hu[box][taken > 0.9]
        middles[look] = (np.median(inside), inside.min())
        assert taken.sum() * 8 == pytest.approx(form.volume_mm3, rel=0.05)
    assert middles["plain"][0] == pytest.approx(PHASES["venous"].node, abs=20)
    assert middles["plain"][1] > 50 > 25 > middles["dead"][1] > 0 > -30 > middles["hilum"][1]


def test_instances_are_the_components_of_the_truth_by_descending_volume(chest: PhantomCase) -> None:
    components, count = label_components(chest.instances)
    assert count == len(chest.nodes) >= 2
    pairs = np.unique(np.stack([components.ravel(), chest.instances.ravel()]), axis=1)
    assert pairs.shape[1] == count + 1
    volumes = [node.volume_mm3 for node in chest.nodes]
    assert volumes == sorted(volumes, reverse=True)
    for node in chest.nodes:
        assert node.volume_mm3 == pytest.approx(node.form.volume_mm3, rel=0.3)


def test_nodes_give_way_to_vessels_and_stay_apart() -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas((30, 30, 30), (2.5, 2.5, 2.5), (-36.0, -36.0, -36.0), Warp.draw(rng, 1.0))
    canvas.hu[:], canvas.solid[:, :, :15] = -100, 1
    room = Room(canvas, np.zeros(canvas.shape, bool))
    against = replace(Form.draw(rng, False), radii=(10.0, 9.0, 9.0), volume_mm3=3393.0)
    box, taken = cover(canvas, against, np.array([7.0, 0.0, 0.0]), 1 - canvas.solid) or ((), ())
    assert not taken[canvas.solid[box] > 0].any()
    assert taken.sum() * 2.5**3 == pytest.approx(against.volume_mm3, rel=0.1)  # it grows where it can
    placed = np.zeros(canvas.shape, int)
    for number in range(1, 4):
        form = Form.draw(rng, False)
        centre = place(room, rng, form, ellipsoid((0, 0, 0), (34, 34, 34)))
        if centre is None:
            continue
        box, taken = cover(canvas, form, centre, 1 - canvas.solid) or ((), ())
        placed[box][taken > 0.5] = number
        mark(room, taken > 0.5, box)
    assert placed.any()
    assert not placed[:, :, :15].any()
    assert label_components(placed)[1] == len(np.unique(placed)) - 1


# The picture


def test_tissues_have_the_hu_of_tissues() -> None:
    case = make_case(0, size=96)
    image, phase = case.image, case.scan.phase
    assert image.dtype == np.int16
    z, y, x = (np.arange(size) * spacing for size, spacing in zip(image.shape, case.scan.spacing, strict=True))
    x, y, z = x + case.scan.start[0], y + case.scan.start[1], z + case.scan.start[2]

    def at(centre: tuple[float, float, float], radius: float = 4.0) -> float:
        near = (z[:, None, None] - centre[2]) ** 2 + (y[:, None] - centre[1]) ** 2 + (x - centre[0]) ** 2 < radius**2
        return float(np.median(image[near]))

    scale = case.scan.body_scale
    assert at((0, 3 * scale, 40 * scale)) < -700  # trachea
    assert at((75 * scale, 10, 0), 12) < -700  # lung
    assert at((-60 * scale, 0, case.scan.start[2] + 15), 10) == pytest.approx(phase.liver, abs=25)
    assert at((26 * scale, 40 * scale, -40 * scale)) == pytest.approx(phase.aorta, rel=0.15, abs=20)
    assert at((0, 47 * scale, -30 * scale)) > 80  # vertebra
    body = image > -300
    assert 0.2 < body.mean() < 0.7
    assert ((image > -140) & (image < -60)).sum() > 0.04 * body.size  # fat
    whole = [node.number for node in case.nodes if not node.form.hilum and not node.form.necrosis]
    nodes = [np.median(image[case.instances == number]) for number in whole]
    assert np.abs(np.array(nodes) - phase.node).max(initial=0) < 35


def test_spacing_slices_phase_and_origin_vary() -> None:
    rng = np.random.default_rng(0)
    scans = [Scan.draw(rng, STYLES["a"], 96) for _ in range(40)]
    assert all(64 <= scan.shape[0] <= 96 and scan.shape[1:] == (96, 96) for scan in scans)
    assert all(2.5 <= scan.spacing[0] <= 4 and 3.1 <= scan.spacing[1] <= 3.8 for scan in scans)
    for trait in ("shape", "spacing", "origin", "noise_hu", "phase_name"):
        assert len({getattr(scan, trait) for scan in scans}) >= 3
    fine = Scan.draw(rng, STYLES["a"], 256)
    assert fine.spacing[1] < 1.5
    assert fine.shape[0] * fine.spacing[0] > 200


# Annotation


def test_partial_annotation_takes_about_its_fraction_and_favours_large_nodes(forms: list[Form]) -> None:
    volumes = np.array([form.volume_mm3 for form in forms])
    for fraction in (0.15, 0.3, 0.6):
        chance = annotation_chance(volumes / 1000, fraction)
        assert chance.mean() == pytest.approx(fraction, abs=0.04)
        assert (np.diff(chance[np.argsort(volumes)]) >= 0).all()
    rng = np.random.default_rng(0)
    cases = np.array_split(rng.permutation(volumes), len(volumes) // 6)
    chosen = [(case, [number - 1 for number in partial(rng, case, 0.3)]) for case in cases]
    assert all(numbers for _, numbers in chosen)
    annotated = np.concatenate([case[numbers] for case, numbers in chosen])
    assert len(annotated) / len(volumes) == pytest.approx(0.33, abs=0.06)
    assert np.median(annotated) > 1.5 * np.median(volumes)
    assert partial(rng, volumes[:5], 1.0) == [1, 2, 3, 4, 5]


def test_scribbles_are_few_thin_and_right(chest: PhantomCase) -> None:
    drawn = scribbles(np.random.default_rng(0), chest.instances, chest.image > -300)
    truth = chest.instances > 0
    assert set(np.unique(drawn)) == {0, 1, IGNORE}
    assert not (drawn[truth] == 0).any()
    assert not (drawn[~truth] == 1).any()
    for node in chest.nodes:
        inside = drawn[chest.instances == node.number]
        assert 0 < (inside == 1).sum() <= 0.1 * inside.size
    background = (drawn == 0).sum()
    assert 0.002 * (~truth).sum() < background <= 0.01 * (~truth).sum()
    for plane in (drawn == 0, drawn == 1):
        blocks = plane[:, :-2, :-2] & plane[:, 2:, 2:] & plane[:, :-2, 2:] & plane[:, 2:, :-2] & plane[:, 1:-1, 1:-1]
        assert blocks.sum() <= 0.01 * plane.sum()  # no filled 3x3 square: a stroke, not a blob


def test_background_strokes_are_few_and_leave_nodes_alone() -> None:
    instances = np.zeros((24, 40, 40), np.uint8)
    instances[:, 10:30, 10:30] = 1
    drawn = scribbles(np.random.default_rng(0), instances, np.ones(instances.shape, bool))
    assert not (drawn[instances > 0] == 0).any()
    assert 0.004 < (drawn == 0).sum() / (instances == 0).sum() <= 0.01


def test_scribbles_on_disk_declare_their_ignore_label(tmp_path: Path) -> None:
    dataset = RawDataset.read(make_phantom(tmp_path / NAME, cases=1, size=SIZE, annotation="scribble", quiet=True))
    assert dataset.annotation == "scribble"
    assert dataset.ignore_label == IGNORE
    label = read(dataset.cases[0].label or Path())
    assert (label == IGNORE).mean() > 0.98
