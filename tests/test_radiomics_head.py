"""`LNMTrainerRadiomics` and the signs it reads: each number against one worked out by hand or by another way."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from bags import PLAN, drawn_bag
from scipy.ndimage import binary_erosion
from sklearn.metrics import roc_auc_score

from lnauto.trainers.patient.bag import SIGNS, Bag
from lnauto.trainers.patient.head import Head
from lnauto.trainers.patient.radiomics import AnyNode, LNMTrainerRadiomics, Material, fit_line
from lnauto.trainers.patient.signs import signs_of

SIDE_OF_TUMOUR = 40.0  # mm


class TestSigns:
    def test_of_a_node_with_a_dead_core(self) -> None:
        distance = np.sqrt(sum((axis - 11.5) ** 2 for axis in np.indices((24, 24, 24))))
        node, core, ring = distance < 8, distance < 4, (distance >= 8) & (distance < 12)
        crop = np.where(core, -1.0, np.where(node, 1.0, np.where(ring, -3.0, 9.0))).astype(np.float32)
        crop[node & ~binary_erosion(node)] = 20  # partly something else, which counts in means alone
        seen = dict(zip(SIGNS, signs_of(crop[None, None], node[None].astype(np.float32))[0].tolist(), strict=True))
        assert seen["mean"] == pytest.approx(crop[node].mean())
        assert seen["core less rim"] == pytest.approx(-1 - crop[node & (distance > 3.5)].mean(), abs=0.3)
        assert (seen["5th percentile"], seen["median"], seen["95th percentile"]) == (-1, 1, 1)
        assert seen["round it"] == -3
        whole = dict(zip(SIGNS, signs_of(np.ones_like(crop)[None, None], node[None].astype(np.float32))[0], strict=True))
        assert whole["core less rim"] == whole["spread"] == 0

    def test_of_a_slice_and_of_two_channels(self) -> None:
        distance = np.hypot(*(axis - 11.5 for axis in np.indices((24, 24))))
        node = (distance < 8)[None].astype(np.float32)
        dark = np.where(distance < 4, 0.0, 1.0)[None].astype(np.float32)
        two = signs_of(np.stack([dark, 2 * dark])[None], node[None])
        assert two.shape == (1, 2 * len(SIGNS))
        assert two[0, len(SIGNS) :] == pytest.approx(2 * two[0, : len(SIGNS)])
        assert two[0, SIGNS.index("core less rim")] < -0.7

    def test_of_nodes_too_small_to_have_an_inside(self) -> None:
        crop = np.arange(512, dtype=np.float32).reshape(1, 1, 8, 8, 8)
        masks = np.zeros((1, 8, 8, 8), np.float32)
        assert not signs_of(crop, masks).any()
        masks[0, 4, 4, 4] = 0.3  # a coarse step leaves a part of a voxel
        assert signs_of(crop, masks)[0, SIGNS.index("mean")] == crop[0, 0, 4, 4, 4]


def sided_bags(patients: int, seed: int = 0) -> list[Bag]:
    """Metastasis is a dark node on the tumour's side; dark nodes on the other side mean nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(patients):
        label, side = number % 2, ("L", "R")[number // 2 % 2]
        bag = drawn_bag(rng, f"p{number:03d}", int(rng.integers(2, 6)), 0.0, label)
        on_side = SIDE_OF_TUMOUR if side == "L" else -SIDE_OF_TUMOUR
        bag.points[:, 0] = -on_side
        bag.points[0, 0] = on_side
        dark = 0 if label else 1
        bag.crops[dark] -= 3 * bag.masks[dark]
        bag = replace(bag, signs=signs_of(bag.crops, bag.masks), row={**bag.row, "tumour_side": side})
        found.append(bag)
    return found


@pytest.fixture(scope="module")
def trained() -> Head:
    return LNMTrainerRadiomics(seed=0).train(sided_bags(60), ["age", "tumour_side"], PLAN)


def area(head: Head, bags: Sequence[Bag]) -> float:
    return float(roc_auc_score([bag.label for bag in bags], head.logit(bags)))


def test_what_is_learned_is_a_look_on_the_tumour_s_side(trained: Head) -> None:
    unseen = sided_bags(60, seed=1)
    assert area(trained, unseen) > 0.95
    blind = [replace(bag, row={**bag.row, "tumour_side": None}) for bag in unseen]
    assert 0.3 < area(trained, blind) < 0.7
    even = [replace(bag, signs=np.zeros_like(bag.signs)) for bag in unseen]
    assert 0.3 < area(trained, even) < 0.7


def test_shuffled_labels_teach_nothing(trained: Head) -> None:
    rng = np.random.default_rng(3)
    bags = sided_bags(60)
    shuffled = [replace(bag, label=int(label)) for bag, label in zip(bags, rng.permutation([b.label for b in bags]), strict=True)]
    head = LNMTrainerRadiomics(seed=0).train(shuffled, ["age", "tumour_side"], PLAN)
    assert head.inner["deviance"] > 0.6  # the share alone: 0.69
    assert trained.inner["deviance"] < 0.3


def test_patients_join_their_nodes_by_a_noisy_or(trained: Head) -> None:
    bags = sided_bags(4, seed=8)
    member = copy.deepcopy(trained.members[0])
    network = member.network
    assert isinstance(network, AnyNode)
    batch = member.reader.batch(bags)
    network.leak.data.fill_(-1.0)
    leak = torch.sigmoid(network.leak.detach()).item()
    for bag, said, row in zip(bags, member.read(bags), batch.clinical, strict=True):
        chances = 1 / (1 + np.exp(-said.instance_logits))
        none = (1 - leak) * np.prod(1 - chances)
        expected = np.log((1 - none) / none) + float(row @ network.clinical.detach())
        assert said.logit == pytest.approx(expected, abs=1e-3)
        shares = -np.log1p(-chances)
        assert said.attention == pytest.approx(shares / shares.sum(), abs=1e-4)
        assert len(said.attention) == len(bag)


def test_the_loss_changes_as_it_says() -> None:
    rng = np.random.default_rng(0)
    owners, truth = np.repeat(np.arange(6), [3, 1, 0, 4, 2, 2]), rng.integers(0, 2, 6)
    material = Material(rng.normal(0, 1, (12, 5)), owners, rng.normal(0, 1, (6, 2)), truth)
    weights = rng.normal(0, 0.5, 9)
    steps = 1e-5 * np.eye(9)
    numeric = [(material.loss(weights + step)[0] - material.loss(weights - step)[0]) / 2e-5 for step in steps]
    assert material.loss(weights)[1] == pytest.approx(numeric, abs=1e-5)
    least = fit_line(material)
    assert material.loss(least)[1] == pytest.approx(np.zeros(9), abs=1e-3)


def test_order_company_and_a_patient_without_nodes(trained: Head) -> None:
    bags = sided_bags(6, seed=2)
    alone = [trained.read([bag])[0] for bag in bags]
    together = trained.read(bags)
    backwards = trained.read([bag.take(np.arange(len(bag))[::-1]) for bag in bags])
    for one, other, turned in zip(alone, together, backwards, strict=True):
        assert other.logit == pytest.approx(one.logit, abs=1e-4)
        assert turned.logit == pytest.approx(one.logit, abs=1e-4)
        assert turned.attention[::-1] == pytest.approx(one.attention, abs=1e-4)
        assert one.attention.sum() == pytest.approx(1, abs=1e-4)
    empty = trained.read([bags[0].take([])])[0]
    assert np.isfinite(empty.logit)
    assert len(empty.attention) == 0


def test_a_head_is_read_back_as_it_was(trained: Head, tmp_path) -> None:
    trained.save(tmp_path)
    bags = sided_bags(5, seed=4)
    assert Head.load(tmp_path).probability(bags) == pytest.approx(trained.probability(bags), abs=1e-7)


def test_a_strange_number_moves_the_answer_no_farther_than_five_deviations(trained: Head) -> None:
    bag = sided_bags(1, seed=6)[0]
    far, farther = (replace(bag, signs=bag.signs + shift) for shift in (1e4, 1e7))
    one, other = trained.read([far, farther])
    assert one.instance_logits == pytest.approx(other.instance_logits, abs=1e-4)
