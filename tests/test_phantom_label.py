"""The phantom's label model can be turned round: what the best head could reach, and what size alone reaches."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lnauto.data.phantom import make_case, make_phantom, patients
from lnauto.data.phantom.case import draw_plan
from lnauto.data.phantom.nodes import ELONGATION, VOLUME_ML, Form, LogNormal, necrosis_chance
from lnauto.data.phantom.optimum import LOOKS, Auc, Simulated, average_necrosis, evidence, marker_evidence, posterior
from lnauto.data.phantom.patients import METASTATIC, REACH_BY_T, Plan
from lnauto.data.phantom.stations import n_group
from lnauto.data.phantom.write import optimum_of
from lnauto.data.raw import RawDataset

NAME = "Dataset501_Phantom"


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    return Simulated.draw(2000, size=64)


def by_hand(plan: Plan, placed: tuple[bool, ...], t_stage: int, marker: float) -> float:
    """The same posterior, from every way in which the nodes can be metastatic or not."""
    chances = {0: 0.0, 1: 0.0}
    for reach, prior in enumerate(REACH_BY_T[t_stage - 1]):
        for way in itertools.product((False, True), repeat=len(plan.nodes)):
            chance = prior
            for (station, form), metastatic in zip(plan.nodes, way, strict=True):
                bad = METASTATIC[reach][n_group(station, plan.tumour_side) - 1]
                chance *= bad * np.exp(evidence(form)) if metastatic else 1 - bad
            chances[int(any(metastatic and there for metastatic, there in zip(way, placed, strict=True)))] += chance
    odds = chances[1] / chances[0] * np.exp(marker_evidence(marker))
    return float(odds / (1 + odds))


def test_the_posterior_is_the_sum_over_all_that_may_be_the_case() -> None:
    for seed in range(6):
        plan = draw_plan((seed, 2, 0), 64, "a")
        placed = tuple(n % 4 != 1 for n in range(len(plan.nodes)))
        found = posterior(plan, placed, t_stage=plan.t_stage, marker=4.0)
        assert found == pytest.approx(by_hand(plan, placed, plan.t_stage, 4.0), rel=1e-9)
        assert found < posterior(plan, t_stage=plan.t_stage, marker=4.0)  # a node that is not there cannot be metastatic


def test_the_posterior_is_calibrated(simulated: Simulated) -> None:
    score = simulated.posteriors()
    assert score.mean() == pytest.approx(simulated.lnm.mean(), abs=0.02)
    logits = np.log(score / (1 - score)).clip(-12, 12)[:, None]
    fitted = LogisticRegression(C=np.inf).fit(logits, simulated.lnm)
    assert fitted.coef_[0, 0] == pytest.approx(1, abs=0.12)
    assert fitted.intercept_[0] == pytest.approx(0, abs=0.2)
    for low, high in itertools.pairwise((0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)):
        inside = (score > low) & (score <= high)
        error = 3.5 * np.sqrt(score[inside].mean() * (1 - score[inside].mean()) / inside.sum())
        assert simulated.lnm[inside].mean() == pytest.approx(score[inside].mean(), abs=error)


@pytest.mark.parametrize("blind", [("size",), ("appearance",), ("context",), ("t_stage", "marker")])
def test_less_sight_is_calibrated_too(simulated: Simulated, blind: tuple[str, ...]) -> None:
    score = simulated.posteriors(blind)
    assert score.mean() == pytest.approx(simulated.lnm.mean(), abs=0.025)
    fitted = LogisticRegression(C=np.inf).fit(np.log(score / (1 - score))[:, None], simulated.lnm)
    assert fitted.coef_[0, 0] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("size", [64, 96])
def test_a_head_has_room_above_the_short_axis_rule(simulated: Simulated, size: int) -> None:
    drawn = simulated if size == 64 else Simulated.draw(1000, size=size)
    assert 0.65 < drawn.short_axis_rule().value < 0.75
    assert 0.90 < drawn.optimum().value < 0.95


def test_appearance_context_and_size_all_tell_and_none_suffices(simulated: Simulated) -> None:
    whole = simulated.optimum().value
    least = {"size": 0.01, "appearance": 0.05, "context": 0.015, "t_stage": 0.001, "marker": 0.002}
    for look in LOOKS:
        assert simulated.optimum((look,)).value < whole - least[look], look
        alone = simulated.optimum([other for other in LOOKS if other != look]).value
        assert 0.53 < alone < 0.89, look
    assert simulated.optimum(("t_stage", "marker")).value > whole - 0.03  # nodes tell nearly all; the table cannot stand in
    assert simulated.optimum(("size", "appearance", "context")).value < 0.78


def test_the_same_node_means_more_where_the_tumour_drains() -> None:
    form = Form.draw(np.random.default_rng(0), metastatic=False)
    near, middle, across = (posterior(Plan("R", 2, ((station, form),)), t_stage=2) for station in ("10R", "7", "10L"))
    assert near > 1.5 * middle > 2 * across > 0
    other_side = posterior(Plan("L", 2, (("10R", form),)), t_stage=2)
    assert other_side == pytest.approx(across)


def test_each_mark_points_the_way_it_does_in_life() -> None:
    plain = replace(Form.draw(np.random.default_rng(0), metastatic=False), hilum=0.0, necrosis=0.0, chalk=False)
    _, short, high = plain.radii
    base = evidence(plain)
    assert evidence(replace(plain, necrosis=0.6)) > base
    assert evidence(replace(plain, hilum=0.4)) < base
    assert evidence(replace(plain, chalk=True)) < base
    assert evidence(replace(plain, volume_mm3=4 * plain.volume_mm3)) > base
    assert evidence(replace(plain, radii=(short * 1.1, short, high))) > evidence(replace(plain, radii=(short * 2.2, short, high)))
    assert evidence(replace(plain, bend=0.3, lobes=(0.0, 0.0), touches=True)) == base  # these tell nothing


def test_no_nodes_no_metastases_and_missing_values_are_summed_over() -> None:
    assert posterior(Plan("R", 3, ()), t_stage=3, marker=5.0) == 0
    plan = draw_plan((0, 2, 1), 64, "a")
    assert posterior(plan, [False] * len(plan.nodes)) == 0
    known = [posterior(plan, t_stage=stage) for stage in (1, 2, 3, 4)]
    assert known == sorted(known)
    assert known[0] < posterior(plan) < known[3]
    assert posterior(plan, marker=1.0) < posterior(plan) < posterior(plan, marker=9.0)


@pytest.mark.parametrize("model", [*VOLUME_ML.values(), *ELONGATION.values()])
def test_densities_are_those_of_what_is_drawn(model: LogNormal) -> None:
    rng = np.random.default_rng(0)
    drawn = np.sort([model.draw(rng) for _ in range(2000)])
    assert model.low <= drawn[0] <= drawn[-1] <= model.high
    assert np.abs(model.part_below(drawn) - np.linspace(0, 1, len(drawn))).max() < 0.04
    edges = np.geomspace(model.low, model.high, 400)
    densities = [np.exp(model.log_density(float(value))) for value in np.sqrt(edges[1:] * edges[:-1])]
    np.testing.assert_allclose(densities * np.diff(np.log(edges)), np.diff(model.part_below(edges)), atol=1e-4)


@pytest.mark.parametrize("metastatic", [False, True])
def test_the_chance_of_a_dead_core_is_averaged_over_sizes(metastatic: bool) -> None:
    rng = np.random.default_rng(0)
    drawn = [necrosis_chance(VOLUME_ML[metastatic].draw(rng), metastatic) for _ in range(2000)]
    assert average_necrosis(metastatic) == pytest.approx(np.mean(drawn), abs=0.015)


def test_the_auc_is_that_of_scikit_learn_and_its_interval_shrinks() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    scores = np.round(labels + rng.normal(0, 1, 400), 1)  # with ties
    found, few = Auc.of(labels, scores), Auc.of(labels[:100], scores[:100])
    assert found.value == pytest.approx(roc_auc_score(labels, scores))
    assert 0 < 1.6 * (found.high - found.low) < few.high - few.low
    with pytest.raises(ValueError, match="with and without"):
        Auc.of(np.ones(3), np.arange(3))


def test_a_plan_is_that_of_the_case() -> None:
    case = make_case(1, size=48, seed=3)
    plan = draw_plan((3, 0, 1), 48, "a")
    assert [(station, form.volume_mm3) for station, form in plan.nodes] == [
        (station, form.volume_mm3) for station, form in case.plan.nodes
    ]
    assert len(case.placed) == len(plan.nodes)
    assert sum(case.placed) == len(case.nodes)
    found = [form.metastatic for (_, form), there in zip(plan.nodes, case.placed, strict=True) if there]
    assert sorted(found) == sorted(node.metastatic for node in case.nodes)
    assert case.patient.lnm == int(any(found))
    assert optimum_of(case, case.patient)["optimum"] != 0
    assert optimum_of(replace(case, placed=(False,) * len(plan.nodes)), case.patient)["optimum"] == 0


def test_optima_lie_with_the_truth_and_not_with_what_heads_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "MISSING", dict.fromkeys(patients.MISSING, 0.5))
    out = make_phantom(tmp_path / NAME, cases=3, test_cases=1, size=32, quiet=True)
    with (out / "truth" / "optimum.csv").open(newline="") as lines:
        rows = {row["patient"]: row for row in csv.DictReader(lines)}
    assert list(rows) == ["phantom_000", "phantom_001", "phantom_002", "phantom_t000"]
    with (out / "patients.csv").open(newline="") as lines:
        known = {row["patient"]: row for row in csv.DictReader(lines)}
    for index, name in enumerate(known):
        case = make_case(index, size=32)
        row, gaps = rows[name], known[name]
        assert row["lnm"] == str(case.patient.lnm)
        whole = posterior(case.plan, case.placed, t_stage=case.patient.t_stage, marker=case.patient.marker)
        stage, marker = int(gaps["t_stage"] or 0) or None, float(gaps["marker"] or 0) or None
        assert float(row["optimum"]) == pytest.approx(whole, rel=1e-4)
        partly = posterior(case.plan, case.placed, t_stage=stage, marker=marker)
        assert float(row["optimum_of_row"]) == pytest.approx(partly, rel=1e-4)
        assert float(row["short_axis_mm"]) == pytest.approx(max(node.short_axis_mm for node in case.nodes), abs=0.1)
    assert any(row["optimum"] != row["optimum_of_row"] for row in rows.values())
    tells = [path.relative_to(out).as_posix() for path in out.rglob("*.csv") if "optimum" in path.read_text()]
    assert tells == ["truth/optimum.csv"]
    dataset = RawDataset.read(out)
    assert dataset.patients is not None
    assert set(dataset.patients.patients) == set(known)
