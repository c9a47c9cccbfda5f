"""The rules that choose a strategy, each with what makes it hold and what is next to it and does not."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from lnauto.errors import InputError
from lnauto.planners.evidence import Completeness, Evidence
from lnauto.planners.strategy import RULES, choose_strategy, drawn_in_part

PLAIN = Evidence(
    declared=None,
    channels=("CT",),
    annotated_cases=20,
    unannotated_cases=0,
    ignore_label=False,
    drawn_share=1.0,
    background_drawn=True,
    node_share=0.001,
    filled_share=0.8,
    nodes=120,
    nodes_per_case=(3, 6, 10),
    node_volume_mm3=(800, 3800, 21000),
    node_long_axis_mm=(13, 22, 38),
    node_short_axis_mm=(11, 16, 28),
    nodes_at_border=0.0,
    intensity_inside=((20, 60, 100),),
    intensity_shell=((-80, -20, 40),),
    body_mm=None,
    lung_mm=None,
    patients=0,
    known_lnm=(0, 0),
    known_stages=(0, 0, 0, 0),
    known_sides=0,
    centres=0,
    missing_entries={},
    completeness=None,
    foundation_model=False,
)
STROKES: dict[str, Any] = {"ignore_label": True, "drawn_share": 0.01, "filled_share": 0.02}
STAGES: dict[str, Any] = {"annotated_cases": 0, "known_stages": (40, 30, 20, 10), "known_sides": 90, "known_lnm": (10, 10)}
LITTLE, ALL = Completeness(0.3, 0.2, 0.4), Completeness(0.97, 0.9, 1.0)


CASES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({}, "full", {}),
    ({"declared": "full", "completeness": LITTLE}, "full", {"declared": None}),
    ({"declared": "full", **STROKES}, "ignore_label", {"declared": None}),
    ({"declared": "partial"}, "partial_instance", {"declared": None}),
    ({"completeness": LITTLE}, "partial_instance", {"completeness": ALL}),
    ({"declared": "scribble", "ignore_label": True}, "scribble", {"declared": None}),
    (STROKES, "scribble", {"ignore_label": False}),
    (STROKES, "scribble", {"drawn_share": 0.6}),
    (STROKES, "scribble", {"filled_share": 0.6}),
    ({"ignore_label": True, "drawn_share": 0.6}, "ignore_label", {"ignore_label": False}),
    ({"foundation_model": True, "annotated_cases": 10}, "few_shot", {"foundation_model": False}),
    ({"foundation_model": True, "annotated_cases": 10}, "few_shot", {"annotated_cases": 21}),
    ({"annotated_cases": 0, "known_lnm": (30, 20)}, "image_level", {"known_lnm": (0, 0)}),
    ({"annotated_cases": 0, "known_lnm": (30, 20)}, "image_level", {"annotated_cases": 5}),
    (STAGES, "stage_level", {"known_lnm": (60, 40)}),
    (STAGES, "stage_level", {"known_sides": 0}),
    (STAGES, "stage_level", {"known_stages": (0, 0, 0, 0)}),
    ({"annotated_cases": 0}, "unlabelled", {"annotated_cases": 1}),
]


@pytest.mark.parametrize(("changes", "strategy", "decisive"), CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_the_evidence_decides(changes: dict[str, Any], strategy: str, decisive: dict[str, Any]) -> None:
    found = replace(PLAIN, **changes)
    chosen = choose_strategy(found)
    assert chosen.name == strategy
    for name in decisive:
        assert name in chosen.evidence or name in {rule for each in RULES for rule in each.reads}
    if decisive:
        assert choose_strategy(replace(found, **decisive)).name != strategy


@pytest.mark.parametrize("name", sorted({name for rule in RULES for name in rule.reads}))
def test_without_any_one_piece_of_evidence_some_decision_is_another(name: str) -> None:
    blank = getattr(Evidence(), name) if name != "annotated_cases" else PLAIN.annotated_cases
    changed = 0
    for changes, strategy, _ in CASES:
        changed += choose_strategy(replace(PLAIN, **{**changes, name: blank})).name != strategy
    assert changed


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"declared": "partial"}, 'dataset.json declares "annotation": "partial"'),
        ({"completeness": LITTLE}, "about 30% (20% to 40%) of the nodes are drawn, by estimate"),
        ({"completeness": LITTLE, "ignore_label": True}, None),  # which says what is not known
        ({"completeness": LITTLE, "declared": "full"}, None),
        ({"completeness": ALL}, None),
    ],
)
def test_with_a_foundation_model_too_it_counts_that_nodes_are_not_drawn(changes: dict[str, Any], told: str | None) -> None:
    found = replace(PLAIN, foundation_model=True, annotated_cases=10, **changes)
    chosen = choose_strategy(found)
    assert chosen.name == "few_shot"
    assert drawn_in_part(found) == (told is not None)
    expected = "" if told is None else f"; {told}, so what cannot be node is learned as background, and nothing from the rest"
    assert chosen.reason == f"a foundation model is given, and 10 cases are annotated{expected}"


def test_the_runner_up_is_the_next_that_holds() -> None:
    assert choose_strategy(replace(PLAIN, **STROKES)).runner_up == "ignore_label"
    assert choose_strategy(replace(PLAIN, declared="partial")).runner_up == "full"
    assert choose_strategy(PLAIN).runner_up is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"declared": "full", "completeness": LITTLE}, "only about 30% (20% to 40%) of the nodes look drawn"),
        ({"declared": "full", "completeness": ALL}, None),
        (
            {"declared": "partial", "completeness": Completeness(0.95, 0.9, 1.0)},
            "about 95% (90% to 100%) of the nodes look drawn",
        ),
        ({"declared": "partial", "completeness": LITTLE}, None),
        ({"completeness": LITTLE}, None),
        (
            {"declared": "scribble", "ignore_label": True, "filled_share": 0.8},
            "80% of what is drawn as node is wider than a stroke",
        ),
        ({"declared": "scribble", **STROKES}, None),
        ({"declared": "full", **STROKES}, "what is drawn looks like strokes"),
    ],
)
def test_a_declaration_that_the_data_deny_is_told(changes: dict[str, Any], told: str | None) -> None:
    contradiction = choose_strategy(replace(PLAIN, **changes)).contradiction
    assert (contradiction is None) == (told is None)
    if told is not None:
        assert contradiction is not None
        assert f'declares "annotation": "{changes["declared"]}"' in contradiction
        assert told in contradiction


def test_strokes_of_nodes_alone_are_refused() -> None:
    with pytest.raises(InputError, match="no stroke of background is drawn"):
        choose_strategy(replace(PLAIN, **STROKES, background_drawn=False))


def test_ignored_voxels_round_nodes_alone_are_refused() -> None:
    with pytest.raises(InputError, match="every voxel that is not drawn as node is ignored"):
        choose_strategy(replace(PLAIN, ignore_label=True, drawn_share=0.3, background_drawn=False))


def test_a_person_may_name_the_strategy() -> None:
    chosen = choose_strategy(PLAIN, "partial_instance")
    assert (chosen.name, chosen.runner_up) == ("partial_instance", "full")
    assert "given by --strategy; by itself lnauto would have chosen full" in chosen.reason
    assert choose_strategy(PLAIN, "full").reason == choose_strategy(PLAIN).reason


@pytest.mark.parametrize(
    ("wish", "changes", "line"),
    [
        ("guesswork", {}, "there is no strategy guesswork, in --strategy; give one of stage_level, image_level"),
        ("full", {"annotated_cases": 0}, "full learns from masks, and no case has one"),
        ("ignore_label", {}, "ignore_label needs to know which voxels were not judged"),
    ],
)
def test_a_strategy_the_data_cannot_carry_is_refused(wish: str, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        choose_strategy(replace(PLAIN, **changes), wish)


def test_rules_read_evidence_that_exists_and_every_figure_says_how_it_was_found() -> None:
    names = {field.name for field in fields(Evidence)}
    assert all(name in names for rule in RULES for name in rule.reads)
    told = PLAIN.to_json()
    assert set(told) == names
    assert all(len(figure["how"]) > 10 for figure in told.values())
    assert told["nodes_per_case"]["value"] == (3, 6, 10)
