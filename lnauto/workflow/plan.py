"""`lnauto_plan_and_preprocess`: check, look, decide, preprocess."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnauto import __version__
from lnauto.data.checks import read_and_check
from lnauto.data.coarse_maps import write_map
from lnauto.data.preprocess import (
    Job,
    check_disk,
    expected_cost,
    files_there,
    likeness_name,
    pending,
    preprocess,
    provenance_path,
)
from lnauto.data.provenance import Provenance
from lnauto.data.raw import Case, RawDataset
from lnauto.data.trusted_background import Trust, with_ignore
from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.locks import locked
from lnauto.nodes import Array
from lnauto.paths import Paths, activate, find_dataset
from lnauto.planners.adaptation import check_channels, plans_name
from lnauto.planners.blocks import STRATEGIES as BLOCK_STRATEGIES
from lnauto.planners.budget import Probe, Step
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.compare import departures
from lnauto.planners.completeness import estimate_completeness, score_cases
from lnauto.planners.completeness.maps import can_be_mapped, likeness_maps
from lnauto.planners.completeness.scores import Scores
from lnauto.planners.evidence import gather
from lnauto.planners.explain import explain
from lnauto.planners.fingerprint import look_at_all, summarise
from lnauto.planners.machine import Machine, this_machine
from lnauto.planners.patient_level import is_head
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.planners.planner import make_plan
from lnauto.planners.region import choose_region
from lnauto.planners.strategy import Strategy, choose_strategy, drawn_in_part
from lnauto.planners.trust import LIKENESS, choose_trust, in_hu
from lnauto.planners.wishes import NONE, Wishes
from lnauto.report.painter import Painter
from lnauto.report.plan_facts import plan_facts
from lnauto.workflow.block_plan import NO_MASK, bring_scans_up_to_date, plan_scans
from lnauto.workflow.in_use import check_not_in_use, check_stale, trainings
from lnauto.workflow.patient_plan import plan_patients, refuse
from lnauto.workflow.plan_file import keep_earlier
from lnauto.workflow.splits import SPLITS, write_splits

if TYPE_CHECKING:
    from lnauto.inference.foundation import Foundation

log = logging.getLogger(__name__)

MOST_STRIPES = 0.5  # of the nodes [our choice]
IN_STRIPES = (
    "%s: %d of %d drawn nodes are one slice thick and lie above each other, as if drawn on every second or third slice "
    "alone. What lies between is taken for no node: fill it in, or give it the ignore label."
)
NOT_IN_HU = (
    "%s: the channel CT is not in HU, as nothing in it is as dark as fat: what holds for HU alone is not used. Store it in HU "
    "(an offset of 1024 is common), or call the channel otherwise in dataset.json."
)


@dataclass(frozen=True)
class Request:
    """What the command line asks of planning."""

    configuration: str = CONFIGURATION
    wishes: Wishes = NONE
    device: str | None = None
    pretrained: str | None = None  # a foundation model, by its name
    workers: int | None = None
    explain: bool = False
    do_preprocess: bool = True
    quiet: bool = False


def plan_and_preprocess(identifier: str, request: Request) -> Plan:
    """Everything before training, for one data set."""
    paths = activate()
    with locked(paths.preprocessed / find_dataset(identifier, paths.raw)):
        return _plan_and_preprocess(paths, identifier, request)


def _plan_and_preprocess(paths: Paths, identifier: str, request: Request) -> Plan:
    dataset = read_checked(paths, identifier, request.quiet)
    _check_labels_in_use(dataset, request, paths)
    if dataset.annotation == "table":
        refuse({"--pretrained": request.pretrained, "--masks": request.wishes.masks})
        plan = plan_patients(dataset, paths, request.wishes, request.device, request.explain)
    else:
        with Painter() as painter:
            plan = _plan_images(dataset, paths, request, painter)
    _tell_columns(dataset, plan)
    return plan


def _plan_images(dataset: RawDataset, paths: Paths, request: Request, painter: Painter) -> Plan:
    foundation = _foundation(request.pretrained, paths, dataset) if request.pretrained is not None else None
    cases = look_at_all(dataset, request.quiet)
    scores = score_cases(dataset, cases, quiet=request.quiet)
    completeness = estimate_completeness(scores)
    evidence = gather(dataset, cases, completeness, pretrained=foundation is not None)
    strategy = choose_strategy(evidence, request.wishes.strategy)
    if strategy.name in BLOCK_STRATEGIES:
        refuse({"--pretrained": request.pretrained}, NO_MASK)
        plan = plan_scans(dataset, cases, evidence, strategy, paths, request.wishes, request.device, request.explain)
        plan.configuration(request.configuration)
        if request.do_preprocess:
            bring_scans_up_to_date(dataset, plan, request.configuration, paths, request.quiet)
        return plan
    _check_trainable(dataset, strategy, request.wishes)
    folder = paths.preprocessed / dataset.name
    region = choose_region(cases)
    undrawn_ml = write_likeness(dataset, cases, scores, strategy, folder, request.quiet)
    share = completeness.value if completeness is not None else None
    _tell_doubts(dataset, cases)
    trust = choose_trust(dataset, cases, strategy.name, region[0], undrawn_ml, share, drawn_in_part(evidence))
    fingerprint = summarise(cases, region[0])
    name = plans_name(request.pretrained)
    write_json(folder / f"{name}_fingerprint.json", fingerprint.to_json())
    machine = this_machine(request.device)
    plan = make_plan(
        dataset,
        fingerprint,
        evidence,
        machine,
        request.wishes,
        probe_for(dataset, machine),
        region,
        trust,
        foundation,
    )
    plan.configuration(request.configuration)
    check_not_in_use(dataset.annotated_cases, make_job(dataset, plan, request.configuration, folder), paths.results)
    write_splits(dataset, folder / SPLITS)
    keep_earlier(folder / f"{name}.json", plan)
    # nnU-Net's one file for all plans: it goes with the data set's own, if there is one.
    if foundation is None or not (folder / "dataset.json").is_file():
        write_json(folder / "dataset.json", with_ignore(dataset.description, Trust.of_plan(plan.content)))
    log.info("%s", explain(plan) if request.explain else plan.explain())
    _tell_departures(plan, folder / "nnUNetPlans.json", request.configuration)
    painter.paint(plan_facts(cases, plan), folder / f"{name}.png")
    if request.do_preprocess:
        bring_up_to_date(dataset, plan, request.configuration, paths, request.workers, request.quiet)
    return plan


def _check_labels_in_use(dataset: RawDataset, request: Request, paths: Paths) -> None:
    """Before anything is written: where labels have changed since the plan that a training is at work under."""
    folder, name = paths.preprocessed / dataset.name, plans_name(request.pretrained)
    facts = {"dataset_name": dataset.name, "plans_name": name}
    if trainings(facts, request.configuration, paths.results) and (folder / f"{name}.json").is_file():
        plan = Plan.load(folder / f"{name}.json", "restore it, or wait until that training has ended")
        if request.configuration in plan.content["configurations"]:
            check_not_in_use(dataset.annotated_cases, make_job(dataset, plan, request.configuration, folder), paths.results)


def _foundation(name: str, paths: Paths, dataset: RawDataset) -> Foundation:
    from lnauto.inference.foundation import find_foundation

    foundation = find_foundation(name, paths.results)
    check_channels(foundation, dataset)
    return foundation


def probe_for(dataset: RawDataset, machine: Machine) -> Probe:
    """Times steps of networks for this data set on this machine."""
    channels, classes = len(dataset.channel_names), len(dataset.labels)

    def probe(step: Step) -> float:
        from lnauto.networks.probe import seconds_per_step

        return seconds_per_step(step.architecture, step.patch, step.batch, channels, classes, machine.device, machine.name)

    return probe


def _check_trainable(dataset: RawDataset, strategy: Strategy, wishes: Wishes) -> None:
    from lnauto.trainers import find_trainer
    from lnauto.trainers.patient import check_head

    if wishes.trainer is not None and is_head(wishes.trainer):
        check_head(wishes.trainer)
    elif wishes.trainer is not None:
        find_trainer(wishes.trainer)
    elif strategy.trainer is None:
        remedy = "draw the nodes in some cases; a later version may do without"
        raise InputError.of(f"there is nothing lnauto {__version__} can train here: {strategy.reason}", dataset.name, remedy)
    if strategy.contradiction:
        log.warning("%s.", strategy.contradiction)


def _tell_doubts(dataset: RawDataset, cases: Sequence[CaseFacts]) -> None:
    """What images or masks are probably not meant to be."""
    if next(iter(dataset.channel_names.values())).lower() == "ct" and not in_hu(cases):
        log.warning(NOT_IN_HU, dataset.name)
    nodes, striped = sum(len(case.nodes) for case in cases), sum(case.stripes for case in cases)
    if striped >= MOST_STRIPES * nodes > 0:
        log.warning(IN_STRIPES, dataset.name, striped, nodes)


def _tell_columns(dataset: RawDataset, plan: Plan) -> None:
    """Which clinical columns may give the answer away."""
    head = plan.lnauto.get("patient_head")
    if dataset.patients is None or head is None:
        return
    from lnauto.workflow.telltale import telltale_columns

    for problem in telltale_columns(dataset.patients, head["columns"], f"{dataset.name}/patients.csv"):
        log.warning("%s.", problem.told)


def _tell_departures(plan: Plan, stock: Path, configuration: str) -> None:
    """Where stock nnU-Net's plan for the same data set lies beside ours, what is different."""
    if not stock.is_file():
        return
    other = read_json(stock, "remove it, or plan again with nnU-Net")
    if configuration in other.get("configurations", {}):
        log.info("Compared with %s:", stock.name)
        for line in departures(plan, other, configuration):
            log.info("  %s", line)


def read_checked(paths: Paths, identifier: str, quiet: bool) -> RawDataset:
    """The raw data set, with every check on it passed; cases that were checked before are not read again."""
    name = find_dataset(identifier, paths.raw)
    cache = paths.preprocessed / name / "lnauto_checked.json"
    dataset, _ = read_and_check(paths.raw / name, cache=cache, progress=not quiet)
    return dataset


def bring_up_to_date(
    dataset: RawDataset, plan: Plan, configuration: str, paths: Paths, workers: int | None = None, quiet: bool = False
) -> None:
    """Preprocess what is missing, or was made from other labels or under another plan."""
    job = make_job(dataset, plan, configuration, paths.preprocessed / dataset.name)
    _preprocess_pending(list(dataset.annotated_cases), job, "cases", "labels", paths, workers, quiet)


def bring_images_up_to_date(dataset: RawDataset, plan: Plan, configuration: str, paths: Paths, quiet: bool = False) -> None:
    """The same for the images of cases without a label, in a folder of their own: nnU-Net takes every case of a folder for one
    it may train on."""
    if not dataset.unannotated_cases:
        return
    job = make_job(dataset, plan, configuration, paths.preprocessed / dataset.name)
    job = replace(job, folder=unannotated_folder(job.folder), data_hash=plan.image_hash(configuration))
    _preprocess_pending(list(dataset.unannotated_cases), job, "un-annotated cases", "images", paths, None, quiet)


def unannotated_folder(folder: Path) -> Path:
    """Where the images of cases without a label lie, beside the preprocessed cases that have one."""
    return folder.with_name(f"{folder.name}_unannotated")


def _preprocess_pending(
    cases: list[Case], job: Job, noun: str, source: str, paths: Paths, workers: int | None, quiet: bool
) -> None:
    waiting = pending(cases, job)
    if not waiting:
        log.info("All %d %s are preprocessed, from these %s and under this plan.", len(cases), noun, source)
        return
    known = Provenance(provenance_path(job.folder)).cases  # without what a killed run made in its last second
    stale = [case.name for case in waiting if case.name in known and files_there(job.folder, case)]
    cost = expected_cost(len(waiting), job.plans, job.configuration)
    with locked(job.folder.parent):
        check_stale(stale, job.folder, trainings(job.plans, job.configuration, paths.results))
        if stale:
            what = "%d preprocessed %s were made from other %s or under another plan; they are made again."
            log.info(what, len(stale), noun, source)
        check_disk(cost, job.folder)
        log.info("Preprocessing %d of %d %s, at most %.0f MB on disk.", len(waiting), len(cases), noun, cost.bytes / 1e6)
        start = time.monotonic()
        preprocess(waiting, job, quiet, workers)
    log.info("Preprocessed in %.0f s, to %s.", time.monotonic() - start, job.folder)


def write_likeness(
    dataset: RawDataset, cases: Sequence[CaseFacts], scores: Scores | None, strategy: Strategy, folder: Path, quiet: bool
) -> Array | None:
    """The maps that trusted background reads, where nodes are drawn in part and enough of them to learn from; and what
    `choose_trust` needs to know of them."""
    if strategy.name != "partial_instance" or not can_be_mapped(cases):
        return None
    undrawn_ml = np.zeros(101)
    for found in likeness_maps(dataset, cases, scores, quiet=quiet):
        write_map(found.per_cent, found.spacing, found.case.images[0], folder / LIKENESS / likeness_name(found.case))
        undrawn_ml += found.undrawn_ml
    return undrawn_ml


def make_job(dataset: RawDataset, plan: Plan, configuration: str, folder: Path) -> Job:
    identifier = plan.configuration(configuration)["data_identifier"]
    trust = Trust.of_plan(plan.content)
    description = with_ignore(dataset.description, trust)
    data_hash = plan.data_hash(configuration, description["labels"])
    organs = dataset.folder / trust.organs if trust is not None and trust.organs else None
    likeness = folder / trust.likeness if trust is not None and trust.likeness else None
    return Job(plan.content, configuration, description, folder / identifier, data_hash, organs, likeness)
