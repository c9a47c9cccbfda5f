"""The patient heads against what anybody would try first, on the same folds.

python tests/benchmarks/patient_heads.py --lydata FOLDER

FOLDER holds the four cohorts of lyDATA (https://github.com/lycosystem/lydata, CC BY-SA 4.0) as CSV files. The label is any
pathological involvement. One process, no GPU, about two minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lnauto.data.folds import make_folds
from lnauto.evaluation.patients import paired_delong, summarise_patients
from lnauto.trainers.patient.clinical import LNMTrainerClinical

COHORTS = ("2021-clb-oropharynx", "2023-clb-multisite")  # of the others pathology is hardly known
# Left out: who and when; n_stage and what surgery or pathology found, which tell the label; what one cohort alone has.
CLINICAL = ("sex", "age", "alcohol_abuse", "nicotine_abuse", "hpv_status", "subsite", "central", "extension", "t_stage")
LEVELS = ("Ia", "Ib", "II", "III", "IV", "V", "VII")
READS = "diagnostic_consensus"

Predict = Callable[[pd.DataFrame, pd.Series, pd.DataFrame], np.ndarray]


def read_cohort(path: Path, imaging: bool) -> tuple[pd.DataFrame, pd.Series]:
    """A row per patient whose pathology is known, missing as NaN, and the labels."""
    table = pd.read_csv(path, header=[0, 1, 2], low_memory=False)
    nodes = table["pathology"][["ipsi", "contra"]].astype(object)
    known = nodes.notna().any(axis=1)
    positive = nodes.isin([True, "True"]).any(axis=1)
    rows = pd.DataFrame({name: _of(table, name) for name in CLINICAL})
    if imaging:
        for side in ("ipsi", "contra"):
            for level in LEVELS:
                if (READS, side, level) in table:
                    rows[f"imaging {side} {level}"] = _text(table[READS, side, level])
    rows.index = pd.Index(table["patient", "core", "id"].astype(str))
    return rows[known.to_numpy()], pd.Series(positive[known].to_numpy(int), index=rows.index[known.to_numpy()])


def _of(table: pd.DataFrame, name: str) -> pd.Series:
    group = "patient" if ("patient", "core", name) in table else "tumor"
    values = table[group, "core", name]
    return values.astype(float) if name in ("age", "t_stage") else _text(values)


def _text(values: pd.Series) -> pd.Series:
    return values.astype(object).map(str, na_action="ignore").astype(object)


def head(rows: pd.DataFrame, labels: pd.Series, others: pd.DataFrame) -> np.ndarray:
    return LNMTrainerClinical().train(rows, labels, list(rows.columns)).probability(others)


def logistic(rows: pd.DataFrame, labels: pd.Series, others: pd.DataFrame) -> np.ndarray:
    """What anybody would write: median and a word for missing, standardised, one-hot, all else as scikit-learn has it."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing", keep_empty_features=True), OneHotEncoder(handle_unknown="ignore")
    )
    prepare = make_column_transformer(
        (numbers, make_column_selector(dtype_include=float)), (words, make_column_selector(dtype_include=object))
    )
    model = make_pipeline(prepare, LogisticRegression(max_iter=1000))
    return np.asarray(model.fit(rows, labels[rows.index]).predict_proba(others)[:, 1])


def boosting(rows: pd.DataFrame, labels: pd.Series, others: pd.DataFrame) -> np.ndarray:
    """scikit-learn's gradient boosting, which knows missing values and categories, with its own settings."""
    rows, others = _categorical(rows, rows), _categorical(others, rows)
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    return np.asarray(model.fit(rows, labels[rows.index]).predict_proba(others)[:, 1])


def _categorical(rows: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    rows = rows.copy()
    for name in known.select_dtypes("object").columns:
        levels = sorted(known[name].dropna().unique())
        rows[name] = pd.Categorical(rows[name].where(rows[name].isin(levels)), categories=levels)
    return rows


MODELS: dict[str, Predict] = {"LNMTrainerClinical": head, "logistic regression": logistic, "gradient boosting": boosting}


def out_of_fold(predict: Predict, rows: pd.DataFrame, labels: pd.Series, seed: int) -> np.ndarray:
    found = pd.Series(np.nan, index=rows.index)
    for fold in make_folds(rows.index, {}, labels.to_dict(), seed=seed):
        train, kept = rows.loc[fold["train"]], rows.loc[fold["val"]]
        found[fold["val"]] = predict(train, labels, kept)
    return found.to_numpy()


def tell(title: str, labels: pd.Series, found: dict[str, tuple[np.ndarray, float]]) -> None:
    print(f"\n{title}: {len(labels)} patients, {int(labels.sum())} with involvement")
    for name, (probability, seconds) in found.items():
        summary = summarise_patients(labels, probability, 0.5)
        slope, gap = summary.calibration.slope, paired_delong(labels, found["LNMTrainerClinical"][0], probability)
        ours = "" if name == "LNMTrainerClinical" else f"; ours less this {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
        print(
            f"  {name:20s} AUC {summary.auc.value:.3f} ({summary.auc.low:.3f} to {summary.auc.high:.3f}), slope "
            f"{slope.value:.2f} ({slope.low:.2f} to {slope.high:.2f}), Brier {summary.brier.value:.3f}, {seconds:.1f} s{ours}",
            flush=True,
        )


def measure(folder: Path, seeds: Sequence[int]) -> None:
    for imaging in (False, True):
        cohorts = {name: read_cohort(folder / f"{name}.csv", imaging) for name in COHORTS}
        columns = "with imaging reads" if imaging else "without imaging"
        both = pd.concat([rows for rows, _ in cohorts.values()]), pd.concat([labels for _, labels in cohorts.values()])
        for name, (rows, labels) in {**cohorts, "both cohorts": both}.items():
            for seed in seeds:
                found = {}
                for model, predict in MODELS.items():
                    started = time.perf_counter()
                    found[model] = (out_of_fold(predict, rows, labels, seed), time.perf_counter() - started)
                tell(f"{name}, {columns}, five folds (seed {seed})", labels, found)
        for first, second in (COHORTS, COHORTS[::-1]):
            (rows, labels), (others, truth) = cohorts[first], cohorts[second]
            found = {}
            for model, predict in MODELS.items():
                started = time.perf_counter()
                found[model] = (predict(rows, labels, _like(others, rows)), time.perf_counter() - started)
            tell(f"{first} to {second}, {columns}", truth, found)


def _like(others: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return others.reindex(columns=rows.columns).astype(rows.dtypes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lydata", type=Path, required=True, help="folder of lyDATA's CSV files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[12345], help="seeds of the folds")
    options = parser.parse_args()
    measure(options.lydata, options.seeds)


if __name__ == "__main__":
    main()
