"""The folds of a data set, in nnU-Net's `splits_final.json`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lnauto.data.folds import (
    Fold,
    everybody,
    make_folds,
    on_both_sides,
    strata_of,
    strata_of_patients,
    validates_on_training,
)
from lnauto.data.patients import PatientTable
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.planners.plan import hash_of

log = logging.getLogger(__name__)

SPLITS = "splits_final.json"
MADE = "lnauto_folds.json"  # beside it: which folds lnauto made
SPLITS_FORM = [{"train": [str], "val": [str]}]


def write_splits(dataset: RawDataset, path: Path, labelled: set[str] | None = None) -> None:
    """Folds of annotated cases, or of those named (whose patient has a label), grouped by patient."""
    chosen, kind = {case.name for case in dataset.annotated_cases}, "annotated cases"
    if labelled is not None:
        chosen, kind = labelled, "cases of patients with a label"

    def make(cases: Iterable[str]) -> list[Fold]:
        return make_folds(cases, dataset.patient_of, strata_of(dataset.patients, cases))

    _keep_or_write(path, chosen, make, dataset.patient_of, dataset.name, ("cases", kind, "image or label"))
    folds = make(chosen)
    if folds and validates_on_training(folds[0]):
        log.info("There is one patient only: fold 0 validates on its training case, which says nothing about new patients.")


def write_patient_splits(table: PatientTable, patients: Iterable[str], path: Path, name: str) -> None:
    """Folds of patients, for who learns from the table alone."""

    def make(names: Iterable[str]) -> list[Fold]:
        return make_folds(names, {}, strata_of_patients(table, set(names) & set(table.patients)))

    _keep_or_write(path, set(patients), make, {}, name, ("patients", "patients with a label", "row with a label"))


def _keep_or_write(
    path: Path,
    names: set[str],
    make: Callable[[Iterable[str]], list[Fold]],
    patient_of: Mapping[str, str],
    source: str,
    nouns: tuple[str, str, str],
) -> None:
    """A file somebody else made is respected; lnauto's own follows the cases (or patients: `nouns` says) and whose they are."""
    folds, record = make(names), path.with_name(MADE)
    known = read_json(path, f"remove it; it is made anew from {source}", SPLITS_FORM) if path.is_file() else None
    if known is not None and known != folds:
        there, divided = set(everybody(known)), _divided(known, patient_of)
        if hash_of(known) != _made(record) and known != make(there):
            _respect(path, there, names, nouns)
            if divided:
                told = "figures of folds say less about new patients"
                log.warning("%s is on both sides of fold %d: %s; keep each patient on one side.", divided[1], divided[0], told)
            return
        if there == names and not divided:
            return  # what is known of the patients has changed, not who they are: what was trained stays good
        one = nouns[0].removesuffix("s")
        what = f"{nouns[0]} changed" if there != names else "patients of some cases changed"
        told = "so the folds are made anew; train every fold anew, too"
        log.info("The %s, %s: a %s may have changed sides.", what, told, one)
    write_json(path, folds)
    write_json(record, {"made": hash_of(folds)})


def _made(record: Path) -> str | None:
    """What tells folds of lnauto's making from others; before there was a record, making them once more told."""
    return read_json(record, "remove it", {"made": str})["made"] if record.is_file() else None


def _divided(folds: list[Fold], patient_of: Mapping[str, str]) -> tuple[int, str] | None:
    """The first fold that trains and validates on one patient's cases, and who that is."""
    for number, fold in enumerate(folds):
        if not validates_on_training(fold) and (both := on_both_sides(fold, patient_of)):
            return number, both[0]
    return None


def _respect(path: Path, there: set[str], names: set[str], nouns: tuple[str, str, str]) -> None:
    """Keep folds that were made by hand; say which cases they leave out, refuse cases that do not exist."""
    unknown, left_out = sorted(there - names), sorted(names - there)
    if unknown:
        raise InputError.of(
            f"the folds name {len(unknown)} {nouns[0]} that have no {nouns[2]}, such as {unknown[0]}",
            path,
            "correct it, or remove it to have it made anew",
        )
    log.info("The folds that were already there are kept, in %s.", path)
    if left_out:
        log.warning("%d %s are in no fold, such as %s: they are not trained on.", len(left_out), nouns[1], left_out[0])


def read_splits(folder: Path, identifier: str) -> list[dict[str, list[str]]]:
    """The folds of a planned data set."""
    splits: list[dict[str, list[str]]] = read_json(
        folder / SPLITS, f"plan again: lnauto_plan_and_preprocess -d {identifier}", SPLITS_FORM
    )
    return splits


def chosen_folds(asked: Sequence[str], there: int, path: Path) -> list[str]:
    """The folds that are asked for, each once, if all exist."""
    folds = [str(number) for number in range(there)] if list(asked) == ["cv"] else list(dict.fromkeys(asked))
    for fold in folds:
        if fold != "all" and fold not in map(str, range(there)):
            known = ", ".join(str(number) for number in range(there))
            raise InputError.of(f"there is no fold {fold} (there: {known})", path, "give some of them, or all, or cv by itself")
    return folds
