"""Whether a table can carry a head beside masks, and which."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnauto.data.patients import PatientTable
from lnauto.errors import InputError
from lnauto.planners.patient_level import choose_patient_head
from lnauto.workflow.telltale import telltale_columns

WHERE = "Dataset501_X/patients.csv"


def table_of(folder: Path, lnm: list[str], stage: list[str] | None = None, more: str = "") -> PatientTable:
    stages = stage or [""] * len(lnm)
    rows = [f"p{n},{has},{at},{60 + n}" for n, (has, at) in enumerate(zip(lnm, stages, strict=True))]
    (folder / "patients.csv").write_text("\n".join(["patient,lnm,n_stage,age", *rows]) + more)
    return PatientTable.read(folder / "patients.csv")


def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def test_masks_and_labels_carry_a_head_on_nodes(tmp_path: Path) -> None:
    chosen = choose_patient_head(table_of(tmp_path, ["0", "1"] * 15), names(30), WHERE)
    assert chosen.settings == {"trainer": "LNMTrainerRadiomics", "columns": ["age"], "sensitivity": None, "masks": "predicted"}
    assert chosen.level == "image_level"
    assert "15 patients without and 15 with metastasis" in chosen.reason
    assert "had not seen the patient and age" in chosen.reason


def test_stages_alone_are_labels_too(tmp_path: Path) -> None:
    chosen = choose_patient_head(table_of(tmp_path, [""] * 30, ["0", "2"] * 15), names(30), WHERE)
    assert (chosen.level, chosen.settings is not None) == ("stage_level", True)


@pytest.mark.parametrize(
    ("lnm", "shown", "line"),
    [
        (["1"] * 30, 30, "all 30 patients with a label are with metastasis"),
        (["0", "1"] * 9, 18, "too few patients have a label: 9 without and 9 with metastasis"),
        ([""] * 30, 30, "no patient has a label"),
        (["0", "1"] * 15, 12, "of the patients with masks, 6 are known to be without and 6 with metastasis"),
    ],
)
def test_a_table_that_cannot_carry_a_head_hinders_nothing_unless_one_was_asked_for(
    tmp_path: Path, lnm: list[str], shown: int, line: str
) -> None:
    table = table_of(tmp_path, lnm)
    chosen = choose_patient_head(table, names(shown), WHERE)
    assert chosen.settings is None
    assert chosen.reason.startswith(f"no head: {line}")
    for asked in ({"trainer": "LNMTrainerABMIL"}, {"masks": "given"}):
        with pytest.raises(InputError, match=line):
            choose_patient_head(table, names(shown), WHERE, **asked)


def test_without_a_table_there_is_no_head() -> None:
    assert choose_patient_head(None, names(3), WHERE).settings is None
    with pytest.raises(InputError, match=r"there is no patients\.csv"):
        choose_patient_head(None, names(3), WHERE, masks="given")


def test_what_a_person_names_is_taken(tmp_path: Path) -> None:
    chosen = choose_patient_head(table_of(tmp_path, ["0", "1"] * 15), names(30), WHERE, "LNMTrainerVAE", "given")
    assert chosen.settings is not None
    assert (chosen.settings["trainer"], chosen.settings["masks"]) == ("LNMTrainerVAE", "given")
    assert "masks given, now and at use" in chosen.reason


def told_of(folder: Path, columns: dict[str, list[str]]) -> dict[str, str]:
    """By column, what is told of a table of as many patients without as with metastasis, in turn."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join([f"p{place}", str(place % 2), *row]) for place, row in enumerate(rows)]
    (folder / "patients.csv").write_text("\n".join([",".join(["patient", "lnm", *columns]), *lines]))
    table = PatientTable.read(folder / "patients.csv")
    return {problem.what.split('"')[1]: problem.what for problem in telltale_columns(table, table.clinical, WHERE)}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("N stage", 'looks like the label "n_stage"'),
        ("pN", 'looks like the label "n_stage"'),
        ("LN-metastasis", 'looks like the label "lnm"'),
        ("Center", 'looks like "centre"'),
        ("tumor side", 'looks like "tumour_side"'),
    ],
)
def test_a_column_that_lnauto_knows_under_another_name_is_told(name: str, known: str, tmp_path: Path) -> None:
    assert known in told_of(tmp_path, {name: ["1", "2", "3"] * 10, "age": [str(60 + place) for place in range(30)]})[name]


def test_what_has_its_own_name_as_well_is_another_column(tmp_path: Path) -> None:
    assert told_of(tmp_path, {"hospital": ["A", "B"] * 15, "centre": ["1", "2", "3"] * 10}).keys() == {"hospital"}
    assert told_of(tmp_path, {"hospital": ["A", "B", "C"] * 10, "centre": ["1", "2", "3"] * 10}) == {}


@pytest.mark.parametrize(
    ("values", "tells"),
    [
        ([str(place + 40 * (place % 2)) for place in range(40)], True),
        ([str(place - 40 * (place % 2)) for place in range(40)], True),
        (["removed", "kept"] * 20, True),
        (["removed", "kept"] * 9 + [""] * 22, False),  # too few with an entry
        (["removed", "kept"] * 18 + ["kept", "removed"] * 2, False),
        ([f"name {place}" for place in range(40)], False),  # left out in any case
        ([str(place) for place in range(40)], False),
    ],
)
def test_a_column_that_alone_tells_the_label_is_told(values: list[str], tells: bool, tmp_path: Path) -> None:
    assert ("alone tells who has metastasis" in told_of(tmp_path, {"marker": values}).get("marker", "")) == tells
