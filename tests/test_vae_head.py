"""The VAE-MLP: its weighted sum, what it may not depend on, and that its latents hold what they are said to hold."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bags import PLAN, bright_bags, drawn_bag
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from lnauto.report.latent_picture import draw_traversal, traverse
from lnauto.trainers.patient import find_bag_trainer
from lnauto.trainers.patient.bag import Bag, Batch
from lnauto.trainers.patient.decision import inner_folds
from lnauto.trainers.patient.fitting import Schedule
from lnauto.trainers.patient.head import Head, Member
from lnauto.trainers.patient.node_vae import (
    ACTIVE,
    NodeVAE,
    VAESchedule,
    fit_vae,
    halvings,
    kl_weight,
    ssim,
    vae_loss,
)
from lnauto.trainers.patient.vae import VAEMLP, LNMTrainerVAE, changed

QUICK = LNMTrainerVAE(schedule=Schedule(steps=3), vae=VAESchedule(steps=3, crops=8))


@pytest.fixture(scope="module")
def member() -> Member:
    return LNMTrainerVAE().fit_member(bright_bags(60), ["age"], seed=0)[0]


def network_of(member: Member) -> VAEMLP:
    assert isinstance(member.network, VAEMLP)
    return member.network


def changed_settings(member: Member, **settings: object) -> Member:
    """An untrained network that reads like this one."""
    torch.manual_seed(1)
    network = LNMTrainerVAE.build({**member.settings, **settings}).eval()
    return Member(member.reader, {**member.settings, **settings}, network)


# ---- the answer


def test_a_bright_node_is_learned(member: Member) -> None:
    bags = bright_bags(40, seed=1)
    logits = [reading.logit for reading in member.read(bags)]
    assert roc_auc_score([bag.label for bag in bags], logits) > 0.9
    assert find_bag_trainer("LNMTrainerVAE") is LNMTrainerVAE


@pytest.mark.parametrize("attention", [True, False])
def test_the_output_is_the_stated_weighted_sum(member: Member, attention: bool) -> None:
    if not attention:
        member = changed_settings(member, attention=False)
    network, bag = network_of(member), bright_bags(4)[3]
    reading = member.read([bag])[0]
    p = 1 / (1 + np.exp(-reading.instance_logits))
    places = member.settings["nodes"]
    highest = np.zeros(places)
    highest[: min(len(p), places)] = np.sort(p)[::-1][:places]
    batch = member.reader.batch([bag])
    largest = batch.shapes[batch.shapes[:, 1].argmax()].numpy()
    seen = np.concatenate([highest, largest, batch.clinical[0].numpy()])
    with torch.no_grad():
        logit = network.patient(torch.tensor(seen, dtype=torch.float32)[None])[0, 0] + network.bias
        patient = float(torch.sigmoid(logit))
    expected = 0.8 * patient + 0.2 * p.max()
    if attention:
        assert network.attend is not None
        assert network.clinical is not None
        with torch.no_grad():
            entries = np.append(p, torch.sigmoid(network.clinical(batch.clinical))[0].numpy())
        weights = np.exp(network.attend.item() * entries)
        expected = 0.9 * expected + 0.1 * float((weights * entries).sum() / weights.sum())
    assert 1 / (1 + math.exp(-reading.logit)) == pytest.approx(expected, abs=1e-6)
    assert reading.attention.sum() == pytest.approx(1)


def test_without_a_share_of_the_patient_it_is_max_pooling(member: Member) -> None:
    for reading in changed_settings(member, patient_share=0.0, attention=False).read(bright_bags(8)):
        assert reading.logit == pytest.approx(reading.instance_logits.max(), abs=2e-6)
        assert reading.attention.argmax() == reading.instance_logits.argmax()


def test_order_and_company_change_nothing(member: Member) -> None:
    rng = np.random.default_rng(5)
    bag, crowd = drawn_bag(rng, "a", 4, 2.0), drawn_bag(rng, "b", 20)
    assert len(crowd) > member.settings["nodes"]
    for each in (member, changed_settings(member)):
        alone = each.read([bag])[0]
        beside = each.read([crowd, bag, drawn_bag(rng, "c", 1)])[1]
        turned = each.read([bag.take([2, 0, 3, 1])])[0]
        assert alone.logit == pytest.approx(beside.logit, abs=1e-5)
        assert alone.logit == pytest.approx(turned.logit, abs=1e-5)
        np.testing.assert_allclose(alone.instance_logits[[2, 0, 3, 1]], turned.instance_logits, atol=1e-5)
        assert alone.told["strangeness"] == pytest.approx(beside.told["strangeness"], abs=1e-5)
        full, mixed = each.read([crowd])[0], each.read([crowd.take(rng.permutation(20))])[0]
        assert full.logit == pytest.approx(mixed.logit, abs=1e-5)
    assert changed_settings(member, patient_share=0.0, attention=False).read([crowd])[0].instance_logits.shape == (20,)


def test_slices_of_one_node_with_the_same_form_may_change_places(member: Member) -> None:
    bag = drawn_bag(np.random.default_rng(3), "a", 3)
    bag.shapes[:, 1] = 1.0  # as long as each other, otherwise unlike
    each = changed_settings(member)
    assert each.read([bag])[0].logit == pytest.approx(each.read([bag.take([2, 1, 0])])[0].logit, abs=1e-5)


def test_a_patient_without_nodes_has_a_finite_probability(member: Member) -> None:
    empty = drawn_bag(np.random.default_rng(0), "e", 0)
    for each in (member, changed_settings(member), changed_settings(member, clinical=1, attention=False)):
        alone, beside = each.read([empty])[0], each.read([bright_bags(2)[1], empty])[1]
        assert math.isfinite(alone.logit)
        assert alone.logit == pytest.approx(beside.logit, abs=1e-5)
        assert alone.told == {"strangeness": 0.0}


@pytest.mark.parametrize("nodes", [0, 2])
def test_training_copes_with_patients_without_nodes(nodes: int) -> None:
    rng = np.random.default_rng(0)
    bags = [drawn_bag(rng, f"p{n}", nodes * (n % 2), label=n % 2) for n in range(12)]
    trained, told = QUICK.fit_member(bags, [], 0)
    assert all(math.isfinite(reading.logit) for reading in trained.read(bags))
    assert all(math.isfinite(value) for value in told.values())


def test_capacity_follows_the_training_patients(member: Member) -> None:
    bags = bright_bags(60)
    assert member.settings["nodes"] == math.ceil(np.percentile([len(bag) for bag in bags], 95))
    assert member.settings["latent"] == 4
    many = bright_bags(60) * 10
    assert QUICK.settings(many, member.reader)["latent"] == sum(len(bag) for bag in many) // 50


def test_what_was_saved_answers_alike(tmp_path: Path) -> None:
    bags = bright_bags(20)
    head = QUICK.train(bags, ["age"], PLAN)
    head.save(tmp_path)
    for before, after in zip(head.read(bags), Head.load(tmp_path).read(bags), strict=True):
        assert before.logit == after.logit
        assert before.told == after.told


# ---- what is learned from whom


def test_a_patient_who_is_kept_out_leaves_no_trace() -> None:
    bags = bright_bags(20)
    wild = replace(bags[7], crops=bags[7].crops * 50 + 20, shapes=bags[7].shapes * 9, row={"age": 300.0})
    heads = [QUICK.train(some, ["age"], PLAN) for some in (bags, [*bags[:7], wild, *bags[8:]])]
    folds = inner_folds([bag.patient for bag in bags], np.array([bag.label for bag in bags]), 0)[0]
    for (train, _), *pair in zip(folds, heads[0].members, heads[1].members, strict=True):
        assert same(*pair) == (7 not in train)


def test_stage_one_sees_no_label_and_stage_two_leaves_it_alone() -> None:
    bags = bright_bags(12)
    other = [replace(bag, label=1 - (bag.label or 0)) for bag in bags]
    longer = replace(QUICK, schedule=Schedule(steps=6))
    first = network_of(QUICK.fit_member(bags, [], 0)[0])
    for trained in (QUICK.fit_member(other, [], 0)[0], longer.fit_member(bags, [], 0)[0]):
        second = network_of(trained)
        assert all(
            torch.equal(a, b) for a, b in zip(first.vae.state_dict().values(), second.vae.state_dict().values(), strict=True)
        )
        assert not all(torch.equal(a, b) for a, b in zip(first.node.parameters(), second.node.parameters(), strict=True))


def same(one: Member, other: Member) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return (
        one.settings == other.settings
        and one.reader.to_json() == other.reader.to_json()
        and all(torch.equal(a, b) for a, b in pairs)
    )


# ---- the autoencoder


def ellipsoids(number: int, seed: int) -> tuple[Batch, np.ndarray]:
    """Bright, of many sizes, on a dark ground with little noise; and their radii."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(16) - 7.5] * 3, indexing="ij"))
    radii = rng.uniform(2.5, 6.5, number)
    axes = radii[:, None] * rng.uniform(0.9, 1.1, (number, 3))
    inside = ((grid[None] / axes[:, :, None, None, None]) ** 2).sum(axis=1)
    crops = 100 / (1 + np.exp(4 * (inside - 1))) + rng.normal(0, 2, inside.shape)
    crops_of = torch.from_numpy(crops.astype(np.float32))[:, None]
    nothing = torch.zeros((number, 0))
    present = torch.ones((number, 1), dtype=torch.bool)
    batch = Batch(
        crops=crops_of,
        masks=crops_of * 0,
        shapes=nothing,
        signs=nothing,
        points=torch.zeros((number, 3)),
        towards=torch.zeros(number),
        present=present,
        clinical=nothing,
        label=torch.zeros(number),
    )
    return batch, radii


@pytest.fixture(scope="module")
def shapes() -> tuple[NodeVAE, Batch, np.ndarray, dict[str, float]]:
    batch, radii = ellipsoids(120, seed=0)
    torch.manual_seed(0)
    vae = NodeVAE(1, (16, 16, 16), 8, 4)
    return vae, batch, radii, fit_vae(vae, batch, 0, VAESchedule())


def test_ellipsoids_are_rebuilt_from_active_latents(shapes: tuple[NodeVAE, Batch, np.ndarray, dict[str, float]]) -> None:
    vae, batch, _, told = shapes
    assert told["active"] == (vae.latents(batch.crops).var(dim=0, unbiased=False) > ACTIVE).sum() > 0
    held = vae.scaled(ellipsoids(40, seed=1)[0].crops)
    with torch.no_grad():
        assert ssim(held, vae.decode(vae.encode(held)[0])).mean() > 0.7


def test_the_direction_of_size_is_size(shapes: tuple[NodeVAE, Batch, np.ndarray, dict[str, float]]) -> None:
    vae, batch, radii, _ = shapes
    latents = vae.standardised(vae.latents(batch.crops)).numpy()
    slope = np.linalg.lstsq(np.column_stack([latents, np.ones(len(radii))]), radii, rcond=None)[0][:4]
    steps = np.linspace(-1.5, 1.5, 7)[:, None] * slope / np.linalg.norm(slope)
    with torch.no_grad():
        moved = torch.tensor(steps, dtype=torch.float32) * vae.latent_deviation + vae.latent_mean
        areas = (vae.decode(moved)[:, 0, 8] > 0.5).sum(dim=(1, 2)).tolist()
    assert areas == sorted(areas)
    assert areas[-1] > 2 * areas[0]


def test_what_is_no_node_is_strange(shapes: tuple[NodeVAE, Batch, np.ndarray, dict[str, float]]) -> None:
    vae = shapes[0]
    alike = vae.strangeness(ellipsoids(60, seed=2)[0].crops)
    noise = torch.from_numpy(np.random.default_rng(0).normal(40, 40, (20, 1, 16, 16, 16)).astype(np.float32))
    stripes = 100 * (torch.arange(16) % 4 < 2).float().expand(1, 1, 16, 16, 16)
    assert 0.3 < alike.mean() < 0.7
    assert (alike > 0.99).double().mean() < 0.1
    assert vae.strangeness(torch.cat([noise, stripes])).min() > 0.999


def test_a_patient_is_as_strange_as_the_worst_node_for_its_number(member: Member) -> None:
    bag = drawn_bag(np.random.default_rng(9), "a", 5)
    worst = network_of(member).vae.strangeness(member.reader.batch([bag]).crops).max()
    assert member.read([bag])[0].told["strangeness"] == pytest.approx(float(worst) ** 5)
    odd = replace(bag, crops=np.concatenate([bag.crops[:4], 4 * bag.crops[4:]]))
    assert member.read([odd])[0].told["strangeness"] > member.read([bag])[0].told["strangeness"]


def test_losses_are_the_published_ones() -> None:
    assert [kl_weight(part) for part in (0.0, 0.5, 1.0)] == pytest.approx([0.25, 1.25 - math.exp(-2.5), 1.25 - math.exp(-5)])
    torch.manual_seed(0)
    one, other = torch.rand(6, 1, 1, 32, 32), torch.rand(6, 1, 1, 32, 32)
    mean, log_variance = torch.randn(6, 400), torch.randn(6, 400)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    published = (
        1800 * (one - other).abs().mean() + 2765 * (1 - ssim(one, other)).mean() + 0.39 * kl_weight(0.3) * kl.sum(1).mean()
    )
    assert float(vae_loss(one, other, mean, log_variance, 0.3)) == pytest.approx(float(published) / 1800, rel=1e-5)


@pytest.mark.parametrize("side", [(1, 24, 24), (12, 16, 16)])
def test_ssim_is_that_of_gaussian_windows_inside(side: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    one = rng.random(side)
    other = np.clip(one + rng.normal(0, 0.1, side), 0, 1)

    def blurred(crop: np.ndarray) -> np.ndarray:
        return gaussian_filter(crop.squeeze(), 1.5, radius=2)[(slice(2, -2),) * crop.squeeze().ndim]

    mean, other_mean = blurred(one), blurred(other)
    covariance = blurred(one * other) - mean * other_mean
    variances = blurred(one**2) - mean**2 + blurred(other**2) - other_mean**2
    expected = (2 * mean * other_mean + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean**2 + other_mean**2 + 1e-4) * (variances + 9e-4)
    pair = [torch.from_numpy(crop.astype(np.float32))[None, None] for crop in (one, other)]
    assert float(ssim(*pair)) == pytest.approx(expected.mean(), abs=1e-4)


@pytest.mark.parametrize("size", [(8, 8, 8), (1, 24, 24), (24, 24, 24), (1, 32, 40), (8, 16, 48)])
def test_crops_of_any_size_come_back(size: tuple[int, int, int]) -> None:
    vae = NodeVAE(2, size, 4, 3).eval()
    crops = torch.rand(2, 2, *size)
    with torch.no_grad():
        assert vae.decode(vae.encode(crops)[0]).shape == crops.shape
    assert max(halvings(size)[-1]) <= 5


def test_latents_are_mixed_with_near_ones_and_keep_half() -> None:
    torch.manual_seed(0)
    near = torch.cat([torch.randn(10, 3), torch.randn(10, 3) + 100])
    same_place = 0
    for _ in range(100):
        found = changed(near)
        same_place += bool(torch.equal(found, near))
        assert (found - near).abs().max() < 10
    assert 40 < same_place < 80


# ---- the picture


def test_the_traversal_is_drawn(member: Member, tmp_path: Path) -> None:
    bag = bright_bags(2)[1]
    found = traverse(member, bag)
    assert found.source == bag.sources[int(np.argmax(member.read([bag])[0].instance_logits))]
    effects = [abs(direction.effect) for direction in found.directions]
    assert effects == sorted(effects, reverse=True)
    for direction in found.directions:  # at the node's own place the probability is the node's own
        assert min(direction.probabilities) < max(direction.probabilities)
    assert found.axes_mm == pytest.approx(bag.shapes[int(np.argmax(member.read([bag])[0].instance_logits)), 1:3])
    assert traverse(member, bag, 1).source == bag.sources[1]
    draw_traversal(member, bag, tmp_path / "latents.png", 1, 0.7)
    assert (tmp_path / "latents.png").read_bytes().startswith(b"\x89PNG")
    empty: Bag = bag.take([])
    with pytest.raises(ValueError, match="with a node"):
        draw_traversal(member, empty, tmp_path / "none.png")
