"""`lnauto_predict --patients FILE -o out`: a probability for each row of a table, by the heads of a data set that is a table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lnauto import __version__
from lnauto.data.patient_labels import PatientLabels
from lnauto.data.patients import PatientTable, examine
from lnauto.errors import InputError, Problem
from lnauto.evaluation.patient_text import table as as_text
from lnauto.evaluation.patients import summarise_patients
from lnauto.files import csv_text, read_json, write_json, write_text
from lnauto.locks import locked
from lnauto.paths import TRAIN_IT, activate, find_dataset
from lnauto.trainers.patient.clinical import ClinicalHead
from lnauto.trainers.patient.columns import Column
from lnauto.trainers.patient.decision import sigmoid
from lnauto.workflow.archive import opened
from lnauto.workflow.clinical_rows import check_columns, rows_of, unknown_entries
from lnauto.workflow.head_predict import check_apart
from lnauto.workflow.patient_train import HEAD
from lnauto.workflow.report import PATIENTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the command line asks; None: the only model there is, all its folds."""

    dataset: str | None = None
    model: Path | None = None
    folds: Sequence[str] | None = None
    overwrite: bool = False


def predict_patients(patients: Path, output: Path, request: Request) -> pd.DataFrame:
    """A row for each patient of the table, in its order, written to `output` and returned."""
    with locked(output):
        return _predict_patients(patients, output, request)


def _predict_patients(patients: Path, output: Path, request: Request) -> pd.DataFrame:
    if not patients.is_file():
        raise InputError.of("there is no such file", patients, "give --patients a table, one row per patient")
    check_apart(patients, output)
    if not request.overwrite and (output / PATIENTS).is_file():
        raise InputError.of("there are predictions already", output, "give another folder with -o, or add --overwrite")
    folder = _model_folder(request)
    heads = load_heads(folder, request.folds)
    table, problems = examine(patients, None)
    if table is None:
        raise InputError(problems)
    rows = rows_for(heads, table, patients.name, problems)
    predicted = predict_rows(heads, rows)
    write_text(output / PATIENTS, csv_text([["patient", *predicted.columns], *predicted.itertuples()]))
    plan = read_json(folder / "plans.json", "train again")
    made_by = {"versions": {"lnauto": __version__}, "model": str(folder), "folds": sorted(heads), "patients": str(patients)}
    write_json(output / "run.json", {**made_by, "trainer": plan["lnauto"]["trainer"], "dataset": plan["dataset_name"]})
    log.info("Probabilities of %d patients by %d heads (%s) are in %s.", len(rows), len(heads), folder.name, output / PATIENTS)
    _evaluate(heads, table, predicted, output)
    return predicted


def load_heads(folder: Path, folds: Sequence[str] | None) -> dict[str, ClinicalHead]:
    """By fold: those asked for, else all numbered ones, else that of all patients."""
    there = trained_heads(folder)
    if folds is None:
        folds = [fold for fold in there if fold != "all"] or there
    if missing := [fold for fold in folds if fold not in there] or ([] if folds else ["any"]):
        known = ", ".join(there) or "none"
        remedy = "train it with lnauto_train, or give -f"
        raise InputError.of(f"fold {', '.join(missing)} is not trained (there: {known})", folder, remedy)
    return {fold: _load(folder / f"fold_{fold}" / HEAD) for fold in folds}


def trained_heads(folder: Path) -> list[str]:
    return sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{HEAD}"))


def _load(path: Path) -> ClinicalHead:
    try:
        return ClinicalHead.from_json(read_json(path, "train again"))
    except (KeyError, TypeError) as error:
        raise InputError.of(f"this is no head that lnauto {__version__} knows ({error})", path, "train again") from error


def _model_folder(request: Request) -> Path:
    """The model named, or the only one there is."""
    if request.model is not None:
        return opened(request.model)
    results = activate().results
    models = sorted({path.parent.parent for path in results.glob(f"Dataset*/*__*__*/fold_*/{HEAD}")})
    if request.dataset is not None:
        name = find_dataset(request.dataset, results, remedy=TRAIN_IT)
        models = [model for model in models if model.parent.name == name]
    if len(models) == 1:
        return models[0]
    if not models:
        raise InputError.of(
            "there is no trained patient head", results, "train one with lnauto_train, or give its folder with -m"
        )
    listed = ", ".join(f"{model.parent.name}/{model.name}" for model in models)
    raise InputError.of(f"there are {len(models)} patient heads ({listed})", results, "say which with -d, or -m and its folder")


def rows_for(heads: dict[str, ClinicalHead], table: PatientTable, where: str, known: Sequence[Problem] = ()) -> pd.DataFrame:
    """What the heads read, checked; a table without any of it is another one."""
    columns = _columns(heads)
    names = sorted({column.name for column in columns})
    if names and not set(names) & set(table.frame.columns):
        what = f"the table has none of the columns the head knows ({', '.join(names)})"
        raise InputError.of(what, where, "name its columns so")
    check_columns(columns, table, where, known)
    return rows_of(columns, table)


def _columns(heads: dict[str, ClinicalHead]) -> list[Column]:
    return [column for head in heads.values() for column in head.columns]


def predict_rows(heads: dict[str, ClinicalHead], rows: pd.DataFrame) -> pd.DataFrame:
    """The heads' mean probability, their lowest and highest, the class at their mean threshold, and what to know of the row."""
    by_head = np.stack([head.probability(rows) for head in heads.values()])
    threshold = float(np.mean([head.threshold.value for head in heads.values()]))
    probability = by_head.mean(axis=0)
    raw = np.stack([sigmoid(head.logit(rows)) for head in heads.values()]).mean(axis=0)
    return pd.DataFrame(
        {
            "probability": raw,
            "probability_calibrated": probability,
            "low": by_head.min(axis=0),
            "high": by_head.max(axis=0),
            "threshold": threshold,
            "class": (probability >= threshold).astype(int),
            "branch": "clinical",
            "flags": flags_of(heads, rows),
        },
        index=rows.index,
    )


def flags_of(heads: dict[str, ClinicalHead], rows: pd.DataFrame) -> list[str]:
    """What weakens the prediction, patient by patient, separated by semicolons."""
    columns = _columns(heads)
    told: list[list[str]] = [[] for _ in rows.index]
    for name in sorted({column.name for column in columns}):
        values = rows[name]
        unknown = unknown_entries(columns, name, values)
        for flags, missing, strange, entry in zip(told, values.isna(), unknown, values, strict=True):
            flags += [f"{name} missing"] if missing else []
            flags += [f'{name} "{entry}" unknown'] if strange else []
    seen = {patient for head in heads.values() for patient in head.patients}
    return ["; ".join([*flags, *(["trained on"] if name in seen else [])]) for name, flags in zip(rows.index, told, strict=True)]


def _evaluate(heads: dict[str, ClinicalHead], table: PatientTable, predicted: pd.DataFrame, output: Path) -> None:
    """How good they are, where the table has labels of patients the heads have not seen, as far as that is known: a model that
    was exported does not name its patients."""
    labels = PatientLabels.of(table).known
    labels = labels[~predicted.loc[labels.index, "flags"].str.endswith("trained on")]
    if labels.nunique() < 2:
        return
    found = predicted.loc[labels.index]
    groups = {"centre": table.frame.loc[labels.index, "centre"].tolist()} if table.knows("centre") else {}
    summary = summarise_patients(labels, found["probability_calibrated"], found["threshold"], groups)
    named = all(head.patients for head in heads.values())
    write_json(output / "evaluation.json", {**summary.to_json(), "trained_on_them": False if named else None})
    unseen = "no head was trained on" if named else "of whom it is not known whether heads were trained on them"
    log.info("The table has labels of %d patients %s\n%s", len(labels), unseen, as_text(summary))
