"""Patient heads beside masks: for each fold one that learns from its training patients and is judged on those held out.

A segmentation and the heads trained on it are one model: a head lies in the fold's folder, under its trainer's name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lnauto import __version__
from lnauto.data.folds import everybody
from lnauto.data.patient_labels import PatientLabels, too_few
from lnauto.data.patients import PatientTable
from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import numbers_nodes
from lnauto.errors import InputError, Problem
from lnauto.evaluation.comparators import SHORT_AXIS_MM, Comparator, largest_short_axis, max_node_score, node_count
from lnauto.evaluation.patients import Fold
from lnauto.files import read_json, write_json
from lnauto.planners.patient_level import label_problems
from lnauto.planners.plan import Plan, hash_of
from lnauto.trainers.patient import AUTOENCODER, CLINICAL, find_bag_trainer
from lnauto.workflow.bags import BagMaker
from lnauto.workflow.blocks import BlockStore
from lnauto.workflow.fold import Request
from lnauto.workflow.head_files import DESCRIPTION, HeadModel, Lesson, Look
from lnauto.workflow.inner_networks import INNER, InnerNetworks
from lnauto.workflow.patient_figures import tell_figures, tell_pooled

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag import Bag

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadWork:
    """All that the folds of a head share."""

    plan: Plan
    description: dict[str, Any]
    dataset: RawDataset
    splits: list[dict[str, list[str]]]  # of cases
    model: Path
    preprocessed: Path
    request: Request
    trainer: str

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.plan.lnauto["patient_head"])

    @property
    def table(self) -> PatientTable:
        assert self.dataset.patients is not None
        return self.dataset.patients

    @cached_property
    def labels(self) -> dict[str, int]:
        return {str(patient): int(label) for patient, label in PatientLabels.of(self.table).known.items()}

    @cached_property
    def maker(self) -> BagMaker:
        numbered = self.gives_masks and numbers_nodes(self.dataset.description)  # networks do not number what they predict
        known = (self.plan, self.dataset.description, self.request.configuration)
        maker = BagMaker.of_plan(*known, self.request.quiet, numbered)
        if self.plan.on_blocks:
            maker.store = BlockStore.of_plan(self.plan, self.request.configuration, self.preprocessed.parent)
        return maker

    @property
    def sensitivity(self) -> float | None:
        return self.settings["sensitivity"] if self.request.sensitivity is None else self.request.sensitivity

    @property
    def gives_masks(self) -> bool:
        return bool(self.settings["masks"] == "given")

    def cases(self, fold: str, side: str) -> list[str]:
        if fold != "all":
            return self.splits[int(fold)][side]
        return everybody(self.splits) if side == "train" else []

    def patients(self, fold: str, side: str) -> dict[str, list[str]]:
        """The patients with a label on one side of a fold, and their cases there."""
        found: dict[str, list[str]] = {}
        for case in self.cases(fold, side):
            patient = self.dataset.patient_of[case]
            if patient in self.labels:
                found.setdefault(patient, []).append(case)
        return dict(sorted(found.items()))

    def rows(self, patients: Sequence[str]) -> dict[str, dict[str, Any]]:
        columns = self.settings["columns"]
        return {patient: self.table.frame.loc[patient, columns].to_dict() for patient in patients}

    def folder(self, fold: str) -> Path:
        return self.model / f"fold_{fold}" / self.trainer

    def look(self, cases_of: Mapping[str, Sequence[str]], masks: Mapping[str, Path]) -> Look:
        images = {case.name: case.images for case in self.dataset.cases}
        return self.maker.look(cases_of, images, masks, self.request.device, self.request.precision)


def prepare_heads(work: HeadWork, folds: Sequence[str]) -> None:
    """Everything that forbids a head is told together, before anything is trained."""
    where = f"{work.dataset.name}/patients.csv"
    if work.dataset.patients is None:
        raise InputError.of("there is no patients.csv", work.dataset.folder, "put it back, or plan again")
    problems = label_problems(PatientLabels.of(work.table), where)
    gone = [column for column in work.settings["columns"] if column not in work.table.frame]
    remedy = f"put it back, or plan again: lnauto_plan_and_preprocess -d {work.dataset.id}"
    problems += [Problem(f'there is no column "{column}", which the plan names', where, remedy) for column in gone]
    problems += [doubt for doubt in work.table.doubts if any(f'"{column}"' in doubt.what for column in work.settings["columns"])]
    for fold in folds:
        train, kept = work.patients(fold, "train"), work.patients(fold, "val")
        splits = str(work.preprocessed.parent / "splits_final.json")
        if both := sorted(set(train) & set(kept)):
            problems.append(Problem(f"fold {fold} trains and validates on {both[0]}", splits, "keep each patient on one side"))
        elif fault := too_few(work.labels[patient] for patient in train):
            problems.append(Problem(f"fold {fold} trains on {fault}", splits, "remove the file and plan again"))
    if problems:
        raise InputError(problems)
    for fold in folds:
        _check_not_there(work, fold)


def train_heads(work: HeadWork, folds: Sequence[str], pooled: bool, seconds: float | None) -> None:
    """A head for each fold, and, `pooled`, the figures over all; `seconds` is what the inner networks may take together."""
    _share_plan(work)
    judged, scores = list[Fold](), list[dict[str, Any]]()
    for fold in folds:
        found = _train_head(work, fold, None if seconds is None else seconds / len(folds), briefly=len(folds) > 1)
        if found is not None:
            judged.append(found[0])
            scores.append(found[1])
    if pooled and judged:
        folder = work.model / work.trainer / "crossvalidation"
        together = _joined(scores)
        tell_pooled(judged, folder, work.table, seed=work.request.seed, comparators=together)


def _share_plan(work: HeadWork) -> None:
    """Leave the plan and the description that prediction reads the heads' scans by; those of a network are there already."""
    plan = work.model / "plans.json"
    if not any(work.model.glob("fold_*/checkpoint_*.pth")):
        write_json(plan, work.plan.content)
        write_json(work.model / "dataset.json", work.description)
        return
    remedy = "train every network anew with --overwrite, or restore the plan"
    configuration = work.request.configuration
    theirs = BagMaker.of_plan(Plan.load(plan, remedy), work.description, configuration)
    if theirs.made_of != work.maker.made_of:
        raise InputError.of("the networks there were trained under another plan, which prepares scans differently", plan, remedy)


def _train_head(work: HeadWork, fold: str, seconds: float | None, briefly: bool) -> tuple[Fold, dict[str, Any]] | None:
    started = time.monotonic()
    train, kept = work.patients(fold, "train"), work.patients(fold, "val")
    model = _learn(work, fold, train, seconds)
    model.save(work.folder(fold), _provenance(work, fold))
    told = (work.trainer, fold, len(train), time.monotonic() - started)
    log.info("%s of fold %s is trained on %d patients, in %.0f s.", *told)
    for column, why in model.dropped.items():
        log.info('Column "%s" is left out: %s.', column, why)
    if not kept:
        log.info("No patient with a label is held out, so the head is not validated.")
        return None
    masks = {} if work.plan.on_blocks else {case: _validation_mask(work, fold, case) for cases in kept.values() for case in cases}
    bags = bags_of(work, kept, masks)
    readings = model.read(bags, work.look(kept, masks))
    probability = np.array([reading.probability for reading in readings])
    names = list(kept)
    found = Fold(fold, names, [work.labels[name] for name in names], probability.tolist(), model.threshold)
    scores = _scores(work, train, bags, [reading.node_probabilities for reading in readings])
    comparators, title = _joined([scores]), f"{work.trainer}, validation of fold {fold}"
    folder = work.folder(fold) / "validation"
    tell_figures([found], folder, title, work.table, seed=work.request.seed, comparators=comparators, briefly=briefly)
    if work.trainer == AUTOENCODER:
        from lnauto.workflow.latent_pictures import draw_latents

        draw_latents(model, bags, readings, folder)
    return found, scores


def _learn(work: HeadWork, fold: str, patients: Mapping[str, Sequence[str]], seconds: float | None) -> HeadModel:
    """A head of whichever kind was asked for."""
    columns, request = work.settings["columns"], work.request
    if work.trainer == CLINICAL:
        rows = work.table.frame.loc[list(patients), columns]
        return HeadModel.of_rows(rows, pd.Series(work.labels), columns, request.seed, work.sensitivity)
    trainer = find_bag_trainer(work.trainer)(seed=request.seed, sensitivity=work.sensitivity)
    if request.dino_weights is not None:
        trainer = replace(trainer, dino_weights=request.dino_weights)  # type: ignore[call-arg]
    if request.iterations is not None:  # a try
        trainer = replace(trainer, schedule=replace(trainer.schedule, steps=min(trainer.schedule.steps, request.iterations)))
    lesson = Lesson(trainer, columns, work.maker.crops, fold, request.quiet)
    if work.plan.on_blocks:
        return HeadModel.of_bags(lesson, bags_of(work, patients, {}))
    inner, ending = inner_networks(work, fold), work.dataset.file_ending
    predicted = {} if work.gives_masks and not trainer.needs_features else inner.masks(ending, seconds)
    masks = given_masks(work.dataset) if work.gives_masks else predicted
    bags = bags_of(work, patients, masks)
    if not trainer.needs_features:
        return HeadModel.of_bags(lesson, bags)
    never_saw = {network: [work.dataset.patient_of[case] for case in cases] for network, cases in inner.predicted.items()}
    return HeadModel.of_features(lesson, bags, never_saw, work.look(patients, masks))


def bags_of(work: HeadWork, patients: Mapping[str, Sequence[str]], masks: Mapping[str, Path]) -> list[Bag]:
    images = {case.name: case.images for case in work.dataset.cases}
    return work.maker.bags(patients, images, masks, work.rows(list(patients)), work.labels)


def inner_networks(work: HeadWork, fold: str) -> InnerNetworks:
    return InnerNetworks(
        work.plan,
        work.description,
        fold,
        work.request,
        work.preprocessed,
        work.model / f"fold_{fold}" / INNER,
        work.cases(fold, "train"),
        work.dataset.patient_of,
    )


def given_masks(dataset: RawDataset) -> dict[str, Path]:
    return {case.name: case.label for case in dataset.annotated_cases if case.label is not None}


def _validation_mask(work: HeadWork, fold: str, case: str) -> Path:
    """Of a case that is held out: given, or by the fold's own network, whose validation left it."""
    if work.gives_masks:
        return given_masks(work.dataset)[case]
    path = work.model / f"fold_{fold}" / "validation" / f"{case}{work.dataset.file_ending}"
    if not path.is_file():
        raise InputError.of(
            f"the validation of fold {fold} left no mask of {case}", path.parent, "train the fold's network again"
        )
    return path


def _scores(work: HeadWork, train: Mapping[str, Any], bags: Sequence[Bag], nodes: Sequence[Any]) -> dict[str, Any]:
    """What the head has to beat, for each held-out patient."""
    from lnauto.trainers.patient.bag import SHORT_AXIS

    names = [bag.patient for bag in bags]
    owners = [bag.patient for bag in bags for _ in bag.sources]
    found: dict[str, Any] = {}
    if not work.plan.on_blocks:
        short = [float(shape[SHORT_AXIS]) for bag in bags for shape in bag.shapes]
        single = [bag.patient for bag in bags for _ in set(bag.sources)]
        found = {"short axis": largest_short_axis(names, owners, short), "number of nodes": node_count(names, single)}
    if work.trainer != CLINICAL:
        suspicion = np.concatenate([np.asarray(one, float) for one in nodes])
        found[f"most suspicious {'block' if work.plan.on_blocks else 'node'}"] = max_node_score(names, owners, suspicion)
    columns = work.settings["columns"]
    if columns:
        from lnauto.trainers.patient.clinical import LNMTrainerClinical

        frame = work.table.frame
        clinical = LNMTrainerClinical(work.request.seed).train(frame.loc[list(train), columns], pd.Series(work.labels), columns)
        found["clinical columns alone"] = clinical.probability(frame.loc[names, columns])
    return found


def _joined(scores: Sequence[Mapping[str, Any]]) -> list[Comparator]:
    return [
        Comparator(name, np.concatenate([one[name] for one in scores]), SHORT_AXIS_MM if name == "short axis" else None)
        for name in scores[0]
    ]


def _check_not_there(work: HeadWork, fold: str) -> None:
    """A head that is there is not replaced unasked, unless this command would make the very same again."""
    path = work.folder(fold) / DESCRIPTION
    if not path.is_file() or work.request.overwrite or work.request.proceed:
        return
    if read_json(path, "remove it").get("provenance", {}).get("made_of") != _made_of(work, fold):
        what = f"a head of fold {fold} is there already, made from other data or settings"
        raise InputError.of(what, path.parent, "add --overwrite to train it anew")


def _made_of(work: HeadWork, fold: str) -> str:
    train = work.patients(fold, "train")
    rows = work.table.frame.loc[list(train), work.settings["columns"]].to_json(double_precision=15)
    labels = [work.labels[patient] for patient in train]
    request = replace(work.request, quiet=False, overwrite=False, proceed=False)
    return hash_of([rows, labels, work.settings, work.plan.hash(), repr(request), work.trainer, __version__])


def _provenance(work: HeadWork, fold: str) -> dict[str, Any]:
    return {
        "lnauto": __version__,
        "versions": {package: version(package) for package in ("numpy", "scikit-learn", "pandas", "torch")},
        "dataset": work.dataset.name,
        "fold": fold,
        "seed": work.request.seed,
        "sensitivity": work.sensitivity,
        "masks": work.settings["masks"],
        "plan_hash": work.plan.hash(),
        "configuration": work.request.configuration,
        "bags_made_of": work.maker.made_of,
        "made_of": _made_of(work, fold),
    }
