"""Learning curves for people who watch trainings in TensorBoard or MLflow; neither is imported unless it is asked for.

What is tracked is what `history.json` holds, at the iteration of each record. Which steps are tracked already is kept beside it
in `tracking.json`, so that a training that goes on repeats none. Nothing in here may end a training: a fault is told once, and
the training goes on untracked.
"""

from __future__ import annotations

import importlib
import logging
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lnauto import __version__
from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.planners.plan import Plan

if TYPE_CHECKING:
    from lnauto.trainers.lntrainer import LNTrainer

log = logging.getLogger(__name__)

MODULES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow"}
STATE, EVENTS = "tracking.json", "tensorboard"
PATIENCE_S = 20.0  # that the end of a training waits for a tracker to catch up [our choice]
NO_FIGURES = ("iteration", "nodes/cases")  # the step, and what never changes
FINISHED, STOPPED = "FINISHED", "KILLED"  # as MLflow calls them

Numbers = Mapping[str, float]


def check_tracking(names: Sequence[str]) -> None:
    """Whether what is asked for is installed; before anything is trained."""
    for name in names:
        try:
            importlib.import_module(MODULES[name])
        except ImportError as error:
            what, remedy = f"{name} is not installed", f"install it: pip install 'lnauto[{name}]'"
            raise InputError.of(what, "--track", remedy) from error


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch; those of nodes as `nodes/recall` and so on."""
    flat = {**record, **{f"nodes/{name}": value for name, value in (record.get("nodes") or {}).items()}}
    return {name: float(value) for name, value in flat.items() if _is_number(value) and name not in NO_FIGURES}


def validation_figures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Of a fold's `evaluation.json`: scores averaged over labels, and all nodes together."""
    nodes = evaluation.get("nodes", {}).get("all nodes") or {}
    flat = {**evaluation["mean_over_labels"], **{f"nodes/{name}": value for name, value in (nodes.get("pooled") or {}).items()}}
    flat["nodes/false_per_case"] = nodes.get("false_per_case")
    return {f"validation/{name}": float(value) for name, value in flat.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def parameters_of(trainer: LNTrainer) -> dict[str, str]:
    """What the training was asked to do; lengths along axes as z, y, x of the scans."""
    plans, options, chosen = trainer.plans_manager.plans, trainer.options, trainer.configuration_manager
    order, length = plans["transpose_backward"], options.length
    return {
        "dataset": plans["dataset_name"],
        "plan_hash": Plan(plans).hash(),
        "strategy": str(plans.get("lnauto", {}).get("strategy")),
        "trainer": type(trainer).__name__,
        "fold": str(trainer.fold),
        "spacing": " x ".join(f"{chosen.spacing[axis]:.3g}" for axis in order),
        "patch": " x ".join(str(chosen.patch_size[axis]) for axis in order),
        "batch": str(chosen.batch_size),
        "seed": str(options.seed),
        "length": f"{length.iterations} iterations" if length.seconds is None else f"{length.seconds:.0f} s",
        "device": trainer.device.type,
        "lnauto": __version__,
    }


def name_of(trainer: LNTrainer) -> str:
    """`Dataset501_Nodes/LNTrainer/fold_0`, and what follows in the results for a network that serves a fold."""
    folder, base = Path(trainer.output_folder).resolve(), Path(trainer.output_folder_base).resolve()
    place = folder.relative_to(base).as_posix() if folder.is_relative_to(base) else folder.name
    return f"{trainer.plans_manager.plans['dataset_name']}/{type(trainer).__name__}/{place}"


class Tracker(Protocol):
    """Where curves go; every call may fail. What it `remembers` it is given again when the training goes on."""

    remembers: dict[str, Any]

    def write(self, numbers: Numbers, step: int) -> None: ...

    def keep(self, files: Sequence[Path]) -> None: ...

    def close(self, status: str) -> None: ...


class TensorBoard:
    """Event files beside the checkpoint."""

    def __init__(self, trainer: LNTrainer, known: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.remembers: dict[str, Any] = {}
        self.writer: Any = SummaryWriter(str(Path(trainer.output_folder) / EVENTS))
        if not known:
            rows = [f"| {name} | {value} |" for name, value in parameters_of(trainer).items()]
            self.writer.add_text("parameters", "\n".join(["| | |", "|---|---|", *rows]), 0)

    def write(self, numbers: Numbers, step: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # what is not in the file when a training is killed would be missing for good

    def keep(self, files: Sequence[Path]) -> None:
        """It shows numbers; files lie beside them."""

    def close(self, status: str) -> None:
        self.writer.close()


class MLflow:
    """A run where MLflow's own settings say; the same run for a training that goes on."""

    def __init__(self, trainer: LNTrainer, known: Mapping[str, Any]) -> None:
        self.mlflow: Any = importlib.import_module("mlflow")
        parameters = parameters_of(trainer)
        if run := known.get("run_id"):
            self.mlflow.start_run(run_id=run)
        else:
            run = self.mlflow.start_run(run_name=name_of(trainer)).info.run_id
            self.mlflow.log_params(parameters)
        self.remembers = {"run_id": run}
        self.mlflow.set_tag("length", parameters["length"])  # a parameter cannot change, a training may be made longer

    def write(self, numbers: Numbers, step: int) -> None:
        self.mlflow.log_metrics(dict(numbers), step=step)

    def keep(self, files: Sequence[Path]) -> None:
        for file in files:
            self.mlflow.log_artifact(str(file))

    def close(self, status: str) -> None:
        self.mlflow.end_run(status)


TRACKERS: dict[str, Callable[[Any, Mapping[str, Any]], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


class Line:
    """One tracker, in a thread of its own: a training waits for no server."""

    def __init__(self, name: str, open_tracker: Callable[[], Tracker]) -> None:
        self.name, self.open_tracker = name, open_tracker
        self.work: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=f"tracking with {name}", daemon=True)
        self.thread.start()

    def write(self, numbers: Numbers, step: int, written: Callable[[], None]) -> None:
        """`written` is called once they are there."""

        def act(tracker: Tracker) -> None:
            tracker.write(numbers, step)
            written()

        self.work.put(act)

    def close(self, status: str, files: Sequence[Path]) -> None:
        """Wait until all of it is there, but not for ever."""

        def act(tracker: Tracker) -> None:
            tracker.keep(files)
            tracker.close(status)

        self.work.put(act)
        self.work.put(None)
        self.thread.join(PATIENCE_S)
        if self.thread.is_alive():
            log.warning("Tracking with %s is not done after %.0f s, and is left behind.", self.name, PATIENCE_S)

    def _run(self) -> None:
        try:
            tracker = self.open_tracker()
            while (act := self.work.get()) is not None:
                act(tracker)
        except Exception as error:  # of a server, a disk, a package: whatever it is, the training goes on
            told = next(iter(str(error).splitlines()), "") or type(error).__name__
            log.warning("Tracking with %s has stopped: %s. The training goes on.", self.name, told.rstrip("."))


class Tracking:
    """All trackers of one training; it may be that there are none."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.lines: dict[str, Line] = {}
        self.sent: dict[str, int] = {}  # the last iteration, by tracker
        self.state: dict[str, dict[str, Any]] = {}
        self.path = Path(STATE)
        self.lock = threading.Lock()  # on the state, which every line changes

    @contextmanager
    def of(self, trainer: LNTrainer) -> Iterator[None]:
        """While it trains."""
        self._open(trainer)
        try:
            yield
        except BaseException:
            self._close(STOPPED)
            raise
        self._close(FINISHED, [Path(trainer.output_folder) / "progress.png"])

    def epoch(self, record: Mapping[str, Any]) -> None:
        """A record of the history, unless it was sent in an earlier run of this training."""
        iteration = int(record["iteration"])
        for name, line in self.lines.items():
            if iteration > self.sent[name]:
                self.sent[name] = iteration
                line.write(figures_of(record), iteration, partial(self._remember, name, {"iteration": iteration}))

    def validated(self, trainer: LNTrainer) -> None:
        """The figures of the validation and its file, added to the run of the training."""
        path = Path(trainer.output_folder) / "validation" / "evaluation.json"
        if not self.names or not path.is_file():
            return
        self._open(trainer)
        numbers, iteration = validation_figures(read_json(path, "validate again")), trainer.clock.iteration
        for name, line in self.lines.items():
            if self.state[name].get("validated") != iteration:  # a finished training that is validated again repeats no step
                line.write(numbers, iteration, partial(self._remember, name, {"validated": iteration}))
        self._close(FINISHED, [path])

    def _open(self, trainer: LNTrainer) -> None:
        """Begin, or go on where it was; what the history holds and a tracker has not seen is sent first."""
        if not self.names or trainer.local_rank != 0:
            return
        folder = Path(trainer.output_folder)
        self.path = folder / STATE
        if not trainer.history:
            forget(folder)
        self.state = self._known()
        for name in self.names:
            self.sent[name] = self.state.setdefault(name, {}).get("iteration", -1)
        for name in self.names:
            self.lines[name] = Line(name, partial(self._opened, name, trainer, dict(self.state[name])))
        for record in trainer.history:
            self.epoch(record)

    def _opened(self, name: str, trainer: LNTrainer, known: Mapping[str, Any]) -> Tracker:
        tracker = TRACKERS[name](trainer, known)
        self._remember(name, tracker.remembers)
        return tracker

    def _known(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(read_json(self.path, "remove it")) if self.path.is_file() else {}
        except InputError as error:
            log.warning("%s", error)
            return {}

    def _remember(self, name: str, what: Mapping[str, Any]) -> None:
        with self.lock:
            self.state[name].update(what)
            write_json(self.path, self.state)

    def _close(self, status: str, files: Sequence[Path] = ()) -> None:
        for line in self.lines.values():
            line.close(status, [file for file in files if file.is_file()])
        self.lines = {}


def forget(folder: Path) -> None:
    """What an earlier training of this folder left."""
    (folder / STATE).unlink(missing_ok=True)
    shutil.rmtree(folder / EVENTS, ignore_errors=True)
