"""`lnauto_plan_and_preprocess`: check, look, decide, preprocess."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from typing import Any

from lnauto import __version__
from lnauto.data.checks import read_and_check
from lnauto.data.folds import make_folds, strata_of, validates_on_training
from lnauto.data.preprocess import Job, check_disk, expected_cost, pending, preprocess
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.paths import Paths, activate, find_dataset
from lnauto.planners.evidence import gather
from lnauto.planners.fingerprint import look_at_all, summarise
from lnauto.planners.machine import this_machine
from lnauto.planners.plan import CONFIGURATION, PLANS_NAME, Plan
from lnauto.planners.planner import make_plan
from lnauto.planners.strategy import choose_strategy
from lnauto.report.plan_picture import draw_plan

log = logging.getLogger(__name__)

SPLITS = "splits_final.json"


def plan_and_preprocess(
    identifier: str,
    configuration: str = CONFIGURATION,
    minutes: float | None = None,
    device: str | None = None,
    workers: int | None = None,
    do_preprocess: bool = True,
    quiet: bool = False,
) -> Plan:
    """Everything before training, for one data set."""
    paths = activate()
    dataset = read_checked(paths, identifier, quiet)
    cases = look_at_all(dataset, quiet)
    evidence = gather(dataset, cases)
    strategy = choose_strategy(evidence)
    if strategy.trainer is None:
        remedy = "draw the nodes in some cases; a later version may do without"
        raise InputError.of(f"there is nothing lnauto {__version__} can train here: {strategy.reason}", dataset.name, remedy)
    folder = paths.preprocessed / dataset.name
    fingerprint = summarise(cases)
    write_json(folder / f"{PLANS_NAME}_fingerprint.json", fingerprint.to_json())
    plan = make_plan(dataset, fingerprint, evidence, this_machine(device), minutes)
    plan.configuration(configuration)
    write_splits(dataset, folder / SPLITS)
    keep_earlier(folder / f"{PLANS_NAME}.json", plan)
    write_json(folder / "dataset.json", dataset.description)
    draw_plan(cases, plan, folder / f"{PLANS_NAME}.png")
    log.info("%s", plan.explain())
    if do_preprocess:
        bring_up_to_date(dataset, plan, configuration, paths, workers, quiet)
    return plan


def read_checked(paths: Paths, identifier: str, quiet: bool) -> RawDataset:
    """The raw data set, with every check on it passed; cases that were checked before are not read again."""
    name = find_dataset(identifier, paths.raw)
    cache = paths.preprocessed / name / "lnauto_checked.json"
    dataset, _ = read_and_check(paths.raw / name, cache=cache, progress=not quiet)
    return dataset


def keep_earlier(path: Path, plan: Plan) -> None:
    """Write the plan; an earlier one that differs (a person may have edited it) is kept beside it."""
    if path.is_file():
        earlier = read_json(path, "remove the file and plan again")
        if earlier != plan.content:
            numbers = itertools.count(1)
            kept = next(
                name for number in numbers if not (name := path.with_name(f"{PLANS_NAME}_earlier_{number}.json")).exists()
            )
            write_json(kept, earlier)
            log.info("There was another plan before; it is kept as %s.", kept.name)
    plan.save(path)


def write_splits(dataset: RawDataset, path: Path) -> None:
    """Folds grouped by patient. A file somebody else made is respected; one lnauto made follows the cases."""
    annotated = {case.name for case in dataset.annotated_cases}
    folds = make_folds(annotated, dataset.patient_of, strata_of(dataset.patients, annotated))
    known = read_json(path, f"remove it; it is made anew from {dataset.name}") if path.is_file() else None
    if known is not None and known != folds:
        cases = {case for fold in known for side in ("train", "val") for case in fold[side]}
        if known != make_folds(cases, dataset.patient_of, strata_of(dataset.patients, cases)):
            _respect(path, cases, annotated)
            return
        log.info("The cases changed, so the folds are made anew; train every fold anew, too: a case may have changed sides.")
    if folds and validates_on_training(folds[0]):
        log.info("There is one patient only: fold 0 validates on its training case, which says nothing about new patients.")
    write_json(path, folds)


def _respect(path: Path, cases: set[str], annotated: set[str]) -> None:
    """Keep folds that were made by hand; say which cases they leave out, refuse cases that do not exist."""
    unknown, left_out = sorted(cases - annotated), sorted(annotated - cases)
    if unknown:
        raise InputError.of(
            f"the folds name {len(unknown)} cases that have no image or label, such as {unknown[0]}",
            path,
            "correct it, or remove it to have it made anew",
        )
    log.info("The folds that were already there are kept, in %s.", path)
    if left_out:
        log.warning("%d annotated cases are in no fold, such as %s: they are not trained on.", len(left_out), left_out[0])


def bring_up_to_date(
    dataset: RawDataset, plan: Plan, configuration: str, paths: Paths, workers: int | None = None, quiet: bool = False
) -> None:
    """Preprocess what is missing, or was made from other labels or under another plan."""
    job = make_job(dataset.description, plan, configuration, paths.preprocessed / dataset.name)
    cases = list(dataset.annotated_cases)
    waiting = pending(cases, job)
    if not waiting:
        log.info("All %d cases are preprocessed, from these labels and under this plan.", len(cases))
        return
    stale = sum((job.folder / f"{case.name}.pkl").is_file() for case in waiting)
    if stale:
        log.info("%d preprocessed cases were made from other labels or under another plan; they are made again.", stale)
    cost = expected_cost(len(waiting), plan.content, configuration)
    check_disk(cost, job.folder)
    log.info("Preprocessing %d of %d cases, at most %.0f MB on disk.", len(waiting), len(cases), cost.bytes / 1e6)
    start = time.monotonic()
    preprocess(waiting, job, quiet, workers)
    log.info("Preprocessed in %.0f s, to %s.", time.monotonic() - start, job.folder)


def make_job(description: dict[str, Any], plan: Plan, configuration: str, folder: Path) -> Job:
    identifier = plan.configuration(configuration)["data_identifier"]
    data_hash = plan.data_hash(configuration, description["labels"])
    return Job(plan.content, configuration, description, folder / identifier, data_hash)
