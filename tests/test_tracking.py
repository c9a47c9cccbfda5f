"""Learning curves in TensorBoard and MLflow: what the history holds, every step once, and never the end of a training."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lnauto.planners.plan import Plan
from lnauto.trainers import tracking
from lnauto.trainers.tracking import EVENTS, STATE, Tracking, figures_of

Command = Callable[..., tuple[int, str, str]]
MODEL = "results/Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres"
BRIEFLY = ("--device", "cpu", "--workers", 0, "--quiet", "--no-report")


class Runs:
    """What a tracking server would know: MLflow's client as far as it is used, without one."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.active: str | None = None
        self.failing = False

    def start_run(self, run_id: str | None = None, run_name: str | None = None) -> Any:
        if self.failing:
            raise ConnectionError("no answer\nfrom the server")
        name = run_id or f"run {len(self.runs)}"
        if run_id is None:
            self.runs[name] = {"name": run_name, "params": {}, "tags": {}, "metrics": [], "files": []}
        self.active = name
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=name))

    def log_params(self, params: dict[str, str]) -> None:
        self.runs[self.active or ""]["params"].update(params)

    def set_tag(self, key: str, value: str) -> None:
        self.runs[self.active or ""]["tags"][key] = value

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if self.failing:
            raise ConnectionError("no answer\nfrom the server")
        self.runs[self.active or ""]["metrics"].append((step, metrics))

    def log_artifact(self, path: str) -> None:
        self.runs[self.active or ""]["files"].append(Path(path).name)

    def end_run(self, status: str) -> None:
        self.runs[self.active or ""]["status"] = status
        self.active = None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setitem(sys.modules, "mlflow", runs)  # type: ignore[arg-type]
    return runs


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What lnauto warns of."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("lnauto.trainers.tracking").addHandler(handler)
    yield lines
    logging.getLogger("lnauto.trainers.tracking").removeHandler(handler)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every point of every event file, in the order of the files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((folder / EVENTS).iterdir()):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if "text" not in value.tag:
                    found.setdefault(value.tag, []).append((event.step, float(tensor_util.make_ndarray(value.tensor))))
    return found


def history(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "history.json").read_text()))


def of_history(records: list[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    return [(record["iteration"], figures_of(record)) for record in records]


class TestATraining:
    @pytest.mark.pictures
    def test_both_get_the_history_the_parameters_and_the_validation(
        self, balls: Path, tmp_path: Path, command: Command, server: Runs
    ) -> None:
        flags = ("--track", "tensorboard", "--track", "mlflow", "--iterations", 4, "--seed", 3)
        assert command("train", 901, 0, *flags, *BRIEFLY)[0] == 0
        fold = tmp_path / MODEL / "fold_0"
        records = history(fold)
        assert {"train_loss", "val_loss", "learning_rate", "nodes/recall", "nodes/f1"} <= set(figures_of(records[-1]))
        [run] = server.runs.values()
        assert run["metrics"][: len(records)] == of_history(records)
        assert run["name"] == "Dataset901_Balls/LNTrainer/fold_0"
        plans = json.loads((tmp_path / MODEL / "plans.json").read_text())
        expected = {"plan_hash": Plan(plans).hash(), "seed": "3", "fold": "0", "trainer": "LNTrainer", "length": "4 iterations"}
        assert expected.items() <= run["params"].items()
        assert run["params"]["strategy"] == plans["lnauto"]["strategy"]
        evaluation = json.loads((fold / "validation/evaluation.json").read_text())
        step, final = run["metrics"][-1]
        assert (step, final["validation/dice"]) == (4, evaluation["mean_over_labels"]["dice"])
        assert final["validation/nodes/recall"] == evaluation["nodes"]["all nodes"]["pooled"]["recall"]
        assert (run["files"], run["status"]) == (["progress.png", "evaluation.json"], "FINISHED")
        shown = scalars(fold)
        assert shown["train_loss"] == [(step, pytest.approx(figures["train_loss"])) for step, figures in of_history(records)]
        assert shown["validation/dice"] == [(4, pytest.approx(final["validation/dice"]))]

    def test_going_on_stays_in_the_run_and_repeats_no_step(
        self, balls: Path, tmp_path: Path, command: Command, server: Runs
    ) -> None:
        both = ("--track", "tensorboard", "--track", "mlflow", *BRIEFLY)
        assert command("train", 901, 0, "--epochs", 1, *both)[0] == 0
        fold = tmp_path / MODEL / "fold_0"
        length = history(fold)[-1]["iteration"]
        assert command("train", 901, 0, "--continue", "--iterations", length + 2, *both)[0] == 0
        assert command("train", 901, 0, "--continue", *both)[0] == 0  # validated again
        [run] = server.runs.values()
        steps = [step for step, figures in run["metrics"] if "train_loss" in figures]
        assert steps == [record["iteration"] for record in history(fold)] == sorted(set(steps))
        validated = [step for step, figures in run["metrics"] if "validation/dice" in figures]
        assert validated == [length, length + 2]
        assert (run["params"]["length"], run["tags"]["length"]) == (f"{length} iterations", f"{length + 2} iterations")
        assert [step for step, _ in scalars(fold)["train_loss"]] == steps
        assert command("train", 901, 0, "--overwrite", "--iterations", 2, *both)[0] == 0
        assert (len(server.runs), [step for step, _ in scalars(fold)["train_loss"]]) == (2, [2])
        assert command("train", 901, 0, "--overwrite", "--iterations", 2, *BRIEFLY)[0] == 0
        assert not (fold / EVENTS).exists()
        assert not (fold / STATE).exists()

    def test_epochs_are_sent_when_they_end(self, balls: Path, command: Command, server: Runs) -> None:
        """Not only with a validation, which sends what is missing: the model of all cases has none."""
        assert command("train", 901, "all", "--iterations", 2, "--track", "mlflow", *BRIEFLY)[0] == 0
        [run] = server.runs.values()
        assert [step for step, _ in run["metrics"]] == [2]

    def test_a_package_that_is_missing_is_a_line_before_anything_is_trained(
        self, balls: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "mlflow", None)
        code, _, complaint = command("train", 901, 0, "--track", "mlflow", "--iterations", 1, *BRIEFLY)
        assert (code, complaint.count("\n")) == (2, 1)
        assert complaint == "lnauto: mlflow is not installed, in --track; install it: pip install 'lnauto[mlflow]'\n"
        assert not (tmp_path / "results").exists()

    def test_nothing_is_imported_unasked(self, balls: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("mlflow", "tensorboard", "torch.utils.tensorboard"):
            monkeypatch.setitem(sys.modules, module, None)
        assert command("train", 901, 0, "--iterations", 1, *BRIEFLY)[0] == 0


class TestFaults:
    """A stand-in for a trainer is enough: what is told is told by `Tracking`."""

    def trainer(self, folder: Path, records: list[dict[str, Any]]) -> Any:
        folder.mkdir(exist_ok=True)
        return types.SimpleNamespace(local_rank=0, output_folder=str(folder), history=records)

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch, server: Runs) -> None:
        monkeypatch.setattr(tracking, "parameters_of", lambda _: {"length": "9 iterations"})
        monkeypatch.setattr(tracking, "name_of", lambda _: "a run")

    @pytest.mark.usefixtures("opened")
    @pytest.mark.parametrize("from_the_start", [True, False])
    def test_a_server_that_does_not_answer_is_a_warning(
        self, tmp_path: Path, server: Runs, said: list[str], from_the_start: bool
    ) -> None:
        server.failing = from_the_start
        records: list[dict[str, Any]] = []
        follow = Tracking(["mlflow", "tensorboard"])
        with follow.of(self.trainer(tmp_path / "fold", records)):
            for step in range(3):
                follow.epoch({"iteration": step, "train_loss": 1.0})
                server.failing = True
        assert said == ["Tracking with mlflow has stopped: no answer. The training goes on."]
        assert [step for step, _ in scalars(tmp_path / "fold")["train_loss"]] == [0, 1, 2]

    @pytest.mark.usefixtures("opened")
    def test_what_was_not_sent_is_sent_when_the_training_goes_on(self, tmp_path: Path, server: Runs) -> None:
        records: list[dict[str, Any]] = []
        follow = Tracking(["mlflow"])
        trainer = self.trainer(tmp_path / "fold", records)

        def train() -> None:
            with follow.of(trainer):
                for step in range(3):
                    records.append({"iteration": step, "train_loss": float(step)})
                    follow.epoch(records[-1])
                    if step == 1:
                        follow.lines["mlflow"].close("KILLED", [])
                        follow.lines = {}  # as if what comes now did not get through
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train()
        assert [run["status"] for run in server.runs.values()] == ["KILLED"]
        with follow.of(trainer):
            follow.epoch({"iteration": 3, "train_loss": 3.0})
        [run] = server.runs.values()
        assert run["metrics"] == [(step, {"train_loss": float(step)}) for step in range(4)]

    @pytest.mark.usefixtures("opened")
    def test_a_training_that_fails_ends_its_run_and_another_one_begins_a_new(self, tmp_path: Path, server: Runs) -> None:
        trainer = self.trainer(tmp_path / "fold", [])
        for _ in range(2):
            with pytest.raises(MemoryError), Tracking(["mlflow"]).of(trainer):
                raise MemoryError
        assert [run["status"] for run in server.runs.values()] == ["KILLED", "KILLED"]

    def test_a_server_that_hangs_is_left_behind(self, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        answer = threading.Event()
        monkeypatch.setattr(tracking, "PATIENCE_S", 0.05)
        late = types.SimpleNamespace(remembers={}, keep=lambda files: None, close=lambda status: None)
        monkeypatch.setitem(tracking.TRACKERS, "mlflow", lambda *_: answer.wait(30) and late)
        started = time.monotonic()
        with Tracking(["mlflow"]).of(self.trainer(tmp_path / "fold", [])):
            pass
        assert time.monotonic() - started < 5
        answer.set()
        assert said == ["Tracking with mlflow is not done after 0 s, and is left behind."]

    @pytest.mark.usefixtures("opened")
    def test_a_spoilt_state_is_a_warning(self, tmp_path: Path, said: list[str]) -> None:
        trainer = self.trainer(tmp_path / "fold", [{"iteration": 1, "train_loss": 1.0}])
        (tmp_path / "fold" / STATE).write_text("{")
        with Tracking(["mlflow"]).of(trainer):
            pass
        assert "not valid JSON" in said[0]


def test_with_the_real_client(balls: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a database in a folder, as MLflow does by itself."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow's client is not installed (lnauto[mlflow])")
    pytest.importorskip("alembic", reason="MLflow's client has no database here (lnauto[mlflow])")
    monkeypatch.setattr(tracking, "PATIENCE_S", 120.0)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    flags = ("--track", "mlflow", *BRIEFLY)
    assert command("train", 901, 0, "--iterations", 2, *flags)[0] == 0
    assert command("train", 901, 0, "--iterations", 4, "--continue", *flags)[0] == 0
    client = mlflow.MlflowClient()
    [run] = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "Dataset901_Balls/LNTrainer/fold_0"
    points = client.get_metric_history(run.info.run_id, "train_loss")
    records = history(tmp_path / MODEL / "fold_0")
    assert [(point.step, point.value) for point in points] == [(one["iteration"], one["train_loss"]) for one in records]
    assert "evaluation.json" in {one.path for one in client.list_artifacts(run.info.run_id)}


def test_numbers_that_do_not_exist_are_left_out() -> None:
    record = {"iteration": 5, "dice": None, "dice_per_label": [0.5], "val_loss": float("nan"), "train_loss": 2, "nodes": None}
    assert figures_of(record) == {"train_loss": 2.0}
    assert figures_of({**record, "nodes": {"cases": 2, "recall": 0.5, "f1": None}}) == {"train_loss": 2.0, "nodes/recall": 0.5}
