"""`lnauto_train`: one fold, several, all cases in one model, or every fold and the pooled table."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.evaluation.folder import Evaluation
from lnauto.files import read_json
from lnauto.paths import Paths, activate, find_dataset
from lnauto.planners.plan import CONFIGURATION, PLANS_NAME, Plan
from lnauto.workflow.evaluate import write_evaluation
from lnauto.workflow.plan import SPLITS, bring_up_to_date

if TYPE_CHECKING:
    from lnauto.evaluation.cases import CaseResult
    from lnauto.trainers.lntrainer import LNTrainer
    from lnauto.trainers.schedule import Length

log = logging.getLogger(__name__)

SHORTEST_SECONDS = 5.0  # of training proper that a budget has to leave
WORKER_PAYS_FROM_ITERATIONS = 100  # a worker takes a second or two to start


@dataclass(frozen=True)
class Request:
    """What the command line asks of a training; None: as the plan has it."""

    configuration: str = CONFIGURATION
    minutes: float | None = None
    epochs: int | None = None
    iterations: int | None = None
    seed: int = 0
    device: str | None = None
    precision: str = "auto"
    trainer: str | None = None
    workers: int | None = None
    proceed: bool = False  # --continue
    overwrite: bool = False
    quiet: bool = False


def train(identifier: str, folds: Sequence[str], request: Request) -> Path:
    """Train the folds asked for, one after the other; returns the model's folder."""
    started = time.monotonic()
    paths = activate()
    name = find_dataset(identifier, paths.preprocessed, paths.raw)
    plan = Plan.load(paths.preprocessed / name / f"{PLANS_NAME}.json", f"plan first: lnauto_plan_and_preprocess -d {identifier}")
    plan.configuration(request.configuration)
    description = _description(paths, name, plan, request)
    splits = read_json(paths.preprocessed / name / SPLITS, f"plan again: lnauto_plan_and_preprocess -d {identifier}")
    chosen = [str(number) for number in range(len(splits))] if list(folds) == ["cv"] else list(folds)
    _check_folds(chosen, len(splits), paths.preprocessed / name / SPLITS)
    results: list[CaseResult] = []
    for place, fold in enumerate(chosen):
        seconds = None
        if request.minutes is not None:  # the budget is the whole command's: each fold takes its share of what is left
            seconds = (request.minutes * 60 - (time.monotonic() - started)) / (len(chosen) - place)
        trainer, found = _train_fold(plan, description, fold, request, seconds)
        results += found
    model = Path(trainer.output_folder_base)
    if list(folds) == ["cv"]:
        _write(results, model / "crossvalidation", "Pooled over all folds")
    return model


def _description(paths: Paths, name: str, plan: Plan, request: Request) -> dict[str, Any]:
    """`dataset.json`, after making sure that what is preprocessed is what the raw data and the plan say now."""
    if (paths.raw / name).is_dir():
        dataset = RawDataset.read(paths.raw / name)
        bring_up_to_date(dataset, plan, request.configuration, paths, quiet=request.quiet)
        return dataset.description
    log.info("The raw data set %s is not in %s; training on what is preprocessed.", name, paths.raw)
    return dict(read_json(paths.preprocessed / name / "dataset.json", "plan again with lnauto_plan_and_preprocess"))


def _check_folds(folds: list[str], there: int, path: Path) -> None:
    for fold in folds:
        if fold != "all" and not (fold.isdigit() and int(fold) < there):
            known = ", ".join(str(number) for number in range(there))
            raise InputError.of(f"there is no fold {fold} (there: {known})", path, "give one of them, or all, or cv")


def _train_fold(
    plan: Plan, description: dict[str, Any], fold: str, request: Request, seconds: float | None
) -> tuple[LNTrainer, list[CaseResult]]:
    """One fold from its first iteration, or its checkpoint, to its validation; `seconds` is what all that may take."""
    from lnauto.networks.compute import find_device
    from lnauto.trainers import find_trainer

    started = time.monotonic()
    trainer_class = find_trainer(_trainer_name(plan, request))
    device = find_device(request.device)
    trainer = trainer_class(plan.content, request.configuration, fold if fold == "all" else int(fold), description, device)
    resumed = _resume_from(Path(trainer.output_folder), request, fold)
    _configure(trainer, plan, request, resumed)
    if resumed is None:
        trainer.initialize()
    else:
        trainer.load_checkpoint(resumed)
        log.info("Fold %s goes on from iteration %d.", fold, trainer.clock.iteration)
    if trainer.options.length.seconds is not None and (resumed is None or _asks_for_more(request)):
        _divide_time(trainer, started, seconds or trainer.options.length.seconds)
    if not trainer.clock.done:
        trainer.run_training()
        log.info("Fold %s is trained: %d iterations in %.0f s.", fold, trainer.clock.iteration, trainer.clock.seconds)
    else:
        log.info("Fold %s is trained already; its validation is done again.", fold)
    if fold == "all":
        log.info("The model of all cases has no held-out case, so it is not validated.")
        return trainer, []
    results = trainer.validate()
    _write(results, Path(trainer.output_folder) / "validation", f"Validation of fold {fold}")
    return trainer, results


def _trainer_name(plan: Plan, request: Request) -> str:
    name = request.trainer or plan.lnauto["trainer"]
    if name is None:
        raise InputError.of(
            f"the plan's strategy, {plan.lnauto['strategy']}, has no trainer in this version of lnauto",
            f"{PLANS_NAME}.json of {plan.content['dataset_name']}",
            "draw the nodes in some cases and plan again",
        )
    return str(name)


def _resume_from(folder: Path, request: Request, fold: str) -> dict[str, Any] | None:
    """The checkpoint to go on from; a training that is there is neither overwritten nor continued unasked."""
    from lnauto.inference.model import load_checkpoint
    from lnauto.trainers.checkpoint import FINAL, LATEST

    there = [path for path in (folder / FINAL, folder / LATEST) if path.is_file()]
    if request.proceed:
        if there:
            return load_checkpoint(there[0])
        log.info("Fold %s has no checkpoint yet; it starts from the beginning.", fold)
    elif there and not request.overwrite:
        state = "finished" if there[0].name == FINAL else "begun"
        raise InputError.of(
            f"a training of fold {fold} is {state} there already", folder, "add --continue to go on, or --overwrite to start anew"
        )
    else:
        for path in there:
            path.unlink()
    return None


def _asks_for_more(request: Request) -> bool:
    return any(value is not None for value in (request.minutes, request.epochs, request.iterations))


def _configure(trainer: LNTrainer, plan: Plan, request: Request, resumed: dict[str, Any] | None) -> None:
    """Length, seed and the like: of this command, or, of a training that goes on, its own."""
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length

    length, seed = _length(plan, request), request.seed
    if resumed is not None:
        seed = resumed["lnauto"]["seed"]
        if not _asks_for_more(request):
            length = Length(**resumed["lnauto"]["length"])
    workers = _workers(trainer.device.type, length) if request.workers is None else request.workers
    trainer.configure(Options(length, seed, request.precision, workers, quiet=request.quiet))


def _length(plan: Plan, request: Request) -> Length:
    from lnauto.trainers.schedule import Length

    budget = plan.lnauto["budget"]
    per_epoch, validation = budget["iterations_per_epoch"], budget["validation_iterations"]
    if request.iterations is not None:
        return Length(request.iterations, None, min(per_epoch, request.iterations), validation)
    if request.epochs is not None:
        return Length(request.epochs * per_epoch, None, per_epoch, validation)
    minutes = budget["minutes"] if request.minutes is None else request.minutes
    if minutes is not None:
        return Length(None, minutes * 60, per_epoch, validation)
    return Length(budget["epochs"] * per_epoch, None, per_epoch, validation)


def _workers(device: str, length: Length) -> int:
    """Processes that make batches: as many as feed a GPU; beside a CPU's training one, if that leaves it two cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if length.iterations is not None and length.iterations < WORKER_PAYS_FROM_ITERATIONS:
        return 0
    return min(12, max(cores - 2, 1)) if device == "cuda" else int(cores > 2)


def _divide_time(trainer: LNTrainer, started: float, seconds: float) -> None:
    """Take what has gone already and what validation will need from the time there is; the rest is training."""
    from lnauto.trainers.validation import seconds_to_validate

    validation = 0.0 if trainer.fold == "all" else seconds_to_validate(trainer, trainer.do_split()[1])
    gone = time.monotonic() - started
    training = seconds - gone - validation
    if training < SHORTEST_SECONDS:
        raise InputError.of(
            f"the budget of {seconds:.0f} s leaves no time to train (start {gone:.0f} s, validation {validation:.0f} s)",
            "--budget",
            f"give at least {(gone + validation) / 60 + 1:.0f}min",
        )
    log.info(
        "Budget of %.1f min: training %.1f, validation %.1f, start %.1f.",
        *(part / 60 for part in (seconds, training, validation, gone)),
    )
    trainer.allow_seconds(training)


def _write(results: list[CaseResult], folder: Path, title: str) -> None:
    """Tell the figures, and write them beside the validation masks."""
    evaluation = Evaluation.of_cases(results, truth=folder, predictions=folder)
    log.info("%s\n%s", title, write_evaluation(evaluation, folder))
