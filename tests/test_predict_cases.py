"""Cases in turn or overlapping: the same masks, each failure its own, and never many cases in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lnauto.data.raw import Case
from lnauto.inference.memory import MemoryLimit
from lnauto.workflow import predict_cases as module
from lnauto.workflow.predict_cases import Job, overlapping_pays, predict_cases
from lnauto.workflow.prediction_record import Record

Command = Callable[..., tuple[int, str, str]]


class Bar:
    """tqdm's, without a picture."""

    n = most = 0.0

    def update(self, more: float) -> None:
        self.n += more
        self.most = max(self.n, self.most)

    def set_postfix_str(self, _: str) -> None:
        pass


class Doubling:
    """A predictor whose masks are the scans, doubled; it remembers what happened when."""

    memory = MemoryLimit()
    fault = "what it cannot take"

    def __init__(self, waits: bool = False) -> None:
        self.told: list[str] = []
        self.read_ahead = {name: threading.Event() for name in "abcd"}
        self.waits = waits

    def prepare(self, channels: Sequence[sitk.Image], name: str, with_probability: bool) -> Any:
        self.told.append(f"read {name}")
        self.read_ahead[name].set()
        return SimpleNamespace(name=name, data=torch.from_numpy(sitk.GetArrayFromImage(channels[0])))

    def infer(self, prepared: Any, on_tile: Any) -> torch.Tensor:
        following = chr(ord(prepared.name) + 1)
        if self.waits and following in "bcd":  # which can only come if it is read meanwhile
            assert self.read_ahead[following].wait(20), "the next case was not read meanwhile"
        self.told.append(f"infer {prepared.name}")
        if prepared.name == "c":
            raise RuntimeError(self.fault)
        for _ in range(9):
            on_tile(9)
        return prepared.data * 2

    def finish(self, kept: torch.Tensor, prepared: Any, with_probability: bool) -> tuple[sitk.Image, None]:
        self.told.append(f"write {prepared.name}")
        return sitk.GetImageFromArray(kept.numpy()), None


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    found = []
    for number, name in enumerate("abcd"):
        array = np.arange(60, dtype=np.int16).reshape(3, 4, 5) + number
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}_0000.nii.gz"))
        found.append(Case(name, (tmp_path / f"{name}_0000.nii.gz",)))
    (tmp_path / "b_0000.nii.gz").write_bytes(b"")
    return found


def run(
    predictor: Any, cases: list[Case], out: Path, overlapping: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Job], Bar]:
    monkeypatch.setattr(module, "overlapping_pays", lambda _: overlapping)
    out.mkdir()
    bar = Bar()
    return list(predict_cases(predictor, cases, Record.read(out), bar)), bar


def test_a_bar_is_never_over_full(cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bar = run(Doubling(), cases[:1], tmp_path / "out", False, monkeypatch)
    assert bar.n == bar.most == 1  # in nine tiles, which add up to more


@pytest.mark.parametrize("overlapping", [False, True], ids=["in turn", "overlapping"])
def test_every_case_gets_its_mask_or_its_problem(
    overlapping: bool, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, bar = run(Doubling(), cases, tmp_path / "out", overlapping, monkeypatch)
    assert [job.case.name for job in jobs] == list("abcd")
    assert {job.case.name: str(job.problem) for job in jobs if job.problem} == {
        "b": "lnauto: the scan cannot be read: it is empty, in b_0000.nii.gz; check that it is a whole 3D image",
        "c": "lnauto: the scan cannot be predicted (what it cannot take), in c; check that it opens as a 3D image",
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "d.nii.gz", "run.json"]
    for number, name in ((0, "a"), (3, "d")):
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"out/{name}.nii.gz")))
        assert (mask == 2 * (np.arange(60).reshape(3, 4, 5) + number)).all()
    assert bar.n == 4
    assert all(job.prepared is job.kept is None for job in jobs)


def test_whatever_a_strange_scan_leads_to_the_others_go_on(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Doubling()
    faults = [IndexError("out of\n  its bounds"), DEFAULT]
    monkeypatch.setattr(predictor, "prepare", Mock(side_effect=faults, wraps=predictor.prepare))
    jobs, _ = run(predictor, [cases[0], cases[3]], tmp_path / "out", False, monkeypatch)
    assert [str(job.problem) for job in jobs if job.problem] == [
        "lnauto: the scan cannot be predicted (its bounds), in a; check that it opens as a 3D image"
    ]
    assert (tmp_path / "out/d.nii.gz").is_file()


def test_main_memory_that_pytorch_does_not_get_is_no_fault_of_the_scan(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Doubling()
    try:
        torch.empty(1 << 60)
    except RuntimeError as error:
        predictor.fault = str(error)
    jobs, _ = run(predictor, cases[2:3], tmp_path / "out", False, monkeypatch)
    assert str(jobs[0].problem) == (
        "lnauto: the memory of this machine does not hold the case, in c; close other programs, or predict it elsewhere"
    )


def test_in_turn_a_case_is_written_before_the_next_is_read(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Doubling()
    run(predictor, cases, tmp_path / "out", False, monkeypatch)
    assert predictor.told == ["read a", "infer a", "write a", "read c", "infer c", "read d", "infer d", "write d"]


def test_overlapping_reads_the_next_while_the_network_runs_and_no_further(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Doubling(waits=True)
    whole = [cases[0], cases[2], cases[3]]
    predictor.read_ahead["b"].set()
    jobs, _ = run(predictor, whole, tmp_path / "out", True, monkeypatch)
    assert [job.problem is None for job in jobs] == [True, False, True]
    assert predictor.told.index("read d") > predictor.told.index("infer a")  # which is two cases ahead
    assert predictor.told.index("read d") < predictor.told.index("infer c")


def test_nothing_overlaps_where_all_cores_compute_or_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    def on(device: str, cores: int, allowed: float | None = None) -> bool:
        monkeypatch.setattr(module, "usable_cores", lambda: cores)
        compute = SimpleNamespace(device=torch.device(device))
        predictor: Any = SimpleNamespace(compute=compute, memory=MemoryLimit(allowed))
        return overlapping_pays(predictor)

    threads = torch.get_num_threads()
    assert not on("cpu", threads)
    assert on("cpu", threads + 1)
    assert on("cuda", threads)
    assert not on("cuda", threads, 6.0)  # one case alone is what was counted


def test_masks_of_a_run_that_was_stopped_do_not_pass_for_another_models(
    balls: Path, random_model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.predict_cases

    def stopped(*arguments: Any) -> Iterator[Any]:
        yield next(real(*arguments))
        raise KeyboardInterrupt

    asked = ("-i", balls / "raw/Dataset901_Balls/imagesTs", "-m", random_model, "--device", "cpu", "--tta", "none", "--no-report")
    with monkeypatch.context() as patch:
        patch.setattr(module, "predict_cases", stopped)
        assert command("predict", *asked, "-o", "out", "-f", 0)[0] == 130
    assert len(list(Path("out").glob("*.nii.gz"))) == 1
    code, _, wrong = command("predict", *asked, "-o", "out", "-f", 1)
    assert (code, "made by another model" in wrong) == (2, True)
