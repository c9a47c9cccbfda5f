"""Preprocessed cases that a training reads are not made anew under it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lnauto.data.preprocess import Job, files_there, pending
from lnauto.data.raw import Case
from lnauto.errors import InputError
from lnauto.locks import LOCK, Owner, at_work


def check_not_in_use(cases: Sequence[Case], job: Job, results: Path) -> None:
    """Raise if another process trains on cases that are stale now: half of its batches would be of another plan or label."""
    trainings = _trainings(job, results)
    if trainings and (stale := [case.name for case in pending(list(cases), job) if files_there(job.folder, case)]):
        folder, owner = trainings[0]
        what = f"{folder.name} of {folder.parent.name} is being trained from preprocessed cases that are to be made anew"
        remedy = f"wait until it has ended, or end it ({owner})"
        raise InputError.of(f"{what} ({len(stale)}, such as {stale[0]})", job.folder, remedy)


def _trainings(job: Job, results: Path) -> list[tuple[Path, Owner]]:
    """The folders of folds that other processes are at work in, under a plan of this name."""
    models = f"*__{job.plans['plans_name']}__{job.configuration}"
    folds = [lock.parent for lock in sorted((results / job.plans["dataset_name"]).glob(f"{models}/fold_*/{LOCK}"))]
    return [(fold, owner) for fold in folds if (owner := at_work(fold)) is not None]
