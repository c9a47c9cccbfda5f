"""`lnauto_measure`: nodes of masks that are there, what their values mean, and what happens when something does not fit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from building import write_image

from lnauto.data.scans import upright
from lnauto.workflow.node_table import measure_masks, write_nodes

Command = Callable[..., tuple[int, str, str]]
BOXES = ((4, 4, 4), (12, 6, 20), (20, 20, 8))  # first corners of three nodes


def mask_of(*values: int, side: int = 5, places: tuple[tuple[int, int, int], ...] = BOXES) -> np.ndarray:
    """Cubes of these values at the first places."""
    mask = np.zeros((32, 32, 32), np.uint8)
    for value, (z, y, x) in zip(values, places, strict=False):
        mask[z : z + side, y : y + side, x : x + side] = value
    return mask


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three masks and their scans; the test runs beside them, and pictures are left out where no test looks at them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number, values in enumerate(((1, 1, 1), (1, 1), (0,))):
        write_image(tmp_path / f"masks/case_{number}.nii.gz", mask_of(*values, side=5 + number))
        write_image(tmp_path / f"scans/case_{number}_0000.nii.gz", rng.normal(50, 10, (32,) * 3).astype(np.float32))
    return tmp_path


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Pictures that would be drawn: each takes a second."""
    from lnauto.report import overlay

    drawn: list[Path] = []
    monkeypatch.setattr(overlay, "draw_overlay", lambda image, nodes, spacing, path, *_, **__: drawn.append(path))
    return drawn


def rows_of(path: str | Path = "measured/nodes.csv") -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_pictures_and_a_summary(here: Path, command: Command) -> None:
    before = {path: path.read_bytes() for path in here.rglob("*.nii.gz")}
    code, out, complaint = command("measure", "-i", "masks", "--images", "scans", "-o", "out")
    assert (code, complaint.count("lnauto:")) == (0, 0)
    rows = rows_of("out/nodes.csv")
    assert [(row["case"], row["node"]) for row in rows] == [("case_0", n) for n in "123"] + [("case_1", n) for n in "12"]
    assert [int(row["voxels"]) for row in rows] == [125, 125, 125, 216, 216]
    assert all(46 < float(row["mean_image"]) < 54 and float(row["p95_image"]) > 60 for row in rows)
    assert [case["nodes"] for case in json.loads(Path("out/nodes.json").read_text())["cases"]] == [3, 2, 0]
    assert sorted(path.name for path in Path("out/overlays").iterdir()) == [f"case_{number}.png" for number in range(3)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in Path("out/overlays").iterdir())
    summary = {line[:24].strip(): line[24:].strip() for line in out.splitlines()[-4:]}
    assert summary == {"cases": "3", "nodes": "5", "median short axis": "10.0 mm", "short axis from 10 mm": "2"}
    assert before == {path: path.read_bytes() for path in here.rglob("*.nii.gz")}


def test_nothing_is_overwritten_unless_told(here: Path, command: Command, pictures: list[Path]) -> None:
    assert command("measure", "-i", "masks", "--quiet")[0] == 0
    kept = Path("measured/nodes.csv").stat().st_mtime_ns
    code, _, complaint = command("measure", "-i", "masks", "--quiet")
    assert code == 2
    assert "there are results already, in measured/nodes.csv; give another folder with -o, or add --overwrite" in complaint
    assert Path("measured/nodes.csv").stat().st_mtime_ns == kept
    write_image(here / "masks/case_2.nii.gz", mask_of(1))
    assert command("measure", "-i", "masks", "--quiet", "--overwrite")[:2] == (0, "")
    assert "case_2" in {row["case"] for row in rows_of()}
    Path("measured/nodes.csv").unlink()
    Path("measured/nodes.json").unlink()
    Path("measured/overlays").mkdir()
    Path("measured/overlays/case_1.png").write_text("somebody's own")
    assert command("measure", "-i", "masks", "--quiet")[0] == 2
    assert Path("measured/overlays/case_1.png").read_text() == "somebody's own"
    assert not Path("measured/nodes.csv").exists()


TWO_PIECES = mask_of(2, places=((20, 4, 20),)) + mask_of(1, 2, 3)


@pytest.mark.parametrize(
    ("mask", "kind", "why", "nodes"),
    [
        (mask_of(1, 2, 3), "numbers of nodes", "in the mask up to 3 are consecutive, and 3 of 3 are one piece each", 3),
        (mask_of(4, 2, 3), "numbers of nodes", "up to 3 are consecutive", 3),
        (mask_of(1, 1, 1), "labels", "no mask holds more than 1", 3),
        (mask_of(1, 2, 1), "labels", "no mask holds more than 2", 3),
        (mask_of(1, 5, 9), "labels", "in the mask they are not consecutive", 3),
        (TWO_PIECES, "labels", "2 of 3 are one piece each", 4),
        (mask_of(0), "labels", "the masks are empty", 0),
    ],
)
def test_what_undescribed_values_are_taken_for(
    here: Path, command: Command, pictures: list[Path], mask: np.ndarray, kind: str, why: str, nodes: int
) -> None:
    write_image(here / "one.nrrd", mask)
    code, out, _ = command("measure", "-i", "one.nrrd")
    assert code == 0
    assert f"Values are taken for {kind}: " in out
    assert why in out
    assert len(rows_of()) == nodes


def test_touching_nodes_are_single_if_they_are_numbered(here: Path, command: Command, pictures: list[Path]) -> None:
    touching = ((4, 4, 4), (4, 4, 9), (9, 9, 14), (20, 20, 20))
    write_image(here / "one.mha", mask_of(1, 2, 3, 4, places=touching))
    counted = {}
    for kind in ("auto", "instances", "labels"):
        assert command("measure", "-i", "one.mha", "--quiet", "--overwrite", "--kind", kind)[0] == 0
        counted[kind] = [(row["node"], row["voxels"]) for row in rows_of()]
    assert counted["auto"] == counted["instances"] == [(str(number), "125") for number in (1, 2, 3, 4)]
    assert counted["labels"] == [("1", "375"), ("2", "125")]
    assert command("measure", "-i", "one.mha", "--quiet", "--overwrite", "--labels", "2-3,4")[0] == 0
    assert [row["node"] for row in rows_of()] == ["2", "3", "4"]


def test_specks_do_not_make_a_number_a_label(here: Path, command: Command, pictures: list[Path]) -> None:
    mask = mask_of(1, 2, 3)
    mask[30, 30, 30] = 1
    write_image(here / "one.nii", mask)
    assert command("measure", "-i", "one.nii", "--quiet")[0] == 0
    assert [row["voxels"] for row in rows_of()] == ["126", "125", "125"]


@pytest.mark.parametrize("place", ["masks/dataset.json", "dataset.json", "model/dataset.json"])
def test_a_description_says_which_are_nodes(here: Path, command: Command, pictures: list[Path], place: str) -> None:
    """Beside the masks, one folder up, or of the model that predicted them."""
    for number in range(3):
        write_image(here / f"masks/case_{number}.nii.gz", mask_of(1, 2, 1))
    Path("model").mkdir()
    Path("masks/run.json").write_text(json.dumps({"model": str(here / "model")}))
    description = {"labels": {"background": 0, "tumour": 1, "lymph_node": 2}, "channel_names": {"0": "CT"}}
    Path(place).write_text(json.dumps(description))
    code, out, complaint = command("measure", "-i", "masks", "--images", "scans")
    assert (code, complaint.count("lnauto:")) == (0, 0)
    assert "nodes are 2." in out
    assert "are taken for" not in out
    assert len(rows_of()) == 3
    assert "mean_CT" in rows_of()[0]
    write_nodes(
        measure_masks({f"case_{n}": here / f"masks/case_{n}.nii.gz" for n in range(3)}, description), {}, here / "its.csv"
    )
    known = rows_of("its.csv")
    assert [{key: row[key] for key in known[0]} for row in rows_of()] == known  # as lnauto_predict writes it
    code, _, complaint = command("measure", "-i", "masks", "--labels", "1,7", "--overwrite", "--quiet")
    assert code == 2
    assert "--labels names 7, which is no label's value" in complaint


def test_values_that_a_description_does_not_know_are_refused(here: Path, command: Command, pictures: list[Path]) -> None:
    Path("masks/dataset.json").write_text(json.dumps({"labels": {"background": 0, "node": 1, "ignore": 2}}))
    write_image(here / "masks/case_0.nii.gz", mask_of(255, 255))
    write_image(here / "masks/case_1.nii.gz", mask_of(1, 2))
    code, _, complaint = command("measure", "-i", "masks", "--quiet")
    assert code == 3
    assert "the mask holds 255, which is no label's value" in complaint
    assert [row["case"] for row in rows_of()] == ["case_1"]
    assert command("measure", "-i", "masks", "--kind", "instances", "--overwrite", "--quiet")[0] == 0


def test_a_description_says_that_values_are_numbers(here: Path, command: Command, pictures: list[Path]) -> None:
    write_image(here / "masks/case_0.nii.gz", mask_of(1, 5, 9))
    description = {"labels": {"background": 0, "node": 1}, "instances": True}
    Path("masks/dataset.json").write_text(json.dumps(description))
    assert command("measure", "-i", "masks/case_0.nii.gz", "--quiet")[0] == 0
    assert [row["node"] for row in rows_of()] == ["1", "5", "9"]


def test_beside_an_ignore_label_values_are_numbers_only_if_it_is_said(here: Path, command: Command, pictures: list[Path]) -> None:
    write_image(here / "masks/case_0.nii.gz", mask_of(1, 5, 9))
    description = {"labels": {"background": 0, "node": 1, "ignore": 9}, "instances": True}
    Path("masks/dataset.json").write_text(json.dumps(description))
    code, _, complaint = command("measure", "-i", "masks/case_0.nii.gz", "--quiet")
    assert code == 2
    assert "the mask holds 5, which is no label's value" in complaint
    assert command("measure", "-i", "masks/case_0.nii.gz", "--kind", "instances", "--quiet")[0] == 0
    assert [row["node"] for row in rows_of()] == ["1", "5"]


def test_what_a_network_predicts_is_not_numbered_though_its_masks_were(
    here: Path, command: Command, pictures: list[Path]
) -> None:
    for number in range(3):
        write_image(here / f"masks/case_{number}.nii.gz", mask_of(1, 1, 1))
    Path("masks/dataset.json").write_text(json.dumps({"labels": {"background": 0, "node": 1}, "instances": True}))
    code, out, _ = command("measure", "-i", "masks")
    assert code == 0
    assert "No mask holds a value above 1, so each connected piece is taken for a node." in out
    assert [row["node"] for row in rows_of()] == 3 * ["1", "2", "3"]


def test_numbers_go_beyond_the_values_of_a_description(here: Path, command: Command, pictures: list[Path]) -> None:
    """Numbered nodes beside a data set's `dataset.json`: they are all measured, but for what it says to be something else."""
    write_image(here / "masks/case_0.nii.gz", mask_of(1, 2, 3, places=((4, 4, 4), (4, 4, 14), (20, 20, 20))))
    for labels, nodes in (({"node": 1}, ["1", "2", "3"]), ({"node": 1, "tumour": 2}, ["1", "3"])):
        Path("dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))
        assert command("measure", "-i", "masks/case_0.nii.gz", "--kind", "instances", "--overwrite", "--quiet")[0] == 0
        assert [row["node"] for row in rows_of()] == nodes


def test_what_does_not_fit_is_told_and_the_rest_is_done(here: Path, command: Command, pictures: list[Path]) -> None:
    write_image(here / "scans/case_0_0000.nii.gz", np.ones((32, 32, 31), np.float32) * np.arange(31), (2.0, 1.5, 1.5))
    write_image(here / "scans/case_2_0000.nii.gz", np.ones((32, 32, 32), np.float32) * np.arange(32), (2.0, 1.5, 1.6))
    write_image(here / "masks/case_3.nii.gz", mask_of(1))
    write_image(here / "masks/case_4.nii.gz", mask_of(1).astype(np.float32) * 0.5)
    write_image(here / "scans/case_4_0000.nii.gz", np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32))
    code, _, complaint = command("measure", "-i", "masks", "--images", "scans", "--quiet")
    assert code == 3
    lines = [line for line in complaint.splitlines() if line.startswith("lnauto: ")]
    assert len(lines) == 4
    for case, what in (("case_0", "another grid (size 31 x 32 x 32"), ("case_2", "spacing 1.6 x 1.5 x 2")):
        assert any(what in line and f"in case {case}; draw or resample" in line for line in lines)
    assert any("there is no scan of this case in scans, in case case_3; add case_3_0000.nii.gz" in line for line in lines)
    assert any("whole numbers" in line and "case_4.nii.gz" in line for line in lines)
    assert {row["case"] for row in rows_of()} == {"case_1"}
    assert [path.name for path in pictures] == ["case_1.png"]
    assert "Traceback" not in complaint


def test_nothing_is_written_if_nothing_fits(here: Path, command: Command, pictures: list[Path]) -> None:
    for number in range(3):
        path = here / f"scans/case_{number}_0000.nii.gz"
        path.write_bytes(path.read_bytes()[:9000])
    code, _, complaint = command("measure", "-i", "masks", "--images", "scans", "--quiet")
    assert (code, complaint.count("lnauto: ")) == (2, 3)
    assert "cut off" in complaint
    assert not Path("measured").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("-i", "nowhere"), "there is no such file or folder, in nowhere"),
        (("-i", "empty"), "there is no image"),
        (("-i", "masks", "--images", "masks"), "the masks and the scans are in one folder"),
        (("-i", "masks", "--images", "scans/case_0_0000.nii.gz"), "this is one scan, of 3 masks"),
        (
            ("-i", "masks", "--images", "scans", "--channels", "CT", "PET"),
            "there is no file of channel 0001 (PET), in case case_0",
        ),
        (("-i", "masks", "-o", "scans/case_0_0000.nii.gz"), "this is a file, no folder"),
        (("-i", "twice"), "there are two files of a (a.mha, a.nrrd)"),
    ],
)
def test_wrong_input(here: Path, command: Command, arguments: tuple[str, ...], what: str) -> None:
    Path("empty").mkdir()
    for ending in ("nrrd", "mha"):
        write_image(here / f"twice/a.{ending}", mask_of(1))
    code, _, complaint = command("measure", *arguments, "--quiet")
    assert code == 2
    assert what in complaint
    assert not Path("measured").exists()


def test_scans_may_be_called_as_the_masks_are(here: Path, command: Command, pictures: list[Path]) -> None:
    for path in Path("scans").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    assert command("measure", "-i", "masks", "--images", "scans", "--quiet")[0] == 0
    assert all(46 < float(row["mean_image"]) < 54 for row in rows_of())


@pytest.mark.parametrize(
    ("file", "content", "code", "what"),
    [
        ("masks/dataset.json", "[1]", 2, '"labels" is missing or is no dictionary, in'),
        ("masks/dataset.json", "{", 2, "this is not valid JSON"),
        ("masks/dataset.json", '{"labels": {"background": 0, "node": "a"}}', 2, "not a whole number"),
        ("masks/run.json", "[1]", 0, ""),
        ("masks/run.json", '{"model": {"name": "other"}}', 0, ""),
    ],
)
def test_descriptions_that_are_none(
    here: Path, command: Command, pictures: list[Path], file: str, content: str, code: int, what: str
) -> None:
    Path(file).write_text(content)
    ended, _, complaint = command("measure", "-i", "masks", "--images", "scans", "--quiet")
    assert ended == code
    assert what in complaint


@pytest.mark.parametrize("values", ["", "3-2", "0", "1,a", "-3", "1-99999999999"])
def test_labels_that_are_none(command: Command, values: str) -> None:
    with pytest.raises(SystemExit):
        command("measure", "-i", "masks", f"--labels={values}")


def test_several_channels(here: Path, command: Command, pictures: list[Path]) -> None:
    for number in range(3):
        write_image(here / f"scans/case_{number}_0001.nii.gz", np.random.default_rng(1).gamma(2, 2, (32,) * 3).astype(np.float32))
    assert command("measure", "-i", "masks", "--images", "scans", "--quiet", "--channels", "CT", "PET")[0] == 0
    assert {"mean_CT", "p95_CT", "mean_SUV", "max_SUV"} < set(rows_of()[0])
    assert command("measure", "-i", "masks", "--images", "scans", "--quiet", "--overwrite")[0] == 0
    assert {"mean_channel_0", "max_channel_1"} < set(rows_of()[0])
    one = ("-i", "masks/case_1.nii.gz", "--images", "scans/case_1_0001.nii.gz", "--channels", "CT", "PET")
    assert command("measure", *one, "--quiet", "--overwrite")[0] == 0
    assert "mean_SUV" in rows_of()[0]
    assert "mean_CT" not in rows_of()[0]


def test_stations_where_a_map_is_given(here: Path, command: Command, pictures: list[Path]) -> None:
    stations = np.zeros((32, 32, 32), np.uint8)
    stations[:6], stations[6:9], stations[12:13] = 3, 7, 5
    write_image(here / "maps/case_0.nrrd", stations)
    Path("maps/dataset.json").write_text(json.dumps({"labels": {"background": 0, "4R": 7}}))
    assert command("measure", "-i", "masks", "--stations", "maps", "--quiet")[0] == 0
    assert {(row["case"], row["centroid_z_voxel"]): row["station"] for row in rows_of()} == {
        ("case_0", "6.00"): "4R",
        ("case_0", "14.00"): "5",
        ("case_0", "22.00"): "",
        ("case_1", "6.50"): "",
        ("case_1", "14.50"): "",
    }
    write_image(here / "maps/case_0.nrrd", stations, (2.0, 1.5, 1.4))
    code, _, complaint = command("measure", "-i", "masks", "--stations", "maps", "--quiet", "--overwrite")
    assert code == 3
    assert "the station map has another grid" in complaint


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_pictures_stand_upright(order: tuple[int, int, int]) -> None:
    """Whatever the array's axes, what is drawn runs to the head, the back and the left."""
    volume = np.arange(24).reshape(2, 3, 4)
    for flips in product((False, True), repeat=3):
        seen = np.flip(volume.transpose(order), [axis for axis in range(3) if flips[axis]])
        columns = [np.eye(3)[2 - axis] * (-1 if flipped else 1) for axis, flipped in zip(order, flips, strict=True)]
        axes, flipped = upright(np.stack(columns[::-1], axis=1).ravel().tolist())
        assert np.array_equal(np.flip(seen.transpose(axes), flipped), volume)


@pytest.mark.realdata
def test_ten_nodes_of_a_real_patient(realdata: Path, tmp_path: Path, command: Command) -> None:
    folder = realdata / "pet_nodes"
    (mask,), (suv,) = folder.glob("*_nodes.nii.gz"), folder.glob("*_suv.nii.gz")
    out = tmp_path / "out"
    code, said, _ = command("measure", "-i", mask, "--images", suv, "--channels", "SUV", "--labels", "2-11", "-o", out)
    assert code == 0
    assert "Values are taken for numbers of nodes" in said
    rows = rows_of(out / "nodes.csv")
    assert [int(row["node"]) for row in rows] == list(range(2, 12))
    assert [int(row["voxels"]) for row in rows] == [113, 457, 4230, 211, 375, 922, 950, 222, 43, 62]
    array, image = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (mask, suv))
    assert [float(row["max_SUV"]) for row in rows] == pytest.approx([image[array == n].max() for n in range(2, 12)], rel=1e-4)
    assert len(list((out / "overlays").iterdir())) == 1


def test_a_scan_of_two_slices_has_a_picture(tmp_path: Path) -> None:
    from lnauto.report.overlay import draw_overlay

    image = np.zeros((2, 20, 24), np.float32)
    nodes = np.zeros(image.shape, np.uint8)
    nodes[1, 5:9, 6:11] = 1
    draw_overlay(image, nodes, (5.0, 1.0, 1.0), tmp_path / "thin.png", "thin")
    assert (tmp_path / "thin.png").read_bytes().startswith(b"\x89PNG")


def test_a_dollar_sign_in_a_name_begins_no_formula(tmp_path: Path) -> None:
    from lnauto.report.overlay import draw_overlay

    image = np.zeros((2, 20, 24), np.float32)
    draw_overlay(image, image.astype(np.uint8), (5.0, 1.0, 1.0), tmp_path / "costs.png", r"$_\x$")
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_slices_are_counted_as_the_page_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    from lnauto.report.overlay import draw_overlay
    from lnauto.report.slices import Detail, pictures_of

    image, nodes = np.zeros((6, 20, 24), np.float32), np.zeros((6, 20, 24), np.int32)
    nodes[3, 5, 7] = 1
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda _, title, **__: titles.append(title))
    draw_overlay(image, nodes, (5.0, 1.0, 1.0), tmp_path / "one.png", "one")
    viewer, _ = pictures_of([("MR", image)], nodes, (5.0, 1.0, 1.0), np.eye(3).ravel().tolist(), Detail(1, 1, 64, "webp"))
    shown = [f"{plane['name']} {plane['slices'][0]['at']} of {plane['count']}" for plane in viewer["planes"]]
    assert shown == ["axial 4 of 6", "coronal 6 of 20", "sagittal 8 of 24"]
    assert set(shown) <= set(titles)
