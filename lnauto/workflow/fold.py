"""One fold: from its first iteration, or its checkpoint, to the figures of its validation."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.allowance import usable_cores
from lnauto.data.description import outputs_of
from lnauto.data.trusted_background import as_drawn
from lnauto.errors import InputError
from lnauto.evaluation.folder import Evaluation
from lnauto.files import read_json
from lnauto.locks import locked
from lnauto.paths import activate
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.workflow.evaluate import write_evaluation
from lnauto.workflow.tuner import trainer_name, tune_of

if TYPE_CHECKING:
    from lnauto.evaluation.cases import CaseResult
    from lnauto.trainers.lntrainer import LNTrainer
    from lnauto.trainers.material import Material
    from lnauto.trainers.schedule import Length

log = logging.getLogger(__name__)

ROUNDS = "rounds"  # the folder of pseudo-label rounds, in that of the fold
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
    rounds: int | None = None  # of pseudo labels; None: no such rounds, or, of a fold that goes on, its own
    proceed: bool = False  # --continue
    overwrite: bool = False
    pretrain: bool = False
    pretrained: str | None = None  # the foundation model to start from, by its name
    tune: str | None = None  # how it is adapted: a method, or `auto`; None: as the plan has it
    sensitivity: float | None = None  # that the threshold of a patient head is to have; None: Youden's, or as the plan has it
    dino_weights: Path | None = None  # of the global branch of LNMTrainerWeGA; None: nnU-Net's kind of encoder
    source: str | None = None  # the data set the foundation model comes from, to see what it keeps
    report: bool = field(default=True, repr=False)  # a page to look at; `made_of` of a head, which reads `repr`, is the same
    track: tuple[str, ...] = field(default=(), repr=False)  # learning curves besides, for the same reason no part of `repr`
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
    begin: Callable[[Path], None] | None = None,
) -> tuple[LNTrainer, list[CaseResult]]:
    """Train and validate; `seconds` is what all that may take, `extend` whether a finished fold is trained further,
    `pretrained` the weights a new one starts from, and `begin` as `train_network` has it."""
    trainer = train_network(plan, description, fold, request, seconds, extend, pretrained, begin=begin)
    return trainer, validate(trainer)


def validate(trainer: LNTrainer) -> list[CaseResult]:
    """The figures of a trained fold."""
    if trainer.fold == "all":
        log.info("The model of all cases has no held-out case, so it is not validated.")
        return []
    results = trainer.validate()
    tell_results(
        results, Path(trainer.output_folder) / "validation", f"Validation of fold {trainer.fold}{trainer.yardstick.told}"
    )
    trainer.tracking.validated(trainer)
    return results


def train_network(
    plan: Plan,
    description: dict[str, Any],
    fold: str,
    request: Request,
    seconds: float | None,
    extend: bool = True,
    pretrained: Path | None = None,
    name: str = "",
    material: Material | None = None,
    begin: Callable[[Path], None] | None = None,
) -> LNTrainer:
    """Train a fold's network, or, with a `name` and other `material`, another one for it.

    `begin` is told the network's folder when the training is sure to start, not before; by default what an earlier training left
    there is removed.
    """
    started = time.monotonic()
    name = name or f"Fold {fold}"
    trainer = make_trainer(plan, description, fold, request)
    if material is not None:
        trainer.learn_from(material)
    folder = Path(trainer.output_folder)
    with _leaving_nothing(trainer):
        resumed, finished = _resume_from(folder, request, fold)
        configure(trainer, plan, request, resumed, finished and not extend, pretrained)
        if resumed is None:
            _check_other_folds(Path(trainer.output_folder_base), fold, plan, description, request)
            trainer.initialize()
        else:
            began = resumed["init_args"]
            if differs := _differs(began["plans"], began["dataset_json"], plan, description, request.configuration):
                raise InputError.of(f"fold {fold} {differs}", folder, "restore it, or begin anew with --overwrite")
            trainer.load_checkpoint(resumed)
        by_time = trainer.options.length.seconds is not None
        if by_time and (resumed is None or (request.names_a_length and not (finished and not extend))):
            _divide_time(trainer, name, started, seconds or trainer.options.length.seconds or 0.0)
        if resumed is not None and material is None and resumed["lnauto"].get("with_material") and not trainer.clock.done:
            what = f"fold {fold} was trained on pseudo labels that are no longer there"
            raise InputError.of(what, folder / ROUNDS, "leave it as it is, or start anew with --overwrite")
    if finished and trainer.clock.done:  # done, but not finished: it was stopped before its last checkpoint was written
        log.info("%s is trained already (%d iterations).", name, trainer.clock.iteration)
        return trainer
    if resumed is None:
        (begin or clear)(folder)
    else:
        log.info("%s goes on from iteration %d.", name, trainer.clock.iteration)
    trainer.run_training()
    log.info("%s is trained: %d iterations in %.0f s.", name, trainer.clock.iteration, trainer.clock.seconds)
    return trainer


@contextmanager
def _leaving_nothing(trainer: LNTrainer) -> Iterator[None]:
    """What is refused within leaves no trace: nnU-Net's constructor begins a log, and folders for it."""
    try:
        yield
    except InputError:
        Path(trainer.log_file).unlink(missing_ok=True)
        folder = Path(trainer.output_folder)
        with suppress(OSError):  # it is not there, or something is in it
            for empty in (folder, *folder.parents[:3]):  # fold, model, data set, results
                empty.rmdir()
        raise


def tell_results(results: list[CaseResult], folder: Path, title: str) -> None:
    """Tell the figures, and write them beside the validation masks."""
    evaluation = Evaluation.of_cases(results, truth=folder, predictions=folder)
    log.info("%s\n%s", title, write_evaluation(evaluation, folder))


def make_trainer(plan: Plan, description: dict[str, Any], fold: str, request: Request) -> LNTrainer:
    """The trainer of a fold, not yet told how long and with what it trains; its class depends on how it is tuned."""
    from lnauto.networks.compute import find_device
    from lnauto.trainers import find_trainer

    trainer_class = find_trainer(trainer_name(plan, request.trainer, request.tune))
    device = find_device(request.device)
    return trainer_class(plan.content, request.configuration, fold if fold == "all" else int(fold), description, device)


def _resume_from(folder: Path, request: Request, fold: str) -> tuple[dict[str, Any] | None, bool]:
    """The checkpoint to go on from, and whether its training is finished."""
    from lnauto.trainers.checkpoint import FINAL, load_to_go_on

    there = find_training(folder, request, fold)
    if there is None and request.proceed:
        log.info("Fold %s has no checkpoint yet; it starts from the beginning.", fold)
    return (load_to_go_on(there), there.name == FINAL) if there is not None else (None, False)


def find_training(folder: Path, request: Request, fold: str) -> Path | None:
    """The checkpoint to go on from (None: the fold starts anew); one that is there is not replaced unasked."""
    from lnauto.trainers.checkpoint import FINAL

    if request.overwrite and not request.proceed:
        return None
    there = _furthest(folder)
    if there is None or request.proceed:
        return there
    state = "finished" if there.name == FINAL else "begun"
    raise InputError.of(
        f"a training of fold {fold} is {state} there already", folder, "add --continue to go on, or --overwrite to start anew"
    )


def _furthest(folder: Path) -> Path | None:
    """The last checkpoint, or, where a finished training was to go on and was stopped, the one that is newer."""
    from lnauto.trainers.checkpoint import FINAL, LATEST, load_to_go_on

    there = [path for path in (folder / FINAL, folder / LATEST) if path.is_file()]
    if len(there) == 2:  # of the same iteration, it was killed before it removed the other: the last one counts
        there.sort(key=lambda path: load_to_go_on(path)["lnauto"]["iteration"], reverse=True)
    return there[0] if there else None


def clear(folder: Path) -> None:
    """Remove an earlier training of this fold, now that the new one is sure to start."""
    from lnauto.trainers.checkpoint import FINAL, LATEST
    from lnauto.trainers.tracking import forget

    forget(folder)
    for name in (FINAL, LATEST, "history.json", "progress.png"):
        (folder / name).unlink(missing_ok=True)
    for name in ("validation", ROUNDS):
        shutil.rmtree(folder / name, ignore_errors=True)


def lock_folds(locks: ExitStack, model: Path, folds: Sequence[str]) -> None:
    """Be alone in the folders of these folds until `locks` are let go; other folds of the model may be trained meanwhile."""
    shared = (model, model / "crossvalidation", *model.glob("*/crossvalidation"))  # that of a head is in its own folder
    for fold in folds:
        locks.enter_context(locked(model / f"fold_{fold}", model, *shared))


def _check_other_folds(model: Path, fold: str, plan: Plan, description: dict[str, Any], request: Request) -> None:
    """All folds of a model share one plans.json: a fold of another network would make the others useless."""
    from lnauto.trainers.checkpoint import FINAL

    others = [path.parent for path in model.glob(f"fold_*/{FINAL}") if path.parent.name != f"fold_{fold}"]
    if not others:
        return
    remedy = "restore it, or move that folder away and train every fold anew"
    known, described = (read_json(model / name, remedy) for name in ("plans.json", "dataset.json"))
    if differs := _differs(known, described, plan, description, request.configuration):
        raise InputError.of(f"{others[0].name} {differs}", model, remedy)


def _differs(
    known: dict[str, Any], described: dict[str, Any], plan: Plan, description: dict[str, Any], configuration: str
) -> str | None:
    """Why what was trained under a plan and a description would be something else now."""
    chosen = known["configurations"].get(configuration)
    if chosen is None or chosen["architecture"] != plan.configuration(configuration)["architecture"]:
        return "was trained with another network than the plan has now"
    if Plan(known).image_hash(configuration) != plan.image_hash(configuration):
        return "was trained on images of another spacing, region or intensity than the plan has now"
    before, now = (as_drawn(content)["labels"] for content in (described, description))
    if before != now or outputs_of(before) != outputs_of(now):  # regions go in the order they are declared in
        return f"learned other labels ({_listed(before)}) than dataset.json has now ({_listed(now)})"
    return None


def _listed(labels: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in labels.items())


def configure(
    trainer: LNTrainer,
    plan: Plan,
    request: Request,
    resumed: dict[str, Any] | None,
    own_length: bool,
    pretrained: Path | None,
) -> None:
    """Length, seed and the like, and what it starts from: of this command, or, of a training that goes on, its own."""
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length

    length, seed = length_of(plan, request), request.seed
    if resumed is not None:
        seed, pretrained = resumed["lnauto"]["seed"], None
        if own_length or not request.names_a_length:
            length = Length(**resumed["lnauto"]["length"])
    workers = workers_for(trainer.device.type, length) if request.workers is None else request.workers
    foundation = _foundation(plan) if resumed is None else None
    trainer.configure(
        Options(
            length,
            seed,
            request.precision,
            workers,
            quiet=request.quiet,
            pretrained=pretrained,
            foundation=foundation,
            tune=None if resumed is not None and request.tune is None else tune_of(plan, request.tune),
            track=request.track,
        )
    )


def _foundation(plan: Plan) -> Path | None:
    """Where the model lies that the plan was made under, if any: the results may have been moved since."""
    from lnauto.inference.foundation import find_foundation

    foundation = plan.lnauto.get("foundation")
    return find_foundation(foundation["name"], activate().results).folder if foundation is not None else None


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


def _divide_time(trainer: LNTrainer, name: str, started: float, seconds: float) -> None:
    """Take what has gone already and what predicting will need from the time there is; the rest is training."""
    from lnauto.trainers.validation import seconds_to_predict

    use = "validation" if trainer.material is None or trainer.material.to_label is None else "labelling"
    predicting = seconds_to_predict(trainer)
    gone = time.monotonic() - started
    training = seconds - gone - predicting
    if training < SHORTEST_SECONDS:
        what = f"the budget leaves {seconds:.0f} s for {name[0].lower()}{name[1:]}, and start and {use} alone take"
        remedy = f"give more; {name[0].lower()}{name[1:]} alone needs {(gone + predicting) / 60 + 1:.0f}min of it"
        raise InputError.of(f"{what} {gone + predicting:.0f} s", "--budget", remedy)
    parts = (seconds / 60, training / 60, use, predicting / 60, gone / 60)
    log.info("Budget of %.1f min: training %.1f, %s %.1f, start %.1f.", *parts)
    trainer.allow_seconds(training)
