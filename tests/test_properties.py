"""What holds for any input: round trips, and that bad input raises nothing but our own error."""

from __future__ import annotations

import json
import math
import re
import tempfile
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lnauto.data.coarse_maps import read_map, write_map
from lnauto.data.patients import PATIENT, PatientTable, examine, read_cells
from lnauto.data.scans import Grid, mask_on, read_channels
from lnauto.errors import InputError
from lnauto.files import ANY, NUMBER, csv_text, misfit, plain_cell, read_json, safe_cell
from lnauto.inference.export import Exporter, largest_class
from lnauto.planners.plan import CONFIGURATION, Plan

few = settings(max_examples=60, derandomize=True, database=None, deadline=None)
fewer = settings(few, max_examples=25)

# ---- geometry

ORIENTATIONS = ["".join(letters) for axes in permutations(("RL", "AP", "IS")) for letters in product(*axes)]
sides = st.tuples(*[st.integers(2, 9)] * 3)
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)
origins = st.tuples(*[st.floats(-500, 500)] * 3)


def scan_of(size: tuple[int, ...], spacing: tuple[float, ...], origin: tuple[float, ...], orientation: str) -> sitk.Image:
    """Every voxel has a value of its own."""
    image = sitk.GetImageFromArray(np.arange(math.prod(size), dtype=np.float32).reshape(size[::-1]))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(orientation))
    return image


@fewer
@given(sides, spacings, origins, st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS))
def test_a_scan_that_is_turned_as_the_model_wants_it_is_turned_back(
    size: tuple[int, ...], spacing: tuple[float, ...], origin: tuple[float, ...], lies: str, wanted: str
) -> None:
    image = scan_of(size, spacing, origin, lies)
    turned, properties = read_channels([image], wanted, "scan")
    back = mask_on(turned[0], properties, Grid.of(image))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    assert (back.GetSize(), Grid.of(back)) == (image.GetSize(), Grid.of(image))


@few
@given(st.data(), sides, st.permutations(range(3)))
def test_what_was_cropped_out_of_a_scan_is_put_back_where_it_was(
    data: st.DataObject, size: tuple[int, ...], order: list[int]
) -> None:
    box = [sorted(data.draw(st.tuples(st.integers(0, side - 1), st.integers(1, side)))) for side in size]
    box = [(start, max(stop, start + 1)) for start, stop in box]
    whole = np.arange(1, math.prod(size) + 1, dtype=np.uint16).reshape(size)
    backward = [order.index(axis) for axis in range(3)]
    exporter = Exporter(SimpleNamespace(transpose_backward=backward), None, None)
    properties = {"shape_before_cropping": size, "bbox_used_for_cropping": box}
    inside = tuple(slice(*ends) for ends in box)
    placed = exporter._placed(whole[inside], properties)
    expected = np.zeros_like(whole)
    expected[inside] = whole[inside]
    assert np.array_equal(placed, expected.transpose(backward))
    assert np.array_equal(placed.transpose(order), expected)


@fewer
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), sides, st.tuples(*[st.integers(2, 14)] * 3))
def test_a_mask_is_that_of_interpolating_every_logit(seed: int, classes: int, size: tuple[int, ...], to: tuple[int, ...]) -> None:
    above = torch.randn((classes, *size), generator=torch.Generator().manual_seed(seed)) - 0.5
    every = torch.nn.functional.interpolate(above[None], to, mode="trilinear")[0]
    with_background = torch.cat([torch.zeros_like(every[:1]), every])
    first, second = with_background.topk(2, dim=0).values
    sure = (first - second > 1e-4).numpy()
    found = largest_class(above.clone(), to)
    assert found.shape == to
    assert np.array_equal(found[sure], with_background.argmax(0).numpy()[sure])


@fewer
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.integers(1, 4)] * 3), spacings, origins,
       st.sampled_from(ORIENTATIONS))  # fmt: skip
def test_a_coarse_map_is_read_on_the_grid_of_its_scan(
    seed: int, times: tuple[int, ...], coarse: tuple[int, ...], spacing: tuple[float, ...], origin: tuple[float, ...], lies: str
) -> None:
    values = np.random.default_rng(seed).integers(0, 101, coarse).astype(np.uint8)
    fine = values.repeat(times[0], 0).repeat(times[1], 1).repeat(times[2], 2)
    with tempfile.TemporaryDirectory() as folder:
        scan, stored = Path(folder, "scan.mha"), Path(folder, "map.mha")
        sitk.WriteImage(scan_of(fine.shape[::-1], spacing, origin, lies), str(scan))
        write_map(values, np.array(spacing[::-1]) * times, scan, stored)
        assert np.array_equal(read_map(stored, scan), fine)


# ---- tables

characters = st.characters(exclude_categories=["Cs", "Cc"])
names = st.text(characters, min_size=1, max_size=12).map(str.strip).filter(bool)
words = st.text(characters, max_size=12).map(str.strip)
numbers = st.floats(-1e150, 1e150)
hostile = st.sampled_from(["=1+1", "-", "'", "'=x", "+a", '"', ";", ",", "@", "\N{FULLWIDTH PLUS SIGN}", "nan", "-1,5", "a\tb"])


@few
@given(
    st.lists(st.tuples(names | hostile, words | hostile, numbers | st.none()), min_size=1, max_size=6), st.sampled_from(",;\t")
)
def test_a_table_that_is_written_is_read_back(rows: list[tuple[str, str, float | None]], delimiter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "patients.csv")
        path.write_text(csv_text([[PATIENT, "note", "size"], *rows], delimiter), encoding="utf-8")
        cells, decimal_comma = read_cells(path)
    assert decimal_comma == (delimiter == ";") or delimiter == "\t"
    expected = [[name, note, "" if size is None else repr(size)] for name, note, size in rows]
    assert cells.to_numpy().tolist() == expected


@few
@given(st.dictionaries(names, numbers, min_size=2, max_size=6))
def test_numbers_of_patients_are_read_as_they_were(sizes: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "patients.csv")
        path.write_text(csv_text([[PATIENT, "size"], *sizes.items()]), encoding="utf-8")
        table = PatientTable.read(path)
    assert dict(table.frame["size"]) == sizes


headers = st.sampled_from(
    ["patient,lnm,age\n", "patient;cases;lnm\n", "Patient\tn_stage\n", "\ufeffpatient,centre,tumour_side\n", ""]
)


@few
@given(headers, st.text(max_size=60), st.sampled_from(["utf-8", "utf-16", "latin-1", "cp1252"]), st.none() | st.just(["a", "b"]))
def test_no_text_in_place_of_a_table_raises_anything_else(head: str, text: str, encoding: str, cases: list[str] | None) -> None:
    _only_our_error((head + text).encode(encoding, errors="replace"), cases)


@few
@given(headers, st.binary(max_size=60))
def test_no_bytes_in_place_of_a_table_raise_anything_else(head: str, content: bytes) -> None:
    _only_our_error(head.encode() + content, None)


def _only_our_error(content: bytes, cases: list[str] | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "patients.csv")
        path.write_bytes(content)
        table, problems = examine(path, cases)
        assert table is not None or problems
        if problems:
            with pytest.raises(InputError):
                PatientTable.read(path, cases)


@few
@given(st.text(max_size=8) | hostile)
def test_a_cell_is_no_formula_and_becomes_what_it_was(text: str) -> None:
    assert plain_cell(safe_cell(text)) == text


# ---- plans

PARTS = ("configurations", "lnauto", "plans_name")
TOLD = (("reasons",), ("evidence",), ("alternatives",), ("decided_by",))  # that nothing depends on

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def plan(prepared: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((prepared / "preprocessed/Dataset901_Balls/lnautoPlans.json").read_text())
    return content


def places_in(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(place for key, value in inner for place in places_in(value, (*at, key)))] if at else [
        place for key, value in inner for place in places_in(value, (key,))
    ]  # fmt: skip


def checked(content: Any) -> Plan | None:
    """The plan as training takes it; None: it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plans.json")
        path.write_text(json.dumps(content))
        try:
            plan = Plan.load(path, "plan again")
            plan.check(CONFIGURATION, path)
        except InputError:
            return None
        plan.save(path)
        assert Plan.load(path, "plan again") == plan
        return plan


def test_a_plan_is_read_back_as_it_was_written(plan: dict[str, Any]) -> None:
    found = checked(plan)
    assert found is not None
    assert found.content == plan
    assert found.hash() == Plan(plan).hash()


@pytest.mark.parametrize(
    ("edited", "told"),
    [
        ({"validation_iterations": 0}, "lnauto.budget.validation_iterations is 0, in"),
        ({"validation_iterations": None}, "lnauto.budget.validation_iterations is null, not a number"),
        ({"iterations_per_epoch": 0}, "lnauto.budget.iterations_per_epoch is 0, in"),
        ({"iterations_per_epoch": 2.5}, "lnauto.budget.iterations_per_epoch is 2.5, in"),
        ({"minutes": None, "epochs": 0}, "lnauto.budget.epochs is 0, in"),
        ({"minutes": None, "epochs": None}, "lnauto.budget says neither minutes nor epochs"),
    ],
)
def test_a_budget_that_trains_or_validates_nothing_is_told(plan: dict[str, Any], edited: dict[str, Any], told: str) -> None:
    block = {**plan["lnauto"], "budget": {**plan["lnauto"]["budget"], **edited}}
    with pytest.raises(InputError, match=re.escape(told)):
        Plan({**plan, "lnauto": block}).check(CONFIGURATION, Path("plans.json"))


@few
@given(anything)
def test_no_json_in_place_of_a_plan_raises_anything_else(content: Any) -> None:
    assert checked(content) is None


OTHERS: list[Any] = [None, True, -3, 0.5, "x", [], {}, [1, "x"], {"x": None}]


def test_nothing_in_place_of_a_part_of_a_plan_raises_anything_else(plan: dict[str, Any]) -> None:
    """Every part in turn, by every kind of thing."""
    refused = 0
    for place in (place for place in places_in(plan) if place[0] in PARTS and place[1:2] not in TOLD):
        for value in OTHERS:
            content = json.loads(json.dumps(plan))
            inner = content
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            refused += checked(content) is None
    assert refused > 100


@few
@given(anything)
def test_what_is_of_its_own_form_is_told_to_be(content: Any) -> None:
    assert misfit(content, form_of(content)) is None
    assert misfit([content], {ANY: object}) is not None


def form_of(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: form_of(value) for key, value in content.items()}
    if isinstance(content, list):
        return [object]
    return NUMBER if isinstance(content, float) else type(content)


@few
@given(st.text(max_size=40))
def test_no_text_in_place_of_json_raises_anything_else(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.json")
        path.write_text(text, encoding="utf-8", newline="")
        try:
            assert repr(json.loads(text)) == repr(read_json(path, "mend it"))  # NaN does not equal itself
        except ValueError:
            with pytest.raises(InputError):
                read_json(path, "mend it")
