"""`--tune auto`: ways of tuning are tried on the training cases, and the best is taken."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from building import copied

from lnauto.files import read_json

Command = Callable[..., tuple[int, str, str]]


def test_auto_tries_the_candidates_on_training_cases_and_takes_the_best(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnauto.workflow import choose_tuner

    monkeypatch.setattr(choose_tuner, "CANDIDATES", ("head", "norm"))
    seen: list[tuple[str, ...]] = []

    def scored(results: Any) -> dict[str, float]:
        seen.append(tuple(result.case for result in results))
        return {"dice": 0.1 * len(seen), "node_f1": 0.0}  # the later the better

    monkeypatch.setattr(choose_tuner, "scores", scored)
    flags = ("train", 901, 0, "--pretrained", "FM", "--tune", "auto", "--iterations", 4, "--device", "cpu")
    code, out, complaint = command(*flags)
    assert code == 0, complaint
    assert "norm is taken, 0.150 above head." in out
    folds = read_json(own / "preprocessed/Dataset901_Balls/splits_final.json", "")
    held_out = {name for cases in seen for name in cases}
    assert held_out == set(folds[0]["train"])
    assert not held_out & set(folds[0]["val"])
    choice = read_json(own / "results/Dataset901_Balls/tuning_lnautoPlans_FM/choice.json", "")
    assert choice["chosen"] == "norm"
    final = own / "results/Dataset901_Balls/LNTrainerTune__lnautoPlans_FM__3d_fullres/fold_0/checkpoint_final.pth"
    assert torch.load(final, weights_only=True)["lnauto"]["iteration"] == 4
    tries = len(seen)
    assert command(*flags, "--overwrite")[0] == 0
    assert len(seen) == tries  # what was tried is not tried again


def a_try(balls: Path, folder: Path, **request: Any) -> Any:
    """Of tuning on the balls, in two parts."""
    from lnauto.planners.plan import Plan
    from lnauto.workflow.choose_tuner import Trials
    from lnauto.workflow.fold import Request

    base = balls / "preprocessed/Dataset901_Balls"
    parts = [{"train": ["ball_00"], "val": ["ball_01"]}, {"train": ["ball_01"], "val": ["ball_00"]}]
    plan, wanted = Plan.load(base / "lnautoPlans.json", ""), Request(**request)
    seconds = None if wanted.minutes is None else 60 * wanted.minutes
    return Trials(plan, {}, "0", wanted, base / "lnautoPlans_3d_fullres", folder, parts, seconds)


def test_a_try_takes_a_quarter_of_the_time_the_plan_gives_a_training(balls: Path, tmp_path: Path) -> None:
    trial = a_try(balls, tmp_path)
    assert trial.plan.lnauto["budget"]["minutes"] == 30
    assert trial.seconds_of_a_try == 0.25 * 30 * 60
    assert a_try(balls, tmp_path, iterations=40).seconds_of_a_try is None


def test_a_part_without_nodes_says_nothing_of_a_way_to_tune(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnauto.workflow import choose_tuner

    nothing, nan = (math.nan, math.nan), pytest.approx(math.nan, nan_ok=True)
    found = iter([nothing, (0.4, 0.2), nothing, nothing, (0.9, 0.7), (0.5, 0.3)])  # two parts of each of three candidates
    monkeypatch.setattr(choose_tuner, "CANDIDATES", ("full", "norm", "decoder"))
    monkeypatch.setattr(choose_tuner, "train_network", Mock())
    monkeypatch.setattr(choose_tuner, "scores", lambda _: dict(zip(("dice", "node_f1"), next(found), strict=True)))
    monkeypatch.setattr(choose_tuner, "log", log := Mock())
    assert choose_tuner.choose_tuner(a_try(balls, tmp_path, iterations=4)) == "decoder"
    tried = read_json(tmp_path / "choice.json", "")["tried"]
    assert [(one["dice"], one["node_f1"]) for one in tried] == [(0.4, 0.2), (nan, nan), (pytest.approx(0.7), pytest.approx(0.5))]
    assert "decoder is taken, 0.300 above full." in log.info.call_args.args[1]


def test_tries_are_made_again_under_another_budget_and_after_a_label_was_corrected(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnauto.data.raw import RawDataset
    from lnauto.paths import activate
    from lnauto.workflow import choose_tuner
    from lnauto.workflow.plan import bring_up_to_date

    own_balls = copied(prepared, tmp_path, monkeypatch)
    tried: list[str] = []
    monkeypatch.setattr(choose_tuner, "train_network", lambda *_, name, **__: tried.append(name) or Mock())
    monkeypatch.setattr(choose_tuner, "scores", lambda _: {"dice": 0.5, "node_f1": 0.5})

    def made(minutes: float) -> int:
        tried.clear()
        a_try(own_balls, own_balls / "tries", minutes=minutes).run("full")
        return len(tried)

    assert [made(10), made(10), made(600), made(600)] == [2, 0, 2, 0]
    raw = own_balls / "raw/Dataset901_Balls"
    shutil.copy(raw / "labelsTr/ball_02.nii.gz", raw / "labelsTr/ball_00.nii.gz")
    bring_up_to_date(RawDataset.read(raw), a_try(own_balls, raw).plan, "3d_fullres", activate(), quiet=True)
    assert [made(600), made(600)] == [2, 0]


@pytest.mark.parametrize(("near", "taken"), [(0.0, "decoder"), (1.1, "dgst:1")], ids=["near", "far"])
def test_with_one_patient_it_counts_what_the_model_does_unadapted(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch, near: float, taken: str
) -> None:
    monkeypatch.setattr("lnauto.workflow.choose_tuner.NEAR", near)
    raw = own / "raw/Dataset901_Balls"
    for path in [*raw.glob("*/*.nii.gz")]:
        if "t000" not in path.name and not path.name.startswith(sorted(p.name for p in (raw / "labelsTr").iterdir())[0][:7]):
            path.unlink()
    description = read_json(raw / "dataset.json", "")
    (raw / "dataset.json").write_text(json.dumps({**description, "numTraining": 1}))
    flags = ("train", 901, 0, "--pretrained", "FM", "--tune", "auto", "--iterations", 1, "--device", "cpu")
    code, out, complaint = command(*flags)
    assert code == 0, complaint
    assert "One patient cannot say how to tune, but without adaptation the model reaches Dice 0." in out
    assert f"{taken} is taken" in out
    assert "On the training cases: dice" in out
    assert "held-out cases: dice" not in out
