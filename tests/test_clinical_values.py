"""Clinical columns as they are written: what is a number, what is a slip, and what only looks like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnauto.data.patients import PatientTable


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("t_stage", ["1", "2", "3", "4", "4a", "2", "1", "3", "2", "1", "4b", "3"]),
        ("age", [str(number) for number in range(80, 92)]),
        ("z_score", ["-9", "-3.5", "0.1", "2", "-1", "-2", "3", "4", "1", "0", "-4", "2.2"]),
        ("grade", ["1", "low", "2", "high", *["low"] * 8]),
        ("read_on", [f"{day} {month} 2020" for month in ("May", "June") for day in range(1, 13)]),
        ("code", [f"{number}-A" for number in range(20)]),
        ("t_stage", [f"{number}{letter}" for number in range(1, 10) for letter in "ab"]),
    ],
)
def test_codes_and_plausible_numbers_are_no_slips(column: str, values: list[str], tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text(f"patient,{column}\n" + "".join(f"p{place},{value}\n" for place, value in enumerate(values)))
    assert PatientTable.read(path).doubts == ()


@pytest.mark.parametrize(
    ("values", "shown", "remedy"),
    [
        ([f'"{number},5"' for number in range(10)], "0,5", "write a point for the comma"),
        ([*(f"{number} years" for number in range(40, 50)), "old"], "40 years", 'write the numbers alone, and "years" into'),
        ([*(f'"{number},5Mm"' for number in range(10)), "2 mm", "3 cm"], "0,5Mm", 'write the numbers alone, and "mm" into'),
    ],
)
def test_numbers_that_would_be_learned_as_categories_are_told(values: list[str], shown: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("patient,age\n" + "".join(f"p{place},{value}\n" for place, value in enumerate(values)))
    (doubt,) = PatientTable.read(path).doubts
    assert doubt.what.startswith(f'"age" is "{shown}" and the like of {10 + (shown == "0,5Mm")} patients, which is no number')
    assert doubt.remedy.startswith(remedy)
    few = [line for place, line in enumerate(path.read_text().splitlines(keepends=True)) if place not in (3, 4)]
    path.write_text("".join(few))
    assert PatientTable.read(path).doubts == ()


@pytest.mark.parametrize(
    ("entries", "read"),
    [
        (["61,5", "7,25", "8"], [61.5, 7.25, 8.0]),
        (["1,234", "5,500", "12"], ["1,234", "5,500", "12"]),
        (["1,234", "5,5", "12"], [1.234, 5.5, 12.0]),
        (["61,5", "7.25", "8"], ["61,5", "7.25", "8"]),
    ],
)
def test_a_table_of_tabs_may_write_its_decimals_with_a_comma(entries: list[str], read: list[object], tmp_path: Path) -> None:
    """As a spreadsheet's Unicode text does, in the languages that do so."""
    path = tmp_path / "patients.csv"
    rows = "".join(f"p{place}\t{entry}\n" for place, entry in enumerate(entries))
    path.write_text(f"patient\tage\n{rows}", encoding="utf-16")
    assert PatientTable.read(path).frame["age"].tolist() == read
