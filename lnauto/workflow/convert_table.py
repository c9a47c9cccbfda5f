"""A table of patients from elsewhere as `patients.csv`: the same cells, with the cases that were converted."""

from __future__ import annotations

import csv
import logging
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lnauto.data.patients import CASES, PATIENT, PatientTable, read_cells
from lnauto.errors import InputError
from lnauto.files import csv_text, write_text
from lnauto.workflow.convert_sources import safe_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PatientRows:
    """A row for each patient: name, cases, and the other cells as text."""

    path: Path
    cases: dict[str, tuple[str, ...]]
    others: pd.DataFrame  # by patient
    decimal_comma: bool

    def check(self, names: Collection[str]) -> None:
        """Say what is wrong with the table before any case is converted."""
        if not any(case in names for cases in self.cases.values() for case in cases):
            first = next(iter(self.cases))
            some = ", ".join(self.cases[first])
            what = f"no row of the table belongs to a case: the first names {some}, a case is {min(names)}"
            raise InputError.of(what, self.path, "say which column names the cases (--id-column)")
        with tempfile.TemporaryDirectory() as place:
            written = Path(place) / self.path.name
            self.write(written, names)
            PatientTable.read(written, names)

    def write(self, path: Path, names: Iterable[str]) -> None:
        """Those patients who have one of these cases."""
        known = set(names)
        kept = {patient: [case for case in cases if case in known] for patient, cases in self.cases.items()}
        kept = {patient: cases for patient, cases in kept.items() if cases}
        if len(kept) < len(self.cases):
            log.info("%d of %d patients in %s have no case here.", len(self.cases) - len(kept), len(self.cases), self.path.name)
        rows = [[patient, ";".join(cases), *self.others.loc[patient]] for patient, cases in kept.items()]
        head = [PATIENT, CASES, *self.others.columns]
        write_text(path, csv_text([head, *rows], ";" if self.decimal_comma else ","))


def read_table(path: Path, patient_column: str, id_column: str) -> PatientRows:
    """Rows of one patient are put together; in what is not a case they must agree.

    Without `patient_column` the column `patient` names the patients, else the one that names cases; without `id_column` the
    column `cases` names cases, else the patients' column.
    """
    try:
        cells, decimal_comma = read_cells(path)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise InputError.of(f"the table cannot be read ({reason})", path, "save it as CSV, with one header line") from error
    columns = list(cells.columns)
    patients = patient_column or (PATIENT if PATIENT in columns else id_column)
    ids = id_column or (CASES if CASES in columns else patients)
    for name, flag in ((patients, "--patient-column"), (ids, "--id-column")):
        if name not in columns:
            what = f'there is no column "{name or PATIENT}" (there: {", ".join(columns)})'
            raise InputError.of(what, path, f"name the column ({flag})")
    cells = cells[cells[patients] != ""]
    rest = [name for name in columns if name not in {patients, ids, PATIENT, CASES}]
    cases: dict[str, tuple[str, ...]] = {}
    others: dict[str, list[str]] = {}
    for patient, rows in cells.groupby(patients, sort=False):
        listed = [safe_name(name) for cell in rows[ids] for name in cell.split(";") if name.strip()]
        cases[str(patient)] = tuple(dict.fromkeys(listed))
        others[str(patient)] = [_agreed(rows[name], str(patient), path) for name in rest]
    return PatientRows(path, cases, pd.DataFrame.from_dict(others, orient="index", columns=rest), decimal_comma)


def _agreed(cells: pd.Series, patient: str, path: Path) -> str:
    values = [value for value in dict.fromkeys(cells) if value]
    if len(values) > 1:
        what = f'the rows of patient {patient} differ in "{cells.name}" ({", ".join(values)})'
        raise InputError.of(what, path, "give the patient one value, or name the column of patients (--patient-column)")
    return values[0] if values else ""
