"""What planning does at one time, and when a command begins and ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from building import write_balls

from lnauto.compat.storage import nnUNetDatasetBlosc2
from lnauto.data import preprocess
from lnauto.data.raw import Case, RawDataset
from lnauto.errors import CasesFailedError, InputError, Problem
from lnauto.planners import fingerprint, machine
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.plan import Plan
from lnauto.report import painter
from lnauto.workflow import plan

Command = Callable[..., tuple[int, str, str]]
PLAN = ("plan_and_preprocess", "-d", 901, "--device", "cpu")
PATIENCE = 60  # seconds, after which nothing happens at the same time


@pytest.fixture
def raw(folders: Path) -> Path:
    folder = folders / "raw/Dataset901_Balls"
    write_balls(folder, cases=4, side=24, test_cases=0)
    return folder


def test_cases_are_preprocessed_side_by_side(raw: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    both, one_case = Barrier(2, timeout=PATIENCE), preprocess.preprocess_case

    def meet(case: Case, job: preprocess.Job) -> Problem | None:
        both.wait()
        return one_case(case, job)

    monkeypatch.setattr(preprocess, "usable_cores", lambda: 2)
    monkeypatch.setattr(preprocess, "preprocess_case", meet)
    code, _, complaint = command(*PLAN)
    assert code == 0, complaint
    made = raw.parents[1] / "preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres"
    assert len(list(made.glob("*.pkl"))) == 4


def test_two_cases_are_looked_at_together_and_come_in_order(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, look_at = Barrier(2, timeout=PATIENCE), fingerprint.look_at

    def meet(dataset: RawDataset, case: Case, seed: int) -> CaseFacts:
        both.wait()
        return look_at(dataset, case, seed)

    dataset = RawDataset.read(raw)
    alone = [look_at(dataset, case, seed) for seed, case in enumerate(dataset.cases)]
    monkeypatch.setattr(fingerprint, "usable_cores", lambda: 8)
    monkeypatch.setattr(fingerprint, "look_at", meet)
    together = fingerprint.look_at_all(dataset, quiet=True)
    assert [case.nodes for case in together] == [case.nodes for case in alone]
    assert all(np.array_equal(one.intensities, other.intensities) for one, other in zip(together, alone, strict=True))


def test_no_filter_is_tried_on_what_is_stored(raw: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    monkeypatch.setattr(nnUNetDatasetBlosc2, "_select_filter", staticmethod(lambda *given: tried.append(given)))
    code, _, complaint = command(*PLAN)
    assert code == 0, complaint
    assert not tried


def test_large_cases_wait_for_each_other_and_so_do_all_where_one_worker_was_asked_for(
    raw: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preprocess, "usable_cores", lambda: 8)
    monkeypatch.setattr(preprocess, "memory_left", lambda with_swap: 1000e9 if with_swap else 64e9)
    few = preprocess.Cost(3, 3 * 4e7, 0)
    assert preprocess._workers_that_pay(3, few) == (1, 1)
    assert preprocess._workers_that_pay(3, preprocess.Cost(3, 3 * 2e7, 0)) == (1, 2)
    assert preprocess._workers_that_pay(30, preprocess.Cost(30, 30 * 1e6, 0)) == (1, 4)
    assert preprocess._workers_that_pay(30, preprocess.Cost(30, 30 * 4e7, 0)) == (8, 1)
    assert preprocess._workers_that_pay(30, preprocess.Cost(30, 30 * 1.6e8, 0)) == (5, 1)  # memory holds no more
    assert preprocess._workers_that_pay(30, preprocess.Cost(30, 30 * 1.6e9, 0)) == (1, 1)
    at_work, most, one_case = [0], [0], preprocess.preprocess_case

    def count(case: Case, job: preprocess.Job) -> Problem | None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        problem = one_case(case, job)
        at_work[0] -= 1
        return problem

    monkeypatch.setattr(preprocess, "preprocess_case", count)
    assert command(*PLAN, "--workers", 1)[0] == 0
    assert most == [1]


def test_one_that_fails_is_named_and_the_others_are_made(raw: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    one_case, failing = preprocess.preprocess_case, sorted((raw / "labelsTr").iterdir())[1].name.removesuffix(".nii.gz")

    def fail(case: Case, job: preprocess.Job) -> Problem | None:
        return Problem("it is cursed", case.name, "lift the curse") if case.name == failing else one_case(case, job)

    monkeypatch.setattr(preprocess, "preprocess_case", fail)
    code, _, complaint = command(*PLAN)
    assert code == 3
    assert "it is cursed" in complaint
    assert failing in complaint
    made = raw.parents[1] / "preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres"
    assert len(list(made.glob("*.pkl"))) == 3


def test_a_label_saved_while_its_case_is_made_makes_the_case_stale(
    raw: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(*PLAN)[0] == 0
    base, one_case = raw.parents[1] / "preprocessed/Dataset901_Balls", preprocess.preprocess_case
    first, other = sorted((raw / "labelsTr").iterdir())[:2]
    dataset, planned = RawDataset.read(raw), Plan.load(base / "lnautoPlans.json", "")
    job = plan.make_job(dataset, planned, "3d_fullres", base)

    def save_meanwhile(case: Case, job: preprocess.Job) -> Problem | None:
        problem = one_case(case, job)
        if first.name.startswith(case.name):
            shutil.copyfile(other, first)
        return problem

    monkeypatch.setattr(preprocess, "preprocess_case", save_meanwhile)
    preprocess.preprocess(list(dataset.cases), job, quiet=True, workers=1)
    assert [f"{case.name}.nii.gz" for case in preprocess.pending(list(dataset.cases), job)] == [first.name]


def test_a_label_that_no_longer_fits_its_image_is_told_as_that(raw: Path, command: Command) -> None:
    """Saved since the data set was checked: training preprocesses what has changed."""
    assert command(*PLAN)[0] == 0
    base, [first, *_] = raw.parents[1] / "preprocessed/Dataset901_Balls", sorted((raw / "labelsTr").iterdir())
    job = plan.make_job(RawDataset.read(raw), Plan.load(base / "lnautoPlans.json", ""), "3d_fullres", base)
    sitk.WriteImage(sitk.ReadImage(first)[:16, :16, :16], first)
    with pytest.raises(CasesFailedError, match="the label has 16x16x16 voxels, the image 24x24x24"):
        preprocess.preprocess(preprocess.pending(list(RawDataset.read(raw).cases), job), job, quiet=True)


def test_the_picture_is_drawn_while_cases_are_preprocessed(raw: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    preprocessing, drawn = Event(), Event()

    def draw(*_: object) -> None:
        assert preprocessing.wait(PATIENCE)
        drawn.set()

    def bring(*_: object) -> None:
        preprocessing.set()
        assert drawn.wait(PATIENCE)

    monkeypatch.setattr(painter, "draw_plan", draw)
    monkeypatch.setattr(plan, "bring_up_to_date", bring)
    code, _, complaint = command(*PLAN)
    assert code == 0, complaint


@pytest.mark.parametrize("more", [(), ("--no-preprocess",)])
def test_a_picture_that_cannot_be_drawn_is_told(
    raw: Path, command: Command, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    def fail(*_: object) -> None:
        raise InputError.of("there is no ink", "the picture", "buy some")

    monkeypatch.setattr(painter, "draw_plan", fail)
    code, _, complaint = command(*PLAN, *more)
    assert code == 2
    assert "there is no ink" in complaint


PLANNING = """
import sys
from lnauto.networks import probe
from lnauto.planners import machine
probe.seconds_per_step = lambda *_: 7.0  # as if it were known of this machine
machine._may_have_a_card = lambda: False
from lnauto.workflow.plan import Request, plan_and_preprocess
plan_and_preprocess("901", Request(quiet=True))
sys.exit(" ".join({"torch", "nnunetv2.utilities.plans_handling.plans_handler", "matplotlib.figure"} & set(sys.modules)) or 0)
"""


def test_a_data_set_is_planned_and_preprocessed_without_torch(raw: Path) -> None:
    """Importing it takes longer than this does: it is needed where steps of networks are timed for the first time, and on a
    machine that may have a card. The picture is drawn by another process."""
    done = subprocess.run([sys.executable, "-c", PLANNING], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [picture] = (raw.parents[1] / "preprocessed").rglob("lnautoPlans.png")
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("there", "asked", "imports"),
    [
        ((), None, False),
        (("dev/nvidia0",), None, True),
        (("proc/driver/nvidia/version",), None, True),  # its files in /dev come with the first use
        (("dev/nvhost-gpu",), None, True),
        (("dev/nvidia0",), "cpu", False),
    ],
)
def test_torch_is_asked_where_there_may_be_a_card(
    there: tuple[str, ...], asked: str | None, imports: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnauto.networks import compute

    met = []
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(compute, "find_device", lambda name: met.append(name) or torch.device("cpu"))
    assert machine.this_machine(asked).device == "cpu"
    assert bool(met) == imports


def test_a_command_ends_without_searching_what_it_leaves() -> None:
    """The search would come after everything else that is done at the end."""
    asked = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); import lnauto.commands.common"
    assert subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout == "True\n"
