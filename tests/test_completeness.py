"""How much of a data set was drawn: on tables of looks made from a known model, and on small pictures of balls among bars."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from building import PICTURE, SPACING, write_image, write_pictures
from scipy.special import expit

from lnauto.data.coarse_maps import read_map, write_map
from lnauto.data.raw import RawDataset
from lnauto.nodes import label_components
from lnauto.planners import completeness
from lnauto.planners.case_facts import look_at
from lnauto.planners.completeness import estimate_completeness, with_interval
from lnauto.planners.completeness.likeness import Likeness, find_likeness
from lnauto.planners.completeness.maps import can_be_mapped, likeness_maps
from lnauto.planners.completeness.size_selection import prepare, undrawn
from lnauto.planners.evidence import Completeness


def made_up(seed: int, offset: float, nodes: int = 160, cases: int = 16) -> tuple[Likeness, float]:
    """Looks of nodes, large ones drawn rather, and of what is none; and the share that is drawn."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(8.0, 1.0, nodes)
    drawn = rng.random(nodes) < expit(offset + 1.3 * (volume - 8.0))
    size = 6.0 + 0.9 * (volume - 8.0) + rng.normal(0, 0.4, nodes)
    score = 1.5 + 0.8 * (volume - 8.0) + rng.normal(0, 1.0, nodes)
    hidden = rng.random(nodes) > expit(3.0 + volume - 8.0)
    look = np.stack([volume, np.where(hidden, np.nan, score), np.where(hidden, np.nan, size)], 1)
    case = rng.integers(cases, size=nodes)
    other = rng.exponential(1 / 1.2, 400) - 3.0
    nothing = np.stack([other, 5.5 + 0.5 * (other + 3) + rng.normal(0, 0.6, 400)], 1)
    undrawn_seen = ~drawn & ~hidden
    others = np.concatenate([look[undrawn_seen][:, 1:], nothing])
    others_case = np.concatenate([case[undrawn_seen], rng.integers(cases, size=400)])
    return Likeness(look[drawn], case[drawn], others, others_case, cases), float(drawn.mean())


def share(likeness: Likeness) -> float:
    return len(likeness.drawn) / (len(likeness.drawn) + undrawn(prepare(likeness.drawn, likeness.others))[0])


@pytest.mark.parametrize("offset", [-2.0, -0.7, 0.7])
def test_the_share_is_found_although_large_nodes_are_drawn_first(offset: float) -> None:
    errors, uncorrected = [], []
    for seed in range(5):
        likeness, truth = made_up(seed, offset)
        errors.append(share(likeness) - truth)
        above = np.nanmedian(likeness.drawn[:, 1])
        sure = np.sum(likeness.drawn[:, 1] > above), np.sum(likeness.others[:, 0] > above)
        uncorrected.append(sure[0] / sum(sure) - truth)
    assert abs(np.mean(errors)) < 0.06
    assert np.mean(uncorrected) > 0.12  # what counting the surest candidates would give


def test_full_annotation_is_told_from_candidates_that_are_no_nodes() -> None:
    likeness, truth = made_up(0, offset=30.0)
    found = with_interval(likeness, seed=0)
    assert truth == 1.0
    assert found.value > 0.9
    assert found.high > 0.99


def test_a_few_candidates_like_nodes_do_not_rule_out_that_all_were_drawn() -> None:
    likeness, _ = made_up(0, offset=30.0)
    doubtful = replace(
        likeness,
        others=np.concatenate([likeness.others, [[0.5, 5.5]] * 10]),
        others_case=np.append(likeness.others_case, np.arange(10)),
    )
    found = with_interval(doubtful, seed=0)
    assert 0.8 < found.value < 0.96
    assert found.high > 0.99


def test_the_interval_holds_value_and_truth_and_narrows_with_more_cases() -> None:
    widths = []
    for nodes, cases in ((60, 8), (480, 64)):
        likeness, truth = made_up(1, offset=-0.7, nodes=nodes, cases=cases)
        found = with_interval(likeness, seed=0)
        assert found.low <= found.value <= found.high
        assert found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert 0.02 < widths[1] < widths[0]


def test_many_undrawn_nodes_rule_out_that_all_were_drawn() -> None:
    likeness, _ = made_up(2, offset=-0.7)
    assert with_interval(likeness, seed=0).high < 0.95


def estimate(folder: Path, seed: int = 0) -> Completeness | None:
    dataset = RawDataset.read(folder)
    return estimate_completeness(dataset, [look_at(dataset, case, 0) for case in dataset.cases], seed, quiet=True)


@pytest.mark.parametrize("channels", [1, 2])
def test_pictures_drawn_in_full_and_in_part_are_told_apart(tmp_path: Path, channels: int) -> None:
    write_pictures(tmp_path / "full", 1.0, channels=channels)
    truth = write_pictures(tmp_path / "part", 0.4, channels=channels)
    full, part = estimate(tmp_path / "full"), estimate(tmp_path / "part")
    assert full is not None
    assert part is not None
    assert full.value > 0.85
    assert full.high > 0.99
    assert part.value < 0.65
    assert part.low <= truth <= part.high < 0.95


def test_maps_tell_undrawn_nodes_from_the_rest_and_drawn_ones_rank_evenly(tmp_path: Path) -> None:
    write_pictures(tmp_path / "part", 0.4, cases=10)
    write_pictures(tmp_path / "full", 1.0, cases=10)
    dataset = RawDataset.read(tmp_path / "part")
    facts = [look_at(dataset, case, 0) for case in dataset.cases]
    assert can_be_mapped(facts)
    assert not can_be_mapped(facts[:7])
    drawn: list[float] = []
    undrawn_voxels, others = [], []
    for found in likeness_maps(dataset, facts, quiet=True):
        write_map(found.per_cent, found.spacing, found.case.images[0], tmp_path / "map.nii.gz")
        per_cent = read_map(tmp_path / "map.nii.gz", found.case.images[0])
        label, truth = (read_label(tmp_path / which / "labelsTr" / f"{found.case.name}.nii.gz") for which in ("part", "full"))
        nodes, count = label_components(label)
        drawn += [float((per_cent[nodes == node] >= 20).mean()) for node in range(1, count + 1)]
        undrawn_voxels.append(per_cent[(truth > 0) & (label == 0)])
        others.append(per_cent[truth == 0])
    kept = [float((np.concatenate(part) >= 20).mean()) for part in (undrawn_voxels, others)]
    assert abs(float(np.mean(drawn)) - 0.8) < 0.08
    assert kept[0] > 0.5
    assert kept[1] < 0.1


def read_label(path: Path) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def test_cases_left_out_as_a_whole_count_as_undrawn(tmp_path: Path) -> None:
    truth = write_pictures(tmp_path, 1.0, cases=10, empty=0.5)
    found = estimate(tmp_path)
    assert found is not None
    assert found.low <= truth <= found.high < 0.95


def test_the_same_seed_gives_the_same_figure(tmp_path: Path) -> None:
    write_pictures(tmp_path, 0.5, cases=8)
    assert estimate(tmp_path, seed=3) == estimate(tmp_path, seed=3)


def test_a_node_is_judged_alike_whether_it_was_drawn_or_not(tmp_path: Path) -> None:
    """A classifier that had seen the case would find the nodes that are not drawn in it less likely."""
    write_pictures(tmp_path / "whole", 1.0)
    write_pictures(tmp_path / "less", 1.0)
    emptied = tmp_path / "less" / "labelsTr" / "case_0.nii.gz"
    write_image(emptied, np.zeros((PICTURE,) * 3, np.uint8), SPACING)
    found = []
    for folder in ("whole", "less"):
        dataset = RawDataset.read(tmp_path / folder)
        likeness = find_likeness(dataset, dataset.cases, radius_mm=5.0, seed=0, quiet=True)
        assert likeness is not None
        found.append(likeness)
    drawn = found[0].drawn[found[0].drawn_case == 0][:, 1]
    undrawn_there = np.sort(found[1].others[found[1].others_case == 0][:, 0])[-len(drawn) :]
    assert np.median(undrawn_there) > np.nanmedian(drawn) - 1.0


@pytest.mark.parametrize(
    ("cases", "drawn", "ignore", "empty"),
    [(7, 1.0, False, 0.0), (8, 0.1, False, 0.0), (8, 1.0, True, 0.0), (8, 1.0, False, 0.625)],
    ids=["seven cases", "five nodes", "an ignore label", "nodes in three cases"],
)
def test_it_is_not_said_where_it_cannot_be(tmp_path: Path, cases: int, drawn: float, ignore: bool, empty: float) -> None:
    write_pictures(tmp_path, drawn, cases=cases, ignore=ignore, empty=empty)
    assert estimate(tmp_path) is None


def test_a_declaration_is_checked_on_eight_cases_and_decided_upon_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, 1.0, cases=10)
    looked_at: list[int] = []
    monkeypatch.setattr(completeness, "find_likeness", lambda dataset, cases, *_: looked_at.append(len(cases)))
    estimate(tmp_path)
    description = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**description, "annotation": "full"}))
    estimate(tmp_path)
    assert looked_at == [10, 8]


def test_the_estimate_reaches_plan_strategy_and_preprocessed_labels(
    folders: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    raw = folders / "raw/Dataset902_Pictures"
    truth = write_pictures(raw, 0.4)
    code, out, complaint = command("plan_and_preprocess", "-d", 902, "--device", "cpu")
    assert code == 0, complaint
    folder = folders / "preprocessed/Dataset902_Pictures"
    plan = json.loads((folder / "lnautoPlans.json").read_text())["lnauto"]
    assert plan["strategy"] == "partial_instance"
    assert plan["completeness"] == plan["evidence"]["completeness"]["value"]["value"] < 0.65
    assert plan["trusted_background"] is not None
    assert "of the nodes are drawn, by estimate" in out
    assert json.loads((folder / "dataset.json").read_text())["labels"]["ignore"] == 2
    description = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, "annotation": "full"}))
    _, out, _ = command("plan_and_preprocess", "-d", 902, "--device", "cpu", "--no-preprocess")
    assert 'dataset.json declares "annotation": "full", but only about' in out
    assert json.loads((folder / "lnautoPlans.json").read_text())["lnauto"]["strategy"] == "full"
    assert truth < 0.5
