"""A training that was killed, or stopped with Ctrl-C, ends as one left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ball_trainings import MODEL, Command, make_trainer, same, weights

from lnauto.trainers.interrupts import held_back
from lnauto.trainers.lntrainer import LNTrainer

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


def stopped_and_gone_on_with(
    balls: Path, monkeypatch: pytest.MonkeyPatch, method: str, interrupted: Callable[..., Any]
) -> tuple[LNTrainer, LNTrainer, LNTrainer]:
    """A training left alone, the same with a method that stops it, and what became of that."""
    undisturbed, stopped, again = (make_trainer(balls) for _ in range(3))
    undisturbed.run_training()
    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            stopped.run_training()
    again.load_checkpoint(str(Path(stopped.output_folder) / "checkpoint_latest.pth"))
    again.run_training()
    return undisturbed, stopped, again


@pytest.fixture
def _keyboard() -> Iterator[None]:
    """Ctrl-C is heard, which a shell's jobs in the background ignore."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_a_process_that_makes_batches_and_dies_is_told(balls: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    step = LNTrainer.train_step

    def without_worker(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        for worker in multiprocessing.active_children():
            worker.kill()
        return step(self, batch)

    monkeypatch.setattr(LNTrainer, "train_step", without_worker)
    code, _, complaint = command("train", 901, 0, "--iterations", 20, "--quiet", "--device", "cpu", "--workers", 1)
    assert code == 2
    assert complaint.startswith("lnauto: a process that makes batches died, most likely for want of memory, in ")
    assert complaint.endswith("; have fewer of them (--workers, 0 for none); what is saved goes on with --continue\n")


@pytest.mark.usefixtures("_keyboard")
def test_a_step_that_was_begun_is_counted_before_the_keyboard_stops_it(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update, handler = LNTrainer.update, signal.getsignal(signal.SIGINT)

    def interrupted(self: LNTrainer) -> None:
        update(self)
        if self.clock.iteration == 3:
            signal.raise_signal(signal.SIGINT)

    undisturbed, stopped, again = stopped_and_gone_on_with(balls, monkeypatch, "update", interrupted)
    assert (stopped.clock.iteration, signal.getsignal(signal.SIGINT)) == (4, handler)
    assert same(undisturbed.deployed_weights(), again.deployed_weights())


@pytest.mark.usefixtures("_keyboard")
def test_an_epoch_that_is_written_down_is_not_ended_again(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = LNTrainer.keep_record

    def interrupted(self: LNTrainer, record: dict[str, Any]) -> None:
        if record["iteration"] == 3:
            signal.raise_signal(signal.SIGINT)
        keep(self, record)

    _, stopped, again = stopped_and_gone_on_with(balls, monkeypatch, "keep_record", interrupted)
    assert [record["iteration"] for record in stopped.history] == [3]
    assert json.loads((Path(again.output_folder) / "history.json").read_text())[0] == stopped.history[0]
    assert [record["iteration"] for record in again.history] == [3, 6]


@pytest.mark.usefixtures("_keyboard")
def test_the_last_checkpoint_is_written_before_the_keyboard_stops_it(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, trainer = LNTrainer.save_checkpoint, make_trainer(balls)

    def interrupted(self: LNTrainer, filename: str) -> None:
        signal.raise_signal(signal.SIGINT)
        save(self, filename)

    monkeypatch.setattr(LNTrainer, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    assert [path.name for path in Path(trainer.output_folder).glob("*.pth")] == ["checkpoint_final.pth"]


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

    undisturbed, _, again = stopped_and_gone_on_with(balls, monkeypatch, "validation_step", interrupted)
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
