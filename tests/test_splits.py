"""Folds that planning makes, keeps and makes anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from building import write_balls

from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.workflow.splits import SPLITS, chosen_folds

Command = Callable[..., tuple[int, str, str]]
BASE = "preprocessed/Dataset901_Balls"


@pytest.fixture
def own(folders: Path) -> Path:
    write_balls(folders / "raw/Dataset901_Balls", cases=4, side=24, test_cases=0)
    return folders


def test_a_fold_that_is_named_twice_is_trained_once() -> None:
    """It was trained twice, and refused at the end of the first training."""
    assert chosen_folds(["2", "0", "2"], 3, Path(SPLITS)) == ["2", "0"]
    assert chosen_folds(["cv"], 3, Path(SPLITS)) == ["0", "1", "2"]
    with pytest.raises(InputError, match=r"there is no fold cv .*give some of them, or all, or cv by itself"):
        chosen_folds(["cv", "0"], 3, Path(SPLITS))


def test_folds_made_by_lnauto_follow_the_cases(own: Path, command: Command) -> None:
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu", "--no-preprocess")[0] == 0
    raw = own / "raw/Dataset901_Balls"
    shutil.copy(raw / "imagesTr/ball_00_0000.nii.gz", raw / "imagesTr/new_0000.nii.gz")
    shutil.copy(raw / "labelsTr/ball_00.nii.gz", raw / "labelsTr/new.nii.gz")
    _, out, _ = command("plan_and_preprocess", "-d", 901, "--device", "cpu", "--no-preprocess")
    assert "The cases changed, so the folds are made anew" in out
    assert any("new" in fold["val"] for fold in read_json(own / BASE / "splits_final.json", ""))


def test_folds_made_by_lnauto_follow_whose_the_cases_are(own: Path, command: Command) -> None:
    """A table that comes later says that two scans are one patient's: none may be on both sides of a fold."""
    plan = ("plan_and_preprocess", "-d", 901, "--device", "cpu", "--no-preprocess")
    assert command(*plan, "--quiet")[0] == 0
    (own / "raw/Dataset901_Balls/patients.csv").write_text("patient,cases\na,ball_00;ball_01\nb,ball_02;ball_03\n")
    _, out, _ = command(*plan)
    assert "The patients of some cases changed, so the folds are made anew" in out
    pairs = ({"ball_00", "ball_01"}, {"ball_02", "ball_03"})
    assert all(set(fold["val"]) in pairs for fold in read_json(own / BASE / "splits_final.json", ""))


def test_a_patient_on_both_sides_of_folds_made_by_hand_is_told(own: Path, command: Command) -> None:
    path = own / BASE / "splits_final.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"train": ["ball_00", "ball_02"], "val": ["ball_01", "ball_03"]}]))
    (own / "raw/Dataset901_Balls/patients.csv").write_text("patient,cases\na,ball_00;ball_01\nb,ball_02\nc,ball_03\n")
    _, out, _ = command("plan_and_preprocess", "-d", 901, "--device", "cpu", "--no-preprocess")
    assert "a is on both sides of fold 0" in out


def test_folds_that_are_there_are_respected_and_checked(own: Path, command: Command) -> None:
    folds = [{"train": ["ball_00", "ball_01", "ball_02"], "val": ["ball_03"]}]
    path = own / BASE / "splits_final.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(folds))
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu", "--no-preprocess")[0] == 0
    assert read_json(path, "") == folds
    path.write_text(json.dumps([{"train": ["ball_00"], "val": ["gone"]}]))
    code, _, complaint = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu", "--no-preprocess")
    assert code == 2
    assert "the folds name 1 cases that have no image or label, such as gone" in complaint
