"""The phantom's label model, and the tables that tell of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnauto.data.phantom import make_patients, make_phantom
from lnauto.data.phantom.acquisition import STYLES
from lnauto.data.phantom.patients import COLUMNS, MISSING, Patient, Plan, describe, with_gaps
from lnauto.data.phantom.stations import STATIONS, n_stage

SIZE = 32
NAME = "Dataset501_Phantom"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_tables_have_the_contracts_columns_and_gaps(tmp_path: Path) -> None:
    out = make_phantom(tmp_path / NAME, cases=2, test_cases=1, size=SIZE, quiet=True)
    for name in ("patients.csv", "patientsTs.csv", "truth/patients.csv"):
        assert tuple(rows_of(out / name)[0]) == COLUMNS
    assert [row["lnm"] for row in rows_of(out / "patientsTs.csv")] == [""]
    truth = rows_of(out / "truth" / "patients.csv")
    assert len(truth) == 3
    assert all(all(row.values()) for row in truth)
    stations = rows_of(out / "truth" / "stations.csv")
    nodes = rows_of(out / "truth" / "nodes.csv")
    bad = {(row["case"], row["station"]) for row in nodes if row["label"] == "1"}
    assert {(row["patient"], row["station"]) for row in stations if row["label"] == "1"} == bad
    known = [tuple(row.values()) for row in rows_of(out / "stations.csv")]
    assert known
    assert set(known) < {tuple(row.values()) for row in stations if "_t" not in row["patient"]}
    for row in truth:
        involved = [station for case, station in bad if case == row["patient"]]
        assert int(row["n_stage"]) == n_stage(involved, row["tumour_side"])
        assert row["lnm"] == str(int(row["n_stage"] != "0"))


def test_values_are_missing_as_often_as_said_and_a_stage_never_betrays_a_missing_label() -> None:
    rng = np.random.default_rng(0)
    whole = Patient("p", "p", 1, 2, "L", "A1", 3, 60, 4.2)
    table = [with_gaps(rng, whole) for _ in range(2000)]
    for name, chance in MISSING.items():
        expected = chance if name != "n_stage" else 1 - (1 - chance) * (1 - MISSING["lnm"])
        assert np.mean([getattr(row, name) is None for row in table]) == pytest.approx(expected, abs=0.03)
    assert not any(row.lnm is None and row.n_stage is not None for row in table)
    assert table[0].row["patient"] == "p"


def test_marker_and_t_stage_carry_part_of_the_truth() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(400):
        plan = Plan.draw(rng, list(STATIONS))
        involved = [station for station, form in plan.nodes if form.metastatic]
        rows.append(describe(rng, "p", plan, involved, STYLES["a"], plain=True))
    bad, good = ([row for row in rows if row.lnm == label] for label in (1, 0))
    assert 0.35 < len(bad) / len(rows) < 0.65
    assert np.mean([row.t_stage for row in bad]) > np.mean([row.t_stage for row in good]) + 0.3
    assert 1.5 < np.median([row.marker for row in bad]) / np.median([row.marker for row in good]) < 3.5
    assert {row.n_stage for row in rows} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("involved", "side", "stage"),
    [
        ([], "L", 0),
        (["10L"], "L", 1),
        (["11R"], "R", 1),
        (["10L"], "R", 3),
        (["7"], "L", 2),
        (["3A"], "R", 2),
        (["4R", "10R"], "R", 2),
        (["4L"], "R", 3),
        (["1L"], "L", 3),
        (["5"], "L", 2),
        (["5"], "R", 3),
        (["6"], "L", 2),
        (["6", "4R"], "R", 3),
    ],
)
def test_n_stage_is_that_of_tnm(involved: list[str], side: str, stage: int) -> None:
    assert n_stage(involved, side) == stage


def test_a_table_alone_is_of_the_same_label_model(tmp_path: Path) -> None:
    tables = [make_patients(tmp_path / f"Dataset50{n}_Table", count=200, seed=4) for n in (1, 2)]
    assert [path.name for path in tables[0].iterdir()] == ["patients.csv"]
    first, again = (pd.read_csv(path / "patients.csv") for path in tables)
    pd.testing.assert_frame_equal(first, again)
    assert list(first.columns) == [column for column in COLUMNS if column != "cases"]
    assert 0.35 < first["lnm"].mean() < 0.65
    assert 0 < first["marker"].isna().sum() < 100
    known = first.dropna(subset=["lnm", "marker"])
    assert known[known["lnm"] == 1]["marker"].median() > known[known["lnm"] == 0]["marker"].median()
