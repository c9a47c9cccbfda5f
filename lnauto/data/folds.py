"""Folds: who trains and who validates, never the same patient on both sides."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from lnauto.data.patient_labels import PatientLabels
from lnauto.data.patients import PatientTable

log = logging.getLogger(__name__)

Fold = dict[str, list[str]]

N_FOLDS = 5
SEED = 12345  # nnU-Net's own seed for its splits
UNKNOWN = "unknown"
FEWEST_PER_CELL = 5  # label x centre: below this a cell cannot show in each of five folds


def make_folds(
    cases: Iterable[str],
    patient_of: Mapping[str, str],
    strata: Mapping[str, Hashable] | None = None,
    n_folds: int = N_FOLDS,
    seed: int = SEED,
) -> list[Fold]:
    """Folds in the form of nnU-Net's `splits_final.json`, grouped by patient and stratified.

    `cases` are those that can be validated on, the annotated ones; others are in no fold. A case that `patient_of` does
    not name is a patient of its own, one that `strata` does not name (or names as missing) belongs to the stratum
    "unknown". There are as many folds as patients where these are fewer than `n_folds`, and no fold for no case. A
    single patient gives one fold that validates on its own training cases: ask `validates_on_training`. The result
    depends on the arguments' content and the seed, not on their order.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds}")
    names = sorted({str(case) for case in cases})
    groups = [patient_of.get(name, name) for name in names]
    n_patients = len(set(groups))
    if not names:
        return []
    if n_patients == 1:
        return [{"train": list(names), "val": list(names)}]
    classes = _classes(names, strata or {})
    return [
        {"train": [names[i] for i in train], "val": [names[i] for i in val]}
        for train, val in _split(classes, groups, min(n_folds, n_patients), seed)
    ]


def validates_on_training(fold: Fold) -> bool:
    """Whether a fold validates on cases it was trained with: its figures say nothing about new patients."""
    return bool(set(fold["train"]) & set(fold["val"]))


def everybody(folds: Iterable[Mapping[str, Sequence[str]]]) -> list[str]:
    """Whom any fold names: fold `all` trains on these. Folds of others' making may validate on some only."""
    return sorted({name for fold in folds for side in ("train", "val") for name in fold[side]})


def on_both_sides(fold: Fold, patient_of: Mapping[str, str]) -> list[str]:
    """Patients that a fold trains and validates on."""
    train, val = ({patient_of.get(name, name) for name in fold[side]} for side in ("train", "val"))
    return sorted(train & val)


def strata_of(table: PatientTable | None, cases: Iterable[str]) -> dict[str, str]:
    """Each case's stratum: its patient's label (`lnm`, else N0 or N+), with the centre where that leaves no rare one."""
    if table is None:
        return {}
    frame, patient_of = table.frame, table.patient_of
    if table.knows("lnm"):
        label = frame["lnm"].map(lambda value: UNKNOWN if pd.isna(value) else f"lnm {value:.0f}")
    elif table.knows("n_stage"):
        label = frame["n_stage"].map(lambda value: UNKNOWN if pd.isna(value) else ("N+" if value > 0 else "N0"))
    else:
        label = pd.Series(UNKNOWN, index=frame.index)
    label = _with_centre(label, table, sorted({patient_of[case] for case in cases if case in patient_of}))
    return {case: label[patient] for case, patient in patient_of.items()}


def strata_of_patients(table: PatientTable, patients: Iterable[str]) -> dict[str, str]:
    """The same for folds of patients: what is known of each, from `lnm` or `n_stage`, with the centre where that is not rare."""
    label = PatientLabels.of(table).values.map(lambda value: UNKNOWN if pd.isna(value) else f"{value:.0f}")
    return _with_centre(label, table, sorted(patients)).to_dict()


def _with_centre(label: pd.Series, table: PatientTable, involved: list[str]) -> pd.Series:
    if not table.knows("centre"):
        return label
    joint = label + ", " + table.frame["centre"].fillna(UNKNOWN)
    return joint if joint[involved].value_counts().min() >= FEWEST_PER_CELL else label


def _classes(names: list[str], strata: Mapping[str, Hashable]) -> np.ndarray:
    values = [strata.get(name) for name in names]
    return np.array([UNKNOWN if value is None or value != value else str(value) for value in values])  # NaN differs from itself


def _split(classes: np.ndarray, groups: list[str], n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified as far as it goes; a split that leaves a fold empty is replaced by one that only keeps patients together."""
    # half a second to import, which whoever uses folds made before need not wait for
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    if np.unique(classes, return_counts=True)[1].max() < n_folds:
        classes = np.full(len(classes), UNKNOWN)  # scikit-learn refuses; with one patient or two per fold nothing is lost
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    places = np.zeros(len(classes))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a rare stratum is spread as far as it goes: wanted
        split = list(splitter.split(places, classes, groups))
    if all(len(train) and len(val) for train, val in split):
        return split
    log.info("The folds are not stratified: with so few patients of such different numbers of cases, a fold would be empty.")
    return list(GroupKFold(n_folds).split(places, classes, groups))
