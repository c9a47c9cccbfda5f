"""The figures of a patient-level validation: to the reader, and to a folder as JSON, CSV and a picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lnauto.data.clinical_values import is_text
from lnauto.data.patients import PatientTable
from lnauto.evaluation.comparators import SHORT_AXIS_MM, Comparator
from lnauto.evaluation.patient_text import table as as_text
from lnauto.evaluation.patients import Fold, Pooled, pool, summarise_patients
from lnauto.files import csv_text, write_json, write_text
from lnauto.report.patient_picture import draw_patients

log = logging.getLogger(__name__)

COMPARATORS = {"short_axis_mm": SHORT_AXIS_MM, "node_count": None}  # columns that are rules of their own, and their thresholds
POOLED = "Pooled over all folds, each patient by the head that had not seen it"


def tell_figures(
    folds: Sequence[Fold],
    folder: Path,
    title: str,
    table: PatientTable,
    *,
    seed: int = 0,
    comparators: Sequence[Comparator] = (),
    briefly: bool = False,
) -> None:
    """`comparators` have a score for each patient in the folds' order; `briefly`: one line, the rest in files only."""
    pooled = pool(folds)
    write_text(folder / "patients.csv", _as_csv(pooled))
    if len(set(pooled.truth)) < 2:
        for earlier in ("patients.json", "patients.png"):  # of a head that was trained again since
            (folder / earlier).unlink(missing_ok=True)
        log.info("%s: its %d patients have one label, which gives no figures.", title, len(pooled.patients))
        return
    frame = table.frame.loc[list(pooled.patients)]
    summary = summarise_patients(
        pooled.truth,
        pooled.probability,
        pooled.threshold,
        {"centre": frame["centre"].tolist()} if table.knows("centre") else {},
        folds=pooled.fold if len(folds) > 1 else (),
        comparators=[*comparators, *_of_columns(frame, [one.name for one in comparators])],
        seed=seed,
    )
    write_json(folder / "patients.json", summary.to_json())
    draw_patients(summary, folder / "patients.png")
    if briefly:
        log.info("  %s: AUC %.3f (%.3f to %.3f)", title, summary.auc.value, summary.auc.low, summary.auc.high)
    else:
        log.info("%s\n%s", title, as_text(summary))


def tell_pooled(folds: Sequence[Fold], folder: Path, table: PatientTable, **more: Any) -> None:
    """The figures over all folds, unless these are repeats of each other."""
    patients = [patient for fold in folds for patient in fold.patients]
    if len(set(patients)) < len(patients):
        log.info("A patient is validated in more than one fold, so that the folds are not taken together.")
        return
    tell_figures(folds, folder, POOLED, table, **more)


def _of_columns(frame: pd.DataFrame, known: Sequence[str]) -> list[Comparator]:
    """Rules that the table carries: columns of these names that hold numbers."""
    there = {
        name.replace("_", " "): (frame[name].to_numpy(float), limit)
        for name, limit in COMPARATORS.items()
        if name in frame and not is_text(frame[name])
    }
    return [Comparator(name, score, limit) for name, (score, limit) in there.items() if name not in known]


def _as_csv(pooled: Pooled) -> str:
    frame = pd.DataFrame(
        {
            "patient": pooled.patients,
            "fold": pooled.fold,
            "lnm": pooled.truth.astype(int),
            "probability": pooled.probability,
            "threshold": pooled.threshold,
            "class": (np.asarray(pooled.probability) >= pooled.threshold).astype(int),
        }
    )
    return csv_text([frame.columns, *frame.itertuples(index=False)])
