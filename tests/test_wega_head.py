"""Nodes and what is round them: that each needs the other, how far nodes look, and where evidence may lie."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from bags import drawn_bag
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from views import GRID, TO_MM, Drawing, bags_with, small_vit, spotted_bags, without_nodes

from lnauto.trainers.patient import find_bag_trainer, tokens, wega
from lnauto.trainers.patient.affinity import affinity_loss, contrast_loss, overlap_loss
from lnauto.trainers.patient.bag import Bag, Output
from lnauto.trainers.patient.fitting import Schedule
from lnauto.trainers.patient.head import Member
from lnauto.trainers.patient.wega import CrossAttention, GlobalLocal, LNMTrainerWeGA, maps_of

QUICK = LNMTrainerWeGA(schedule=Schedule(steps=3))


@pytest.fixture(scope="module")
def member() -> Member:
    return replace(QUICK, schedule=Schedule(steps=10)).fit_member(spotted_bags(24), [], 0)[0]


def network_of(member: Member) -> GlobalLocal:
    assert isinstance(member.network, GlobalLocal)
    return member.network


# ---- two branches


def xor_bags(patients: int, seed: int) -> list[Bag]:
    """Metastasis: nodes bright in dark surroundings, or dark in bright ones. Either alone says nothing."""

    def draw(_: np.random.Generator, number: int) -> Drawing:
        around, (node, ground) = np.zeros(GRID), divmod(number % 4, 2)
        around[2:6, 4:12, 4:12] = 6 * ground - 3
        return 6.0 * node - 3, around, np.zeros(GRID), node ^ ground

    return [replace(bag.take([0]), points=np.zeros((1, 3), np.float32)) for bag in bags_with(patients, seed, draw)]


@pytest.mark.parametrize(("branches", "low", "high"), [("both", 0.9, 1.0), ("local", 0.3, 0.7), ("global", 0.3, 0.7)])
def test_nodes_and_what_is_round_them_tell_only_together(
    branches: str, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what keeps a few dozen real patients from being learned by heart: an exclusive or takes long to be found."""
    monkeypatch.setattr(wega, "DROPPED", 0.0)
    monkeypatch.setattr(wega, "MOVED_MM", 0.0)
    monkeypatch.setattr(tokens, "NOISE", 0.1)
    monkeypatch.setattr(nn.Dropout, "forward", lambda _, values: values)
    monkeypatch.setattr(wega, "hidden_for", lambda _: 32)
    trainer = LNMTrainerWeGA(branches=branches, affinity=0.0, schedule=Schedule(steps=60, patients=16, learning_rate=5e-3))
    trained = trainer.fit_member(xor_bags(200, 0), [], 0)[0]
    others = xor_bags(60, 100)
    assert low <= roc_auc_score([bag.label for bag in others], [reading.logit for reading in trained.read(others)]) <= high


def test_there_is_no_fourth_branch() -> None:
    assert find_bag_trainer("LNMTrainerWeGA") is LNMTrainerWeGA
    with pytest.raises(ValueError, match="both, local, global"):
        LNMTrainerWeGA(branches="none").fit_member(spotted_bags(4), [], 0)


# ---- attention


def test_attention_is_that_of_the_formula_and_only_of_those_that_are_there() -> None:
    torch.manual_seed(0)
    cross = CrossAttention(4)
    asking, at, given, given_at = torch.randn(1, 2, 4), torch.randn(1, 2, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    apart, there = torch.rand(1, 2, 3) * 4, torch.tensor([True, False, True]).expand(1, 2, 3)
    with torch.no_grad():
        cross.nearness.fill_(1.3)
        heard, weights = cross(asking, at, given, given_at, apart, there)
        query, key = cross.query(asking) + at, cross.key(given) + given_at
        gamma = math.log1p(math.exp(1.3))
        scores = torch.exp((query @ key.mT / 2 - gamma * apart)[0]) * torch.tensor([1.0, 0, 1])
        expected = scores / scores.sum(dim=1, keepdim=True)
        torch.testing.assert_close(weights[0], expected)
        torch.testing.assert_close(heard[0], cross.out(expected @ cross.value(given)[0]))
        nobody, none = cross(asking, at, given, given_at, apart, torch.zeros_like(there))
    assert not nobody.any()
    assert not none.any()


def test_who_is_moved_100_mm_away_is_asked_less_by_just_what_gamma_says() -> None:
    torch.manual_seed(0)
    cross = CrossAttention(4)
    parts = [torch.randn(1, number, 4) for number in (1, 1, 3, 3)]
    near, there = torch.zeros(1, 1, 3), torch.ones(1, 1, 3, dtype=torch.bool)
    far = near + torch.tensor([(100 / 50) ** 2, 0, 0])
    odds = [(weights[0, 0, 0] / weights[0, 0, 1]).item() for weights in (cross(*parts, apart, there)[1] for apart in (near, far))]
    assert cross.gamma.item() == pytest.approx(1, abs=1e-4)
    assert odds[1] / odds[0] == pytest.approx(math.exp(-4), rel=1e-3)
    with torch.no_grad():
        cross.nearness.fill_(-40.0)  # no distance counts, and none can count the wrong way
    assert 0 <= cross.gamma.item() < 1e-6
    torch.testing.assert_close(cross(*parts, near, there)[1], cross(*parts, far, there)[1])


def test_distances_are_those_in_mm_from_nodes_to_tokens_both_ways(member: Member) -> None:
    network = network_of(Member(member.reader, member.settings, LNMTrainerWeGA.build(member.settings).eval()))
    for part in (network.gather.query, network.gather.key, network.spread.query, network.spread.key, network.place[2]):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    told: list[Tensor] = []
    network.spread.register_forward_hook(lambda _, __, output: told.append(output[1]))
    small, bag = spotted_bags(3)[0].take([0]), drawn_bag(np.random.default_rng(0), "a", 3)
    bag = replace(bag, points=bag.points / 2, view=spotted_bags(3)[1].view)
    with torch.no_grad():
        looked = network.look(member.reader.batch([small, bag]))
    assert looked.tokens is not None
    assert looked.attention is not None
    places = (np.stack(np.meshgrid(*(4 * np.arange(side // 4) + 1.5 for side in GRID), indexing="ij"), -1)).reshape(-1, 3)
    points = places @ TO_MM[:3, :3].T + TO_MM[:3, 3]
    np.testing.assert_allclose(looked.tokens.points[1].numpy(), points, atol=1e-4)
    near = np.exp(-(((bag.points[:, None] - points) / 50) ** 2).sum(-1))
    np.testing.assert_allclose(looked.attention[1].numpy(), near / near.sum(1, keepdims=True), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(told[0][1].numpy(), (near / near.sum(0)).T, rtol=1e-3, atol=1e-6)
    assert looked.attention[0, 0].sum() == pytest.approx(1, abs=1e-5)
    assert not told[0][0, :, 1:].any()


# ---- regional affinity


def row(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


CAM, REGION = row(0.8, 0.6, 0.3, 0.1, 0.4), row(1, 1, 0, 0, 0) > 0
NOT_KNOWN = float("nan")


@pytest.mark.parametrize(
    ("label", "region", "expected"),
    [
        (1.0, REGION, 1 - 1.4 / (1.4 + 0.9 * 0.8 + 0.1 * 0.6) + 0.25),  # the third place is next to the region: not far from it
        (0.0, REGION, 0.44 + 0.25),
        (NOT_KNOWN, REGION, 0.25),
        (1.0, REGION & False, 0.44),  # no node is seen: then there is no place where evidence should be
        (1.0, REGION | True, 1 - 2.2 / (2.2 + 0.1 * 2.8)),
    ],
)
def test_overlap_is_the_hand_computed_one(label: float, region: Tensor, expected: float) -> None:
    for axis in (1, 2, 3):
        cam, where = CAM.transpose(3, axis), region.transpose(3, axis)
        assert float(overlap_loss(cam, where, torch.tensor([label]))) == pytest.approx(expected, abs=1e-6)


def test_contrast_is_the_hand_computed_one() -> None:
    cam, region = row(0.9, 0.7, 0.4, 0.1), row(1, 1, 0, 0) > 0
    alike, short = 0.01 + 0.0225, 0.5 - 0.3
    for axis in (1, 2, 3):
        for turned in ((), (3,)):  # the region before or behind the border
            here, where = cam.flip(turned).transpose(3, axis), region.flip(turned).transpose(3, axis)
            for label, expected in ((1.0, alike + short), (0.0, alike), (NOT_KNOWN, alike)):
                assert float(contrast_loss(here, where, torch.tensor([label]))) == pytest.approx(expected, abs=1e-6)
    assert float(contrast_loss(row(0.9, 0.9, 0.2, 0.2), region, torch.ones(1))) == pytest.approx(0, abs=1e-6)


def test_both_variants_add_up_each_bag_by_itself() -> None:
    torch.manual_seed(0)
    cam, region, label = torch.rand(3, 3, 4, 5), torch.rand(3, 3, 4, 5) < 0.3, torch.tensor([1.0, 0.0, NOT_KNOWN])
    both = affinity_loss(cam, region, label, 0.1)
    torch.testing.assert_close(both, overlap_loss(cam, region, label) + 0.1 * contrast_loss(cam, region, label))
    torch.testing.assert_close(affinity_loss(cam, region, label, 0.0), overlap_loss(cam, region, label))
    for bag in range(3):
        alone = affinity_loss(cam[bag : bag + 1], region[bag : bag + 1], label[bag : bag + 1], 0.1)
        assert float(alone) == pytest.approx(float(both[bag]), abs=1e-6)
    pairs = [cam[1][where].numpy() for where in (region[1], ~region[1])]
    within = sum(0.5 * ((one[:, None] - one) ** 2).mean() for one in pairs)
    assert float(contrast_loss(cam, region, label)[1]) == pytest.approx(within, abs=1e-6)


def test_the_loss_is_the_stated_sum_and_affinity_comes_slowly(member: Member) -> None:
    network, bags = network_of(member), spotted_bags(4)
    bags[1], bags[2] = replace(bags[1], view=None), bags[2].take([])
    batch, trainer = member.reader.batch(bags), replace(QUICK, affinity=0.4, contrast=0.2)
    looked = network.look(batch)
    assert looked.cam is not None
    assert looked.tokens is not None
    assert isinstance(looked.output, Output)
    highest = torch.stack([looked.output.instance_logits[bag, : len(bags[bag])].max() for bag in (0, 1, 3)])
    certain = functional.binary_cross_entropy_with_logits
    plain = certain(looked.output.logit, batch.label) + 0.3 * certain(highest, batch.label[[0, 1, 3]])
    seen = [0, 2, 3]
    regional = affinity_loss(looked.cam[seen], looked.tokens.region[seen], batch.label[seen], 0.2).mean()
    for progress, weight in ((0.0, 0.0), (0.25, 0.2), (0.5, 0.4), (1.0, 0.4)):
        got = trainer.loss_after(progress, network, batch).item()
        assert got == pytest.approx((plain + weight * regional).item(), abs=1e-5)
    assert torch.equal(trainer.loss(network, batch), trainer.loss_after(1.0, network, batch))


def test_progress_is_the_share_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, stated = [], LNMTrainerWeGA.loss_after
    monkeypatch.setattr(
        LNMTrainerWeGA, "loss_after", lambda self, share, *more: (heard.append(share), stated(self, share, *more))[1]
    )
    replace(QUICK, schedule=Schedule(steps=4)).fit_member(spotted_bags(4), [], 0)
    assert heard == [0, 0.25, 0.5, 0.75]


def test_with_regional_affinity_evidence_lies_at_nodes_and_goes_with_them() -> None:
    others = [bag for bag in spotted_bags(40, 50) if bag.label]
    emptied = [without_nodes(bag) for bag in others]
    for seed in range(3):
        share = []
        for weight in (0.0, 0.5):
            trainer = LNMTrainerWeGA(affinity=weight, schedule=Schedule(steps=20, patients=4, learning_rate=1e-2))
            trained = trainer.fit_member(spotted_bags(40, seed), [], seed)[0]
            share.append(np.mean([reading.told["evidence_at_nodes"] for reading in trained.read(others)]))
        energy = [sum(float(maps_of(trained, bag)["cam"][0].sum()) for bag in bags) for bags in (others, emptied)]
        assert share[1] > share[0] + 0.4
        assert energy[1] < 0.5 * energy[0]


# ---- bags of all kinds


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Member:
    """One with a transformer for a global branch."""
    weights = tmp_path_factory.mktemp("dino") / "small.pth"
    torch.save(small_vit().state_dict(), weights)
    trainer = replace(QUICK, dino_weights=weights, schedule=Schedule(steps=6, patients=4))
    return trainer.fit_member(spotted_bags(4), [], 0)[0]


@pytest.mark.parametrize("kind", ["member", "sliced"])
def test_neither_order_nor_company_nor_padding_changes_a_patient(kind: str, request: pytest.FixtureRequest) -> None:
    each: Member = request.getfixturevalue(kind)
    bag, rng = spotted_bags(8)[3], np.random.default_rng(0)
    crowd = replace(drawn_bag(rng, "b", 9), view=bag.view)
    bag = replace(drawn_bag(rng, "a", 4, 2.0), view=bag.view)
    bare, empty = replace(bag, view=None), bag.take([])
    alone = [each.read([some])[0] for some in (bag, bare, empty, replace(bare.take([])))]
    beside = each.read([crowd, bag, bare, empty, replace(bare.take([]))])[1:]
    turned = each.read([some.take([2, 0, 3, 1]) for some in (bag, bare)])
    for one, other in [*zip(alone, beside, strict=True), *zip(alone, turned, strict=False)]:
        assert math.isfinite(one.logit)
        assert other.logit == pytest.approx(one.logit, abs=1e-5)
        assert other.told == pytest.approx(one.told, abs=1e-4)
    for one, other in zip(alone, turned, strict=False):
        np.testing.assert_allclose(one.instance_logits[[2, 0, 3, 1]], other.instance_logits, atol=1e-5)
        np.testing.assert_allclose(one.attention[[2, 0, 3, 1]], other.attention, atol=1e-5)
        assert one.attention.sum() == pytest.approx(1, abs=1e-5)
    assert abs(alone[0].logit - alone[1].logit) > 1e-4  # the view does count
    assert alone[1].told == {"reach_mm": 0.0, "evidence_at_nodes": 0.0}


def test_training_copes_with_patients_without_nodes_and_without_views() -> None:
    bags = spotted_bags(12)
    for bare in ([0, 5], range(12)):
        some = [replace(bag, view=None) if number in bare else bag for number, bag in enumerate(bags)]
        for empty in ([0, 3, 8], range(12)):
            mixed = [bag.take([]) if number in empty else bag for number, bag in enumerate(some)]
            trained, told = QUICK.fit_member(mixed, [], 0)
            assert all(math.isfinite(reading.logit) for reading in trained.read(mixed))
            assert math.isfinite(told["loss"])


def test_maps_lie_on_the_tokens_and_there_are_none_without_a_view(member: Member) -> None:
    bag = replace(drawn_bag(np.random.default_rng(0), "a", 3), view=spotted_bags(2)[1].view)
    maps = maps_of(member, bag)
    assert {name: values.shape for name, (values, _) in maps.items()} == {
        "cam": (2, 4, 4),
        "context": (2, 4, 4),
        "attention": (3, 2, 4, 4),
    }
    np.testing.assert_allclose(maps["attention"][0].sum((1, 2, 3)), 1, atol=1e-5)
    [reading] = member.read([bag])
    np.testing.assert_allclose(maps["context"][0], np.tensordot(reading.attention, maps["attention"][0], 1), atol=1e-6)
    np.testing.assert_allclose(maps["cam"][1] @ [1, 2, 3, 1], TO_MM @ [5.5, 9.5, 13.5, 1])
    assert 0 < maps["cam"][0].min() < maps["cam"][0].max() < 1
    assert maps_of(member, replace(bag, view=None)) == {}
