"""Global and local branch: that each needs the other, how far nodes look, where evidence may lie, and DINOv2 from a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bags import PLAN, drawn_bag
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from lnauto.errors import InputError
from lnauto.networks import vit
from lnauto.networks.vit import IMAGENET_DEVIATION, IMAGENET_MEAN, SIDE, file_hash, load_vit
from lnauto.trainers.patient import find_bag_trainer, tokens, wega
from lnauto.trainers.patient.affinity import affinity_loss, contrast_loss, overlap_loss
from lnauto.trainers.patient.bag import Bag, Output, View
from lnauto.trainers.patient.fitting import Schedule
from lnauto.trainers.patient.head import Head, Member
from lnauto.trainers.patient.tokens import SLICES, ends_of, laid_over, slices_of
from lnauto.trainers.patient.wega import CrossAttention, GlobalLocal, LNMTrainerWeGA, maps_of
from lnauto.workflow.fold import Request
from lnauto.workflow.train import _check_dino

GRID = (8, 16, 16)
TO_MM = np.array([[0, 0, 8.0, -60], [0, 8, 0, -60], [8, 0, 0, -28], [0, 0, 0, 1]])
QUICK = LNMTrainerWeGA(schedule=Schedule(steps=3))


def bags_with(
    patients: int, seed: int, draw: Callable[[np.random.Generator, Bag, int], tuple[float, np.ndarray, np.ndarray, int]]
) -> list[Bag]:
    """`draw` says of a patient how bright the nodes are, what lies round them, where nodes lie in that, and the label."""
    rng, found = np.random.default_rng(seed), []
    for number in range(patients):
        bag = drawn_bag(rng, f"p{number:03d}", int(rng.integers(1, 4)))
        bright, around, nodes, label = draw(rng, bag, number)
        crops = (0.1 * bag.crops + bright * bag.masks[:, None]).astype(np.float32)
        view = View((around + rng.normal(0, 0.1, (1, *GRID))).astype(np.float32), nodes.astype(np.float32), TO_MM)
        shapes = np.zeros_like(bag.shapes)
        found.append(replace(bag, crops=crops, shapes=shapes, points=bag.points / 5, view=view, row={}, label=label))
    return found


def some_bags(patients: int, seed: int = 0) -> list[Bag]:
    """A bright spot of the view is a node of a patient with metastasis, a dim one of a patient without."""

    def draw(rng: np.random.Generator, _: Bag, number: int) -> tuple[float, np.ndarray, np.ndarray, int]:
        nodes = np.zeros(GRID)
        for z, y, x in rng.integers(0, [7, 15, 15], (2, 3)):
            nodes[z : z + 2, y : y + 2, x : x + 2] = 1
        return 2.0 * (number % 2), (4 * (number % 2) + 1) * nodes, nodes, number % 2

    return bags_with(patients, seed, draw)


@pytest.fixture(scope="module")
def member() -> Member:
    return replace(QUICK, schedule=Schedule(steps=30)).fit_member(some_bags(24), [], 0)[0]


def network_of(member: Member) -> GlobalLocal:
    assert isinstance(member.network, GlobalLocal)
    return member.network


# ---- two branches


def xor_bags(patients: int, seed: int) -> list[Bag]:
    """Metastasis: nodes bright in dark surroundings, or dark in bright ones. Either alone says nothing."""

    def draw(_: np.random.Generator, __: Bag, number: int) -> tuple[float, np.ndarray, np.ndarray, int]:
        bright, around, (node, ground) = np.zeros(()), np.zeros(GRID), divmod(number % 4, 2)
        around[2:6, 4:12, 4:12] = 6 * ground - 3
        return float(bright + 6 * node - 3), around, np.zeros(GRID), node ^ ground

    return bags_with(patients, seed, draw)


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
    trainer = LNMTrainerWeGA(branches=branches, affinity=0.0, schedule=Schedule(steps=150, patients=16, learning_rate=5e-3))
    trained = trainer.fit_member(xor_bags(200, 0), [], 1)[0]
    others = xor_bags(60, 100)
    assert low <= roc_auc_score([bag.label for bag in others], [reading.logit for reading in trained.read(others)]) <= high


def test_there_is_no_fourth_branch() -> None:
    assert find_bag_trainer("LNMTrainerWeGA") is LNMTrainerWeGA
    with pytest.raises(ValueError, match="both, local, global"):
        LNMTrainerWeGA(branches="none").fit_member(some_bags(4), [], 0)


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
    small, bag = some_bags(3)[0].take([0]), drawn_bag(np.random.default_rng(0), "a", 3)
    bag = replace(bag, points=bag.points / 2, view=some_bags(3)[1].view)
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


CAM, REGION = row(0.8, 0.6, 0.3, 0.2, 0.4), row(1, 1, 0, 0, 0) > 0
NOT_KNOWN = float("nan")


@pytest.mark.parametrize(
    ("label", "region", "expected"),
    [
        (1.0, REGION, 1 - 1.4 / (1.4 + 0.9 * 0.9 + 0.1 * 0.6) + 0.3),  # the third place is next to the region: not far from it
        (0.0, REGION, 0.46 + 0.3),
        (NOT_KNOWN, REGION, 0.3),
        (1.0, REGION & False, 0.46),  # no node is seen: then there is no place where evidence should be
        (1.0, REGION | True, 1 - 2.3 / (2.3 + 0.1 * 2.7)),
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
    network, bags = network_of(member), some_bags(4)
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
        assert float(trainer.loss_after(progress, network, batch)) == pytest.approx(float(plain + weight * regional), abs=1e-5)
    assert torch.equal(trainer.loss(network, batch), trainer.loss_after(1.0, network, batch))


def test_progress_is_the_share_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, stated = [], LNMTrainerWeGA.loss_after
    monkeypatch.setattr(
        LNMTrainerWeGA, "loss_after", lambda self, share, *more: (heard.append(share), stated(self, share, *more))[1]
    )
    replace(QUICK, schedule=Schedule(steps=4)).fit_member(some_bags(4), [], 0)
    assert heard == [0, 0.25, 0.5, 0.75]


def test_with_regional_affinity_evidence_lies_at_nodes_and_goes_with_them() -> None:
    others = [bag for bag in some_bags(40, 50) if bag.label]
    assert all(bag.view is not None for bag in others)
    share: dict[float, list[float]] = {0.0: [], 0.5: []}
    for seed in range(3):
        for weight, found in share.items():
            trainer = LNMTrainerWeGA(affinity=weight, schedule=Schedule(steps=60))
            trained = trainer.fit_member(some_bags(40, seed), [], seed)[0]
            found.append(float(np.mean([reading.told["evidence_at_nodes"] for reading in trained.read(others)])))
            if weight:
                energy = [
                    [maps_of(trained, bag)["cam"][0].sum() for bag in some] for some in (others, map(without_nodes, others))
                ]
                assert np.mean(energy[1]) < 0.8 * np.mean(energy[0])
    assert all(on > off + 0.05 for off, on in zip(*share.values(), strict=True)), share


def without_nodes(bag: Bag) -> Bag:
    """The patient with nodes taken out of the image."""
    assert bag.view is not None
    gone = View(bag.view.image * (bag.view.nodes == 0), bag.view.nodes, bag.view.to_mm)
    return replace(bag, crops=bag.crops * (bag.masks[:, None] == 0), view=gone)


# ---- bags of all kinds


@pytest.fixture(scope="module")
def sliced(weights: Path) -> Member:
    trainer = replace(QUICK, dino_weights=weights, schedule=Schedule(steps=6, patients=4))
    return trainer.fit_member(some_bags(4), [], 0)[0]


@pytest.mark.parametrize("kind", ["member", "sliced"])
def test_neither_order_nor_company_nor_padding_changes_a_patient(kind: str, request: pytest.FixtureRequest) -> None:
    each: Member = request.getfixturevalue(kind)
    bag, rng = some_bags(8)[3], np.random.default_rng(0)
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
    bags = some_bags(12)
    for bare in ([0, 5], range(12)):
        some = [replace(bag, view=None) if number in bare else bag for number, bag in enumerate(bags)]
        for empty in ([0, 3, 8], range(12)):
            mixed = [bag.take([]) if number in empty else bag for number, bag in enumerate(some)]
            trained, told = QUICK.fit_member(mixed, [], 0)
            assert all(math.isfinite(reading.logit) for reading in trained.read(mixed))
            assert math.isfinite(told["loss"])


def test_maps_lie_on_the_tokens_and_there_are_none_without_a_view(member: Member) -> None:
    bag = replace(drawn_bag(np.random.default_rng(0), "a", 3), view=some_bags(2)[1].view)
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


# ---- DINOv2


def small_vit(registers: int = 0, side: int = 4, patch: int = 14, width: int = 64) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(3)
    sizes: dict[str, Any] = {"patch_size": patch, "embed_dim": width, "depth": 2, "num_heads": 1, "init_values": 1.0}
    sizes |= {"reg_tokens": registers, "no_embed_class": registers > 0, "num_classes": 0}
    network = VisionTransformer(img_size=side * patch, dynamic_img_size=True, **sizes).eval()
    nn.init.normal_(network.pos_embed)
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dino") / "small.pth"
    torch.save(small_vit().state_dict(), path)
    return path


@pytest.mark.parametrize("registers", [0, 4])
def test_timms_and_metas_weights_are_the_same_network(registers: int, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network = small_vit(registers)
    state = network.state_dict()
    metas = dict(state) | {"mask_token": torch.zeros(1, 64)}
    if registers:  # Meta's class token has a place among the positions
        metas["register_tokens"] = metas.pop("reg_token")
        first = torch.randn(1, 1, 64)
        metas["cls_token"], metas["pos_embed"] = state["cls_token"] - first, torch.cat([first, state["pos_embed"]], dim=1)
    torch.save(metas, tmp_path / "meta.pth")
    torch.save({"model": state, "epoch": 3}, tmp_path / "inside.pth")
    save_file(state, tmp_path / "timm.safetensors")
    pictures = torch.rand(9, 3, SIDE, SIDE)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    with torch.no_grad():
        expected = network.forward_features((pictures - mean) / deviation)[:, 1 + registers :].reshape(9, 16, 16, 64)
    for name in ("meta.pth", "inside.pth", "timm.safetensors"):
        loaded = load_vit(tmp_path / name, file_hash(tmp_path / name))
        torch.testing.assert_close(loaded.tokens(pictures), expected, rtol=1e-4, atol=1e-4)


def test_positions_are_resized_to_the_tokens_of_a_slice(weights: Path) -> None:
    loaded = load_vit(weights, file_hash(weights))
    positions = loaded.network.pos_embed[:, 1:].reshape(1, 4, 4, 64).permute(0, 3, 1, 2)
    resized = functional.interpolate(positions, (16, 16), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    found: list[Tensor] = []
    hook = loaded.network.blocks[0].register_forward_hook(lambda _, given, __: found.append(given[0]))
    loaded.tokens(torch.full((1, 3, SIDE, SIDE), 0.4))  # every patch is alike: what differs is the position
    hook.remove()
    places = found[0][0, 1:].reshape(16, 16, 64)
    torch.testing.assert_close(places - places.mean((0, 1)), resized - resized.mean((0, 1)), rtol=1e-4, atol=1e-4)


def test_it_is_frozen_looks_once_at_a_patient_and_is_not_saved_with_the_head(weights: Path, tmp_path: Path) -> None:
    load_vit.cache_clear()
    bags = some_bags(20)
    head = replace(QUICK, dino_weights=weights, schedule=Schedule(steps=5, patients=8)).train(bags, [], PLAN)
    loaded = load_vit(weights, file_hash(weights))
    assert loaded.looked == SLICES * len(bags)
    assert not loaded.network.training
    original = small_vit().state_dict()
    assert all(torch.equal(value, original[name]) for name, value in loaded.network.state_dict().items())
    assert not any("vit" in name for name in head.members[0].network.state_dict())
    head.save(tmp_path)
    before = head.read(bags)
    load_vit.cache_clear()
    for one, other in zip(before, Head.load(tmp_path).read(bags), strict=True):
        assert one.logit == other.logit
        assert one.told == other.told
    other_weights = weights.with_name("moved.pth")
    weights.rename(other_weights)
    try:
        load_vit.cache_clear()
        with pytest.raises(InputError, match="cannot be read") as gone:
            Head.load(tmp_path)
        torch.save(small_vit(registers=4).state_dict(), weights)
        with pytest.raises(InputError, match="not the weights the head was trained with") as others:
            Head.load(tmp_path)
    finally:
        other_weights.replace(weights)
    assert all(len(str(error.value).splitlines()) == 1 and str(weights) in str(error.value) for error in (gone, others))


def test_slices_span_what_bears_nodes_and_20_mm_beyond(weights: Path) -> None:
    image, nodes, to_mm = torch.arange(24.0).view(1, 24, 1, 1).expand(1, 24, 32, 32), torch.zeros(1, 24, 32, 32), torch.eye(4)
    to_mm[:3, :3] = torch.tensor([[0, 0, 2.0], [0, 2.0, 0], [5.0, 0, 0]])
    assert [float(end) for end in ends_of(torch.cat([image, nodes]), to_mm)] == [0, 23]
    nodes[0, 8:11, 5, 6] = 0.5
    view = torch.cat([image, nodes])
    first, last = ends_of(view, to_mm)
    assert (float(first), float(last)) == (4, 14)
    pictures = slices_of(image[0], first, last)
    black, white = 23 * 0.005, 23 * 0.995
    middle = 4 + 10 * torch.arange(8) / 7
    expected = (torch.stack([middle - 1, middle, middle + 1], dim=1) - black) / (white - black)
    torch.testing.assert_close(pictures.mean((2, 3)), expected, rtol=1e-2, atol=1e-2)
    laid = laid_over(
        view[None], to_mm[None], torch.zeros(1, 512, 1), torch.Size([8, 8, 8]), first[None], (last - first)[None] / 7
    )
    assert laid.points[0, -1].tolist() == pytest.approx([2 * 29.5, 2 * 29.5, 5 * 14])
    assert sorted(set(laid.region[0].nonzero()[:, 0].tolist())) == [3, 4]  # slices 8, 9, 10 lie next to 8.3, 9.7 and 9.7
    assert {tuple(place) for place in laid.region[0].nonzero()[:, 1:].tolist()} == {(1, 1)}
    bearing = laid_over(
        view[None], to_mm[None], torch.zeros(1, 384, 1), torch.Size([6, 8, 8]), torch.tensor([1.5]), torch.tensor([4.0])
    )
    assert bearing.region[0].nonzero().tolist() == [[2, 1, 1]]


class Runs:
    """What runs a command when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        (b"not at all", "cannot be read"),
        ({}, "there is no cls_token"),
        ([torch.zeros(3)], "no weights by name"),
        (nn.Conv2d(3, 4, 3).state_dict(), "there is no cls_token"),
        (small_vit(patch=32).state_dict(), "patches of 32"),
        (small_vit(width=96).state_dict(), "96 wide"),
        ({name: value for name, value in small_vit().state_dict().items() if "norm1" not in name}, "no weights of a ViT"),
        ({name: value for name, value in small_vit().state_dict().items() if "mlp" not in name}, "no weights of a ViT"),
        (Runs, "may run anything"),
    ],
)
def test_a_wrong_file_is_a_line_before_anything_is_trained(content: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content(tmp_path / "ran") if content is Runs else content, path)
    with pytest.raises(InputError, match=told) as error:
        _check_dino(Request(trainer="LNMTrainerWeGA", dino_weights=path), "LNMTrainerABMIL")
    assert len(str(error.value).splitlines()) == 1
    assert str(path) in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_weights_are_only_for_the_head_that_has_a_branch_for_them(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _check_dino(Request(dino_weights=weights), "LNMTrainerWeGA")
    _check_dino(Request(), "LNMTrainerABMIL")
    with pytest.raises(InputError, match="LNMTrainerABMIL has no branch"):
        _check_dino(Request(dino_weights=weights), "LNMTrainerABMIL")
    load_vit.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "timm.models.vision_transformer", None)
    with pytest.raises(InputError, match="pip install timm"):
        vit.load_vit(weights, file_hash(weights))
