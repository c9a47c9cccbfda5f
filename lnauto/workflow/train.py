"""`lnauto_train`: one fold, several, all cases in one model, or every fold and the pooled table."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.data.drawn import check_drawn
from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust, with_ignore
from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.paths import Paths, activate, find_dataset
from lnauto.planners.plan import PLANS_NAME, Plan
from lnauto.trainers import find_trainer
from lnauto.trainers.yardstick import yardstick_of
from lnauto.workflow.fold import Request, find_training, tell_results, train_fold
from lnauto.workflow.plan import bring_up_to_date
from lnauto.workflow.pretrain import pretrain
from lnauto.workflow.rounds import prepare_rounds, train_in_rounds
from lnauto.workflow.splits import SPLITS

if TYPE_CHECKING:
    from lnauto.evaluation.cases import CaseResult

__all__ = ["Request", "train"]

log = logging.getLogger(__name__)


def train(identifier: str, folds: Sequence[str], request: Request) -> Path:
    """Train the folds asked for, one after the other; returns the model's folder."""
    started = time.monotonic()
    paths = activate()
    name = find_dataset(identifier, paths.preprocessed, paths.raw)
    plan = _plan(paths, name, identifier, request)
    splits = read_json(paths.preprocessed / name / SPLITS, f"plan again: lnauto_plan_and_preprocess -d {identifier}")
    chosen = [str(number) for number in range(len(splits))] if list(folds) == ["cv"] else list(folds)
    _check_folds(chosen, len(splits), paths.preprocessed / name / SPLITS)
    dataset = _dataset(paths, name)
    description = _description(paths, name, plan, request, dataset)
    _check_annotation(paths.preprocessed / name, plan, description, request, chosen, splits)
    find_trainer(trainer := request.trainer or plan.lnauto["trainer"])
    model = paths.results / name / f"{trainer}__{PLANS_NAME}__{request.configuration}"
    in_rounds = prepare_rounds(plan, dataset, splits, chosen, request, model, paths)
    anew = [fold for fold in chosen if find_training(model / f"fold_{fold}", request, fold) is None]
    pretrained = None
    asked = request.pretrain or any(work.pretrain for work in in_rounds.values())
    if anew and (asked or plan.lnauto.get("pretraining")):
        seconds = None if request.minutes is None else request.minutes * 60 - (time.monotonic() - started)
        networks = sum(in_rounds[fold].networks if fold in in_rounds else 1 for fold in anew)
        pretrained = pretrain(plan, description, dataset, request, paths, seconds, networks)
    results: list[CaseResult] = []
    for place, fold in enumerate(chosen):
        seconds = None
        if request.minutes is not None:  # the budget is the whole command's: each fold takes its share of what is left
            seconds = (request.minutes * 60 - (time.monotonic() - started)) / (len(chosen) - place)
        extend = len(chosen) == 1
        if fold in in_rounds:
            found = train_in_rounds(in_rounds[fold], seconds, extend, pretrained)
        else:
            _, found = train_fold(plan, description, fold, request, seconds, extend, pretrained)
        results += found
    if list(folds) == ["cv"]:
        tell_results(results, model / "crossvalidation", f"Pooled over all folds{yardstick_of(plan.content, description).told}")
    return model


def _plan(paths: Paths, name: str, identifier: str, request: Request) -> Plan:
    """The plan, which a person may have edited."""
    path = paths.preprocessed / name / f"{PLANS_NAME}.json"
    remedy = f"plan again: lnauto_plan_and_preprocess -d {identifier}"
    if not path.is_file():
        raise InputError.of(f"{name} is not planned yet", path.parent, f"plan first: lnauto_plan_and_preprocess -d {identifier}")
    plan = Plan.load(path, remedy)
    plan.check(request.configuration, path)
    return plan


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
    return dict(read_json(paths.preprocessed / name / "dataset.json", "plan again with lnauto_plan_and_preprocess"))


def _check_annotation(
    folder: Path, plan: Plan, description: dict[str, Any], request: Request, folds: list[str], splits: list[dict[str, list[str]]]
) -> None:
    """Every fold must have something to learn from, before the first one starts."""
    cases = folder / plan.configuration(request.configuration)["data_identifier"]
    for fold in folds:
        training = [name for split in splits for name in split["val"]] if fold == "all" else splits[int(fold)]["train"]
        check_drawn(cases, training, description, fold)


def _check_folds(folds: list[str], there: int, path: Path) -> None:
    for fold in folds:
        if fold != "all" and not (fold.isdigit() and int(fold) < there):
            known = ", ".join(str(number) for number in range(there))
            raise InputError.of(f"there is no fold {fold} (there: {known})", path, "give one of them, or all, or cv")
