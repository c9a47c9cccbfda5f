"""Spacing and patch follow the nodes, and what a person says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.planners.compare import departures
from lnauto.planners.evidence import Evidence
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.geometry import CONTEXT_MM, choose_geometry, make_fitter
from lnauto.planners.machine import Machine
from lnauto.planners.planner import make_plan
from lnauto.planners.topology import RESENC, SMALL, fit
from lnauto.planners.wishes import NONE, Wishes

CHEST = Fingerprint([[2.5, 0.8, 0.8]] * 3, [[120, 400, 400]] * 3, {}, 1.0)
NODES = Evidence(nodes=50, node_short_axis_mm=(8, 14, 25), node_long_axis_mm=(10, 18, 40))
CPU, CARD = Machine("cpu", "2 cores", 24, 2), Machine("cuda", "a card of 24 GB", 24, 8)


def extent(spacing: np.ndarray, patch: list[int]) -> np.ndarray:
    return spacing * np.array(patch)


def test_on_a_cpu_the_spacing_gives_way_until_the_patch_holds_large_nodes() -> None:
    without = choose_geometry(make_fitter(CHEST, Evidence(), 2), Evidence(), SMALL, CPU, True, NONE)
    np.testing.assert_allclose(without.spacing, [2.5, 0.8, 0.8])
    held = choose_geometry(make_fitter(CHEST, NODES, 2), NODES, SMALL, CPU, True, NONE)
    patch = held.in_image_order(held.topology.patch)
    assert (extent(held.spacing, patch) >= 40 + 2 * CONTEXT_MM - held.spacing).all()
    assert held.spacing[1] > 0.8
    assert "holds the 95th percentile node (40 mm) with 10 mm on either side" in held.patch_reason
    assert "coarser than the median of the images" in held.spacing_reason
    assert "holds" not in without.patch_reason


def test_a_patch_as_long_as_the_image_is_not_said_to_hold_what_is_longer() -> None:
    giant = replace(NODES, node_long_axis_mm=(10.0, 20.0, 900.0))
    fitter = make_fitter(CHEST, giant, 2)
    spacing = np.array([8.0, 8.0, 8.0])
    shape = [int(length) + 16 for length in fitter.median_shape(spacing)]
    reason = fitter.tell_what_it_holds(fitter.fit_to(SMALL, spacing, shape), spacing)
    assert "or is as long as the median image" in reason


def test_the_spacing_never_gets_so_coarse_that_small_nodes_are_lost() -> None:
    tiny = replace(NODES, node_short_axis_mm=(3.0, 14, 25))
    geometry = choose_geometry(make_fitter(CHEST, tiny, 2), tiny, SMALL, CPU, True, NONE)
    assert geometry.spacing[1] <= 1.0
    assert "does not hold the 95th percentile node" in geometry.patch_reason


def test_a_coarser_spacing_that_does_not_suffice_is_not_taken() -> None:
    vast = replace(NODES, node_long_axis_mm=(10.0, 20.0, 300.0))
    geometry = choose_geometry(make_fitter(CHEST, vast, 2), vast, SMALL, CPU, True, NONE)
    np.testing.assert_allclose(geometry.spacing, [2.5, 0.8, 0.8])
    assert "coarser" not in geometry.spacing_reason
    assert "does not hold the 95th percentile node" in geometry.patch_reason


def test_an_axis_is_not_shrunk_below_what_nodes_need_while_another_can_be() -> None:
    spacing, shape = np.ones(3), np.array([60.0, 300.0, 300.0])
    assert min(fit(SMALL, spacing, shape, 2).patch) < 40
    assert min(fit(SMALL, spacing, shape, 2, least_mm=40).patch) >= 40


@pytest.mark.parametrize(("cases", "batch"), [(5, 2), (200, 10), (100_000, 140)])
def test_a_large_card_is_not_filled_with_the_same_few_images(cases: int, batch: int) -> None:
    """Small images have small patches, of which a card of 80 GB would hold more than a hundred."""
    small = Fingerprint([[3.0, 3.0, 3.0]] * cases, [[56, 64, 56]] * cases, {}, 1.0)
    fitter, card = make_fitter(small, Evidence(), 2), Machine("cuda", "a card of 80 GB", 80, 16)
    geometry = choose_geometry(fitter, Evidence(), RESENC[-1], card, False, NONE)
    alone = fit(RESENC[-1], np.full(3, 3.0), np.array([56.0, 64.0, 56.0]), 2)
    assert alone.batch > 100
    assert geometry.topology.batch == min(batch, alone.batch)
    asked = choose_geometry(fitter, Evidence(), RESENC[-1], card, False, Wishes(patch=(56, 64, 56)))
    assert asked.topology.batch == geometry.topology.batch


def test_a_person_decides_spacing_and_patch_and_the_plan_says_so() -> None:
    wishes = Wishes(spacing=(3.0, 1.5, 1.5), patch=(20, 60, 64), trainer="LNTrainer")
    plan = plan_of(wishes, CPU)
    configuration = plan.configuration("3d_fullres")
    assert configuration["spacing"] == [3.0, 1.5, 1.5]
    assert configuration["patch_size"] == [20, 64, 64]
    assert "given by --patch, and enlarged to what the network can pool" in plan.lnauto["reasons"]["patch"]
    assert "given by --spacing" in plan.lnauto["reasons"]["spacing"]
    who = plan.lnauto["decided_by"]
    assert (who["spacing"], who["patch"], who["trainer"], who["budget"]) == ("--spacing", "--patch", "-tr", "lnauto")
    assert set(plan_of(NONE, CPU).lnauto["decided_by"].values()) == {"lnauto"}


def test_a_patch_the_card_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="GB of GPU memory, and a card of 24 GB has 24, in --patch"):
        plan_of(Wishes(patch=(256, 512, 512)), CARD)


def test_memory_of_the_presets_is_that_of_their_cards() -> None:
    for preset in RESENC:
        topology = fit(preset, np.array([2.0, 0.8, 0.8]), np.array([200.0, 400.0, 400.0]), 2)
        assert 0.6 * preset.memory_gb < topology.gpu_memory_gb <= 1.05 * preset.memory_gb


def plan_of(wishes: Wishes, machine: Machine):  # type: ignore[no-untyped-def]
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}
    dataset = RawDataset(Path("Dataset100_Chest"), description, (), (), None)
    return make_plan(dataset, CHEST, replace(NODES, annotated_cases=3), machine, wishes)


@pytest.mark.realdata
def test_the_plan_for_lnq2023_from_a_bare_fingerprint(realdata: Path) -> None:
    """A real challenge entry's fingerprint, with the node sizes of the NIH set, on a card of 24 GB."""
    folder = realdata / "lnq_plans"
    fingerprint = Fingerprint(**json.loads((folder / "dataset_fingerprint.json").read_text()))
    dataset = RawDataset(Path("Dataset100_LNQ"), json.loads((folder / "dataset.json").read_text()), (), (), None)
    evidence = Evidence(
        channels=("CT",), annotated_cases=1048, ignore_label=True, background_drawn=True, nodes=2000,
        node_volume_mm3=(800, 3780, 21000), node_short_axis_mm=(11, 16, 28),
    )  # fmt: skip
    plan = make_plan(dataset, fingerprint, evidence, CARD)
    configuration = plan.configuration("3d_fullres")
    spacing, patch = np.array(configuration["spacing"]), np.array(configuration["patch_size"])
    assert (spacing <= [3.0, 0.94, 0.94]).all()
    assert (spacing * patch)[1:].min() >= 150
    assert configuration["batch_size"] >= 2
    assert "of the card's 24" in plan.lnauto["reasons"]["patch"]
    told = departures(plan, json.loads((folder / "nnUNetPlans.json").read_text()), "3d_fullres")
    assert [line.split(":")[0] for line in told] == ["spacing", "patch", "intensities", "network"]
    assert "finer than the median of the images, for 4 voxels across the 5th percentile short axis" in told[0]
    assert "holds the 95th percentile node" in told[1]
