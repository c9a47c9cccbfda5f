"""`patients.csv`: one row per patient, with what is known of the patient and which cases show them."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lnauto.data.clinical_values import as_numbers, doubts_of, writes_commas
from lnauto.errors import InputError, Problem
from lnauto.files import plain_cell

log = logging.getLogger(__name__)

PATIENT, CASES = "patient", "cases"
CONTRACT_COLUMNS = (PATIENT, CASES, "lnm", "n_stage", "tumour_side", "centre")
ALLOWED = {"lnm": (0.0, 1.0), "n_stage": (0.0, 1.0, 2.0, 3.0), "tumour_side": ("L", "R")}
DELIMITERS = (",", ";", "\t")
MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "n.a.", "nan", "none", "null", "<na>", "-", "--", ".", "?", "unknown", "missing", "not known"}
    | {"not available", "nd", "n.d.", "unk", "#value!", "#null!"}
)  # what people, spreadsheets, pandas and R write into cells they leave empty


@dataclass(frozen=True, eq=False)
class PatientTable:
    """The table as read: `frame` has one row per patient (index: the patient's name as text).

    `frame["cases"]` holds a tuple of case names. Other columns are there only where the file has them: `lnm` and
    `n_stage` as floats, `tumour_side` "L" or "R", `centre` text, clinical columns floats where every entry is a number,
    else text. Missing is NaN everywhere, never zero. `doubts` are faults of clinical columns: they are for who learns from these
    columns, and hinder nobody else.
    """

    frame: pd.DataFrame
    clinical: tuple[str, ...]
    doubts: tuple[Problem, ...] = ()

    @classmethod
    def read(cls, path: Path, case_names: Collection[str] | None = None) -> PatientTable:
        """Read and check the table; `case_names` None (no images): nothing is said about cases."""
        table, problems = examine(path, case_names)
        if problems or table is None:
            raise InputError(problems)
        return table

    @property
    def patients(self) -> tuple[str, ...]:
        return tuple(self.frame.index)

    @property
    def cases_of(self) -> dict[str, tuple[str, ...]]:
        return dict(zip(self.frame.index, self.frame[CASES], strict=True))

    @property
    def patient_of(self) -> dict[str, str]:
        return {case: patient for patient, cases in self.cases_of.items() for case in cases}

    def knows(self, column: str) -> bool:
        """Whether the column is there with at least one entry."""
        return column in self.frame.columns and bool(self.frame[column].notna().any())


def examine(path: Path, case_names: Collection[str] | None, where: str = "") -> tuple[PatientTable | None, list[Problem]]:
    """The table, where it can be made out at all, and everything that is wrong with it; `where` names it to the user."""
    where = where or path.name
    try:
        cells, decimal_comma = read_cells(path)
    except (OSError, ValueError, csv.Error) as error:  # pandas' parser errors are ValueErrors, and so are those of encodings
        reason = " ".join(str(error).split())
        return None, [Problem(f"the table cannot be read ({reason})", where, "save it as CSV again, with one header line")]
    problems = _header_problems(list(cells.columns), where)
    if problems:
        return None, problems
    cells = cells[(cells != "").any(axis=1)]
    if cells.empty:
        return None, [Problem("the table has no rows", where, "add one row per patient, or remove the file")]
    problems += _patient_problems(cells, where)
    cells = cells[cells[PATIENT] != ""].drop_duplicates(PATIENT).set_index(PATIENT)
    cases = _cases_of(cells, case_names)
    if case_names is not None:
        problems += _case_problems(cases, set(case_names), where, CASES in cells.columns)
    frame = pd.DataFrame({CASES: pd.Series(cases, dtype=object)}, index=cells.index)
    for column in cells.columns.drop(CASES, errors="ignore"):
        frame[column], found = _values(cells[column], decimal_comma, where)
        problems += found
    clinical = tuple(name for name in frame.columns if name not in CONTRACT_COLUMNS)
    doubts = [doubt for name in clinical for doubt in doubts_of(frame[name], decimal_comma, where)]
    return PatientTable(frame, clinical, tuple(doubts)), problems


def examine_beside(
    folder: Path, annotation: str | None, cases: Collection[str], test_cases: Collection[str]
) -> tuple[PatientTable | None, list[Problem]]:
    """The table of a data set's folder, if it has one, in the light of what the data set is."""
    path = folder / "patients.csv"
    where = f"{folder.name}/{path.name}"
    if not path.is_file():
        wanted = annotation in ("patient", "table")
        missing = Problem(f'there is no patients.csv, but "annotation" is "{annotation}"', folder.name, "add the table")
        return None, [missing] if wanted else []
    known = {*cases, *test_cases} if cases else None  # without a case, every patient would be unknown
    table, problems = examine(path, known, where)
    without = sorted(set(cases) - set(table.patient_of)) if table else []
    if annotation == "table" and table is not None:
        problems += table.doubts  # nobody but a head reads it
    if annotation == "patient":
        remedy = "add the patient's row, or remove the images"
        problems += [Problem(f"case {name} belongs to no patient", where, remedy) for name in without]
    elif without:
        log.info("%d of %d cases have no row in %s: each counts as a patient of its own.", len(without), len(cases), where)
    return table, problems


def read_cells(path: Path) -> tuple[pd.DataFrame, bool]:
    """Every cell as stripped text, indexed by row number in the file; and whether numbers may be written with a comma."""
    text = decoded(path.read_bytes())
    lines = text.splitlines()
    delimiter = _delimiter(lines[0] if lines else "")
    as_text = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False, "skipinitialspace": True}
    table = pd.read_csv(io.StringIO(text), sep=delimiter, **as_text)
    table = table.map(lambda cell: plain_cell(cell.strip()).strip())
    table.columns = pd.Index([_column_name(name) for name in table.iloc[0]])
    table = table.iloc[1:]
    table.index = pd.RangeIndex(2, 2 + len(table))
    nameless = [place for place, name in enumerate(table.columns) if not name and (table.iloc[:, place] == "").all()]
    kept = [place for place in range(table.shape[1]) if place not in nameless]  # trailing delimiters make such columns
    cells = table.iloc[:, kept]
    return cells, delimiter == ";" or (delimiter == "\t" and writes_commas(cells.to_numpy().ravel()))


def decoded(raw: bytes) -> str:
    """The text of a table, as spreadsheets write it."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
        text = raw.decode("utf-16")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252")  # what a Western Excel writes
    if "\0" in text:
        raise ValueError("it holds NUL bytes, so it is no text")
    return text


def _delimiter(header: str) -> str:
    """The delimiter that makes `patient` a column, else the commonest: `cases` may hold semicolons inside a cell."""
    for delimiter in DELIMITERS:
        if PATIENT in [_column_name(name) for name in next(csv.reader([header], delimiter=delimiter), [])]:
            return delimiter
    return max(DELIMITERS, key=header.count)


def _column_name(name: str) -> str:
    """Contract columns are found whatever their capitals; a clinical column keeps its own spelling."""
    name = name.strip()
    return name.lower() if name.lower() in CONTRACT_COLUMNS else name


def _header_problems(columns: list[str], where: str) -> list[Problem]:
    problems = []
    if PATIENT not in columns:
        there = ", ".join(name or "(no name)" for name in columns)
        remedy = f'call the column of patient names "{PATIENT}"'
        problems.append(Problem(f'there is no column "{PATIENT}" (there: {there})', where, remedy))
    for name, times in Counter(columns).items():
        if times > 1:
            problems.append(Problem(f'{times} columns are called "{name}"', where, "give each column its own name"))
    return problems


def _patient_problems(cells: pd.DataFrame, where: str) -> list[Problem]:
    problems = []
    for row in cells.index[cells[PATIENT] == ""]:
        problems.append(Problem(f"row {row} names no patient", where, "fill in the patient or remove the row"))
    named = cells[cells[PATIENT] != ""]
    for patient, rows in named.groupby(PATIENT, sort=False).groups.items():
        if len(rows) > 1:
            remedy = f'keep one row per patient, all cases in the column "{CASES}" separated by semicolons'
            problems.append(Problem(f"patient {patient} is repeated (rows {', '.join(map(str, rows))})", where, remedy))
    return problems


def _cases_of(cells: pd.DataFrame, case_names: Collection[str] | None) -> dict[str, tuple[str, ...]]:
    """Each patient's cases. A patient without any is the case of the same name, if there is one."""
    named = dict(cells[CASES]) if CASES in cells.columns else {}
    cases = {}
    for patient in cells.index:
        listed = tuple(dict.fromkeys(name.strip() for name in named.get(patient, "").split(";") if name.strip()))
        own = CASES not in cells.columns or (case_names is not None and patient in case_names)
        cases[patient] = listed or ((patient,) if own else ())
    return cases


def _case_problems(cases_of: dict[str, tuple[str, ...]], known: set[str], where: str, has_column: bool) -> Iterator[Problem]:
    named = {case for cases in cases_of.values() for case in cases}
    if len(named) > 1 and not named & known:
        first, one = next(iter(cases_of)), sorted(known)[0]
        remedy = f'name the patients as the cases are, or each patient\'s cases in a column "{CASES}"'
        yield Problem(
            f"none of the {len(cases_of)} patients matches a case: the first is {first}, a case is {one}", where, remedy
        )
        return
    claimed: dict[str, str] = {}
    for patient, cases in cases_of.items():
        if not cases:
            remedy = f'name the patient\'s cases in the column "{CASES}", or remove the row'
            yield Problem(f"patient {patient} is unknown: the row names no case", where, remedy)
        for case in cases:
            if case not in known:
                yield _unknown(patient, case, where, has_column)
            if case in claimed:
                remedy = "leave the case with the one it shows"
                yield Problem(f"case {case} is given to two patients ({claimed[case]} and {patient})", where, remedy)
            claimed.setdefault(case, patient)


def _unknown(patient: str, case: str, where: str, has_column: bool) -> Problem:
    if has_column:
        remedy = "correct the name, or remove it"
        return Problem(f"patient {patient} has the case {case}, of which there is no image", where, remedy)
    remedy = f'name the patient\'s cases in a column "{CASES}", or remove the row'
    return Problem(f"patient {patient} is unknown: there is no case of that name", where, remedy)


def _values(cells: pd.Series, decimal_comma: bool, where: str) -> tuple[pd.Series, list[Problem]]:
    """A column's values with NaN for what is missing, and the entries the contract does not allow."""
    name = str(cells.name)
    present = cells.where(~cells.str.lower().isin(MISSING))
    if name == "centre":
        return present, []
    if name == "tumour_side":
        present = present.str.upper()
    numbers = as_numbers(present, decimal_comma)
    if name not in ALLOWED:
        return _clinical(name, present, numbers, where)
    values = present if name == "tumour_side" else numbers
    bad = present.notna() & ~values.isin(ALLOWED[name])
    allowed = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in ALLOWED[name])
    remedy = f"write one of {allowed}, or leave it empty where it is not known"
    problems = [Problem(f'"{name}" of patient {patient} is "{cells[patient]}"', where, remedy) for patient in cells.index[bad]]
    return values.where(~bad), problems


def _clinical(name: str, present: pd.Series, numbers: pd.Series, where: str) -> tuple[pd.Series, list[Problem]]:
    if (present.notna() & numbers.isna()).any():
        return present, []
    infinite = numbers.index[numbers.map(math.isinf)]
    problems = [
        Problem(f'"{name}" of patient {patient} is infinite', where, "write a number, or leave it empty where it is not known")
        for patient in infinite
    ]
    return numbers, problems
