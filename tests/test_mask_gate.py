"""The mask-gated head: what is pooled and by what weight, which stage, and what a patient's bag becomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bags import PLAN
from gates import STAGES, seen_bag, seen_bags, small_network
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lnauto.errors import InputError
from lnauto.inference.component_features import component_features, component_numbers
from lnauto.networks.compute import Compute
from lnauto.networks.mask_gate import MaskGate, NodeOutputs, WithMetastasis, middle_stage, of_components, whole_patch
from lnauto.trainers.parameter_groups import decoder_of
from lnauto.trainers.patient import find_bag_trainer, mask_gate
from lnauto.trainers.patient.bag import Bag
from lnauto.trainers.patient.bag_trainer import LARGE, SMALL
from lnauto.trainers.patient.decision import inner_folds
from lnauto.trainers.patient.fitting import Schedule
from lnauto.trainers.patient.head import Head, Member
from lnauto.trainers.patient.mask_gate import (
    LNMTrainerMaskGate,
    chosen_stage,
    probe,
    size_for,
    with_features,
)

NODES = NodeOutputs((1,), exclusive=True)
FP32 = Compute(torch.device("cpu"), "fp32")
KINDS = ("PlainConvUNet", "ResidualEncoderUNet")
QUICK = LNMTrainerMaskGate(schedule=Schedule(steps=60))


def line(*values: float) -> Tensor:
    """One channel of voxels in a row."""
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# ---- pooling


def test_the_gate_has_temperature_two_and_a_whole_patch_is_averaged_as_published() -> None:
    z = whole_patch(line(1.0, 5.0, -2.0, 4.0), line(3.0, -1.0, 0.0, -8.0))
    by_hand = (1 * sigmoid(1.5) + 5 * sigmoid(-0.5) - 2 * 0.5 + 4 * sigmoid(-4)) / 4
    assert float(z) == pytest.approx(by_hand, abs=1e-6)


def test_a_component_is_the_mean_under_the_gate_inside_it_whatever_its_size() -> None:
    feature, margin = line(1.0, 5.0, -2.0, 4.0), line(3.0, -1.0, 0.0, 9.0)
    both = torch.cat([line(1, 1, 0, 0), line(0, 0, 1, 0), line(0, 0, 0, 0)], dim=1)
    z = of_components(feature, margin, both)[0, :, 0]
    first, second = sigmoid(1.5), sigmoid(-0.5)
    assert z.tolist() == pytest.approx([(first + 5 * second) / (first + second), -2.0, 0.0], abs=1e-6)
    wide = of_components(line(7.0, 7.0, 7.0, 7.0), margin, line(1, 1, 1, 1))
    assert float(wide) == pytest.approx(7.0)


def test_a_component_that_the_network_does_not_see_at_all_still_has_finite_features_and_gradients() -> None:
    feature = line(1.0, 5.0, -2.0, 4.0).requires_grad_()
    z = of_components(feature, torch.full((1, 1, 1, 1, 4), -1000.0), line(1, 1, 0, 0))
    z.sum().backward()
    assert float(z.detach()) == pytest.approx(3.0)
    assert feature.grad.flatten().tolist() == pytest.approx([0.5, 0.5, 0, 0])


def test_mask_and_components_come_to_a_coarser_map_by_averaging() -> None:
    margin, component = torch.full((1, 1, 4, 4, 4), -4.0), torch.zeros(1, 1, 4, 4, 4)
    component[0, 0, 3, 3, 3] = 1  # a single voxel, which interpolation would pass by
    feature = torch.arange(8.0).view(1, 1, 2, 2, 2)
    assert float(of_components(feature, margin, component)) == 7.0
    margin[0, 0, :2, :2, :2] = torch.linspace(0, 7, 8).view(2, 2, 2)
    gate = torch.full((8,), sigmoid(-2.0))
    gate[0] = sigmoid(3.5 / 2)
    assert float(whole_patch(feature + 1, margin)) == pytest.approx(float((gate * torch.arange(1.0, 9)).mean()))


def test_pooling_is_fp32_under_mixed_precision() -> None:
    gate = MaskGate(small_network(), NODES)
    torch.manual_seed(0)
    feature, answer, component = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 2, 8, 8, 8), torch.ones(1, 1, 8, 8, 8)
    expected = gate.pooled(feature, answer, component)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = gate.pooled(feature, answer, component)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


def test_the_margin_is_the_logit_of_being_any_kind_of_node() -> None:
    logits = torch.randn(2, 4, 3, 3, 3)
    found = NodeOutputs((1, 3), exclusive=True).margin(logits)
    p = torch.softmax(logits, 1)[:, [1, 3]].sum(1)
    assert torch.allclose(torch.sigmoid(found[:, 0]), p, atol=1e-6)
    two = torch.randn(1, 2, 3, 3, 3)
    assert torch.allclose(NODES.margin(two)[:, 0], two[:, 1] - two[:, 0], atol=1e-6)
    regions = NodeOutputs((0, 2), exclusive=False).margin(logits)
    assert torch.equal(regions[:, 0], torch.maximum(logits[:, 0], logits[:, 2]))


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ({"labels": {"background": 0, "node": 1, "ignore": 2}}, NodeOutputs((1,), True)),
        ({"labels": {"background": 0, "tumour": 1, "lymph node": 2}}, NodeOutputs((2,), True)),
        ({"labels": {"background": 0, "a": 1, "b": 2, "c": 3}, "node_labels": [1, 3]}, NodeOutputs((1, 3), True)),
        ({"labels": {"background": 0, "node": [1]}}, NodeOutputs((1,), True)),
        ({"labels": {"background": 0, "whole": [1, 2], "node": [2]}, "node_labels": [2]}, NodeOutputs((1,), False)),
    ],
)
def test_which_outputs_are_nodes_follows_from_the_description(description: dict[str, Any], expected: NodeOutputs) -> None:
    assert NodeOutputs.of_description(description) == expected


def test_where_nodes_are_drawn_is_read_off_a_label_of_classes_and_of_regions() -> None:
    label = torch.tensor([0, 1, 2, 3, -1]).view(1, 1, 1, 1, 5).float()
    assert NodeOutputs((1, 3), True).drawn(label).flatten().tolist() == [0, 1, 0, 1, 0]
    regions = torch.tensor([[1, 1, 0], [0, 1, 0]]).view(1, 2, 1, 1, 3)
    assert NodeOutputs((1,), False).drawn(regions).flatten().tolist() == [0, 1, 0]


# ---- the network


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_is_tapped_and_forward_is_the_segmentation_alone(kind: str) -> None:
    network = small_network(kind).eval()
    gate = MaskGate(network, NODES).eval()
    image, components = torch.randn(2, 1, 8, 8, 8), torch.zeros(2, 3, 8, 8, 8)
    components[:, 0, 2:5, 2:5, 2:5] = components[:, 1, 6:, 6:, 6:] = 1
    assert torch.equal(gate(image), network(image))
    found = gate.features(image, components)
    assert {stage: values.shape[2] for stage, values in found.items()} == gate.channels
    assert list(found) == ["encoder_0", "encoder_1", "encoder_2", "decoder_0", "decoder_1"]
    assert all(values.shape[:2] == (2, 3) for values in found.values())
    assert all((values[:, :2] != 0).any() and not values[:, 2].any() for values in found.values())
    answer, skips = network(image), network.encoder(image)
    by_hand = of_components(skips[1], NODES.margin(answer), components)
    assert torch.allclose(found["encoder_1"], by_hand)
    finest = network.decoder.seg_layers[-1]  # the head of the finest decoder stage is what answers
    assert torch.allclose(finest(gate.look(image, ["decoder_0"])[1]["decoder_0"]), answer)
    assert gate.look(image, ["decoder_1"])[1]["decoder_1"].shape[2:] == (4, 4, 4)
    assert not any(module._forward_hooks for module in network.modules())
    assert middle_stage(gate) == "encoder_1"


def test_a_network_without_stages_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match="could be told apart"):
        MaskGate(torch.nn.Conv3d(1, 2, 3), NODES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("supervised", [False, True])
def test_a_loss_on_the_features_reaches_the_encoder_and_not_the_mask(kind: str, supervised: bool) -> None:
    network = small_network(kind, supervised=supervised)
    joint = WithMetastasis(network, NODES, "encoder_1")
    torch.nn.init.ones_(joint.head.weight)
    drawn = torch.zeros(2, 1, 8, 8, 8)
    drawn[:, :, 2:6, 2:6, 2:6] = 1
    _, logit = joint(torch.randn(2, 1, 8, 8, 8), drawn)
    logit.square().sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in decoder_of(network))
    # nnU-Net starts a residual block's last norm at 0, so that only what is around the block gets a gradient at first
    before = [*network.encoder.stages[0].parameters(), *(network.encoder.stem.parameters() if kind == KINDS[1] else ())]
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in before if parameter.ndim > 1)
    assert all(parameter.grad is None for parameter in network.encoder.stages[2].parameters())  # behind the map


def test_what_lies_outside_a_component_counts_far_less_than_what_lies_inside() -> None:
    gate = MaskGate(small_network().eval(), NODES)
    torch.manual_seed(1)
    image, component = torch.randn(1, 1, 16, 16, 16), torch.zeros(1, 1, 16, 16, 16)
    component[:, :, 5:11, 5:11, 5:11] = 1
    image = image + 2 * component
    anew = torch.randn(image.shape)  # instance norm looks at the whole patch: other noise, so that its statistics stay
    gate.requires_grad_(False)
    z = gate.features(image, component, ["encoder_0"])["encoder_0"]
    changed = [
        float((gate.features(other, component, ["encoder_0"])["encoder_0"] - z).norm())
        for other in (torch.where(component > 0, image, anew), torch.where(component > 0, torch.zeros(()), image))
    ]
    assert changed[0] < 0.2 * changed[1]


# ---- features of a case


def case() -> tuple[np.ndarray, np.ndarray]:
    """An image wider than a patch of 8 in two directions and thinner in one, with four components, two of which share a patch."""
    rng = np.random.default_rng(0)
    image, instances = rng.normal(0, 1, (1, 6, 20, 18)).astype(np.float32), np.zeros((6, 20, 18), np.int32)
    instances[2:4, 8:11, 8:11] = 4
    instances[0:2, 0:3, 15:18] = 1
    instances[4:6, 17:20, 0:2] = 7
    instances[4:6, 12:14, 8:10] = 9
    return image, instances


def test_each_component_is_seen_in_the_middle_of_a_patch_inside_the_padded_image() -> None:
    network, (image, instances) = small_network(), case()
    found = component_features(network.eval(), NODES, image, instances, (8, 8, 8), FP32)
    assert component_numbers(instances) == [1, 4, 7, 9]
    assert {stage: rows.shape for stage, rows in found.items()} == {
        stage: (4, width) for stage, width in MaskGate(network, NODES).channels.items()
    }
    whole, numbers = (np.pad(array, [(0, 0), (1, 1), (0, 0), (0, 0)]) for array in (image, instances[None]))
    corners = {1: (0, 10), 4: (6, 6), 7: (12, 0), 9: (9, 5)}
    for row, (number, (y, x)) in enumerate(corners.items()):
        place = slice(None), slice(0, 8), slice(y, y + 8), slice(x, x + 8)
        patch, inside = torch.from_numpy(whole[place][None]), torch.from_numpy((numbers[place] == number)[None])
        expected = MaskGate(network, NODES).features(patch, inside)
        assert all(np.allclose(found[stage][row], expected[stage][0, 0].detach(), atol=1e-5) for stage in found)


def test_how_many_patches_go_at_once_changes_nothing_and_the_network_is_left_as_it_was() -> None:
    network, (image, instances) = small_network(supervised=True).train(), case()
    one, three = (component_features(network, NODES, image, instances, (8, 8, 8), FP32, ["encoder_1"], n) for n in (1, 3))
    assert list(one) == ["encoder_1"]
    assert np.allclose(one["encoder_1"], three["encoder_1"], atol=1e-5)
    assert network.training
    assert network.decoder.deep_supervision
    none = component_features(network, NODES, image, np.zeros_like(instances), (8, 8, 8), FP32)
    assert {stage: rows.shape for stage, rows in none.items()}["encoder_2"] == (0, 8)
    with pytest.raises(InputError, match="do not go together"):
        component_features(network, NODES, image, instances[:3], (8, 8, 8), FP32)


def test_features_find_their_way_into_the_bag_by_case_and_number() -> None:
    bag = seen_bags(1)[0].take([0])
    bag = replace(bag, sources=(("b", 5), ("a", 9), ("b", 5)), features={})  # a node of two slices
    seen = {
        "a": ([9], {"encoder_0": np.ones((1, 4), np.float32)}),
        "b": ([2, 5], {"encoder_0": np.array([[0.0] * 4, [2.0] * 4])}),
    }
    assert with_features(bag, seen).features["encoder_0"][:, 0].tolist() == [2, 1, 2]
    assert with_features(bag.take([]), {}).features == {}


# ---- the head


def test_the_head_finds_the_stage_that_tells_and_then_the_patients() -> None:
    head = QUICK.train(seen_bags(60), ["age"], PLAN)
    assert [member["stage"] for member in head.inner["members"]] == ["encoder_1"] * 5
    assert all(member["probe"]["encoder_1"] > max(member["probe"]["encoder_0"], 0.7) for member in head.inner["members"])
    others = seen_bags(60, seed=1)
    assert roc_auc_score([bag.label for bag in others], head.probability(others)) > 0.9
    positive = [(reading, bag) for reading, bag in zip(head.read(others), others, strict=True) if bag.label and len(bag) > 1]
    gap = [reading.instance_logits[0] - reading.instance_logits[1:].mean() for reading, _ in positive]
    assert np.mean(gap) > 0.2


def test_stage_and_scale_of_a_member_depend_on_its_own_training_patients_alone() -> None:
    bags = seen_bags(40)
    names, truth = [bag.patient for bag in bags], np.array([bag.label for bag in bags])
    trainer = LNMTrainerMaskGate(schedule=Schedule(steps=2))
    members = trainer.train(bags, ["age"], PLAN).members
    for number, (train, kept) in list(enumerate(inner_folds(names, truth, 0)[0]))[::3]:
        wild = [
            replace(bag, features={stage: 50 + 9 * (bag.label or 0) - values for stage, values in bag.features.items()})
            if place in kept
            else bag
            for place, bag in enumerate(bags)
        ]
        again = trainer.train(wild, ["age"], PLAN).members
        assert again[number].settings == members[number].settings
        for name, value in again[number].network.state_dict().items():
            assert torch.equal(value, members[number].network.state_dict()[name]), name
        others = [place for place in range(5) if place != number]
        assert any(again[place].settings["probe"] != members[place].settings["probe"] for place in others)
        assert len(train) + len(kept) == len(bags)


@pytest.mark.parametrize("tells", list(STAGES))
def test_the_probe_ranks_the_stage_that_tells_first_and_says_chance_of_the_others(tells: str) -> None:
    tried = probe(seen_bags(80, tells=tells), STAGES, 0)
    assert chosen_stage(tried) == tells
    assert tried[tells] > 0.8
    assert all(0.3 < tried[stage] < 0.7 for stage in STAGES if stage != tells)


def test_where_nothing_can_be_tried_a_middle_stage_is_taken() -> None:
    few = [replace(bag, label=1) for bag in seen_bags(6)[:5]] + [replace(seen_bags(6)[5], label=0)]
    tried = probe(few, STAGES, 0)
    assert chosen_stage(dict.fromkeys(tried)) == "encoder_2"
    assert chosen_stage(dict.fromkeys(["encoder_0", "decoder_0"])) == "encoder_0"
    assert chosen_stage({"encoder_0": None, "decoder_0": 0.5}) == "decoder_0"


def small_member(layers: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Member, list[Bag]]:
    monkeypatch.setattr(mask_gate, "size_for", lambda _: (layers, 32))
    bags = seen_bags(24)
    return LNMTrainerMaskGate(schedule=Schedule(steps=20)).fit_member(bags, ["age"], 0)[0], bags


@pytest.mark.parametrize("layers", [0, 2])
def test_neither_order_nor_padding_nor_the_company_of_others_changes_a_patient(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, bags = small_member(layers, monkeypatch)
    bag = max(bags, key=len)
    [alone] = member.read([bag])
    order = np.random.default_rng(0).permutation(len(bag))
    [turned] = member.read([bag.take(order)])
    rng = np.random.default_rng(5)
    among = member.read([seen_bag(rng, "long", 9, 1, None, 0), bag, bag.take([])])
    assert turned.logit == pytest.approx(alone.logit, abs=1e-5)
    assert among[1].logit == pytest.approx(alone.logit, abs=1e-5)
    for one in ("instance_logits", "attention"):
        assert getattr(turned, one) == pytest.approx(getattr(alone, one)[order], abs=1e-5)
        assert getattr(among[1], one) == pytest.approx(getattr(alone, one), abs=1e-5)
    assert alone.attention.sum() == pytest.approx(1, abs=1e-5)
    assert len(set(np.round(alone.instance_logits, 6))) == len(bag)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_patient_without_nodes_still_has_a_probability(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    member, bags = small_member(layers, monkeypatch)
    bare = replace(bags[0].take([]), features={})
    for some in ([bare], [bare, bags[1]], [bags[0].take([]), bags[1]]):
        reading = member.read(some)[0]
        assert np.isfinite(reading.logit)
        assert len(reading.attention) == len(reading.instance_logits) == 0
    assert member.read([bare, bags[1]])[1].logit == pytest.approx(member.read([bags[1]])[0].logit, abs=1e-5)


def test_patients_without_nodes_among_those_in_training_do_no_harm() -> None:
    bags = seen_bags(30)
    bags = [replace(bag.take([]), features={}) if place % 7 == 0 else bag for place, bag in enumerate(bags)]
    head = LNMTrainerMaskGate(schedule=Schedule(steps=5)).train(bags, ["age"], PLAN)
    assert np.isfinite(head.probability(bags)).all()


@pytest.mark.parametrize("layers", [0, 2])
def test_an_instance_of_a_transformer_says_what_a_bag_of_it_alone_says(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    member, bags = small_member(layers, monkeypatch)
    bag = max(bags, key=len)
    [whole] = member.read([bag])
    network: Any = member.network
    clinical = float(network.clinical(torch.from_numpy(member.reader.clinical([bag]).astype(np.float32))).detach())
    for place in range(len(bag)):
        [single] = member.read([bag.take([place])])
        assert single.logit == pytest.approx(whole.instance_logits[place] + float(network.bias) + clinical, abs=1e-4)


def test_a_head_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    bags = seen_bags(24)
    head = LNMTrainerMaskGate(schedule=Schedule(steps=5)).train(bags, ["age"], PLAN)
    head.save(tmp_path)
    again = Head.load(tmp_path)
    assert again.logit(bags) == pytest.approx(head.logit(bags), abs=0)
    assert again.inner["members"][0]["probe"] == head.inner["members"][0]["probe"]
    assert again.members[0].settings["stage"] == head.members[0].settings["stage"]


def test_bags_without_features_are_refused_in_a_line() -> None:
    bags, none = seen_bags(20), [replace(bag, features={}) for bag in seen_bags(20)]
    head = LNMTrainerMaskGate(schedule=Schedule(steps=2)).train(bags, [], PLAN)
    mixed = [*bags[:-1], replace(bags[-1], features={})]
    other = [replace(bag, features={stage: values[:, :3] for stage, values in bag.features.items()}) for bag in bags]
    faults: Sequence[tuple[Any, str]] = [
        (lambda: LNMTrainerMaskGate().train(none, [], PLAN), "no features of a network"),
        (lambda: LNMTrainerMaskGate().train(mixed, [], PLAN), "no features of a network"),
        (lambda: LNMTrainerMaskGate().train([*bags[:10], *other[10:]], [], PLAN), "networks of different widths"),
        (lambda: LNMTrainerMaskGate().train([bag.take([]) for bag in bags], [], PLAN), "no patient has a node"),
        (lambda: head.read(none), "the nodes have no features of"),
        (lambda: head.read(other), "the head learned from"),
    ]
    for fault, told in faults:
        with pytest.raises(InputError, match=told) as raised:
            fault()
        assert len(str(raised.value).splitlines()) == 1


def test_the_head_is_known_by_name_and_grows_with_the_number_of_patients() -> None:
    assert find_bag_trainer("LNMTrainerMaskGate") is LNMTrainerMaskGate
    assert LNMTrainerMaskGate.needs_features
    assert size_for(SMALL - 1)[1] == 32
    assert size_for(SMALL)[0] == 2
    assert size_for(LARGE) == (6, 256)
