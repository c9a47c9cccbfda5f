"""A training that gets worse ends, and its best weights are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from lnauto.files import read_json
from lnauto.trainers.early_stop import PATIENCE, EarlyStop

Command = Callable[..., tuple[int, str, str]]


def test_the_best_weights_are_kept_and_patience_has_an_end() -> None:
    stop, network = EarlyStop(), nn.Linear(1, 1)
    scores = [0.1, 0.5, *[0.4] * PATIENCE]
    told = []
    for number, score in enumerate(scores):
        nn.init.constant_(network.weight, number)
        told.append(stop.look(score, network, 10 * number))
    assert told == [*[False] * (len(scores) - 1), True]
    again = EarlyStop()
    again.restore(stop.state())
    assert (again.best, again.iteration, again.looks_since) == (0.5, 10, PATIENCE)
    again.bring_back(network)
    assert network.weight.item() == 1.0


@pytest.mark.parametrize(("fold", "iterations", "extended"), [("0", 2 + PATIENCE, 18), ("all", 10, 30)])
def test_held_out_cases_end_a_training_that_gets_worse_and_training_cases_never(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch, fold: str, iterations: int, extended: int
) -> None:
    """The second look is the best of ten; without held-out cases all iterations are trained. What stopped stays as it is when its
    folds are continued, and goes on, with as much patience as at first, when it is asked for more: after 6 of 30 iterations it is
    looked at after 9, 12, 15 and 18."""
    from lnauto.trainers.validation import NodeCheck

    scores = iter([0.1, 0.5, *[0.4] * 20])
    monkeypatch.setattr(NodeCheck, "run", lambda _: {"cases": 1, "recall": 1.0, "false_per_case": 0.0, "f1": next(scores)})
    assert command("plan_and_preprocess", "-d", 901, "--device", "cpu", "--quiet", "--pretrained", "FM")[0] == 0
    path = own / "preprocessed/Dataset901_Balls/lnautoPlans_FM.json"
    plan = read_json(path, "")
    plan["lnauto"]["budget"]["iterations_per_epoch"] = 1
    path.write_text(json.dumps(plan))
    arguments = ("train", 901, fold, "--pretrained", "FM", "--tune", "full", "--device", "cpu")

    def trained() -> int:
        content = torch.load(next((own / "results").rglob("checkpoint_final.pth")), weights_only=True)
        return int(content["lnauto"]["iteration"])

    code, out, complaint = command(*arguments, "--iterations", 10)
    assert code == 0, complaint
    assert trained() == iterations
    assert ("The weights of iteration 2 are kept" in out) == (fold == "0")
    assert f"is trained already ({iterations} iterations)" in command(*arguments, "--continue")[1]
    assert trained() == iterations
    assert command(*arguments, "--continue", "--iterations", 30, "--quiet")[0] == 0
    assert trained() == extended
