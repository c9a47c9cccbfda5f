"""The folds of a data set, in nnU-Net's `splits_final.json`."""

from __future__ import annotations

import logging
from pathlib import Path

from lnauto.data.folds import make_folds, strata_of, validates_on_training
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.files import read_json, write_json

log = logging.getLogger(__name__)

SPLITS = "splits_final.json"


def write_splits(dataset: RawDataset, path: Path) -> None:
    """Folds grouped by patient. A file somebody else made is respected; one lnauto made follows the cases."""
    annotated = {case.name for case in dataset.annotated_cases}
    folds = make_folds(annotated, dataset.patient_of, strata_of(dataset.patients, annotated))
    known = read_json(path, f"remove it; it is made anew from {dataset.name}") if path.is_file() else None
    if known is not None and known != folds:
        cases = {case for fold in known for side in ("train", "val") for case in fold[side]}
        if known != make_folds(cases, dataset.patient_of, strata_of(dataset.patients, cases)):
            _respect(path, cases, annotated)
            return
        log.info("The cases changed, so the folds are made anew; train every fold anew, too: a case may have changed sides.")
    if folds and validates_on_training(folds[0]):
        log.info("There is one patient only: fold 0 validates on its training case, which says nothing about new patients.")
    write_json(path, folds)


def _respect(path: Path, cases: set[str], annotated: set[str]) -> None:
    """Keep folds that were made by hand; say which cases they leave out, refuse cases that do not exist."""
    unknown, left_out = sorted(cases - annotated), sorted(annotated - cases)
    if unknown:
        raise InputError.of(
            f"the folds name {len(unknown)} cases that have no image or label, such as {unknown[0]}",
            path,
            "correct it, or remove it to have it made anew",
        )
    log.info("The folds that were already there are kept, in %s.", path)
    if left_out:
        log.warning("%d annotated cases are in no fold, such as %s: they are not trained on.", len(left_out), left_out[0])
