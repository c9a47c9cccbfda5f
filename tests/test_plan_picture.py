"""The picture beside the plan: what it says, of which data sets it can be drawn, and that nothing lies on top of anything."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lnauto.planners.case_facts import CaseFacts, NodeFacts
from lnauto.planners.plan import Plan
from lnauto.report import painter
from lnauto.report.plan_facts import plan_facts
from lnauto.report.plan_picture import draw_plan, plan_figure

SHORT_AXES = tuple(np.linspace(8, 28, 21))  # 5th, 50th, 95th percentile: 9, 18, 27
NAN = float("nan")


def node(short: float, channels: int = 1, shell: float = -80.0) -> NodeFacts:
    return NodeFacts(4.0 * short**2, 1.5 * short, short, False, 0.8, (40.0 + short,) * channels, (shell + short,) * channels)


def case(nodes: tuple[NodeFacts, ...] = (), annotated: bool = True, drawn: float = 1.0, channels: int = 1) -> CaseFacts:
    intensities = np.zeros((channels, 0), np.float32)
    return CaseFacts([3.0, 1.0, 1.0], [40, 200, 200], 1.0, intensities, annotated, nodes, drawn, 0.9, None, None)


def make_plan(
    budget: dict[str, Any] | None = None, estimate: dict[str, float] | None = None, channels: int = 1, lies: str | None = None
) -> Plan:
    """A plan with z last for the network, so that an axis that is mixed up shows."""
    chosen = {
        "spacing": [1.0, 1.5, 3.0],
        "patch_size": [128, 96, 40],
        "median_image_size_in_voxels": [300, 200, 50],
        "batch_size": 2,
        "normalization_schemes": ["CTNormalization", *["ZScoreNormalization"] * (channels - 1)],
    }
    strategy = "partial_instance, trained by LNTrainer: about 40% of the nodes are drawn, by estimate; " + "and so on " * 30
    evidence = {"channels": ("CT", "PET", "MRI")[:channels], "completeness": estimate}
    return Plan(
        {
            "dataset_name": "Dataset901_Nodes",
            "image_reader_writer": "SimpleITKIO",
            "transpose_backward": [2, 0, 1],
            "configurations": {"3d_fullres": chosen},
            "foreground_intensity_properties_per_channel": {
                str(number): {"percentile_00_5": -70.0, "percentile_99_5": 130.0} for number in range(channels)
            },
            "lnauto": {
                "reasons": {"strategy": strategy, "network": "small ResEnc: " + "large " * 30, "training": "10 minutes a fold"},
                "budget": {"minutes": 10.0, "epochs": None, "iterations_per_epoch": 50, **(budget or {})},
                "evidence": {name: {"value": value, "how": ""} for name, value in evidence.items()},
                "inference": {"orientation": lies},
            },
        }
    )


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_lengths_are_in_the_order_of_the_image_not_of_the_network() -> None:
    facts = plan_facts([case()], make_plan())
    assert facts.voxel == (3.0, 1.0, 1.5)
    assert facts.patch == (120.0, 128.0, 144.0)
    assert facts.image == (150.0, 300.0, 300.0)


def test_sizes_are_of_drawn_nodes() -> None:
    facts = plan_facts([case(tuple(node(short) for short in SHORT_AXES)), case(annotated=False)], make_plan())
    assert facts.percentiles == pytest.approx((9, 18, 27))
    assert facts.long_axis == pytest.approx(1.5 * 27)
    assert facts.nodes_per_case == (21,)
    assert any("9 / 18 / 27 mm" in text and "6 / 12 / 18 voxels" in text for text in texts(plan_figure(facts)))


def test_only_a_ct_is_clipped_and_a_node_without_a_shell_has_none() -> None:
    cases = [case((node(10, 2), node(12, 2, NAN)), channels=2)]
    ct, pet = plan_facts(cases, make_plan(channels=2)).channels
    assert (ct.name, ct.clipped_to, ct.inside, ct.shell) == ("CT", (-70.0, 130.0), (50.0, 52.0), (-70.0,))
    assert (pet.name, pet.clipped_to) == ("PET", None)


def test_coverage_says_what_is_annotated_drawn_and_estimated() -> None:
    cases = [case(drawn=0.006), case(drawn=0.008), case(drawn=0.007), case(annotated=False, drawn=0.0)]
    cases_told, voxels, nodes = plan_facts(cases, make_plan()).shares
    assert (cases_told.told, cases_told.value) == ("3 of 4", 0.75)
    assert (voxels.told, voxels.value) == ("0.7%", 0.007)
    assert (nodes.told, nodes.value, nodes.interval) == ("not estimated", None, None)

    estimate = {"value": 0.4, "low": 0.3, "high": 0.55}
    nodes = plan_facts(cases, make_plan(estimate=estimate)).shares[2]
    assert (nodes.told, nodes.value, nodes.interval) == ("40% (30% to 55%)", 0.4, (0.3, 0.55))


@pytest.mark.parametrize(
    ("budget", "tiles"),
    [
        ({}, [("10 min", "a fold")]),
        (
            {"expected_iterations": 1234, "seconds_per_iteration": 0.482},
            [("10 min", "a fold"), ("1,234", "iterations"), ("0.48 s", "an iteration")],
        ),
        ({"minutes": None, "epochs": 1000}, [("1,000", "epochs a fold"), ("50,000", "iterations")]),
    ],
)
def test_the_budget_tells_what_is_known(budget: dict[str, Any], tiles: list[tuple[str, str]]) -> None:
    facts = plan_facts([case()], make_plan(budget))
    assert list(facts.tiles) == tiles
    assert {word for tile in tiles for word in tile} <= set(texts(plan_figure(facts)))


def test_the_figure_says_what_was_decided_and_why() -> None:
    estimate = {"value": 0.4, "low": 0.3, "high": 0.55}
    told = texts(plan_figure(plan_facts([case((node(10),))], make_plan(estimate=estimate))))
    assert "Dataset901_Nodes: partial_instance, trained by LNTrainer" in told
    assert any(text.startswith("about 40% of the nodes are drawn") for text in told)
    assert {"Node sizes", "Intensities", "Coverage", "Budget", "voxel 3 x 1 x 1.5 mm", "patch 120 x 128 x 144 mm"} <= set(told)
    assert {"clipped to -70 .. 130", "nodes drawn\n40% (30% to 55%)", "median image 150 x 300 x 300 mm"} <= set(told)


def test_bars_boxes_and_whiskers_are_as_long_as_they_should() -> None:
    estimate = {"value": 0.4, "low": 0.3, "high": 0.55}
    figure = plan_figure(plan_facts([case(tuple(node(short) for short in SHORT_AXES))], make_plan(estimate=estimate)))
    sizes, intensities, *_ = figure.axes
    assert sum(bar.get_height() for bar in sizes.containers[0]) == len(SHORT_AXES)
    assert sum(bar.get_height() for bar in intensities.containers[0]) == len(SHORT_AXES)
    assert [0.3, 0.55] in [list(line.get_xdata()) for line in figure.findobj(Line2D)]
    rectangles = {(box.get_width(), box.get_height()) for box in figure.findobj(Rectangle)}
    assert {(144.0, 128.0), (144.0, 120.0), (300.0, 300.0), (300.0, 150.0)} <= rectangles  # patch and image, both views
    assert [circle.radius for circle in figure.findobj(Circle)] == pytest.approx([1.5 * 27 / 2] * 2)


@pytest.mark.parametrize("most", [3, 39, 40, 64, 107])
def test_every_node_and_every_case_has_a_place_in_a_bar(most: int) -> None:
    """The case with the most nodes, and specks that are smaller than a voxel of the plan."""
    specks = (node(0.2), node(0.5), node(400.0))
    figure = plan_figure(plan_facts([case((node(10.0),) * most), case(specks), case()], make_plan()))
    sizes, _, _, counts, *_ = figure.axes
    assert sum(bar.get_height() for bar in sizes.containers[0]) == most + len(specks)
    assert sum(bar.get_height() for bar in counts.containers[0]) == 3


@pytest.mark.parametrize(
    ("lies", "named"),
    [(None, ("coronal", "axial")), ("RAI", ("coronal", "axial")), ("PIR", ("axial", "sagittal")), ("LIP", ("axial", "coronal"))],
)
def test_views_are_named_by_what_they_show_of_a_patient(lies: str | None, named: tuple[str, str]) -> None:
    figure = plan_figure(plan_facts([case((node(10),))], make_plan(lies=lies)))
    found = {text.get_text(): text.get_position()[1] for text in figure.axes[4].texts if text.get_rotation() == 90}
    assert tuple(sorted(found, key=found.__getitem__)) == named


NODES = tuple(node(short, 2) for short in SHORT_AXES)
DATA_SETS = {
    "many nodes": [case(NODES, channels=2)] * 12,
    "one case, one node": [case(NODES[:1], channels=2)],
    "no node": [case(channels=2)] * 3,
    "nothing annotated": [case(annotated=False, channels=2)] * 3,
    "no common scale": [case((replace(one, inside=(one.short_axis_mm**6,) * 2),), channels=2) for one in NODES],
    "one scale": [case((replace(NODES[0], inside=(5.0, 5.0), shell=(5.0, 5.0)),), channels=2)],
    "all zero": [case((replace(NODES[0], inside=(0.0, 0.0), shell=(0.0, 0.0)),), channels=2)],
}


@pytest.mark.parametrize("cases", DATA_SETS.values(), ids=list(DATA_SETS))
def test_no_text_lies_on_another_or_outside(cases: list[CaseFacts], monkeypatch: pytest.MonkeyPatch) -> None:
    budget = {"expected_iterations": 1234, "seconds_per_iteration": 0.482}
    facts = plan_facts(cases, make_plan(budget, {"value": 0.4, "low": 0.3, "high": 0.55}, channels=2))
    figure = plan_figure(facts)
    boxes = boxes_of_texts(figure, monkeypatch)
    assert ("no node is drawn" in texts(figure)) == (not facts.short_axes)
    assert len(boxes) > 30
    assert all(bar.get_width() > 0 for axes in figure.axes[1:3] for bars in axes.containers for bar in bars)
    assert [text for text, box in boxes if not _within(box, figure.bbox)] == []
    assert [(one, other) for (one, at), (other, there) in itertools.combinations(boxes, 2) if at.overlaps(there)] == []


def boxes_of_texts(figure: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, and where; a figure also holds labels of ticks that are not."""
    drawn: dict[Text, None] = {}
    draw = Text.draw

    def draw_and_note(text: Text, renderer: Any) -> None:
        drawn[text] = None
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", draw_and_note)
    figure.canvas.draw()
    return [(text.get_text(), text.get_window_extent()) for text in drawn if text.get_text().strip() and text.get_visible()]


def _within(box: Bbox, whole: Bbox) -> bool:
    return box.x0 >= whole.x0 and box.y0 >= whole.y0 and box.x1 <= whole.x1 and box.y1 <= whole.y1


def test_the_file_is_a_png_of_the_stated_size_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "lnautoPlans.png"
    draw_plan(plan_facts([case(NODES[:3])], make_plan()), path)
    assert imread(path).shape[:2] == (860, 1300)
    assert [file.name for file in tmp_path.iterdir()] == ["lnautoPlans.png"]


def test_a_plan_has_its_picture_beside_it(prepared: Path) -> None:
    folder = prepared / "preprocessed" / "Dataset901_Balls"
    assert imread(folder / "lnautoPlans.png").shape[:2] == (860, 1300)


def test_a_process_of_its_own_draws_where_matplotlib_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("matplotlib.py").write_text("raise RuntimeError")  # a user's own
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    monkeypatch.setattr(painter, "usable_cores", lambda: 2)
    monkeypatch.setattr(painter, "draw_plan", None)  # not here
    with painter.Painter() as one:
        one.paint(plan_facts([case(NODES[:3])], make_plan()), Path("plan.png"))
    assert imread(tmp_path / "plan.png").shape[:2] == (860, 1300)


def test_where_that_process_fails_it_is_drawn_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    monkeypatch.setattr(painter, "usable_cores", lambda: 2)
    monkeypatch.setattr(painter, "draw_plan", lambda _, path: drawn.append(path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with painter.Painter() as one:
        one.paint(plan_facts([case(NODES[:3])], make_plan()), tmp_path / "plan.png")
    assert drawn == [tmp_path / "plan.png"]


def test_where_no_process_can_be_started_it_is_drawn_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    monkeypatch.setattr(painter, "usable_cores", lambda: 2)
    monkeypatch.setattr(painter, "draw_plan", lambda _, path: drawn.append(path))
    for missing in ("", str(tmp_path / "gone/python")):
        monkeypatch.setattr(sys, "executable", missing)
        with painter.Painter() as one:
            one.paint(plan_facts([case(NODES[:3])], make_plan()), tmp_path / "plan.png")
    assert drawn == 2 * [tmp_path / "plan.png"]


def fail_while_painting(path: Path) -> None:
    with painter.Painter() as one:
        one.paint(plan_facts([case(NODES[:3])], make_plan()), path)
        raise KeyError


def test_a_picture_that_was_begun_is_finished_where_preprocessing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    monkeypatch.setattr(painter, "usable_cores", lambda: 2)
    monkeypatch.setattr(painter, "draw_plan", None)
    monkeypatch.setattr(painter, "PATIENCE_SECONDS", 60)
    with pytest.raises(KeyError):
        fail_while_painting(tmp_path / "plan.png")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.png"]


def test_an_error_does_not_wait_for_a_painter_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    monkeypatch.setattr(painter, "usable_cores", lambda: 2)
    drawn = []
    monkeypatch.setattr(painter, "draw_plan", lambda _, path: drawn.append(path))
    monkeypatch.setattr(painter, "PATIENCE_SECONDS", 0)
    hangs = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    monkeypatch.setattr(painter, "_started", lambda: hangs)
    with pytest.raises(KeyError):
        fail_while_painting(tmp_path / "plan.png")
    assert hangs.poll() is not None
    assert not drawn  # nor is it drawn here before the error is told


def test_a_painter_that_is_told_nothing_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    monkeypatch.setattr(painter, "usable_cores", lambda: 2)
    with painter.Painter() as one:
        process = one._process
    assert process is not None
    assert process.poll() is not None


def test_a_dollar_sign_in_a_name_begins_no_formula_and_powers_of_ten_are_set_as_such() -> None:
    facts = plan_facts([case(tuple(node(short) for short in SHORT_AXES))], make_plan())
    (channel,) = facts.channels
    wide = tuple(np.geomspace(1, 1e5, 20).tolist())
    figure = plan_figure(replace(facts, dataset=r"$_\x$", channels=[replace(channel, inside=wide, shell=wide)]))
    figure.canvas.draw()
    assert {text.get_parse_math() for text in figure.findobj(Text) if r"$\mathdefault{10^{" in text.get_text()} == {True}
