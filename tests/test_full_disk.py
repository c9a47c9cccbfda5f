"""A disk that is full: the last good state stays, a line says which file and what to do, and the next run ends as if nothing
happened."""

from __future__ import annotations

import errno
import functools
import pickle
import resource
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from building import copied

from lnauto import files
from lnauto.compat.storage import load_pickle
from lnauto.data import preprocess
from lnauto.errors import NoSpaceError, Problem
from lnauto.inference.model import load_checkpoint
from lnauto.trainers import checkpoint, options
from lnauto.workflow import archive, predict_cases

Command = Callable[..., tuple[int, str, str]]
Full = Callable[..., None]
FOLD = Path("results/Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres/fold_0")
CASES = Path("preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres")
TRAIN = ("train", 901, 0, "--iterations", 4, "--quiet", "--device", "cpu", "--precision", "fp32", "--no-report")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: whoever writes, in whichever language, gets so far and no further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        # That limit has another number than a full disk has, and leaves the disk free.
        patch.setattr(files, "FULL", (*files.FULL, errno.EFBIG))
        patch.setattr(files, "NOTHING_LEFT", 1 << 60)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Full:
    """The disk is full when a module writes its `nth` file whose name ends so, after `size` bytes of it."""

    def arrange(module: Any, ending: str, nth: int, size: int) -> None:
        seen = []

        def replacing(path: Path) -> AbstractContextManager[Path]:
            seen.extend([path] if path.name.endswith(ending) else [])
            return limited(path) if path.name.endswith(ending) and len(seen) == nth else files.replacing(path)

        @contextmanager
        def limited(path: Path) -> Iterator[Path]:
            with room_for(size), files.replacing(path) as temporary:
                yield temporary

        monkeypatch.setattr(module, "replacing", replacing)

    return arrange


def told(result: tuple[int, str, str], file: Path | str) -> bool:
    """Whether a command ended with one line that names the file and the remedy."""
    code, _, complaint = result
    assert code == 2, complaint
    return complaint.count("\n") == 1 and f", in {file}; free space there" in complaint.replace(f"{Path.cwd()}/", "")


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path)["network_weights"])


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---- training


@pytest.fixture
def undisturbed(balls: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The weights of a training that met nothing; from now on a checkpoint is written after every iteration."""
    code, _, complaint = command(*TRAIN)
    assert code == 0, complaint
    found = weights(FOLD / checkpoint.FINAL)
    shutil.rmtree(FOLD)
    monkeypatch.setattr(options, "Options", functools.partial(options.Options, save_every_seconds=0.0))
    return found


@pytest.mark.parametrize(
    ("file", "nth", "last"), [(checkpoint.LATEST, 1, None), (checkpoint.LATEST, 3, 2), (checkpoint.FINAL, 1, 3)]
)
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(
    undisturbed: dict[str, torch.Tensor], full: Full, command: Command, file: str, nth: int, last: int | None
) -> None:
    full(checkpoint, file, nth, size=20_000)
    assert told(command(*TRAIN), FOLD / file)
    assert unfinished(FOLD) == []
    latest = FOLD / checkpoint.LATEST
    assert (load_checkpoint(latest)["lnauto"]["iteration"] if latest.is_file() else None) == last
    code, _, complaint = command(*TRAIN, "--continue")
    assert code == 0, complaint
    assert same(weights(FOLD / checkpoint.FINAL), undisturbed)


def test_a_history_that_does_not_fit_ends_a_training_in_a_line(
    undisturbed: dict[str, torch.Tensor], full: Full, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lnauto.trainers.lntrainer.write_json", fails_at("history.json", files.write_json))
        assert told(command(*TRAIN), FOLD / "history.json")
    assert command(*TRAIN, "--continue")[0] == 0
    assert same(weights(FOLD / checkpoint.FINAL), undisturbed)


def fails_at(name: str, write: Callable[..., None]) -> Callable[..., None]:
    """`write`, but for files of that name there is no space."""

    def writing(path: Path, *content: Any) -> None:
        with room_for(10) if path.name == name else files.telling_when_full(path):
            write(path, *content)

    return writing


# ---- preprocessing


@pytest.fixture
def raw_balls(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Planned, and nothing preprocessed."""
    copied(prepared, tmp_path, monkeypatch)
    shutil.rmtree(CASES)
    preprocess.provenance_path(CASES).unlink()
    return prepared


def same_cases(expected: Path) -> bool:
    """What nnU-Net packs with four threads has the same voxels, if not the same bytes."""
    names = sorted(path.name for path in (expected / CASES).iterdir())
    assert sorted(path.name for path in CASES.iterdir()) == names
    for name in names:
        first, second = expected / CASES / name, CASES / name
        if name.endswith(".pkl"):
            assert load_pickle(str(first)).keys() == load_pickle(str(second)).keys()
        elif not np.array_equal(blosc2.open(str(first))[:], blosc2.open(str(second))[:]):
            return False
    return True


@pytest.mark.parametrize(("ending", "size"), [("_03.b2nd", 10_000), ("_03_seg.b2nd", 300), ("_03.pkl", 100)])
def test_a_case_that_does_not_fit_ends_preprocessing(
    raw_balls: Path, full: Full, command: Command, ending: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever of its three files; of those that follow none is tried, and those before stay. (One at a time; of several, the
    others may end, as `test_workers_stop_at_a_full_disk` has it.)"""
    monkeypatch.setattr(preprocess, "usable_cores", lambda: 1)
    full(preprocess, ending, 1, size)
    assert told(command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu"), CASES / "ball_03.pkl")
    assert unfinished(Path("preprocessed")) == []
    assert sorted(path.name for path in CASES.glob("*.pkl")) == [f"ball_0{number}.pkl" for number in range(3)]
    made = {path: path.stat().st_mtime_ns for path in CASES.iterdir() if "ball_03" not in path.name}
    monkeypatch.setattr(preprocess, "replacing", files.replacing)
    code, _, complaint = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    assert code == 0, complaint
    assert same_cases(raw_balls)
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_record_of_cases_that_does_not_fit_is_told(raw_balls: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    record = preprocess.provenance_path(CASES)
    with monkeypatch.context() as patch:
        patch.setattr("lnauto.data.provenance.write_json", fails_at(record.name, files.write_json))
        assert told(command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu"), record)
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")[0] == 0
    assert same_cases(raw_balls)


def test_workers_stop_at_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def one(case: str, _: object) -> Problem | None:
        tried.append(case)
        if case == "b":
            raise NoSpaceError.of("the disk is full", case, "free space there")
        time.sleep(0.05)
        return None

    monkeypatch.setattr(preprocess, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(1))
    monkeypatch.setattr(preprocess, "make_case", one)
    with pytest.raises(NoSpaceError):
        list(preprocess._in_workers([*"abcdefghijklmnopqrstuvwxyz"], None, 1))  # type: ignore[arg-type]
    assert len(tried) < 26


def test_an_error_comes_out_of_a_worker_as_it_was() -> None:
    error = NoSpaceError.of("the disk is full", "ball.b2nd", "free space there")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.problems) == (NoSpaceError, str(error), error.problems)


# ---- prediction


def predicted(command: Command, balls: Path, model: Path, output: str) -> tuple[int, str, str]:
    scans = balls / "raw/Dataset901_Balls/imagesTs"
    fixed = ("--device", "cpu", "--precision", "fp32", "--engine", "torch", "--no-report", "--quiet")
    return command("predict", "-i", scans, "-o", output, "-m", model, *fixed)


@pytest.mark.parametrize("size", [0, 100, 300])
def test_a_mask_that_does_not_fit_is_no_mask(balls: Path, random_model: Path, full: Full, command: Command, size: int) -> None:
    """ITK's writer of NIfTI says nothing when the disk is full: what it cut off must not pass for a mask that is done."""
    assert predicted(command, balls, random_model, "whole")[0] == 0
    full(predict_cases, ".nii.gz", 2, size)
    assert told(predicted(command, balls, random_model, "out"), Path("out/ball_07.nii.gz"))
    assert sorted(path.name for path in Path("out").iterdir()) == ["ball_06.nii.gz", "run.json"]
    assert predicted(command, balls, random_model, "out")[0] == 0
    for name in ("ball_06.nii.gz", "ball_07.nii.gz", "nodes.csv", "nodes.json"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_table_that_does_not_fit_is_told(
    balls: Path, random_model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lnauto.workflow.node_table.write_text", fails_at("nodes.csv", files.write_text))
        assert told(predicted(command, balls, random_model, "out"), Path("out/nodes.csv"))
    assert not Path("out/nodes.csv").exists()
    assert predicted(command, balls, random_model, "out")[0] == 0
    assert Path("out/nodes.csv").read_text().startswith("case,node,")


def test_a_page_that_does_not_fit_takes_nothing_from_the_masks(
    balls: Path, random_model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnauto.workflow.page_files.write_text", fails_at("report.html", files.write_text))
    code, _, complaint = command(
        "predict", "-i", balls / "raw/Dataset901_Balls/imagesTs", "-o", "out", "-m", random_model, "--quiet"
    )
    assert (code, complaint.count("\n"), "in out/report.html; free space there" in complaint) == (3, 1, True)
    assert (Path("out/ball_07.nii.gz").is_file(), Path("out/report.html").exists()) == (True, False)


@pytest.mark.parametrize("name", ["ball.nii.gz", "ball.nii"])
def test_a_cut_off_volume_is_never_renamed(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (30, 20, 10)).astype(np.uint8))
    with files.replacing(tmp_path / name) as temporary:
        sitk.WriteImage(image, str(temporary), name.endswith(".gz"))
    whole = (tmp_path / name).read_bytes()
    for keep in (0, 100, 340, 352, len(whole) // 2, len(whole) - 1):
        with pytest.raises(NoSpaceError), files.replacing(tmp_path / name) as temporary:
            temporary.write_bytes(whole[:keep])
        assert (tmp_path / name).read_bytes() == whole
    assert unfinished(tmp_path) == []


# ---- models


@pytest.mark.parametrize("form", ["file", "stock"])
@pytest.mark.parametrize("size", [0, 2_000, 50_000])
def test_an_export_that_does_not_fit_leaves_the_earlier_one(
    balls: Path, random_model: Path, command: Command, form: str, size: int
) -> None:
    out, flags = Path("mine.lnauto" if form == "file" else "mine"), () if form == "file" else ("--stock",)
    assert command("export", random_model, "-o", out, *flags, "--quiet")[0] == 0
    before = content_of(out)
    with room_for(size):
        result = command("export", random_model, "-o", out, *flags, "--overwrite", "--quiet")
    assert told(result, out if size else Path(f".{out.name}.lnauto.lock"))
    assert content_of(out) == before
    assert unfinished(Path.cwd()) == []
    assert command("export", random_model, "-o", out, *flags, "--overwrite", "--quiet")[0] == 0
    assert content_of(out) == before


def content_of(out: Path) -> dict[str, bytes]:
    if out.is_dir():
        return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with zipfile.ZipFile(out) as packed:  # which also holds the time it was made at
        return {name: packed.read(name) for name in packed.namelist()}


def test_a_packed_model_that_does_not_fit_is_told(balls: Path, random_model: Path, full: Full, command: Command) -> None:
    """Its parts did, beside it."""
    full(archive, ".lnauto", 1, 50_000)
    assert told(command("export", random_model, "-o", "mine.lnauto", "--quiet"), "mine.lnauto")
    assert (unfinished(Path.cwd()), Path("mine.lnauto").exists()) == ([], False)


def test_an_import_that_does_not_fit_leaves_the_earlier_one(balls: Path, random_model: Path, command: Command) -> None:
    asked = ("import_model", random_model, "--name", "ln-fm", "--quiet")
    assert command(*asked)[0] == 0
    place = Path("results/foundations/ln-fm")
    before = content_of(place)
    with room_for(20_000):
        assert told(command(*asked, "--overwrite"), place)
    assert content_of(place) == before
    assert unfinished(place.parent) == []
    assert command(*asked, "--overwrite")[0] == 0


def test_other_faults_of_a_writer_are_not_told_as_a_full_disk(tmp_path: Path) -> None:
    for error in (PermissionError(errno.EACCES, "Permission denied"), RuntimeError("no such format")):
        with pytest.raises(OSError, match=str(error.args[-1])) as told, files.replacing(tmp_path / "mask.nrrd"):
            raise error
        assert told.value.filename == str(tmp_path / "mask.nrrd")
