"""`lnauto_plan_and_preprocess` as a person uses it: own decisions, explanations, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from building import write_balls

from lnauto.files import read_json

Command = Callable[..., tuple[int, str, str]]
BASE = "preprocessed/Dataset901_Balls"
PLAN = ("plan_and_preprocess", "-d", 901, "--device", "cpu", "--no-preprocess")


@pytest.fixture
def raw(folders: Path) -> Path:
    """A raw data set the test may spoil."""
    folder = folders / "raw/Dataset901_Balls"
    write_balls(folder, cases=4, side=24, test_cases=0)
    return folder


def describe(raw: Path, **changes: Any) -> None:
    path = raw / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def redraw(raw: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change what is drawn, in every case."""
    for path in (raw / "labelsTr").iterdir():
        label = sitk.ReadImage(str(path))
        changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(label)))
        changed.CopyInformation(label)
        sitk.WriteImage(changed, str(path))


def test_a_person_decides_and_the_training_obeys(raw: Path, command: Command) -> None:
    wishes = ("--spacing", 3, 2, 2, "--patch", 8, 16, 16, "--strategy", "partial_instance", "-tr", "LNTrainer", "--budget", "1h")
    code, out, complaint = command(*PLAN[:-1], *wishes)
    assert code == 0, complaint
    plan = read_json(raw.parents[1] / BASE / "lnautoPlans.json", "")
    assert plan["configurations"]["3d_fullres"]["spacing"] == [3.0, 2.0, 2.0]
    assert plan["configurations"]["3d_fullres"]["patch_size"] == [8, 16, 16]
    assert (plan["lnauto"]["strategy"], plan["lnauto"]["budget"]["minutes"]) == ("partial_instance", 60)
    flags = {"strategy": "--strategy", "trainer": "-tr", "spacing": "--spacing", "patch": "--patch", "budget": "--budget"}
    flags["masks"] = "lnauto"  # which no flag decided
    assert plan["lnauto"]["decided_by"] == flags
    assert "given by --strategy; by itself lnauto would have chosen full" in out
    assert command("train", 901, 0, "--iterations", 1, "--quiet", "--device", "cpu")[0] == 0
    used = read_json(next((raw.parents[1] / "results").rglob("plans.json")), "")
    assert used["configurations"]["3d_fullres"]["patch_size"] == [8, 16, 16]


def test_explain_tells_figures_methods_and_what_came_second(raw: Path, command: Command) -> None:
    describe(raw, annotation="partial")
    _, short, _ = command(*PLAN)
    _, out, _ = command(*PLAN, "--explain", "--spacing", 2, 2, 2)
    assert "came second:" not in short
    assert "  rests on:       declared = partial" in out
    assert "  came second:    full" in out
    assert "  from a person:  spacing (--spacing)" in out
    assert "[cases with a label file]" in out
    assert "annotated_cases" in out
    assert "nothing known of: " in out


def test_a_plan_of_stock_nnunet_beside_ours_is_compared_with_it(raw: Path, command: Command) -> None:
    command(*PLAN, "--quiet")
    folder = raw.parents[1] / BASE
    stock = read_json(folder / "lnautoPlans.json", "")
    stock["configurations"]["3d_fullres"] |= {"spacing": [4.0, 1.5, 1.5], "batch_size": 7}
    (folder / "nnUNetPlans.json").write_text(json.dumps(stock))
    _, out, _ = command(*PLAN)
    assert "Compared with nnUNetPlans.json:" in out
    assert "  spacing: 2 x 1.5 x 1.5 mm instead of 4 x 1.5 x 1.5 mm (the median of the images" in out
    assert "  batch: 2 instead of 7" in out
    assert "  network:" not in out.split("Compared with")[1]


def test_a_declaration_that_the_data_deny_is_told_in_a_line(raw: Path, command: Command) -> None:
    describe(raw, annotation="scribble", labels={"background": 0, "node": 1, "ignore": 2})
    code, out, _ = command(*PLAN)
    assert code == 0
    assert 'dataset.json declares "annotation": "scribble", but ' in out
    plan = read_json(raw.parents[1] / BASE / "lnautoPlans.json", "")
    assert "is wider than a stroke" in plan["lnauto"]["reasons"]["contradiction"]


def refused(command: Command, raw: Path, *flags: object) -> str:
    """The one line of complaint; nothing is planned."""
    code, _, complaint = command(*PLAN, *flags, "--quiet")
    assert code == 2
    assert complaint.startswith("lnauto: ")
    assert complaint.count("\n") == 1
    assert not (raw.parents[1] / BASE / "lnautoPlans.json").exists()
    return complaint


def test_strokes_without_background_are_refused(raw: Path, command: Command) -> None:
    describe(raw, annotation="scribble", labels={"background": 0, "node": 1, "ignore": 2})
    redraw(raw, lambda label: np.where(label == 0, 2, label))
    complaint = refused(command, raw)
    assert "no stroke of background is drawn" in complaint
    assert "draw strokes of background (value 0) in some cases" in complaint


def test_a_budget_too_small_for_an_epoch_is_refused(raw: Path, command: Command) -> None:
    complaint = refused(command, raw, "--budget", "3s")
    assert "an epoch takes 10, in --budget; give at least 2min" in complaint


def test_a_table_that_knows_none_of_the_cases_is_refused(raw: Path, command: Command) -> None:
    (raw / "patients.csv").write_text("patient,lnm\nanna,0\nberta,1\n")
    complaint = refused(command, raw)
    assert (
        "none of the 2 patients matches a case: the first is anna, a case is ball_00, in Dataset901_Balls/patients.csv"
        in complaint
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--strategy", "guesswork"), "there is no strategy guesswork"),
        (("--strategy", "ignore_label"), "there is no ignore label"),
        (("-tr", "LNTrainerOfDreams"), "there is no trainer LNTrainerOfDreams"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(raw: Path, command: Command, flags: tuple[object, ...], line: str) -> None:
    assert line in refused(command, raw, *flags)


def test_a_patch_too_small_to_pool_is_refused(raw: Path, command: Command) -> None:
    assert "can pool the patch only once or not at all, in --patch; give 16" in refused(command, raw, "--patch", 8, 8, 8)
    assert "can pool the patch only once or not at all" in refused(command, raw, "--patch", 1, 1, 1)
