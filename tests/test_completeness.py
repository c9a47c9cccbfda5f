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
from threadpoolctl import threadpool_info

from lnauto.data.coarse_maps import read_map, write_map
from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import label_components
from lnauto.planners.case_facts import CaseFacts, look_at
from lnauto.planners.completeness import estimate_completeness, maps, score_cases, scores, voxels, with_interval
from lnauto.planners.completeness.likeness import Likeness
from lnauto.planners.completeness.maps import can_be_mapped, likeness_maps
from lnauto.planners.completeness.scores import FOLDS, score_these
from lnauto.planners.completeness.size_selection import BELOW, misfit, prepare, undrawn
from lnauto.planners.completeness.surroundings import SCALES, Coarse, Looked, Places, smooth, smoothed_at
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


@pytest.mark.parametrize("offset", [-0.7, 30.0])
def test_the_gradient_is_that_of_the_misfit(offset: float) -> None:
    likeness, _ = made_up(3, offset)
    looks = prepare(likeness.drawn, likeness.others)
    rng = np.random.default_rng(0)
    _, fitted = undrawn(looks)
    for at in [fitted, *(fitted + rng.normal(0, 0.4, len(fitted)) for _ in range(5))]:
        steps = 1e-5 * np.eye(len(at))
        wanted = [(misfit(at + step, looks)[0] - misfit(at - step, looks)[0]) / 2e-5 for step in steps]
        np.testing.assert_allclose(misfit(at, looks)[1], wanted, rtol=1e-4, atol=2e-3)


def test_the_fit_ends_where_no_neighbour_is_likelier() -> None:
    likeness, _ = made_up(1, -0.7)
    looks = prepare(likeness.drawn, likeness.others)
    _, fitted = undrawn(looks)
    best, rng = misfit(fitted, looks)[0], np.random.default_rng(0)
    assert all(misfit(fitted + rng.normal(0, 0.05, len(fitted)), looks)[0] > best - 0.01 for _ in range(50))


def test_the_chance_to_be_seen_is_learnt_from_the_nodes_that_were() -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(8.0, 1.0, 2000)
    seen_too = rng.random(2000) < expit(2.0 + 1.2 * (volume - 8.0))
    drawn = np.stack([volume, np.where(seen_too, 1.5, np.nan), np.where(seen_too, 6.0, np.nan)], 1)
    looks = prepare(drawn, np.array([[0.0, 6.0]]))
    assert looks.volumes[0] == volume.min() - BELOW
    inside = np.abs(looks.volumes - 8.0) < 2
    np.testing.assert_allclose(looks.seen[inside], expit(2.0 + 1.2 * (looks.volumes[inside] - 8.0)), atol=0.08)


def estimate(folder: Path, seed: int = 0) -> Completeness | None:
    return estimate_completeness(score_cases(*seen(folder), seed, quiet=True), seed)


def seen(folder: Path) -> tuple[RawDataset, list[CaseFacts]]:
    dataset = RawDataset.read(folder)
    return dataset, [look_at(dataset, case, 0) for case in dataset.cases]


@pytest.mark.parametrize("channels", [1, 2])
def test_pictures_drawn_in_full_and_in_part_are_told_apart(tmp_path: Path, channels: int) -> None:
    """Ten small pictures leave much to chance, so three times."""
    parts, truth = [], 0.0
    for seed in range(3):
        write_pictures(tmp_path / f"full_{seed}", 1.0, channels=channels, seed=seed)
        truth = write_pictures(tmp_path / f"part_{seed}", 0.4, channels=channels, seed=seed)
        full, part = estimate(tmp_path / f"full_{seed}"), estimate(tmp_path / f"part_{seed}")
        assert full is not None
        assert part is not None
        assert full.value > 0.85
        assert full.high > 0.99
        parts.append((part.low, part.value, part.high))
    low, value, high = np.mean(parts, axis=0)
    assert value < 0.65
    assert low - 0.05 <= truth <= high < 0.95


def test_maps_tell_undrawn_nodes_from_the_rest_and_drawn_ones_rank_evenly(tmp_path: Path) -> None:
    write_pictures(tmp_path / "part", 0.4, cases=10)
    write_pictures(tmp_path / "full", 1.0, cases=10)
    dataset, facts = seen(tmp_path / "part")
    assert can_be_mapped(facts)
    assert not can_be_mapped(facts[:7])
    drawn: list[float] = []
    undrawn_voxels, others = [], []
    for found in likeness_maps(dataset, facts, score_cases(dataset, facts, quiet=True), quiet=True):
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
    """Ten small pictures leave much to chance, so three times."""
    found, truth = [], 0.0
    for seed in range(3):
        truth = write_pictures(tmp_path / str(seed), 1.0, cases=10, empty=0.5, seed=seed)
        one = estimate(tmp_path / str(seed))
        assert one is not None
        found.append((one.low, one.value, one.high))
    low, value, high = np.mean(found, axis=0)
    assert low <= truth <= high
    assert value < 0.75


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
        scored = score_cases(*seen(tmp_path / folder), quiet=True)
        assert scored is not None
        found.append(scored.likeness)
    drawn = found[0].drawn[found[0].drawn_case == 0][:, 1]
    undrawn_there = np.sort(found[1].others[found[1].others_case == 0][:, 0])[-len(drawn) :]
    assert np.median(undrawn_there) > np.nanmedian(drawn) - 1.0


def test_no_case_is_judged_by_a_classifier_that_learnt_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path, 1.0, cases=9, empty=0.3)
    cases: dict[int, int] = {}
    judged: list[tuple[int, frozenset[int]]] = []

    def judge(case: Looked, learnt_from: frozenset[int], _: float) -> np.ndarray:
        judged.append((cases[id(case.volumes)], learnt_from))
        return np.zeros(case.possible.shape, np.float32)

    monkeypatch.setattr(scores, "sample", lambda case, _: cases.setdefault(id(case.volumes), len(cases)))
    monkeypatch.setattr(scores, "learn", frozenset)
    monkeypatch.setattr(scores, "score_of", judge)
    found = score_cases(*seen(tmp_path), quiet=True)
    assert found is not None
    assert sorted(case for case, _ in judged) == list(range(9))
    for case, learnt_from in judged:
        assert case not in learnt_from
        assert len(learnt_from) in (7, 8)  # of nine, one or two are judged together
    assert len({learnt_from for _, learnt_from in judged}) == FOLDS


def test_a_classifier_computes_on_one_core_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn's threads are limited where it works: it is imported after the pool of cases was started."""
    learn, score_of, threads = scores.learn, scores.score_of, []

    def count() -> None:
        threads.extend(part["num_threads"] for part in threadpool_info() if part["user_api"] == "openmp")

    monkeypatch.setattr(scores, "learn", lambda samples: count() or learn(samples))
    monkeypatch.setattr(scores, "score_of", lambda *given: count() or score_of(*given))
    write_pictures(tmp_path, 0.5, cases=10)
    assert score_cases(*seen(tmp_path), quiet=True) is not None
    assert len(threads) >= FOLDS + 10
    assert set(threads) == {1}


def test_estimate_and_maps_share_one_look_at_each_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path, 0.5, cases=10)
    read: list[str] = []
    look = scores.read_coarse

    def count(dataset: RawDataset, case: Case, radius: float) -> Coarse:
        read.append(case.name)
        return look(dataset, case, radius)

    monkeypatch.setattr(scores, "read_coarse", count)
    monkeypatch.setattr(scores, "MOST_CASES", 8)
    monkeypatch.setattr(maps, "ENOUGH_WITH_NODES", 6)
    dataset, facts = seen(tmp_path)
    scored = score_cases(dataset, facts, quiet=True)
    assert scored is not None
    assert len(scored.of) == len(read) == 8
    found = list(likeness_maps(dataset, facts, scored, quiet=True))
    assert [one.case for one in found] == list(dataset.cases)
    assert sorted(read) == sorted(case.name for case in dataset.cases)
    assert not scored.of  # used up, so that memory does not fill with them


def test_maps_look_at_other_cases_where_those_of_the_estimate_hold_few_nodes(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1.0, cases=16, empty=0.5)
    dataset, facts = seen(tmp_path)
    both = list(zip(dataset.cases, facts, strict=True))
    few = sorted(both, key=lambda case: bool(case[1].nodes))[:12]  # nodes in four of the eight cases that hold some
    scored = score_these(dataset, few, 0, quiet=True)
    assert scored is not None
    assert len(list(likeness_maps(dataset, facts, scored, quiet=True))) == 16
    assert len(scored.of) == 12  # none was used
    assert len(list(likeness_maps(dataset, facts, None, quiet=True))) == 16


class Counting:
    """A classifier by one feature, and how many voxels it was asked about."""

    asked = 0

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        self.asked += len(features)
        return np.stack([1 - features[:, 0], features[:, 0]], 1)


def test_hopeless_places_are_scored_sparsely_and_the_rest_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((30, 30, 30), np.float32)
    values[9:14, 9:14, 9:14] = 0.9  # begins and ends off the voxels that are scored first
    values[21:24, 21:24, 21:24] = 0.5
    possible = np.ones(values.shape, bool)
    possible[:, :, :3] = False
    features = np.zeros((2, possible.sum()), np.float16)
    features[0] = values[possible]
    case = Looked(np.ones(3), np.zeros(values.shape, np.int32), np.empty(0), possible, features)
    sparse, model = Counting(), Counting()
    found = voxels.score_of(case, sparse, radius=2.0)  # type: ignore[arg-type]
    monkeypatch.setattr(voxels, "SPARSE_FROM", np.inf)
    full = voxels.score_of(case, model, radius=2.0)  # type: ignore[arg-type]
    assert model.asked == possible.sum()
    assert sparse.asked < 0.25 * possible.sum()
    np.testing.assert_allclose(found, full, atol=2e-3)


def test_a_thick_slice_is_never_passed_over() -> None:
    values = np.zeros((12, 24, 24), np.float32)
    values[5, 8:12, 8:12] = 1.0  # in one slice that every second would miss
    case = Looked(
        np.array([3.0, 1.0, 1.0]),
        np.zeros(values.shape, np.int32),
        np.empty(0),
        np.ones(values.shape, bool),
        values.ravel()[None].astype(np.float16),
    )
    found = voxels.score_of(case, Counting(), radius=2.0)  # type: ignore[arg-type]
    assert found[5, 9:11, 9:11].min() > 0.5


def test_wide_smoothing_on_a_coarse_grid_is_nearly_that_on_the_fine_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(41, 50, 47)).astype(np.float32)
    values[8:20, 10:30, 25:40] += 4
    places = Places(rng.random(values.shape) < 0.2)
    for scale, found in zip(SCALES, smoothed_at(places, values, SCALES, 2.0, np.ones(3)), strict=True):
        wanted = places.of(smooth(values, scale, 2.0, np.ones(3)))
        assert np.corrcoef(found, wanted)[0, 1] > 0.97
        assert abs(found.std() / wanted.std() - 1) < 0.1


def test_what_lies_beside_a_voxel_ends_with_the_image() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    places = Places(np.ones(values.shape, bool))
    for axis in range(3):
        for step in (-2, 1):
            at = np.clip(np.arange(values.shape[axis]) + step, 0, values.shape[axis] - 1)
            np.testing.assert_array_equal(places.beside(values, axis, step), values.take(at, axis).ravel())


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
    monkeypatch.setattr(scores, "score_these", lambda dataset, cases, *_: looked_at.append(len(cases)))
    estimate(tmp_path)
    description = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**description, "annotation": "full"}))
    estimate(tmp_path)
    assert looked_at == [10, 8]


def test_the_estimate_reaches_plan_strategy_and_preprocessed_labels(
    folders: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    raw = folders / "raw/Dataset902_Pictures"
    truth = write_pictures(raw, 0.4, seed=4)
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
