"""`lnauto_train`: one fold, several, all cases in one model, or every fold and the pooled table."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.data.drawn import check_drawn
from lnauto.data.folds import everybody
from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust, as_drawn, with_ignore
from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.inference.foundation import find_foundation
from lnauto.locks import locked
from lnauto.paths import Paths, activate, find_dataset
from lnauto.planners.adaptation import plans_name
from lnauto.planners.patient_level import is_head
from lnauto.planners.plan import Plan
from lnauto.planners.wishes import Wishes
from lnauto.trainers import find_trainer
from lnauto.trainers.patient import check_head
from lnauto.trainers.tracking import check_tracking
from lnauto.trainers.truth import labels_of
from lnauto.trainers.yardstick import yardstick_of
from lnauto.workflow.adaptation import check_source, tell_adaptation
from lnauto.workflow.block_train import has_block_plan, train_on_blocks
from lnauto.workflow.choose_tuner import Trials, choose_tuner, parts_of
from lnauto.workflow.fold import Request, clear, find_training, lock_folds, tell_results, train_fold
from lnauto.workflow.heads import HeadWork, prepare_heads, train_heads
from lnauto.workflow.in_use import check_unchanged
from lnauto.workflow.patient_train import has_table_plan, train_patients
from lnauto.workflow.plan import Request as PlanRequest
from lnauto.workflow.plan import bring_up_to_date, make_job, plan_and_preprocess
from lnauto.workflow.pretrain import pretrain
from lnauto.workflow.report_training import report_training
from lnauto.workflow.rounds import prepare_rounds, train_in_rounds
from lnauto.workflow.splits import SPLITS, chosen_folds, read_splits
from lnauto.workflow.tuner import AUTO, parse_tune, trainer_name

if TYPE_CHECKING:
    from lnauto.evaluation.cases import CaseResult

__all__ = ["Request", "train"]

log = logging.getLogger(__name__)

SHARE_OF_HEAD = {"predicted": 0.35, "given": 0.1}  # of a budget, by the masks it learns from [our choice]
FINAL = "checkpoint_final.pth"


def train(identifier: str, folds: Sequence[str], request: Request) -> Path:
    """Train the folds asked for, one after the other, and write the page of the model; returns the model's folder."""
    with ExitStack() as locks:
        model = _train(identifier, folds, request, locks)
        if request.report:
            try:
                report_training(model, False, request.quiet)
            except InputError as error:  # such as a file of another fold that was changed by hand; the model is there anyway
                for problem in error.problems:
                    log.warning("No page is written: %s, in %s; %s", problem.what, problem.where, problem.remedy)
    return model


def _train(identifier: str, folds: Sequence[str], request: Request, locks: ExitStack) -> Path:
    started = time.monotonic()
    paths = activate()
    name = find_dataset(identifier, paths.preprocessed, paths.raw)
    _check_together(request)
    check_tracking(request.track)
    if has_table_plan(paths.preprocessed / name, identifier):
        return train_patients(paths, name, identifier, folds, request, locks)
    if request.pretrained is None and has_block_plan(paths.preprocessed / name):
        return train_on_blocks(paths, name, identifier, folds, request, locks)
    plan = _plan(paths, name, identifier, request)
    head, only_head = _head(plan, name, request), is_head(request.trainer)
    asked_of_head, request = request, replace(request, trainer=None if only_head else request.trainer)
    splits = read_splits(paths.preprocessed / name, identifier)
    chosen = chosen_folds(folds, len(splits), paths.preprocessed / name / SPLITS)
    dataset = _dataset(paths, name)
    description = _description(paths, name, plan, request, dataset)
    _check_annotation(paths.preprocessed / name, plan, description, request, chosen, splits)
    source = _source(paths, plan, request, description)
    plan_name = plan.content["plans_name"]
    preprocessed = paths.preprocessed / name / plan.configuration(request.configuration)["data_identifier"]
    if request.tune == AUTO:
        trials = Trials(
            plan,
            description,
            chosen[0],
            request,
            preprocessed=preprocessed,
            folder=paths.results / name / f"tuning_{plan_name}",
            parts=parts_of(splits, chosen[0], dataset.patient_of if dataset is not None else {}),
            seconds=None if request.minutes is None else request.minutes * 60 - (time.monotonic() - started),
        )
        with locked(trials.folder):
            request = replace(request, tune=choose_tuner(trials))
    find_trainer(trainer := trainer_name(plan, request.trainer, request.tune))
    model = paths.results / name / f"{trainer}__{plan_name}__{request.configuration}"
    lock_folds(locks, model, chosen)
    if dataset is not None:
        check_unchanged(dataset.annotated_cases, make_job(dataset, plan, request.configuration, paths.preprocessed / name))
    work = None
    if head is not None and dataset is not None:
        work = HeadWork(plan, description, dataset, splits, model, preprocessed, asked_of_head, head)
        work = _if_it_can_be(work, chosen, asked_of_head)
    to_segment = [fold for fold in chosen if not only_head or (work is not None and _needs_network(work, fold))]
    ends = None if request.minutes is None else started + request.minutes * 60 * (1 - _share_of_head(work))
    if to_segment:
        run = Segmentation(plan, description, dataset, splits, to_segment, request, model, paths, ends)
        results = _segment(run, source)
        if list(folds) == ["cv"] and to_segment == chosen:
            title = f"Pooled over all folds{yardstick_of(plan.content, description).told}"
            tell_results(results, model / "crossvalidation", title)
    if work is not None:
        seconds = None if request.minutes is None else request.minutes * 60 - (time.monotonic() - started)
        try:
            train_heads(work, chosen, list(folds) == ["cv"], seconds)
        except InputError as error:  # such as a budget that is too short for what the head learns from
            _without_head(error, asked_of_head)
    return model


def _head(plan: Plan, name: str, request: Request) -> str | None:
    """The trainer of the patient head, if there is one: as asked, or as the plan has it."""
    settings = plan.lnauto.get("patient_head")
    if settings is None:
        asked = {"-tr": is_head(request.trainer), "--sensitivity": request.sensitivity is not None}
        for flag, given in {**asked, "--dino-weights": request.dino_weights is not None}.items():
            if given:
                reason = plan.lnauto["reasons"].get("patients", "the plan has none")
                raise InputError.of(f"{name} has no patient head ({reason})", flag, "leave it out, or plan again")
        return None
    _check_dino(request, settings["trainer"])
    return check_head(request.trainer if request.trainer is not None and is_head(request.trainer) else settings["trainer"])


def _if_it_can_be(work: HeadWork, folds: list[str], request: Request) -> HeadWork | None:
    """The head's work, unless it cannot be done."""
    try:
        prepare_heads(work, folds)
    except InputError as error:
        _without_head(error, request)
        return None
    return work


def _without_head(error: InputError, request: Request) -> None:
    """A segmentation of which nobody asked a head must not fail because of one."""
    if is_head(request.trainer) or request.sensitivity is not None:
        raise error
    for problem in error.problems:
        log.warning("No patient head is trained: %s, in %s; %s", problem.what, problem.where, problem.remedy)


def _check_dino(request: Request, planned: str) -> None:
    if request.dino_weights is None:
        return
    name = request.trainer if is_head(request.trainer) else planned
    if name != "LNMTrainerWeGA":
        raise InputError.of(f"{name} has no branch for them", "--dino-weights", "add -tr LNMTrainerWeGA, or leave it out")
    from lnauto.trainers.patient.wega import known_weights

    known_weights(request.dino_weights)


def _needs_network(work: HeadWork, fold: str) -> bool:
    """Whether a head that was asked for by itself waits for the fold's network: it reads its masks, and it is not there."""
    return not work.gives_masks and not (work.model / f"fold_{fold}" / FINAL).is_file()


def _share_of_head(work: HeadWork | None) -> float:
    """Of a budget, for the networks whose masks the head learns from, and for the head."""
    return 0.0 if work is None else SHARE_OF_HEAD[work.settings["masks"]]


@dataclass(frozen=True)
class Segmentation:
    """The folds whose networks are trained, and until when."""

    plan: Plan
    description: dict[str, Any]
    dataset: RawDataset | None
    splits: list[dict[str, list[str]]]
    folds: list[str]
    request: Request
    model: Path
    paths: Paths
    ends: float | None

    @property
    def seconds(self) -> float | None:
        return None if self.ends is None else self.ends - time.monotonic()


def _segment(run: Segmentation, source: RawDataset | None) -> list[CaseResult]:
    """Train and validate the network of each fold."""
    plan, description, request = run.plan, run.description, run.request
    in_rounds = prepare_rounds(plan, run.dataset, run.splits, run.folds, request, run.model, run.paths)
    anew = [fold for fold in run.folds if find_training(run.model / f"fold_{fold}", request, fold) is None]
    pretrained = None
    asked = request.pretrain or any(work.pretrain for work in in_rounds.values())
    if anew and (asked or plan.lnauto.get("pretraining")):
        networks = sum(in_rounds[fold].networks if fold in in_rounds else 1 for fold in anew)
        pretrained = pretrain(plan, description, run.dataset, request, run.paths, run.seconds, networks)
    results: list[CaseResult] = []
    for place, fold in enumerate(run.folds):
        # the budget is the whole command's: each fold takes its share of what is left
        seconds = None if run.seconds is None else run.seconds / (len(run.folds) - place)
        extend = len(run.folds) == 1
        begin = _beginning(run, place)
        if fold in in_rounds:
            found = train_in_rounds(in_rounds[fold], seconds, extend, pretrained, begin)
        else:
            trained, found = train_fold(plan, description, fold, request, seconds, extend, pretrained, begin)
            if plan.lnauto.get("foundation"):
                tell_adaptation(trained, found, plan, request, source)
        results += found
    return results


def _beginning(run: Segmentation, place: int) -> Callable[[Path], None]:
    """What is done when a fold begins anew: its earlier training goes. With --overwrite those of the folds after it go, too: a
    run that was stopped before it came to them would go on with them as with its own."""
    going = run.folds[place:] if run.request.overwrite else [run.folds[place]]

    def begin(_: Path) -> None:
        for fold in going:
            clear(run.model / f"fold_{fold}")

    return begin


def _plan(paths: Paths, name: str, identifier: str, request: Request) -> Plan:
    """The plan, which a person may have edited; under a foundation model it is made when it is first asked for."""
    path = paths.preprocessed / name / f"{plans_name(request.pretrained)}.json"
    remedy = f"plan again: lnauto_plan_and_preprocess -d {identifier}"
    if request.pretrained is not None:
        foundation = find_foundation(request.pretrained, paths.results)
        remedy += f" --pretrained {foundation.name}"
        if not path.is_file():
            wishes = Wishes(minutes=request.minutes)
            plan_and_preprocess(
                identifier, PlanRequest(wishes=wishes, device=request.device, pretrained=foundation.name, quiet=request.quiet)
            )
    if not path.is_file():
        raise InputError.of(f"{name} is not planned yet", path.parent, f"plan first: lnauto_plan_and_preprocess -d {identifier}")
    plan = Plan.load(path, remedy)
    plan.check(request.configuration, path)
    if request.pretrained is not None and plan.lnauto["foundation"]["sha256"] != foundation.description["sha256"]:
        raise InputError.of(f"the foundation model {foundation.name} is another one than that of the plan", path, remedy)
    return plan


def _check_together(request: Request) -> None:
    """Flags that go with a foundation model, and those that do not."""
    for flag, given in (("--tune", request.tune), ("--source", request.source)):
        if given is not None and request.pretrained is None:
            raise InputError.of("only a foundation model is adapted", flag, "add --pretrained NAME, or leave it out")
    for flag, asked in (("--pretrain", request.pretrain), ("--rounds", request.rounds is not None)):
        if asked and request.pretrained is not None:
            raise InputError.of(f"{flag} and --pretrained do not go together", flag, "leave one of them out")
    if request.tune is not None and request.tune != AUTO:
        parse_tune(request.tune)
    if request.tune is not None and request.trainer is not None:
        raise InputError.of("--tune chooses the trainer, and -tr names one", "--tune", "leave one of them out")


def _source(paths: Paths, plan: Plan, request: Request, description: dict[str, Any]) -> RawDataset | None:
    """The data set the foundation model comes from, if it is at hand."""
    if request.source is None:
        return None
    source = RawDataset.read(paths.raw / find_dataset(request.source, paths.raw))
    check_source(source, find_foundation(plan.lnauto["foundation"]["name"], paths.results), plan, description)
    return source


def _dataset(paths: Paths, name: str) -> RawDataset | None:
    """The raw data set, if it is there."""
    if (paths.raw / name).is_dir():
        return RawDataset.read(paths.raw / name)
    log.info("The raw data set %s is not in %s; training on what is preprocessed.", name, paths.raw)
    return None


def _description(paths: Paths, name: str, plan: Plan, request: Request, dataset: RawDataset | None) -> dict[str, Any]:
    """`dataset.json`, after making sure that what is preprocessed is what the raw data and the plan say now."""
    if dataset is not None:
        bring_up_to_date(dataset, plan, request.configuration, paths, quiet=request.quiet)
        return with_ignore(dataset.description, Trust.of_plan(plan.content))
    written = read_json(paths.preprocessed / name / "dataset.json", "plan again with lnauto_plan_and_preprocess")
    return with_ignore(as_drawn(written), Trust.of_plan(plan.content))  # it may have been written for another plan


def _check_annotation(
    folder: Path, plan: Plan, description: dict[str, Any], request: Request, folds: list[str], splits: list[dict[str, list[str]]]
) -> None:
    """Every fold must have something to learn from, before the first one starts."""
    cases = folder / plan.configuration(request.configuration)["data_identifier"]
    if gone := [name for name in everybody(splits) if not (cases / f"{name}.pkl").is_file()]:
        what = f"the folds name {len(gone)} cases that are not preprocessed, such as {gone[0]}"
        raise InputError.of(what, folder / SPLITS, "correct it, or plan again")
    for fold in folds:
        training = everybody(splits) if fold == "all" else splits[int(fold)]["train"]
        check_drawn(cases, training, description, fold)
        if fold != "all":
            if not splits[int(fold)]["val"]:
                what = f"fold {fold} holds no case back, so that nothing says how well it is learned"
                raise InputError.of(what, folder / SPLITS, 'name cases in its "val", or train the fold all')
            for name, label in labels_of(cases, splits[int(fold)]["val"]).items():
                if label is None or not label.is_file():
                    what = f"the label of {name} is not there, with which fold {fold} is to be validated"
                    remedy = "put the raw data set where it was, or in $nnUNet_raw, or train the fold all"
                    raise InputError.of(what, label or cases, remedy)
