"""Prediction: in the image's own geometry, found without flags, resumed, and in agreement with stock nnU-Net."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import lnauto
from lnauto.evaluation.labels import LabelScheme
from lnauto.inference.model import load_checkpoint
from lnauto.inference.size_filter import drop_specks

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def scans(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Path:
    """A folder of scans, the model as the only one there is, and the test beside them."""
    monkeypatch.setenv("nnUNet_results", str(model.parents[1]))
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(prepared / "raw/Dataset901_Balls/imagesTs", tmp_path / "scans"))


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_the_only_model_is_found_and_masks_lie_on_the_scans(scans: Path, prepared: Path, command: Command) -> None:
    code, out, complaint = command("predict", "-i", "scans", "-o", "out", "--device", "cpu")
    assert code == 0, complaint
    assert "fold 0, 1" in out
    truth = prepared / "raw/Dataset901_Balls/labelsTs"
    for path in sorted(truth.iterdir()):
        mask, scan = sitk.ReadImage(f"out/{path.name}"), sitk.ReadImage(str(scans / path.name.replace(".nii.gz", "_0000.nii.gz")))
        assert mask.GetSize() == scan.GetSize()
        assert np.allclose(mask.GetSpacing(), scan.GetSpacing())
        assert np.allclose(mask.GetOrigin(), scan.GetOrigin())
        assert dice(read(Path("out") / path.name) > 0, read(path) > 0) > 0.6
    with open("out/nodes.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == {"ball_06", "ball_07"}
    assert all(float(row["volume_mm3"]) > 0 and float(row["short_axis_mm"]) <= float(row["long_axis_mm"]) for row in rows)
    run = json.loads(Path("out/run.json").read_text())
    assert run["folds"] == ["0", "1"]
    assert run["versions"]["lnauto"] == lnauto.__version__


def test_what_is_there_is_kept_until_told_otherwise(scans: Path, command: Command) -> None:
    assert command("predict", "-i", "scans", "-o", "out", "--quiet", "-f", 0)[0] == 0
    kept = Path("out/ball_06.nii.gz").stat().st_mtime_ns
    Path("out/ball_07.nii.gz").unlink()
    code, out, _ = command("predict", "-i", "scans", "-o", "out", "-f", 0)
    assert code == 0
    assert "1 of 2 masks are there already and are kept" in out
    assert Path("out/ball_06.nii.gz").stat().st_mtime_ns == kept
    assert Path("out/ball_07.nii.gz").is_file()
    assert command("predict", "-i", "scans", "-o", "out", "--quiet", "-f", 0, "--overwrite")[0] == 0
    assert Path("out/ball_06.nii.gz").stat().st_mtime_ns != kept


def test_a_log_has_what_was_said_and_what_went_wrong(scans: Path, command: Command) -> None:
    (scans / "ball_07_0000.nii.gz").write_bytes(b"no image")
    code, said, complaint = command("predict", "-i", "scans", "-o", "out", "--quiet", "--log", "run.log", "-f", 0)
    assert (code, said) == (3, "")
    lines = Path("run.log").read_text().splitlines()
    assert any("INFO Model: LNTrainer__lnautoPlans__3d_fullres, fold 0, on cpu" in line for line in lines)
    assert complaint.count("\n") == 1
    assert lines[-1].endswith(f"ERROR {complaint.strip()}")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "--log", "nowhere/run.log")
    assert code == 2
    assert complaint.startswith("lnauto: the log cannot be written (No such file or directory), in nowhere/run.log")


def test_a_log_is_gone_on_with_and_nothing_else_is_appended_to(scans: Path, command: Command) -> None:
    Path("empty.log").touch()
    Path("mine.txt").write_text("mine\n")
    for _ in range(2):
        assert command("predict", "-i", "scans", "-o", "out", "--quiet", "--log", "empty.log", "-f", 0)[0] == 0
    assert len([line for line in Path("empty.log").read_text().splitlines() if " INFO lnauto " in line]) == 2
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "--log", "mine.txt", "-f", 0)
    assert code == 2
    assert complaint.startswith("lnauto: the log would be appended to a file that is no log of lnauto's, in mine.txt; ")
    assert Path("mine.txt").read_text() == "mine\n"


def test_probabilities_are_kept_where_they_are_wanted(scans: Path, command: Command) -> None:
    flags = ("--quiet", "-f", 0, "--filter", "none")
    assert command("predict", "-i", "scans", "-o", "out", "--save-probabilities", *flags)[0] == 0
    mask, probability = (sitk.ReadImage(f"out/{folder}ball_06.nii.gz") for folder in ("", "probabilities/"))
    assert probability.GetOrigin() == mask.GetOrigin()
    assert np.array_equal(sitk.GetArrayFromImage(probability) > 0.5, sitk.GetArrayFromImage(mask) > 0)
    assert command("predict", "-i", "scans", "-o", "without", *flags)[0] == 0
    assert not Path("without/probabilities").exists()


def test_a_bar_is_full_when_every_case_is_done(scans: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnauto.workflow import predict as workflow

    seen = []

    class Bar(workflow.tqdm):  # type: ignore[misc]
        def update(self, n: float = 1) -> bool | None:
            seen.append(n)
            return bool(super().update(n))

    monkeypatch.setattr(workflow, "tqdm", Bar)
    (scans / "ball_07_0000.nii.gz").write_bytes(b"no image")
    assert command("predict", "-i", "scans", "-o", "out", "-f", 0, "--overlap", 0.5)[0] == 3
    assert sum(seen) == pytest.approx(2)


def test_one_scan_of_any_name_is_enough(scans: Path, command: Command) -> None:
    (scans / "ball_06_0000.nii.gz").rename("patient_x.nii.gz")
    code, _, complaint = command("predict", "-i", "patient_x.nii.gz", "-o", "out", "--quiet", "-f", 0)
    assert code == 0, complaint
    assert Path("out/patient_x.nii.gz").is_file()


def test_stock_nnunet_runs_the_checkpoint_through_the_shim_and_agrees(scans: Path, model: Path, command: Command) -> None:
    """Stock settings on both sides: half-overlapping tiles, all mirrorings, no filter, 32-bit arithmetic, two folds."""
    (scans / "ball_07_0000.nii.gz").unlink()  # one scan says it
    code, _, complaint = command(
        "predict",
        "-i",
        "scans",
        "-o",
        "ours",
        "--quiet",
        "--tta",
        "full",
        "--overlap",
        0.5,
        "--filter",
        "none",
        "--region",
        "none",
        "--precision",
        "fp32",
        "--device",
        "cpu",
    )
    assert code == 0, complaint
    environment = {
        **os.environ,
        "nnUNet_extTrainer": lnauto.EXT_TRAINER_DIR,
        "nnUNet_raw": str(scans),
        "nnUNet_preprocessed": str(scans),
    }
    stock = Path(sys.executable).with_name("nnUNetv2_predict_from_modelfolder")
    process = subprocess.run(
        [stock, "-i", "scans", "-o", "stock", "-m", model, "-f", "0", "1", "-device", "cpu", "-npp", "1", "-nps", "1"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    ours, theirs = (read(Path(folder) / "ball_06.nii.gz") > 0 for folder in ("ours", "stock"))
    assert ours.any()
    assert dice(ours, theirs) >= 0.999


def test_what_is_smaller_than_any_node_drawn_is_left_out_unless_told_otherwise(
    scans: Path, model: Path, tmp_path: Path, command: Command
) -> None:
    own = tmp_path / "Dataset901_Balls" / model.name
    shutil.copytree(model, own)
    plans = json.loads((own / "plans.json").read_text())
    plans["lnauto"]["inference"]["smallest_node_mm3"] = 1e6
    (own / "plans.json").write_text(json.dumps(plans))
    arguments = ["predict", "-i", "scans", "--quiet", "-m", own, "-f", 0]
    assert command(*arguments, "-o", "filtered")[0] == 0
    assert command(*arguments, "-o", "whole", "--filter", "none")[0] == 0
    assert not read(Path("filtered/ball_06.nii.gz")).any()
    assert read(Path("whole/ball_06.nii.gz")).any()
    recorded = [json.loads(Path(folder, "run.json").read_text())["smallest_node_mm3"] for folder in ("filtered", "whole")]
    assert recorded == [1e6, 0]


def test_a_mask_found_in_a_region_lies_where_it_belongs(scans: Path, model: Path, tmp_path: Path, command: Command) -> None:
    """The scan in a corner of a large field of air: with the plan's region the network sees little besides the scan."""
    own = tmp_path / "Dataset901_Balls" / model.name
    shutil.copytree(model, own)
    plans = json.loads((own / "plans.json").read_text())
    plans["lnauto"]["region"] = "body"
    (own / "plans.json").write_text(json.dumps(plans))
    scan = sitk.ReadImage("scans/ball_06_0000.nii.gz")[:31, :31, :31]
    wide = sitk.ConstantPad(scan, (31, 9, 5), (4, 20, 6), -1000)  # x, y, z; a box of every second voxel then fits exactly
    for name, image in (("small", scan), ("wide", wide)):
        Path(name).mkdir()
        sitk.WriteImage(image, f"{name}/ball_06_0000.nii.gz")
    arguments = ["predict", "--quiet", "-m", own, "-f", 0, "--device", "cpu"]
    assert command(*arguments, "-i", "small", "-o", "bare")[0] == 0
    assert command(*arguments, "-i", "wide", "-o", "cropped")[0] == 0
    assert command(*arguments, "-i", "wide", "-o", "whole", "--region", "none")[0] == 0
    expected = np.pad(read(Path("bare/ball_06.nii.gz")), ((5, 6), (9, 20), (31, 4)))
    assert expected.any()
    cropped, whole = (read(Path(folder, "ball_06.nii.gz")) for folder in ("cropped", "whole"))
    assert np.array_equal(cropped, expected)
    assert not np.array_equal(whole, expected)  # the air round it changes what the network sees
    assert [json.loads(Path(folder, "run.json").read_text())["region"] for folder in ("cropped", "whole")] == ["body", "none"]


def test_only_specks_of_node_labels_are_dropped_and_size_is_in_mm() -> None:
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[1, 1, 1:3] = 1  # 2 voxels of 2 mm3
    mask[5:7, 5, 5:7] = 1  # 4 voxels
    mask[9, 9, 9] = 2  # no node
    scheme = LabelScheme.of({"background": 0, "node": 1, "tumour": 2}, [1])
    kept = drop_specks(mask, (2.0, 1.0, 1.0), scheme, 5.0)
    assert kept.dtype == mask.dtype
    assert (kept != mask).sum() == 2
    assert not kept[1].any()
    assert (drop_specks(mask, (2.0, 1.0, 1.0), scheme, 4.0) == mask).all()
    touching = mask.copy()
    touching[2, 2, 3] = 1  # 26-connected: now 3 voxels
    assert (drop_specks(touching, (2.0, 1.0, 1.0), scheme, 5.0) == touching).all()


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch payload_ran",))


def test_a_checkpoint_that_needs_unpickling_is_refused_and_does_not_run(
    scans: Path, model: Path, tmp_path: Path, command: Command
) -> None:
    own = tmp_path / "Dataset901_Balls" / model.name
    shutil.copytree(model, own)
    torch.save({"network_weights": {}, "trick": Payload()}, own / "fold_0/checkpoint_final.pth")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", own, "-f", 0)
    assert code == 2
    assert "would have to be unpickled, which can run any code" in complaint
    assert not Path("payload_ran").exists()
    assert not Path("out").exists()


def test_a_torn_checkpoint_is_told(scans: Path, model: Path, tmp_path: Path) -> None:
    from lnauto.errors import InputError

    torn = tmp_path / "checkpoint_final.pth"
    torn.write_bytes((model / "fold_0/checkpoint_final.pth").read_bytes()[:5000])
    with pytest.raises(InputError, match="the checkpoint cannot be read"):
        load_checkpoint(torn)


def test_one_bad_scan_does_not_stop_the_others(scans: Path, command: Command) -> None:
    (scans / "broken_0000.nii.gz").write_bytes(b"this is no image")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "--quiet", "-f", 0)
    assert code == 3
    assert complaint.startswith("lnauto: the scan cannot be read: ")
    assert complaint.endswith(", in broken_0000.nii.gz; check that it is a whole 3D image\n")
    assert {path.name for path in Path("out").glob("*.nii.gz")} == {"ball_06.nii.gz", "ball_07.nii.gz"}
    assert list(Path("out").glob(".*")) == []


def test_a_scan_that_was_cut_off_is_not_predicted_as_if_it_were_whole(scans: Path, command: Command) -> None:
    path = scans / "ball_06_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "--quiet", "-f", 0)
    assert code == 3
    assert "in ball_06_0000.nii.gz; check that it is a whole 3D image" in complaint
    assert not Path("out/ball_06.nii.gz").exists()


def test_masks_of_another_model_are_not_taken_for_this_ones(scans: Path, command: Command) -> None:
    assert command("predict", "-i", "scans", "-o", "out", "--quiet", "-f", 0)[0] == 0
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "--quiet", "-f", 1)
    assert code == 2
    assert complaint == (
        "lnauto: the masks that are there were made by another model (LNTrainer__lnautoPlans__3d_fullres, fold 0), in out; "
        "give another folder with -o, or add --overwrite\n"
    )


def test_several_models_are_listed_with_the_flag_to_choose(
    scans: Path, model: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    results = Path("several").resolve()
    for name in ("Dataset901_Balls", "Dataset902_Other"):
        shutil.copytree(model, results / name / model.name)
    monkeypatch.setenv("nnUNet_results", str(results))
    code, _, complaint = command("predict", "-i", "scans", "-o", "out")
    assert code == 2
    assert "there are 2 trained models (Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres, Dataset902_Other/" in complaint
    assert "say which with -d, or give its folder (lnauto_predict -m)" in complaint
    assert command("predict", "-i", "scans", "-o", "out", "-d", 902, "-f", 0, "--quiet")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-i", "nowhere", "-o", "out"], "lnauto: there is no such file or folder, in nowhere; check the path given with -i\n"),
        (
            ["-i", "empty", "-o", "out"],
            "lnauto: there is no image in it, neither DICOM nor one that SimpleITK reads, in empty; check the path",
        ),
        (
            ["-i", "scans", "-o", "scans"],
            "lnauto: the scans and the results are in one folder, in scans; give another folder with -o\n",
        ),
        (
            ["-i", "scans", "-o", "out", "-m", "empty"],
            "lnauto: there is no finished training in this folder, in empty; give the folder",
        ),
        (["-i", "scans", "-o", "out", "-f", "4"], "lnauto: fold 4 is not trained (there: 0, 1), in "),
        (["-i", "scans", "-o", "out", "-d", "77"], "lnauto: there is no data set 77 (there: Dataset901_Balls), in "),
    ],
)
def test_what_cannot_be_is_told_in_a_line(scans: Path, command: Command, arguments: list[str], line: str) -> None:
    Path("empty").mkdir()
    code, _, complaint = command("predict", *arguments)
    assert code == 2
    assert complaint.startswith(line)
    assert complaint.count("\n") == 1


def test_a_model_that_is_not_there_is_to_be_trained(scans: Path, command: Command) -> None:
    assert "train it (lnauto_train)" in command("predict", "-i", "scans", "-o", "out", "-d", "77")[2]


def test_surplus_and_missing_channels_are_told(scans: Path, command: Command) -> None:
    shutil.copy(scans / "ball_06_0000.nii.gz", scans / "ball_06_0001.nii.gz")
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "--quiet", "-f", 0)
    assert code == 3
    assert complaint == "lnauto: the model takes 1 channels (CT) and there is 0000, 0001, in case ball_06; add or remove files\n"
    assert Path("out/ball_07.nii.gz").is_file()
