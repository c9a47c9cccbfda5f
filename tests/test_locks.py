"""Two runs never work in one folder: the second says who is there; a run that was killed does not stand in the way."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
import SimpleITK as sitk

from lnauto import locks
from lnauto.errors import InputError
from lnauto.locks import LOCK, Owner, locked, locked_beside

Command = Callable[..., tuple[int, str, str]]
FOLD = "results/Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres/fold_0"


@pytest.fixture
def another() -> Iterator[Owner]:
    """Another process that is alive, as it would write itself down."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        there = psutil.Process(process.pid)
        yield replace(Owner.of_this_process(), process=process.pid, started=there.create_time(), command="lnauto_train 501 0")
        process.kill()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was logged as a warning."""
    lines: list[str] = []
    monkeypatch.setattr(logging.getLogger("lnauto.locks"), "warning", lambda text, *parts: lines.append(text % parts))
    return lines


def leave(owner: Owner, folder: Path, silent: float = 0.0) -> Path:
    """The lock of a run, renewed so many seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK).write_text(json.dumps(asdict(owner)))
    os.utime(folder / LOCK, times=(time.time() - silent,) * 2)
    return folder / LOCK


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as raised, locked(folder):
        pass
    return str(raised.value)


def takes(folder: Path) -> bool:
    with locked(folder):
        return Owner(**json.loads((folder / LOCK).read_text())).process == os.getpid()


def test_a_lock_lasts_as_long_as_its_block(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert (tmp_path / LOCK).is_file()
    assert list(tmp_path.iterdir()) == []
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), locked(tmp_path):
            raise error
        assert list(tmp_path.iterdir()) == []


def test_folders_that_only_the_lock_needed_go_with_it(tmp_path: Path) -> None:
    with locked(tmp_path / "a/b"):
        assert (tmp_path / "a/b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a/b"):
        (tmp_path / "a/mask").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mask"]


def test_a_command_that_calls_another_meets_its_own_lock(tmp_path: Path) -> None:
    with locked(tmp_path):
        with locked(tmp_path):
            pass
        assert (tmp_path / LOCK).is_file()


def test_who_is_there_is_told_in_a_line(tmp_path: Path, another: Owner) -> None:
    leave(another, tmp_path)
    line = refusal(tmp_path)
    assert line.startswith(f"lnauto: another run is at work there (lnauto_train 501 0, process {another.process} on ")
    assert f"on {another.machine}, since {another.since}), in {tmp_path}; wait until it has ended" in line
    assert f"delete {tmp_path / LOCK}" in line
    assert "\n" not in line
    assert (tmp_path / LOCK).is_file()


def test_a_run_on_this_machine_that_is_silent_is_there_all_the_same(tmp_path: Path, another: Owner) -> None:
    leave(another, tmp_path, silent=10 * locks.SILENT_SECONDS)
    assert "another run" in refusal(tmp_path)


def test_a_process_that_is_gone_is_taken_over_from(tmp_path: Path, another: Owner, told: list[str]) -> None:
    process = psutil.Process(another.process)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:  # nobody has waited for it, so that its number is still in use
        time.sleep(0.01)
    leave(another, tmp_path)
    assert takes(tmp_path)
    assert told == [f"A run ended in {tmp_path} without a word ({another}); this one takes over."]
    assert list(tmp_path.iterdir()) == []


def test_another_process_of_that_number_is_not_the_one_that_was_there(tmp_path: Path, another: Owner) -> None:
    """Unless the lock is renewed: then it is the clock of the machine that was set."""
    earlier = replace(another, started=another.started - 3600)
    leave(earlier, tmp_path, silent=3 * locks.BEAT_SECONDS)
    assert takes(tmp_path)
    leave(earlier, tmp_path)
    assert "another run" in refusal(tmp_path)


@pytest.mark.parametrize("elsewhere", [{"machine": "far-away"}, {"processes": "pid:[1]"}])
def test_a_run_elsewhere_is_there_as_long_as_it_is_heard_of(tmp_path: Path, another: Owner, elsewhere: dict[str, str]) -> None:
    """On another machine, or in another container of this one: its process number means nothing here."""
    foreign = replace(another, process=1, **elsewhere)
    leave(foreign, tmp_path, silent=locks.SILENT_SECONDS - 30)
    assert "another run" in refusal(tmp_path)
    leave(foreign, tmp_path, silent=locks.SILENT_SECONDS + 30)
    assert takes(tmp_path)


def test_a_lock_that_says_nothing_counts_until_it_is_old(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    lock.touch()
    assert "a run that has just begun, or was killed then" in refusal(tmp_path)
    os.utime(lock, times=(time.time() - 2 * locks.SILENT_SECONDS,) * 2)
    assert takes(tmp_path)


def test_a_lock_is_renewed_while_its_run_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, times=(0, 0))
        deadline = time.monotonic() + 10
        while not (tmp_path / LOCK).stat().st_mtime and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - (tmp_path / LOCK).stat().st_mtime < 60
    assert not any(thread.name == "lnauto lock" for thread in threading.enumerate())


def test_a_lock_that_became_anothers_is_left_and_told(
    tmp_path: Path, another: Owner, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
    with locked(tmp_path):
        leave(another, tmp_path)
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told == [f"{tmp_path / LOCK} is gone, or another run's: two runs may be at work there."]
    assert Owner(**json.loads((tmp_path / LOCK).read_text())) == another


def test_of_two_that_take_over_one_does(tmp_path: Path, another: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was slower looks again, and meets the other in the place of the killed run."""
    leave(replace(another, token="dead", started=0.0), tmp_path, silent=1000)
    look, looks = locks._look_at, list[Path]()

    def meanwhile(lock: Path) -> tuple[Owner, float] | None:
        found = look(lock)
        if not looks:
            leave(another, tmp_path)
        looks.append(lock)
        return found

    monkeypatch.setattr(locks, "_look_at", meanwhile)
    assert f"another run is at work there ({another})" in refusal(tmp_path)
    assert Owner(**json.loads((tmp_path / LOCK).read_text())) == another
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_while_one_takes_over_another_waits(tmp_path: Path, another: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SUCCESSION_SECONDS", 0.5)
    lock = leave(replace(another, token="dead", started=0.0), tmp_path, silent=1000)
    before = lock.read_text()
    hand = lock.with_name(f"{LOCK}{locks.SUCCESSION}")
    hand.write_text(json.dumps(asdict(another)))
    assert f"delete {hand}" in refusal(tmp_path)  # it had it for longer than that takes
    assert lock.read_text() == before

    monkeypatch.setattr(locks, "SUCCESSION_SECONDS", 60.0)
    threading.Timer(0.3, hand.unlink).start()
    assert takes(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_who_was_killed_while_it_took_over_is_succeeded_too(tmp_path: Path, another: Owner) -> None:
    dead = replace(another, token="dead", started=0.0)
    lock = leave(dead, tmp_path, silent=1000)
    hand = lock.with_name(f"{LOCK}{locks.SUCCESSION}")
    hand.write_text(json.dumps(asdict(dead)))
    os.utime(hand, times=(0, 0))
    assert takes(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_at_no_time_is_a_place_free_that_is_taken_over(tmp_path: Path, another: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a third run creates its lock then, and two are at work."""
    lock = leave(replace(another, token="dead", started=0.0), tmp_path, silent=1000)
    tried = list[bool]()

    def third(then: Callable[..., None]) -> Callable[..., None]:
        def step(*parts: object) -> None:
            tried.append(locks._create(lock, another))
            then(*parts)
            tried.append(locks._create(lock, another))

        return step

    monkeypatch.setattr(locks, "write_json", third(locks.write_json))
    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, third(getattr(os, name)))
    with locked(tmp_path):
        pass
    assert len(tried) > 2
    assert not any(tried[:-1])  # it is free at last, when it is given back


def test_many_runs_that_start_at_once_work_one_after_the_other_or_not_at_all(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from lnauto.errors import InputError
from lnauto.locks import locked
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    with locked(Path(sys.argv[1])):
        (Path(sys.argv[1]) / "inside").open("x").close()
        time.sleep(1)
        (Path(sys.argv[1]) / "inside").unlink()
except InputError:
    sys.exit(2)
"""
    dead = replace(Owner.of_this_process(), process=2**22 + 1)  # no process has that number
    leave(dead, tmp_path)
    at = str(time.time() + 1.5)
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), at], stderr=subprocess.PIPE) for _ in range(6)]
    told = [(run.communicate()[1].decode(), run.returncode) for run in runs]
    assert {code for _, code in told} <= {0, 2}, told
    assert sum(code == 0 for _, code in told) >= 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_had_not_finished_goes_and_what_others_write_stays(tmp_path: Path, another: Owner) -> None:
    fold, model = tmp_path / "model/fold_0", tmp_path / "model"
    gone = replace(another, machine="far-away", process=4711)
    leave(gone, fold, silent=2 * locks.SILENT_SECONDS)
    unfinished = [fold / ".4711.checkpoint_latest.pth", fold / "validation/.4711.ball.nii.gz", model / ".4711.plans.json"]
    others = [fold / "history.json", fold / ".99.history.json", model / "fold_1/.4711.history.json"]
    for path in unfinished + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with locked(fold, model):
        assert [path for path in unfinished if path.exists()] == []
    assert [path for path in others if not path.exists()] == []


@pytest.mark.parametrize(
    "said",
    [
        {"process": "x/../../victim"},  # what was read as the number of a process led out of the folder, and was removed there
        {"process": "*"},
        {"process": -1, "machine": None},
        {"process": "4711", "machine": None},
        {"started": "long ago", "machine": None},
    ],
)
def test_a_lock_from_elsewhere_is_a_text_and_removes_nothing(tmp_path: Path, another: Owner, said: dict[str, object]) -> None:
    given, victim = tmp_path / "given", tmp_path / "victim.nii.gz"
    (given / ".x").mkdir(parents=True)
    victim.write_text("mine")
    (given / ".hidden.file").write_text("theirs")
    here = said.get("machine", "elsewhere") or another.machine
    lock = leave(replace(another, machine=str(here)), given)
    lock.write_text(json.dumps({**json.loads(lock.read_text()), **said, "machine": here}))
    assert "another run is at work" in refusal(given)
    os.utime(lock, times=(time.time() - 2 * locks.SILENT_SECONDS,) * 2)
    assert takes(given)
    assert (victim.read_text(), (given / ".hidden.file").read_text()) == ("mine", "theirs")


def test_a_forked_child_does_not_take_the_lock_away(tmp_path: Path) -> None:
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                locks._release(tmp_path / LOCK, locks._owner_of(tmp_path / LOCK))
            os._exit(0)
        os.waitpid(child, 0)
        assert (tmp_path / LOCK).is_file()


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "Read-only file system"), (errno.EACCES, "Permission denied")])
def test_a_folder_that_cannot_be_written_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    line = refusal(tmp_path)
    assert (
        line
        == f"lnauto: the folder cannot be written to ({words}), in {tmp_path}; check its permissions, or choose another folder"
    )


def test_on_a_disk_that_is_read_only_it_can_be_asked_who_is_there(
    tmp_path: Path, another: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a disk refuses to remove even what is not there. Trainings ask it of preprocessed data that others share with them."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert locks.at_work(tmp_path) is None
    leave(another, tmp_path)
    assert locks.at_work(tmp_path) == another


def test_a_full_disk_is_told_and_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json, "dump", refuse)
    assert "free space there" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- the commands


def busy(code_out_err: tuple[int, str, str], another: Owner) -> bool:
    code, _, complaint = code_out_err
    return code == 2 and complaint.count("\n") == 1 and f"another run is at work there ({another})" in complaint


def test_planning_waits_for_nobody_and_does_nothing(balls: Path, another: Owner, command: Command) -> None:
    lock = leave(another, balls / "preprocessed/Dataset901_Balls")
    before = {path: path.stat().st_mtime_ns for path in lock.parent.rglob("*")}
    try:
        assert busy(command("plan_and_preprocess", "-d", 901, "--quiet"), another)
        assert {path: path.stat().st_mtime_ns for path in lock.parent.rglob("*")} == before
    finally:
        lock.unlink()


def test_a_fold_that_is_trained_is_refused_and_another_is_not(balls: Path, another: Owner, command: Command) -> None:
    leave(another, Path(FOLD))
    asked = ("--iterations", 1, "--quiet", "--device", "cpu", "--no-report")
    assert busy(command("train", 901, 0, *asked), another)
    assert busy(command("train", 901, "cv", *asked), another)
    assert sorted(path.name for path in Path(FOLD).parent.iterdir()) == ["fold_0"]
    code, _, complaint = command("train", 901, 1, *asked)
    assert code == 0, complaint
    assert not (Path(FOLD).parent / "fold_1" / LOCK).exists()


def test_cases_that_a_fold_is_trained_on_are_not_made_anew(
    balls: Path, tmp_path: Path, another: Owner, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("raw", "preprocessed"):
        shutil.copytree(balls / folder, tmp_path / folder)
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    lock, cases = leave(another, Path(FOLD)), tmp_path / "preprocessed/Dataset901_Balls"
    asked = ("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    code, _, complaint = command(*asked)  # nothing is to be made anew
    assert code == 0, complaint
    asked_for_wide = (*asked, "--spacing", 3, 3, 3)  # which no label has to do with
    label = next((tmp_path / "raw/Dataset901_Balls/labelsTr").iterdir())
    drawn_before, drawn = sitk.ReadImage(str(label)), sitk.ReadImage(str(label))
    drawn[0, 0, 0] = 1
    sitk.WriteImage(drawn, str(label))
    before = {path: path.stat().st_mtime_ns for path in cases.rglob("*.b2nd")}
    kept = [(path, path.stat().st_mtime_ns) for path in (cases / "lnautoPlans.json", cases / "lnautoPlans_fingerprint.json")]
    train = ("train", 901, 1, "--iterations", 1, "--quiet", "--device", "cpu", "--no-report")
    for command_line in (asked, train):
        code, _, complaint = command(*command_line)
        assert code == 2
        assert "fold_0 of LNTrainer__lnautoPlans__3d_fullres is being trained from preprocessed cases that are" in complaint
        assert str(another) in complaint
        assert {path: path.stat().st_mtime_ns for path in cases.rglob("*.b2nd")} == before
        assert [(path, path.stat().st_mtime_ns) for path, _ in kept] == kept
    sitk.WriteImage(drawn_before, str(label))
    assert "that are to be made anew" in command(*asked_for_wide)[2]
    lock.unlink()
    lock = leave(another, Path("results/Dataset901_Balls/tuning_lnautoPlans"))
    assert "that are to be made anew" in command(*asked_for_wide)[2]
    lock.unlink()
    sitk.WriteImage(drawn, str(label))
    code, _, complaint = command(*asked)
    assert code == 0, complaint
    assert {path: path.stat().st_mtime_ns for path in cases.rglob("*.b2nd")} != before


def test_a_fold_does_not_begin_on_cases_that_are_being_changed(balls: Path, another: Owner, command: Command) -> None:
    """They were as they should be when it looked; since then another run has begun to plan."""
    lock = leave(another, balls / "preprocessed/Dataset901_Balls")
    try:
        code, _, complaint = command("train", 901, 0, "--iterations", 1, "--quiet", "--device", "cpu", "--no-report")
    finally:
        lock.unlink()
    assert code == 2
    assert f"another run is planning or preprocessing this data set ({another})" in complaint
    assert not Path(FOLD).exists()


def test_predictions_into_one_folder_are_refused(balls: Path, random_model: Path, another: Owner, command: Command) -> None:
    leave(another, Path("out"))
    scans = balls / "raw/Dataset901_Balls/imagesTs"
    assert busy(command("predict", "-i", scans, "-o", "out", "-m", random_model, "--quiet"), another)
    assert [path.name for path in Path("out").iterdir()] == [LOCK]


def test_conversions_into_one_folder_are_refused(tmp_path: Path, balls: Path, another: Owner, command: Command) -> None:
    out = tmp_path / "Dataset555_Balls"
    leave(another, out)
    raw = balls / "raw/Dataset901_Balls"
    asked = ("--images", raw / "imagesTs", "--masks", raw / "labelsTs", "--channels", "CT", "--quiet")
    assert busy(command("convert", *asked, out), another)
    leave(replace(another, process=2**22 + 1), out)  # of a run that was killed before it wrote anything else
    code, _, complaint = command("convert", *asked, out)
    assert (code, (out / LOCK).exists()) == (0, False), complaint


def test_imports_and_exports_of_one_name_are_refused(
    balls: Path, tmp_path: Path, random_model: Path, another: Owner, command: Command
) -> None:
    foundations = tmp_path / "results/foundations"
    leave(another, foundations)
    (foundations / LOCK).rename(foundations / f".ln-fm{LOCK}")
    assert busy(command("import_model", random_model, "--name", "ln-fm", "--quiet"), another)
    leave(another, tmp_path)
    (tmp_path / LOCK).rename(tmp_path / f".mine.lnauto{LOCK}")
    assert busy(command("export", random_model, "-o", "mine.lnauto", "--quiet"), another)
    assert not Path("mine.lnauto").exists()
    (tmp_path / f".mine.lnauto{LOCK}").unlink()
    with locked_beside(Path("mine.lnauto")):
        assert (tmp_path / f".mine.lnauto{LOCK}").is_file()


def test_a_command_that_is_stopped_takes_its_lock_away(balls: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnauto.trainers.lntrainer import LNTrainer

    seen = []

    def stop(*_: object) -> None:
        seen.append((Path(FOLD) / LOCK).is_file())
        raise KeyboardInterrupt

    monkeypatch.setattr(LNTrainer, "train_step", stop)
    code, _, _ = command("train", 901, 0, "--iterations", 3, "--quiet", "--device", "cpu")
    assert (code, seen, (Path(FOLD) / LOCK).exists()) == (130, [True], False)


def test_results_that_cannot_be_written_to_are_told(balls: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "results").write_text("a file in the way")
    code, _, complaint = command("train", 901, 0, "--iterations", 1, "--quiet", "--device", "cpu")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "the folder cannot be written to (Not a directory)" in complaint
