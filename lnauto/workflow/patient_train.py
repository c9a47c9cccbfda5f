"""`lnauto_train` on a data set that is a table alone: a clinical head for each fold, and the figures over all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from lnauto import __version__
from lnauto.data.folds import everybody
from lnauto.data.patient_labels import PatientLabels, too_few
from lnauto.data.patients import PatientTable
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError, Problem
from lnauto.evaluation.patients import Fold
from lnauto.files import read_json, write_json
from lnauto.paths import Paths
from lnauto.planners.plan import PLANS_NAME, Plan, hash_of
from lnauto.planners.table import carrying_problems
from lnauto.trainers.patient import find_patient_trainer
from lnauto.trainers.patient.clinical import ClinicalHead
from lnauto.workflow.fold import Request, lock_folds
from lnauto.workflow.patient_figures import tell_figures, tell_pooled
from lnauto.workflow.patient_plan import refuse
from lnauto.workflow.splits import SPLITS, chosen_folds, read_splits

log = logging.getLogger(__name__)

HEAD = "head.json"
CONFIGURATION = "table"


@dataclass(frozen=True)
class Training:
    """All that the folds of a head share."""

    name: str
    plan: Plan
    table: PatientTable
    labels: pd.Series
    splits: list[dict[str, list[str]]]
    request: Request
    model: Path

    def patients(self, fold: str) -> tuple[list[str], list[str]]:
        """Who trains and who validates."""
        if fold == "all":
            return everybody(self.splits), []
        return self.splits[int(fold)]["train"], self.splits[int(fold)]["val"]


def has_table_plan(folder: Path, identifier: str) -> bool:
    """Whether the data set was planned as a table alone."""
    path = folder / f"{PLANS_NAME}.json"
    return path.is_file() and Plan.load(path, _remedy(identifier)).is_table


def _remedy(identifier: str) -> str:
    return f"plan again: lnauto_plan_and_preprocess -d {identifier}"


def train_patients(paths: Paths, name: str, identifier: str, folds: Sequence[str], request: Request, locks: ExitStack) -> Path:
    """Train the folds asked for; returns the model's folder."""
    refuse(
        {
            "--pretrain": request.pretrain,
            "--pretrained": request.pretrained,
            "--rounds": request.rounds,
            "--epochs": request.epochs,
            "--iterations": request.iterations,
            "--dino-weights": request.dino_weights,
            "--track": request.track or None,
        }
    )
    training = _prepare(paths, name, identifier, request)
    path = paths.preprocessed / name / SPLITS
    chosen = chosen_folds(folds, len(training.splits), path)
    _check_classes(training, chosen, path)
    lock_folds(locks, training.model, chosen)
    _check_not_there(training, chosen)
    write_json(training.model / "plans.json", training.plan.content)
    predicted = [_train_fold(training, fold, briefly=len(chosen) > 1) for fold in chosen]
    if list(folds) == ["cv"]:
        found = [fold for fold in predicted if fold is not None]
        tell_pooled(found, training.model / "crossvalidation", training.table, seed=request.seed)
    return training.model


def _prepare(paths: Paths, name: str, identifier: str, request: Request) -> Training:
    remedy = _remedy(identifier)
    folder = paths.preprocessed / name
    plan = Plan.load(folder / f"{PLANS_NAME}.json", remedy)
    head = plan.lnauto["patient_head"]
    find_patient_trainer(trainer := request.trainer or head["trainer"])
    dataset = RawDataset.read(paths.raw / name)
    table = dataset.patients
    if table is None:
        raise InputError.of("there is no patients.csv", paths.raw / name, "put it back")
    labels = PatientLabels.of(table)
    where = f"{name}/patients.csv"
    gone = [column for column in head["columns"] if column not in table.frame]
    problems = [
        Problem(f'there is no column "{column}", which the plan names', where, f"put it back, or {remedy}") for column in gone
    ]
    problems += carrying_problems(labels, head["columns"], where)
    splits = read_splits(folder, identifier)
    known = set(labels.known.index)
    named = set(everybody(splits))
    if unknown := sorted(named - known):
        problems.append(Problem(f"the folds name {unknown[0]}, of whom no label is known", str(folder / SPLITS), remedy))
    if problems:
        raise InputError(problems)
    if left_out := sorted(known - named):
        log.warning("%d patients with a label are in no fold, such as %s: they are not trained on.", len(left_out), left_out[0])
    sensitivity = head["sensitivity"] if request.sensitivity is None else request.sensitivity
    model = paths.results / name / f"{trainer}__{PLANS_NAME}__{CONFIGURATION}"
    return Training(name, plan, table, labels.known, splits, replace(request, sensitivity=sensitivity, trainer=trainer), model)


def _check_classes(training: Training, folds: list[str], path: Path) -> None:
    """No fold may leave a head with one class to learn from."""
    problems = []
    for fold in folds:
        train, kept = training.patients(fold)
        if both := sorted(set(train) & set(kept)):
            problems.append(Problem(f"fold {fold} trains and validates on {both[0]}", str(path), "keep each patient on one side"))
        elif fault := too_few(training.labels[train]):
            problems.append(Problem(f"fold {fold} trains on {fault}", str(path), "remove the file and plan again"))
    if problems:
        raise InputError(problems)


def _check_not_there(training: Training, folds: list[str]) -> None:
    """A head that is there is not replaced unasked, unless this command would make the very same again."""
    for fold in folds:
        path = training.model / f"fold_{fold}" / HEAD
        if not path.is_file() or training.request.overwrite or training.request.proceed:
            continue
        if read_json(path, "remove it")["provenance"]["made_of"] != _made_of(training, fold):
            remedy = "add --overwrite to train it anew"
            raise InputError.of(f"a head of fold {fold} is there already, made from other data or settings", path.parent, remedy)


def _made_of(training: Training, fold: str) -> str:
    """A hash of all that decides what a head becomes."""
    train, _ = training.patients(fold)
    columns = training.plan.lnauto["patient_head"]["columns"]
    rows = training.table.frame.loc[sorted(train), columns].to_json(double_precision=15)
    request = training.request
    return hash_of(
        [rows, training.labels[sorted(train)].tolist(), request.seed, request.sensitivity, request.trainer, __version__]
    )


def _train_fold(training: Training, fold: str, briefly: bool) -> Fold | None:
    """Train and validate; what the fold's validation patients were given, None where there are none.

    `briefly`: a line of figures, the rest in files only.
    """
    started = time.monotonic()
    request, columns = training.request, training.plan.lnauto["patient_head"]["columns"]
    trainer = find_patient_trainer(str(request.trainer))(seed=request.seed, sensitivity=request.sensitivity)
    train, kept = training.patients(fold)
    head = trainer.train(training.table.frame.loc[train, columns], training.labels, columns)
    head = replace(head, provenance=_provenance(training, fold))
    folder = training.model / f"fold_{fold}"
    write_json(folder / HEAD, head.to_json())
    for column, why in head.dropped.items():
        log.info('Column "%s" is left out: %s.', column, why)
    log.info("Fold %s is trained on %d patients, in %.0f s.", fold, len(train), time.monotonic() - started)
    log.info("  penalty %.3g; calibration: %s; threshold %.3f by %s", head.strength, head.calibrator.why, *_threshold(head))
    if not kept:
        log.info("The head of all patients has no held-out patient, so it is not validated.")
        return None
    probability = head.probability(training.table.frame.loc[kept, columns])
    found = Fold(fold, kept, training.labels[kept].tolist(), probability.tolist(), head.threshold.value)
    title = f"Validation of fold {fold}"
    tell_figures([found], folder / "validation", title, training.table, seed=request.seed, briefly=briefly)
    return found


def _threshold(head: ClinicalHead) -> tuple[float, str]:
    return head.threshold.value, head.threshold.rule


def _provenance(training: Training, fold: str) -> dict[str, Any]:
    return {
        "lnauto": __version__,
        "versions": {package: version(package) for package in ("numpy", "scikit-learn", "pandas")},
        "dataset": training.name,
        "fold": fold,
        "seed": training.request.seed,
        "sensitivity": training.request.sensitivity,
        "plan_hash": training.plan.hash(),
        "made_of": _made_of(training, fold),
    }
