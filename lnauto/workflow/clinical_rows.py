"""Clinical rows at use: whether a table holds what heads learned from, in the form they learned it, and what is odd in a row."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lnauto.data.clinical_values import is_text
from lnauto.data.patients import PatientTable
from lnauto.errors import InputError, Problem
from lnauto.trainers.patient.columns import Column

log = logging.getLogger(__name__)


def check_columns(columns: Sequence[Column], table: PatientTable, where: str, known: Sequence[Problem] = ()) -> None:
    """Everything that keeps heads from reading the table, told together; `known` was found before."""
    problems = [*known, *_slips(columns, table, where, known)]
    if problems:
        raise InputError(problems)
    if absent := sorted(_kinds(columns).keys() - set(table.frame.columns)):
        log.warning("%s has no column %s: missing of every patient.", where, ", ".join(absent))


def rows_of(columns: Sequence[Column], table: PatientTable) -> pd.DataFrame:
    """The columns the heads know, in the form they know them; a column that is not there is missing of everybody."""
    kinds = _kinds(columns)
    rows = table.frame.reindex(columns=sorted(kinds))
    return rows.astype({name: float if kind == "number" else object for name, kind in kinds.items()})


def unknown_entries(columns: Sequence[Column], name: str, values: pd.Series) -> np.ndarray:
    """Which entries of the column called so are categories that no head knows."""
    return np.all([column.unseen(values) for column in columns if column.name == name], axis=0)


def _kinds(columns: Sequence[Column]) -> dict[str, str]:
    return {column.name: column.kind for column in columns}


def _slips(columns: Sequence[Column], table: PatientTable, where: str, known: Sequence[Problem]) -> Iterator[Problem]:
    """Doubts of the columns the heads know, and words where they know numbers."""
    kinds = _kinds(columns)
    doubts = [doubt for doubt in table.doubts if any(f'"{name}"' in doubt.what for name in kinds)]
    yield from doubts
    told = {problem.what for problem in [*known, *doubts]}
    for name in sorted(set(kinds) & set(table.frame.columns)):
        values = table.frame[name]
        if kinds[name] == "number" and is_text(values):
            words = values[values.notna() & pd.to_numeric(values, errors="coerce").isna()]
            found = (f'"{name}" of patient {patient} is "{word}", among numbers' for patient, word in words.items())
            remedy = "write a number, or leave it empty where it is not known"
            yield from (Problem(what, where, remedy) for what in found if what not in told)
