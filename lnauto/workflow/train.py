"""`lnauto_train`: one fold, several, all cases in one model, or every fold and the pooled table."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust, adding_ignore, with_ignore
from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.paths import Paths, activate, find_dataset
from lnauto.planners.plan import PLANS_NAME, Plan
from lnauto.workflow.fold import Request, tell_results, train_fold
from lnauto.workflow.plan import bring_unannotated_up_to_date, bring_up_to_date
from lnauto.workflow.round_cases import choose_cases
from lnauto.workflow.rounds import FoldInRounds, check_rounds, rounds_of, train_in_rounds
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
    dataset, description = _bring_up_to_date(paths, name, plan, request)
    in_rounds = _prepare_rounds(paths, name, dataset, plan, splits, chosen, request)
    results: list[CaseResult] = []
    for place, fold in enumerate(chosen):
        seconds = None
        if request.minutes is not None:  # the budget is the whole command's: each fold takes its share of what is left
            seconds = (request.minutes * 60 - (time.monotonic() - started)) / (len(chosen) - place)
        extend = len(chosen) == 1
        if fold in in_rounds:
            trainer, found = train_in_rounds(in_rounds[fold], seconds, extend)
        else:
            trainer, found = train_fold(plan, description, fold, request, seconds, extend)
        results += found
    model = Path(trainer.output_folder_base)
    if list(folds) == ["cv"]:
        tell_results(results, model / "crossvalidation", "Pooled over all folds")
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


def _bring_up_to_date(paths: Paths, name: str, plan: Plan, request: Request) -> tuple[RawDataset | None, dict[str, Any]]:
    """The raw data set and `dataset.json`, after making sure that what is preprocessed is what they and the plan say now."""
    if (paths.raw / name).is_dir():
        dataset = RawDataset.read(paths.raw / name)
        bring_up_to_date(dataset, plan, request.configuration, paths, quiet=request.quiet)
        return dataset, with_ignore(dataset.description, Trust.of_plan(plan.content))
    log.info("The raw data set %s is not in %s; training on what is preprocessed.", name, paths.raw)
    return None, dict(read_json(paths.preprocessed / name / "dataset.json", "plan again with lnauto_plan_and_preprocess"))


def _prepare_rounds(
    paths: Paths,
    name: str,
    dataset: RawDataset | None,
    plan: Plan,
    splits: list[dict[str, list[str]]],
    folds: Sequence[str],
    request: Request,
) -> dict[str, FoldInRounds]:
    """The folds that are trained in rounds of pseudo labels; whatever forbids it is told before the first of them starts."""
    trainer = request.trainer or plan.lnauto["trainer"]
    model = paths.results / name / f"{trainer}__{plan.content['plans_name']}__{request.configuration}"
    asked = {fold: rounds_of(model / f"fold_{fold}", request) for fold in folds}
    if not any(asked.values()):
        return {}
    if dataset is None:
        raise InputError.of(
            "rounds of pseudo labels need the raw data set", paths.raw / name, "put it there, or leave out --rounds"
        )
    from lnauto.compat.plans import PlansManager

    unannotated = bring_unannotated_up_to_date(dataset, plan, request.configuration, paths, quiet=request.quiet)
    annotated = paths.preprocessed / name / plan.configuration(request.configuration)["data_identifier"]
    description = adding_ignore(dataset.description)
    labels = PlansManager(plan.content).get_label_manager(description)
    found = {}
    for fold, rounds in asked.items():
        if rounds:
            everything = sorted({case for split in splits for case in split["train"]})
            split = {"train": everything, "val": []} if fold == "all" else splits[int(fold)]
            free = [case.name for case in dataset.unannotated_cases]
            where = f"fold {fold} of {name}"
            cases = choose_cases(split, free, dataset.patient_of, (annotated, unannotated), labels, where, request.quiet)
            found[fold] = FoldInRounds(plan, description, fold, request, rounds, cases, model / f"fold_{fold}")
            check_rounds(found[fold])
    return found


def _check_folds(folds: list[str], there: int, path: Path) -> None:
    for fold in folds:
        if fold != "all" and not (fold.isdigit() and int(fold) < there):
            known = ", ".join(str(number) for number in range(there))
            raise InputError.of(f"there is no fold {fold} (there: {known})", path, "give one of them, or all, or cv")
