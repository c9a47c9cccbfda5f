"""Preprocessed cases that a training reads are not made anew under it.

A training locks its folds first and then looks whether the cases are as its plan wants them and nobody is at work on them; who
makes cases anew has locked the preprocessed data set first and then looks for trainings. So one of the two always sees the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lnauto.data.preprocess import Job, files_there, pending
from lnauto.data.raw import Case
from lnauto.errors import InputError
from lnauto.locks import LOCK, Owner, at_work


def check_not_in_use(cases: Sequence[Case], job: Job, results: Path) -> None:
    """Raise if another process trains on cases that are stale now: half of its batches would be of another plan or label."""
    if found := trainings(job.plans, job.configuration, results):
        stale = [case.name for case in pending(list(cases), job) if files_there(job.folder, case)]
        check_stale(stale, job.folder, found)


def check_stale(stale: Sequence[str], where: Path, found: Sequence[tuple[Path, Owner]]) -> None:
    """The same for what else is kept of cases, such as their blocks."""
    if stale and found:
        folder, owner = found[0]
        what = f"{folder.name} of {folder.parent.name} is being trained from preprocessed cases that are to be made anew"
        remedy = f"wait until it has ended, or end it ({owner})"
        raise InputError.of(f"{what} ({len(stale)}, such as {stale[0]})", where, remedy)


def check_unchanged(cases: Sequence[Case], job: Job) -> None:
    """Raise if cases were made anew, or are being made, since a training looked; its folds are locked by now."""
    again = "run the command again when that has ended"
    if (owner := at_work(job.folder.parent)) is not None:
        raise InputError.of(f"another run is planning or preprocessing this data set ({owner})", job.folder.parent, again)
    if changed := pending(list(cases), job):
        what = f"{len(changed)} preprocessed cases, such as {changed[0].name}, were changed by another run just now"
        raise InputError.of(what, job.folder, again)


def trainings(plans: Mapping[str, object], configuration: str, results: Path) -> list[tuple[Path, Owner]]:
    """The folders of trainings that other processes are at work in, under a plan of this name."""
    folder, name = results / str(plans["dataset_name"]), str(plans["plans_name"])
    locks = [*folder.glob(f"*__{name}__{configuration}/fold_*/{LOCK}"), folder / f"tuning_{name}" / LOCK]
    return [(lock.parent, owner) for lock in sorted(locks) if (owner := at_work(lock.parent)) is not None]
