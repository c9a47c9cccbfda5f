"""Clinical rows beside scans: what is checked before a mask is predicted, what a head reads of a row, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bags import PLAN, bright_bags

from lnauto.data.patients import PatientTable
from lnauto.data.raw import Case
from lnauto.errors import InputError
from lnauto.trainers.patient.abmil import LNMTrainerABMIL
from lnauto.trainers.patient.bag import Bag
from lnauto.trainers.patient.fitting import Schedule
from lnauto.workflow.head_files import HeadModel
from lnauto.workflow.head_predict import Heads, _row, read_patients

HALF = 20


@pytest.fixture(scope="module")
def clinical() -> Heads:
    """Of a head that learned from age and sex."""
    rng = np.random.default_rng(0)
    index = pd.Index([f"p{number:03d}" for number in range(2 * HALF)])
    sex = pd.Series(rng.choice(["male", "female"], 2 * HALF), index=index, dtype=object)
    rows = pd.DataFrame({"age": rng.normal(60, 10, 2 * HALF), "sex": sex, "tumour_side": None})
    labels = pd.Series([0, 1] * HALF, index=index)
    model = HeadModel.of_rows(rows, labels, list(rows), 0, None)
    return Heads(Path("model"), model.trainer, {"0": model}, "given")


@pytest.fixture(scope="module")
def on_nodes() -> Heads:
    """Of a head that learned from nodes and age, and had no column of sides."""
    head = LNMTrainerABMIL(schedule=Schedule(steps=12)).train(bright_bags(12), ["age"], PLAN)
    return Heads(Path("model"), head.trainer, {"0": HeadModel(head.trainer, (head,))}, "given")


def read(heads: Heads, ages: list[Any], column: str = "age") -> PatientTable | None:
    rows = [f"c{place},{age}" for place, age in enumerate(ages)]
    Path("new.csv").write_text("\n".join([f"patient,{column}", *rows]))
    return read_patients(Path("new.csv"), [Case(f"c{place}", ()) for place in range(len(ages))], Path("out"), heads)


def told(heads: Heads, bag: Bag) -> dict[str, Any]:
    readings = [head.read([bag], lambda _, bags: list(bags))[0] for head in heads.folds.values()]
    return _row(heads, readings, bag)


def no_node(bag: Bag) -> Bag:
    return replace(bag.take([]), patient="new")


@pytest.mark.parametrize(
    ("ages", "line"),
    [
        ([50, 61, "T2"], '"age" of patient c2 is "T2", among numbers'),
        ([50, 61, "65 years"], '"age" of patient c2 is "65 years", among numbers'),
        ([50, 61, -999], '"age" is -999 of c2, which looks like a code for missing'),
    ],
)
def test_slips_in_a_column_that_the_heads_know_are_refused(
    ages: list[Any], line: str, clinical: Heads, on_nodes: Heads, folders: Path
) -> None:
    for heads in (clinical, on_nodes):
        with pytest.raises(InputError, match=line):
            read(heads, ages)
        assert read(heads, ages, "height") is not None


def test_a_table_that_names_cases_alone_is_taken_and_its_columns_are_missed(
    clinical: Heads, folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        assert read(clinical, [1, 2], "centre") is not None
    assert "new.csv has no column age, sex: missing of every patient." in caplog.text


def test_a_category_that_no_head_knows_is_flagged(clinical: Heads) -> None:
    bag = bright_bags(1)[0]
    rows = ({"age": 61.0, "sex": "diverse"}, {"age": 61.0, "sex": "MALE"}, {"age": 61.0, "sex": None})
    flags = [told(clinical, replace(bag, patient="new", row={**row, "tumour_side": "L"}))["flags"] for row in rows]
    assert flags == ['sex "diverse" unknown', "", "sex missing"]


def test_a_head_that_reads_no_node_misses_none(clinical: Heads, on_nodes: Heads) -> None:
    bag = replace(bright_bags(1)[0], patient="new")
    row = {"age": 61.0, "sex": "male", "tumour_side": "L"}
    for one in (replace(bag, row=row), replace(no_node(bag), row=row)):
        assert (told(clinical, one)["branch"], told(clinical, one)["flags"]) == ("clinical", "")
    assert (told(on_nodes, bag)["branch"], told(on_nodes, bag)["flags"]) == ("nodes and clinical", "")
    assert (told(on_nodes, no_node(bag))["branch"], told(on_nodes, no_node(bag))["flags"]) == ("clinical", "no node found")


def test_a_side_that_training_did_not_have_changes_nothing(on_nodes: Heads) -> None:
    bags = bright_bags(3)
    assert all(bag.points[:, 0].any() for bag in bags)
    sided = [replace(bag, row={**bag.row, "tumour_side": "L"}) for bag in bags]
    model = on_nodes.folds["0"]
    given, more = (model.read(some, lambda _, bags: list(bags)) for some in (bags, sided))
    assert [one.logit for one in more] == [one.logit for one in given]
