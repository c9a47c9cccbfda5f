"""Training: repeatable, killed and continued, within its budget, and readable as data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnauto.data.gathered import Gathered
from lnauto.files import read_json
from lnauto.networks.compute import Compute
from lnauto.trainers.batches import TRAINING, seeded
from lnauto.trainers.interrupts import held_back
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.material import Material
from lnauto.trainers.options import Options
from lnauto.trainers.schedule import Clock, Length, learning_rate
from lnauto.trainers.validation import NodeCheck

Command = Callable[..., tuple[int, str, str]]
MODEL = "results/Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres"


def make_trainer(balls: Path, iterations: int = 6, seed: int = 0, workers: int = 0, **options: Any) -> LNTrainer:
    base = balls / "preprocessed" / "Dataset901_Balls"
    plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
    trainer = LNTrainer(plan, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.configure(Options(Length(iterations, None, 3, 1), seed, workers=workers, quiet=True, **options))
    return trainer


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(checkpoint, weights_only=True)["network_weights"])


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(balls: Path, command: Command) -> None:
    results = []
    for seed in (3, 3, 4):
        code, _, complaint = command(
            "train", 901, 0, "--iterations", 6, "--seed", seed, "--overwrite", "--quiet", "--device", "cpu"
        )
        assert code == 0, complaint
        results.append(weights(Path(MODEL) / "fold_0/checkpoint_final.pth"))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_a_network_with_a_folder_of_its_own_writes_nothing_beside_the_models(balls: Path, tmp_path: Path) -> None:
    """A try or an inner network may belong to another plan than the model whose name it has, and nobody has locked that."""
    cases = Gathered({"ball_00": balls / "preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres"})
    for output, written in ((tmp_path / "try", False), (None, True)):
        trainer = make_trainer(balls, iterations=1)
        trainer.learn_from(Material(cases, ("ball_01",), output))
        trainer.on_train_start()
        assert [(Path(MODEL) / name).is_file() for name in ("plans.json", "dataset.json")] == [written, written]


def test_background_workers_change_nothing(balls: Path) -> None:
    batches = []
    for workers in (0, 1):
        trainer = make_trainer(balls, workers=workers)
        trainer.on_train_start()
        assert trainer.dataloader_train is not None
        batches.append([next(trainer.dataloader_train)["data"] for _ in range(3)])
        trainer.dataloader_train = None
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_batch_i_depends_on_the_seed_and_i_alone(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.on_train_start()
    late = make_trainer(balls)
    late.clock = Clock(late.options.length, iteration=2)
    late.on_train_start()
    assert trainer.dataloader_train is not None
    assert late.dataloader_train is not None
    third = [next(trainer.dataloader_train) for _ in range(3)][2]
    assert torch.equal(third["data"], next(late.dataloader_train)["data"])


def test_the_plan_says_which_way_batches_and_predictions_are_mirrored(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.on_train_start()
    left_right = trainer.plans_manager.transpose_forward.index(2)
    assert trainer.inference_allowed_mirroring_axes == (left_right,)
    trainer.plans_manager.plans["lnauto"]["mirroring"] = "all"
    assert trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[3] == (0, 1, 2)


@pytest.mark.parametrize(("augmentation", "changes"), [("geometry", False), ("full", True)])
def test_the_plan_says_whether_batches_keep_their_intensities(balls: Path, augmentation: str, changes: bool) -> None:
    trainer = make_trainer(balls)
    trainer.plans_manager.plans["lnauto"]["augmentation"] = augmentation
    trainer.on_train_start()
    cases = trainer.dataset_class(trainer.preprocessed_dataset_folder, trainer.do_split()[0])
    images = [cases.load_case(name)[0][:] for name in cases.identifiers]
    lowest, highest = min(image.min() for image in images), max(image.max() for image in images)
    batches = [next(trainer.dataloader_train)["data"] for _ in range(12)]
    beyond = any(batch.min() < lowest - 1e-3 or batch.max() > highest + 1e-3 for batch in batches)
    assert beyond == changes


def test_seeding_a_batch_leaves_the_generators_outside_alone() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.random(), torch.rand(1).item()
    np.random.seed(1)
    torch.manual_seed(1)
    with seeded(7, TRAINING, 0, 5):
        inside = np.random.random(), torch.rand(1).item()
    assert (np.random.random(), torch.rand(1).item()) == expected
    assert inside != expected


KILLED = """
import os, signal, sys
from lnauto.trainers import lntrainer
from lnauto.commands.train import main

save = lntrainer.LNTrainer.save_checkpoint
def save_and_die(self, filename):
    save(self, filename)
    if filename.endswith("latest.pth") and self.clock.iteration == 4:
        os.kill(os.getpid(), signal.SIGKILL)
lntrainer.LNTrainer.save_checkpoint = save_and_die
configure = lntrainer.LNTrainer.configure
def save_always(self, options):
    configure(self, lntrainer.replace(options, save_every_seconds=0))
lntrainer.LNTrainer.configure = save_always
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_training_ends_at_the_same_weights_as_one_left_alone(balls: Path, command: Command) -> None:
    arguments = ["901", "0", "--iterations", "6", "--seed", "5", "--quiet", "--device", "cpu"]
    checkpoint = Path(MODEL) / "fold_0/checkpoint_final.pth"
    assert command("train", *arguments)[0] == 0
    undisturbed = weights(checkpoint)
    checkpoint.unlink()
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], env=os.environ.copy(), capture_output=True, text=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not checkpoint.exists()
    code, _, complaint = command("train", "901", "0", "--continue", "--quiet", "--device", "cpu")
    assert code == 0, complaint
    assert same(undisturbed, weights(checkpoint))
    history = json.loads((Path(MODEL) / "fold_0/history.json").read_text())
    assert [record["iteration"] for record in history] == [6]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(balls)
    trainer.initialize()
    target = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(target))
    before = target.read_bytes()

    def torn(content: object, path: Path) -> None:
        path.write_bytes(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(str(target))
    assert target.read_bytes() == before
    assert list(target.parent.glob(".*")) == []


def test_a_checkpoint_is_plain_data_with_the_keys_stock_reads(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.run_training()
    content = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=True)
    stock = {
        "network_weights",
        "optimizer_state",
        "grad_scaler_state",
        "logging",
        "_best_ema",
        "current_epoch",
        "init_args",
        "trainer_name",
    }
    assert stock | {"inference_allowed_mirroring_axes", "lnauto"} == set(content)
    assert content["trainer_name"] == "LNTrainer"
    assert content["init_args"]["configuration"] == "3d_fullres"
    assert content["lnauto"]["iteration"] == 6
    assert set(content["lnauto"]["random_state"]) == {"python", "numpy", "torch", "cuda"}


@pytest.mark.parametrize(
    ("begun_on", "stored", "used"), [("cuda:0", "amp", "fp32"), ("cuda", "bf16", "fp32"), ("cpu", "bf16", "bf16")]
)
def test_precision_is_chosen_anew_on_another_device(
    balls: Path, monkeypatch: pytest.MonkeyPatch, begun_on: str, stored: str, used: str
) -> None:
    monkeypatch.setattr("lnauto.trainers.lntrainer.choose_compute", lambda *given: Compute(given[3], "fp32"))
    trainer = make_trainer(balls)
    trainer.initialize()
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    content = torch.load(path, weights_only=True)
    content["init_args"]["device"], content["lnauto"]["precision"] = begun_on, stored
    again = make_trainer(balls)
    again.load_checkpoint(content)
    assert again.compute is not None
    assert (again.compute.device.type, again.compute.precision) == ("cpu", used)


def test_random_numbers_go_on_where_the_checkpoint_left_them(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.initialize()
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    expected = np.random.random(), torch.rand(1).item()
    again = make_trainer(balls)
    again.load_checkpoint(torch.load(path, weights_only=True))
    assert (np.random.random(), torch.rand(1).item()) == expected


@pytest.fixture
def _slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training step takes half a minute longer by the clock, so that minutes pass within seconds; test_demo.py keeps a
    budget by the real clock."""
    clock, step, steps = time.monotonic, LNTrainer.train_step, list[None]()

    def slow(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        steps.append(None)
        return step(self, batch)

    monkeypatch.setattr(LNTrainer, "train_step", slow)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 30 * len(steps))


@pytest.mark.usefixtures("_slow_steps")
def test_a_budget_is_kept_and_the_learning_rate_ends_low(balls: Path, command: Command) -> None:
    started = time.monotonic()
    code, out, complaint = command("train", 901, 0, "--budget", "15min", "--device", "cpu", "--workers", 0)
    took = time.monotonic() - started
    assert code == 0, complaint
    assert re.search(r"^Budget of (14\.\d|15\.0) min: training", out, re.MULTILINE)
    assert 13 * 60 < took < 17 * 60
    history = json.loads((Path(MODEL) / "fold_0/history.json").read_text())
    plan = read_json(balls / "preprocessed/Dataset901_Balls/lnautoPlans.json", "")
    assert history[-1]["learning_rate"] < 0.1 * plan["lnauto"]["optimizer"]["learning_rate"]


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(1.0, iteration / 100, iteration, 10) for iteration in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9]
    assert rates[50] == pytest.approx(0.5**0.9)
    assert rates[-1] == pytest.approx(0.01**0.9)


@pytest.mark.pictures
def test_training_learns_and_tells_nodes_beside_dice(balls: Path, command: Command) -> None:
    code, out, complaint = command("train", 901, 0, "--iterations", 60, "--device", "cpu", "--workers", 0)
    assert code == 0, complaint
    assert "Validation of fold 0" in out
    fold = Path(MODEL) / "fold_0"
    evaluation = json.loads((fold / "validation/evaluation.json").read_text())
    assert evaluation["labels"]["node"]["dice"]["mean"] > 0.5
    history = json.loads((fold / "history.json").read_text())
    assert 0 <= history[-1]["nodes"]["recall"] <= 1
    assert history[-1]["nodes"]["false_per_case"] >= 0
    assert (fold / "progress.png").read_bytes().startswith(b"\x89PNG")
    validated = {path.name for path in (fold / "validation").glob("*.nii.gz")}
    splits = read_json(balls / "preprocessed/Dataset901_Balls/splits_final.json", "")
    assert validated == {f"{name}.nii.gz" for name in splits[0]["val"]}


def test_whole_cases_are_looked_at_ten_times_even_if_no_node_is_in_them(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[int]()
    monkeypatch.setattr(NodeCheck, "run", lambda check: looks.append(check.trainer.clock.iteration))
    length, train_step = Length(20, None, 1, 1), LNTrainer.train_step

    def interrupted(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if self.clock.iteration == 9:
            raise KeyboardInterrupt
        return train_step(self, batch)

    trainer = make_trainer(balls)
    trainer.configure(replace(trainer.options, length=length))
    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.run_training()
    again = make_trainer(balls)
    again.configure(replace(again.options, length=length))
    again.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    again.run_training()
    assert looks == list(range(2, 21, 2))


def test_a_training_is_neither_overwritten_nor_continued_unasked(balls: Path, command: Command) -> None:
    assert command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")[0] == 0
    before = (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes()
    code, _, complaint = command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")
    assert code == 2
    folder = Path.cwd() / MODEL / "fold_0"
    told = f"lnauto: a training of fold 0 is finished there already, in {folder}; "
    assert complaint == told + "add --continue to go on, or --overwrite to start anew\n"
    assert (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["901", "9"], "there is no fold 9 (there: 0, 1, 2, 3, 4)"),
        (["902", "0"], "there is no data set 902 (there: Dataset901_Balls)"),
        (["901", "0", "-c", "2d"], "the plan has no configuration 2d (it has 3d_fullres)"),
        (["901", "0", "-tr", "LNTrainerMagic"], "there is no trainer LNTrainerMagic (there: LNTrainer,"),
        (["901", "0", "--budget", "1s"], "the budget leaves 1 s for fold 0"),
        (["901", "0", "--device", "cuda"], "there is no device cuda on this machine"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(balls: Path, command: Command, arguments: list[str], line: str) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, _, complaint = command("train", *arguments)
    assert code == 2
    assert line in complaint
    assert complaint.startswith("lnauto: ")
    assert complaint.count("\n") == 1


def test_a_budget_too_small_leaves_a_finished_training_alone(balls: Path, command: Command) -> None:
    assert command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")[0] == 0
    before = (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes()
    assert command("train", 901, 0, "--budget", "1s", "--overwrite", "--quiet", "--device", "cpu")[0] == 2
    assert (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes() == before


@pytest.mark.usefixtures("_slow_steps")
def test_a_finished_training_is_extended_by_iterations_or_by_time(balls: Path, command: Command) -> None:
    def iterations() -> int:
        return int(torch.load(Path(MODEL) / "fold_0/checkpoint_final.pth", weights_only=True)["lnauto"]["iteration"])

    assert command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")[0] == 0
    _, out, _ = command("train", 901, 0, "--continue", "--device", "cpu")
    assert "Fold 0 is trained already (2 iterations)." in out
    assert command("train", 901, 0, "--continue", "--iterations", 4, "--quiet", "--device", "cpu")[0] == 0
    assert iterations() == 4
    code, _, complaint = command("train", 901, 0, "--continue", "--budget", "2min", "--quiet", "--device", "cpu", "--workers", 0)
    assert code == 0, complaint
    assert iterations() > 4


def test_stopping_from_the_keyboard_saves_where_it_is(balls: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    step, seen = LNTrainer.train_step, 0

    def interrupted(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(LNTrainer, "train_step", interrupted)
    code, _, complaint = command("train", 901, 0, "--iterations", 6, "--quiet", "--device", "cpu")
    assert (code, complaint.startswith("lnauto: stopped from the keyboard")) == (130, True)
    state = torch.load(Path(MODEL) / "fold_0/checkpoint_latest.pth", weights_only=True)["lnauto"]
    assert state["iteration"] == 3
    monkeypatch.undo()


@pytest.fixture
def _keyboard() -> Iterator[None]:
    """Ctrl-C is heard, which a shell's jobs in the background ignore."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("_keyboard")
def test_a_step_that_was_begun_is_counted_before_the_keyboard_stops_it(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update, handler = LNTrainer.update, signal.getsignal(signal.SIGINT)

    def interrupted(self: LNTrainer) -> None:
        update(self)
        if self.clock.iteration == 3:
            signal.raise_signal(signal.SIGINT)

    undisturbed = make_trainer(balls)
    undisturbed.run_training()
    stopped = make_trainer(balls)
    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stopped.run_training()
    assert (stopped.clock.iteration, signal.getsignal(signal.SIGINT)) == (4, handler)
    again = make_trainer(balls)
    again.load_checkpoint(str(Path(stopped.output_folder) / "checkpoint_latest.pth"))
    again.run_training()
    assert same(undisturbed.deployed_weights(), again.deployed_weights())


@pytest.mark.usefixtures("_keyboard")
def test_the_keyboard_is_held_back_where_python_would_have_heard_it() -> None:
    """Not in another thread, which may not set a handler, nor where it is ignored."""
    done = []

    def within() -> None:
        with held_back():
            done.append("within")

    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("ignored")
    finally:
        signal.signal(signal.SIGINT, former)
    with pytest.raises(KeyboardInterrupt), held_back():  # noqa: PT012 (what matters is that the block goes on)
        signal.raise_signal(signal.SIGINT)
        done.append("held back")
    assert done == ["within", "ignored", "held back"]


@pytest.mark.parametrize("at", [3, 6], ids=["an epoch", "the last epoch"])
def test_stopped_while_an_epoch_is_validated_it_goes_on_as_if_nothing_had_happened(
    balls: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    validate = LNTrainer.validation_step

    def interrupted(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if self.clock.iteration == at:
            raise KeyboardInterrupt
        return validate(self, batch)

    undisturbed = make_trainer(balls)
    undisturbed.run_training()
    stopped = make_trainer(balls)
    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, "validation_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stopped.run_training()
    again = make_trainer(balls)
    again.load_checkpoint(str(Path(stopped.output_folder) / "checkpoint_latest.pth"))
    again.run_training()
    losses = [[(one["iteration"], one["train_loss"]) for one in trainer.history] for trainer in (undisturbed, again)]
    assert losses[0] == losses[1]
    assert same(undisturbed.deployed_weights(), again.deployed_weights())


@pytest.mark.parametrize(("stop_in", "at", "more"), [("validation_step", 4, ()), ("train_step", 3, ("--iterations", 2))])
def test_stopped_at_its_end_or_made_shorter_a_fold_is_finished(
    balls: Path, monkeypatch: pytest.MonkeyPatch, command: Command, stop_in: str, at: int, more: tuple[object, ...]
) -> None:
    """All its iterations are made; what is missing is the last checkpoint."""
    step, arguments = getattr(LNTrainer, stop_in), ("--quiet", "--device", "cpu")

    def interrupted(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if self.clock.iteration == at:
            raise KeyboardInterrupt
        return dict(step(self, batch))

    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, stop_in, interrupted)
        assert command("train", 901, 0, "--iterations", 4, *arguments)[0] == 130
    assert command("train", 901, 0, "--continue", *more, *arguments)[0] == 0
    fold = Path(MODEL) / "fold_0"
    assert [path.name for path in fold.glob("*.pth")] == ["checkpoint_final.pth"]
    assert [record["iteration"] for record in json.loads((fold / "history.json").read_text())] == [at]


def test_a_finished_training_that_was_stopped_while_it_went_on_loses_nothing(
    balls: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    step, begun_at, arguments = LNTrainer.train_step, list[int](), ("--quiet", "--device", "cpu")

    def interrupted(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        begun_at.append(self.clock.iteration)
        if self.clock.iteration == 4:
            raise KeyboardInterrupt
        return step(self, batch)

    fold = Path(MODEL) / "fold_0"
    assert command("train", 901, 0, "--iterations", 2, *arguments)[0] == 0
    finished = (fold / "checkpoint_final.pth").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, "train_step", interrupted)
        assert command("train", 901, 0, "--continue", "--iterations", 6, *arguments)[0] == 130
        assert (begun_at[0], (fold / "checkpoint_final.pth").read_bytes()) == (2, finished)
        begun_at.clear()
        assert command("train", 901, 0, "--continue", *arguments)[0] == 130
        assert begun_at == [4]
    assert command("train", 901, 0, "--continue", *arguments)[0] == 0
    assert [path.name for path in fold.glob("*.pth")] == ["checkpoint_final.pth"]
    assert torch.load(fold / "checkpoint_final.pth", weights_only=True)["lnauto"]["iteration"] == 6


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
    assert complaint.startswith("lnauto: the checkpoint belongs to another network than the plan has now, in ")


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
    assert (Path(MODEL) / "plans.json").read_bytes() == kept


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
    import shutil

    import SimpleITK as sitk

    for name in ("raw", "preprocessed"):
        shutil.copytree(balls / name, tmp_path / "own" / name)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / "own" / name))
    label = tmp_path / "own/raw/Dataset901_Balls/labelsTr/ball_03.nii.gz"
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


def test_cross_validation_trains_every_fold_and_pools_them(balls: Path, command: Command) -> None:
    code, out, complaint = command("train", 901, "cv", "--iterations", 2, "--device", "cpu")
    assert code == 0, complaint
    assert "Pooled over all folds" in out
    pooled = json.loads((Path(MODEL) / "crossvalidation/evaluation.json").read_text())
    assert pooled["cases"] == 6
