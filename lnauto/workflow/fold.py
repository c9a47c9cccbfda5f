"""One fold: from its first iteration, or its checkpoint, to the figures of its validation."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.cores import usable_cores
from lnauto.errors import InputError
from lnauto.evaluation.folder import Evaluation
from lnauto.files import read_json
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.workflow.evaluate import write_evaluation

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
    pretrain: bool = False
    quiet: bool = False

    @property
    def names_a_length(self) -> bool:
        return any(value is not None for value in (self.minutes, self.epochs, self.iterations))


def train_fold(
    plan: Plan,
    description: dict[str, Any],
    fold: str,
    request: Request,
    seconds: float | None,
    extend: bool = True,
    pretrained: Path | None = None,
) -> tuple[LNTrainer, list[CaseResult]]:
    """Train and validate; `seconds` is what all that may take, `extend` whether a finished fold is trained further, and
    `pretrained` the weights a new one starts from."""
    started = time.monotonic()
    trainer = _make_trainer(plan, description, fold, request)
    folder = Path(trainer.output_folder)
    resumed, finished = _resume_from(folder, request, fold)
    _configure(trainer, plan, request, resumed, finished and not extend, pretrained)
    if resumed is None:
        _check_other_folds(folder, plan, request)
        trainer.initialize()
    else:
        trainer.load_checkpoint(resumed)
    by_time = trainer.options.length.seconds is not None
    if by_time and (resumed is None or (request.names_a_length and not (finished and not extend))):
        _divide_time(trainer, fold, started, seconds or trainer.options.length.seconds or 0.0)
    if trainer.clock.done:
        log.info("Fold %s is trained already (%d iterations).", fold, trainer.clock.iteration)
    else:
        if resumed is None:
            _clear(folder)
        else:
            log.info("Fold %s goes on from iteration %d.", fold, trainer.clock.iteration)
        trainer.run_training()
        log.info("Fold %s is trained: %d iterations in %.0f s.", fold, trainer.clock.iteration, trainer.clock.seconds)
    if fold == "all":
        log.info("The model of all cases has no held-out case, so it is not validated.")
        return trainer, []
    results = trainer.validate()
    tell_results(results, folder / "validation", f"Validation of fold {fold}{trainer.yardstick.told}")
    return trainer, results


def tell_results(results: list[CaseResult], folder: Path, title: str) -> None:
    """Tell the figures, and write them beside the validation masks."""
    evaluation = Evaluation.of_cases(results, truth=folder, predictions=folder)
    log.info("%s\n%s", title, write_evaluation(evaluation, folder))


def _make_trainer(plan: Plan, description: dict[str, Any], fold: str, request: Request) -> LNTrainer:
    from lnauto.networks.compute import find_device
    from lnauto.trainers import find_trainer

    trainer_class = find_trainer(request.trainer or plan.lnauto["trainer"])
    device = find_device(request.device)
    return trainer_class(plan.content, request.configuration, fold if fold == "all" else int(fold), description, device)


def _resume_from(folder: Path, request: Request, fold: str) -> tuple[dict[str, Any] | None, bool]:
    """The checkpoint to go on from, and whether its training is finished."""
    from lnauto.inference.model import load_checkpoint
    from lnauto.trainers.checkpoint import FINAL

    there = find_training(folder, request, fold)
    if there is None and request.proceed:
        log.info("Fold %s has no checkpoint yet; it starts from the beginning.", fold)
    return (load_checkpoint(there), there.name == FINAL) if there is not None else (None, False)


def find_training(folder: Path, request: Request, fold: str) -> Path | None:
    """The checkpoint to go on from (None: the fold starts anew); one that is there is not replaced unasked."""
    from lnauto.trainers.checkpoint import FINAL, LATEST

    there = next((path for path in (folder / FINAL, folder / LATEST) if path.is_file()), None)
    if there is None or request.proceed or request.overwrite:
        return there if request.proceed else None
    state = "finished" if there.name == FINAL else "begun"
    raise InputError.of(
        f"a training of fold {fold} is {state} there already", folder, "add --continue to go on, or --overwrite to start anew"
    )


def _clear(folder: Path) -> None:
    """Remove an earlier training of this fold, now that the new one is sure to start."""
    from lnauto.trainers.checkpoint import FINAL, LATEST

    for name in (FINAL, LATEST, "history.json", "progress.png"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "validation", ignore_errors=True)


def _check_other_folds(folder: Path, plan: Plan, request: Request) -> None:
    """All folds of a model share one plans.json: a fold of another network would make the others useless."""
    from lnauto.trainers.checkpoint import FINAL

    others = [path.parent for path in folder.parent.glob(f"fold_*/{FINAL}") if path.parent != folder]
    if not others:
        return
    known = read_json(folder.parent / "plans.json", "train all folds anew")["configurations"].get(request.configuration)
    if known is None or known["architecture"] != plan.configuration(request.configuration)["architecture"]:
        raise InputError.of(
            f"{others[0].name} was trained with another network than the plan has now",
            folder.parent,
            "restore the plan, or move that folder away and train every fold anew",
        )


def _configure(
    trainer: LNTrainer,
    plan: Plan,
    request: Request,
    resumed: dict[str, Any] | None,
    own_length: bool,
    pretrained: Path | None,
) -> None:
    """Length, seed and the like: of this command, or, of a training that goes on, its own."""
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length

    length, seed = length_of(plan, request), request.seed
    if resumed is not None:
        seed, pretrained = resumed["lnauto"]["seed"], None
        if own_length or not request.names_a_length:
            length = Length(**resumed["lnauto"]["length"])
    workers = workers_for(trainer.device.type, length) if request.workers is None else request.workers
    trainer.configure(Options(length, seed, request.precision, workers, quiet=request.quiet, pretrained=pretrained))


def length_of(plan: Plan, request: Request) -> Length:
    """How long a fold is to train."""
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


def workers_for(device: str, length: Length) -> int:
    """Processes that make batches: as many as feed a GPU; beside a CPU's training one, if that leaves it two cores."""
    cores = usable_cores()
    if length.iterations is not None and length.iterations < WORKER_PAYS_FROM_ITERATIONS:
        return 0
    return min(12, max(cores - 2, 1)) if device == "cuda" else int(cores > 2)


def _divide_time(trainer: LNTrainer, fold: str, started: float, seconds: float) -> None:
    """Take what has gone already and what validation will need from the time there is; the rest is training."""
    from lnauto.trainers.validation import seconds_to_validate

    validation = 0.0 if fold == "all" else seconds_to_validate(trainer, trainer.do_split()[1])
    gone = time.monotonic() - started
    training = seconds - gone - validation
    if training < SHORTEST_SECONDS:
        raise InputError.of(
            f"the budget leaves {seconds:.0f} s for fold {fold}, and start and validation alone take {gone + validation:.0f} s",
            "--budget",
            f"give at least {(gone + validation) / 60 + 1:.0f}min a fold",
        )
    parts = (seconds / 60, training / 60, validation / 60, gone / 60)
    log.info("Budget of %.1f min: training %.1f, validation %.1f, start %.1f.", *parts)
    trainer.allow_seconds(training)
