"""The time there is and the machine's measured pace set network, length and recipe."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnauto.errors import InputError
from lnauto.networks import machine_cache, probe
from lnauto.planners.budget import ITERATION_TO_STEP, TRAINING_SHARE, plan_budget
from lnauto.planners.machine import Machine
from lnauto.planners.recipe import LONG, choose_recipe
from lnauto.planners.topology import LADDER, MEDIUM, RESENC, SMALL, TINY, Preset, Topology, fit

CPU, CARD = Machine("cpu", "2 cores", 24, 2), Machine("cuda", "card", 24, 16)


def pretend(preset: Preset) -> Topology:
    """A network whose cost is what its preset allows; nothing is built."""
    return Topology(preset, [32, 32, 32], 2, {}, preset.feature_map_voxels)


def pace(seconds_of_small: float, timed: list[str] | None = None) -> Callable[[Topology], float]:
    """A machine on which a step costs in proportion to feature maps."""

    def seconds(topology: Topology) -> float:
        if timed is not None:
            timed.append(topology.preset.name)
        return seconds_of_small * topology.feature_map_voxels / SMALL.feature_map_voxels

    return seconds


@pytest.mark.parametrize(
    ("minutes", "seconds", "expected"),
    [(0.5, 1.0, TINY), (10, 1.0, SMALL), (10, 0.3, SMALL), (240, 0.3, MEDIUM), (10, 10.0, TINY), (60 * 24 * 7, 0.3, RESENC[0])],
)
def test_the_network_is_the_largest_there_is_time_for(minutes: float, seconds: float, expected: Preset) -> None:
    preset, budget, _ = plan_budget(CPU, minutes, pretend, pace(seconds))
    assert preset is expected
    assert budget.expected_iterations is not None
    assert budget.expected_iterations >= preset.least_iterations


def test_a_network_that_is_hopeless_is_not_timed() -> None:
    timed: list[str] = []
    plan_budget(CPU, 10, pretend, pace(0.3, timed))
    assert timed == ["small ResEnc"]


def test_what_a_step_takes_counts_not_what_it_was_guessed_to_take() -> None:
    def slow_when_large(topology: Topology) -> float:
        return 0.1 if topology.preset in (TINY, SMALL) else 10.0

    assert plan_budget(CPU, 60, pretend, slow_when_large)[0] is SMALL
    assert plan_budget(CPU, 60, pretend, lambda _: 0.1)[0] is not SMALL


def test_on_a_card_a_larger_network_is_timed_that_may_be_faster_than_guessed() -> None:
    """Small networks take about as long there as larger ones: what starts their steps bounds them."""
    paces = {TINY: 0.008, SMALL: 0.01, MEDIUM: 0.015}
    assert plan_budget(CARD, 30, pretend, lambda topology: paces.get(topology.preset, 0.04))[0] in RESENC


def test_a_card_holds_no_more_than_it_has_memory_for() -> None:
    preset, _, _ = plan_budget(CARD, 60 * 24 * 30, pretend, pace(1e-4))
    assert preset.name == "ResEnc L"


def test_without_a_budget_a_card_trains_stocks_length_and_the_hours_are_told() -> None:
    preset, budget, _ = plan_budget(CARD, None, pretend, pace(1e-3))
    assert preset.name == "ResEnc L"
    assert (budget.minutes, budget.epochs, budget.iterations_per_epoch) == (None, 1000, 250)
    assert budget.seconds_per_iteration == pytest.approx(
        1e-3 * ITERATION_TO_STEP * preset.feature_map_voxels / SMALL.feature_map_voxels
    )


def test_iterations_follow_the_pace_and_epochs_follow_the_iterations() -> None:
    _, budget, reason = plan_budget(CPU, 10, pretend, pace(0.5))
    assert budget.expected_iterations == int(600 * TRAINING_SHARE / (0.5 * ITERATION_TO_STEP))
    assert budget.iterations_per_epoch == budget.expected_iterations // 25
    assert f"time for {budget.expected_iterations} iterations; medium ResEnc takes longer for each and needs 5000" in reason
    _, shorter, _ = plan_budget(CPU, 1, pretend, pace(0.5))
    assert shorter.iterations_per_epoch < budget.iterations_per_epoch


def test_a_budget_too_small_for_one_epoch_is_refused_with_what_would_do() -> None:
    with pytest.raises(
        InputError, match=r"leaves time for \d iterations, and an epoch takes 10, in --budget; give at least 3min"
    ):
        plan_budget(CPU, 0.5, pretend, pace(20.0))
    plan_budget(CPU, 3, pretend, pace(20.0))


def test_the_recipe_follows_the_iterations_not_the_clock() -> None:
    short = choose_recipe(plan_budget(CPU, 10, pretend, pace(0.5))[1])
    long = choose_recipe(plan_budget(CARD, 24 * 60, pretend, pace(1e-3))[1])
    assert (short.settings["optimizer"]["name"], short.settings["mirroring"]) == ("AdamW", "left_right")
    assert (long.settings["optimizer"]["name"], long.settings["mirroring"]) == ("SGD", "all")
    assert f"{LONG:,}" in long.reasons["optimizer"]


def test_the_ladder_rises() -> None:
    for lower, higher in itertools.pairwise(LADDER):
        assert lower.feature_map_voxels < higher.feature_map_voxels
        assert lower.least_iterations < higher.least_iterations


def test_a_step_is_timed_for_real_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path)
    times: list[float] = []
    time_once = probe._time
    monkeypatch.setattr(probe, "_time", lambda *arguments: times.append(time_once(*arguments)) or times[-1])
    small = fit(TINY, np.ones(3), np.full(3, 16.0), 2)
    first = REAL_PROBE(small.architecture, small.patch, small.batch, 1, 2, "cpu", "2 cores")
    again = REAL_PROBE(small.architecture, small.patch, small.batch, 1, 2, "cpu", "2 cores")
    assert first == again == times[0] > 0
    assert len(times) == 1
    REAL_PROBE(small.architecture, [32, 32, 32], small.batch, 1, 2, "cpu", "2 cores")
    assert len(times) == 2
    monkeypatch.setenv("MKL_NUM_THREADS", "1")  # PyTorch computes on one core then
    REAL_PROBE(small.architecture, [32, 32, 32], small.batch, 1, 2, "cpu", "2 cores")
    assert len(times) == 3


REAL_PROBE = probe.seconds_per_step  # before conftest.py puts a fixed pace in its place
