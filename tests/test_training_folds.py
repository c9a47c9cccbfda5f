"""Folds of one model: what must be alike in them, and what comes of all together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from ball_trainings import MODEL, Command
from building import copied

from lnauto.planners.plan import Plan
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.workflow.fold import _differs


def test_a_fold_of_another_network_is_refused(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    shutil.copytree(balls / "preprocessed", tmp_path / "own")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "own"))
    assert command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")[0] == 0
    path = tmp_path / "own/Dataset901_Balls/lnautoPlans.json"
    plan = json.loads(path.read_text())
    plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"][0] += 4
    path.write_text(json.dumps(plan))
    code, _, complaint = command("train", 901, 1, "--iterations", 2, "--quiet", "--device", "cpu")
    assert code == 2
    assert complaint.startswith("lnauto: fold_0 was trained with another network than the plan has now, in ")
    code, _, complaint = command("train", 901, 0, "--continue", "--iterations", 4, "--quiet", "--device", "cpu")
    assert code == 2
    assert complaint.startswith("lnauto: fold 0 was trained with another network than the plan has now, in ")


def test_a_fold_of_other_images_is_refused(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """All folds are run under one plan: one that learned another intensity would be shown the wrong one."""
    shutil.copytree(balls / "preprocessed", tmp_path / "own")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "own"))
    asked = ("--iterations", 2, "--quiet", "--device", "cpu")
    assert command("train", 901, 0, *asked)[0] == 0
    kept = (Path(MODEL) / "plans.json").read_bytes()
    path = tmp_path / "own/Dataset901_Balls/lnautoPlans.json"
    plan = json.loads(path.read_text())
    plan["foreground_intensity_properties_per_channel"]["0"]["mean"] += 100
    path.write_text(json.dumps(plan))
    code, _, complaint = command("train", 901, 1, *asked)
    assert code == 2
    assert complaint.startswith("lnauto: fold_0 was trained on images of another spacing, region or intensity than the plan has")
    code, _, complaint = command("train", 901, 0, "--continue", *asked)
    assert code == 2
    assert complaint.startswith("lnauto: fold 0 was trained on images of another spacing, region or intensity than the plan has")
    assert (Path(MODEL) / "plans.json").read_bytes() == kept


def test_a_fold_of_other_labels_is_refused(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """All folds have one dataset.json: outputs that mean something else would be averaged."""
    own = copied(balls, tmp_path / "own", monkeypatch)
    asked = ("--iterations", 2, "--quiet", "--device", "cpu", "--no-report")
    assert command("train", 901, 0, *asked)[0] == 0
    for path in own.glob("*/Dataset901_Balls/dataset.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "labels": {"background": 0, "node": 1, "vessel": 2}}))
    for fold, more, who in ((1, (), "fold_0"), (0, ("--continue",), "fold 0")):
        code, _, complaint = command("train", 901, fold, *more, *asked)
        assert code == 2
        told = "learned other labels (background 0, node 1) than dataset.json has now (background 0, node 1, vessel 2)"
        assert complaint.startswith(f"lnauto: {who} {told}")


def test_regions_declared_in_another_order_are_other_labels(prepared: Path) -> None:
    plan = Plan.load(prepared / "preprocessed/Dataset901_Balls/lnautoPlans.json", "")
    before, now = {"background": 0, "all": [1, 2], "node": 2}, {"background": 0, "node": 2, "all": [1, 2]}
    told = [_differs(plan.content, {"labels": before}, plan, {"labels": labels}, "3d_fullres") for labels in (before, now)]
    assert told[0] is None
    assert str(told[1]).startswith("learned other labels (background 0, all [1, 2], node 2) than")


def test_a_fold_of_other_cases_does_not_go_on(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """It would be validated on cases that it has learned from."""
    shutil.copytree(balls / "preprocessed", tmp_path / "own")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "own"))
    asked = ("--iterations", 2, "--quiet", "--device", "cpu", "--no-report")
    assert command("train", 901, 0, *asked)[0] == 0
    assert command("train", 901, 0, "--continue", *asked)[0] == 0
    path = tmp_path / "own/Dataset901_Balls/splits_final.json"
    first, second, *others = json.loads(path.read_text())
    path.write_text(json.dumps([second, first, *others]))
    code, _, complaint = command("train", 901, "cv", "--continue", *asked)
    assert code == 2
    assert complaint.startswith("lnauto: fold 0 was trained on other cases than the folds have now, in ")
    assert command("train", 901, 0, "--overwrite", *asked)[0] == 0


def test_a_raw_data_set_that_was_moved_is_read_where_it_is_now(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """Validation reads the labels as they were drawn; the old place may be gone."""
    for folder in ("raw", "preprocessed"):
        shutil.copytree(balls / folder, tmp_path / folder)
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    record = tmp_path / "preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres_cases.json"
    known = json.loads(record.read_text())
    for case in known.values():
        case["sources"][-1]["path"] = case["sources"][-1]["path"].replace("labelsTr", "gone")
    record.write_text(json.dumps(known))
    asked = ("--iterations", 2, "--quiet", "--device", "cpu", "--no-report")
    code, _, complaint = command("train", 901, 0, *asked)
    assert code == 0, complaint
    shutil.rmtree(tmp_path / "raw")
    code, _, complaint = command("train", 901, 1, *asked)
    assert code == 2
    assert "is not there, with which fold 1 is to be validated, in " in complaint
    assert not (Path(MODEL) / "fold_1").exists()
    assert command("train", 901, "all", *asked)[0] == 0


def test_labels_changed_since_preprocessing_are_noticed(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    label = copied(balls, tmp_path / "own", monkeypatch) / "raw/Dataset901_Balls/labelsTr/ball_03.nii.gz"
    image = sitk.ReadImage(str(label))
    image[1, 1, 1] = 1
    sitk.WriteImage(image, str(label))
    code, out, complaint = command("train", 901, 0, "--iterations", 2, "--device", "cpu")
    assert code == 0, complaint
    assert "1 preprocessed cases were made from other labels or under another plan; they are made again." in out


def test_fold_all_trains_on_everything_and_does_not_claim_a_validation(balls: Path, command: Command) -> None:
    code, out, complaint = command("train", 901, "all", "--iterations", 2, "--device", "cpu")
    assert code == 0, complaint
    assert "not validated" in out
    assert (Path(MODEL) / "fold_all/checkpoint_final.pth").is_file()
    assert not (Path(MODEL) / "fold_all/validation").exists()


def test_what_a_run_over_all_folds_had_not_reached_is_not_gone_on_with_as_its_own(
    balls: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """It was stopped in the first of two folds that it was to train anew."""
    asked, step = ("train", 901, 0, 1, "--quiet", "--device", "cpu", "--no-report"), LNTrainer.train_step

    def interrupted(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if self.clock.iteration == 1:
            raise KeyboardInterrupt
        return step(self, batch)

    def seeds() -> dict[str, int]:
        found = sorted(Path(MODEL).glob("fold_*/checkpoint_*.pth"))
        return {path.parent.name: torch.load(path, weights_only=True)["lnauto"]["seed"] for path in found}

    assert command(*asked, "--iterations", 2)[0] == 0
    assert command(*asked, "--overwrite", "--budget", "1s")[0] == 2
    assert seeds() == {"fold_0": 0, "fold_1": 0}
    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, "train_step", interrupted)
        assert command(*asked, "--iterations", 2, "--seed", 7, "--overwrite")[0] == 130
    assert seeds() == {"fold_0": 7}
    assert command(*asked, "--iterations", 2, "--seed", 7, "--continue")[0] == 0
    assert seeds() == {"fold_0": 7, "fold_1": 7}
    assert command("train", 901, 0, *asked[4:], "--iterations", 2, "--seed", 8, "--overwrite")[0] == 0
    assert seeds() == {"fold_0": 8, "fold_1": 7}


def test_a_fold_that_holds_nothing_back_is_refused(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    shutil.copytree(balls / "preprocessed", tmp_path / "own")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "own"))
    path = tmp_path / "own/Dataset901_Balls/splits_final.json"
    first, *others = json.loads(path.read_text())
    path.write_text(json.dumps([{"train": first["train"] + first["val"], "val": []}, *others]))
    code, _, complaint = command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")
    assert code == 2
    assert complaint.startswith("lnauto: fold 0 holds no case back, so that nothing says how well it is learned, in ")
    assert complaint.endswith('; name cases in its "val", or train the fold all\n')
    assert not Path(MODEL).exists()


def test_cross_validation_trains_every_fold_and_pools_them(balls: Path, command: Command) -> None:
    code, out, complaint = command("train", 901, "cv", "--iterations", 2, "--device", "cpu")
    assert code == 0, complaint
    assert "Pooled over all folds" in out
    pooled = json.loads((Path(MODEL) / "crossvalidation/evaluation.json").read_text())
    assert pooled["cases"] == 6
