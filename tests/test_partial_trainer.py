"""Nodes drawn in part: DBDMP's terms against figures by hand, its pseudo labels, and a training from beginning to end."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lnauto.trainers.losses import divergence, entropy, known_classes, ramp, reverse_cross_entropy, soft_cross_entropy, tversky
from lnauto.trainers.partial import (
    TEMPERATURE,
    cross_supervision,
    label_loss,
    pseudo_label,
    with_likely,
)

IGNORE = 2


def voxels(*foreground: float) -> Tensor:
    """Logits of two classes with these probabilities of foreground, one voxel beside the other."""
    p = torch.tensor(foreground).view(1, 1, 1, 1, -1)
    return torch.cat([torch.log(1 - p), torch.log(p)], dim=1)


def labels(*values: int) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def known(*values: int) -> Tensor:
    return known_classes(labels(*values), 2)


# ---- terms


def test_reverse_cross_entropy_of_a_voxel_is_bounded_and_as_by_hand() -> None:
    p = torch.softmax(voxels(0.3), 1)
    assert float(reverse_cross_entropy(p, known(1))) == pytest.approx(-math.log(1e-4) * 0.7 / 2)
    assert float(reverse_cross_entropy(p, known(0))) == pytest.approx(-math.log(1e-4) * 0.3 / 2)
    assert float(reverse_cross_entropy(torch.softmax(voxels(0.3, 0.9), 1), known(1, IGNORE))) == pytest.approx(
        -math.log(1e-4) * 0.7 / 2
    )


def test_tversky_with_halves_is_dice_and_leans_towards_missed_nodes_otherwise() -> None:
    p, target = torch.softmax(voxels(0.9, 0.2, 0.6, 0.1), 1), known(1, 1, 0, 0)
    dice = 2 * (0.9 + 0.2) / (0.9 + 0.2 + 0.6 + 0.1 + 2)
    assert float(tversky(p, target, 0.5, 0.5)) == pytest.approx(1 - dice, abs=1e-5)
    by_hand = 1.1 / (1.1 + 0.4 * 0.7 + 0.6 * 0.9)
    assert float(tversky(p, target)) == pytest.approx(1 - by_hand, abs=1e-5)


def test_what_is_unknown_takes_no_part_in_any_loss_on_labels() -> None:
    logits = torch.randn(1, 2, 1, 1, 4).requires_grad_()
    label_loss(torch.log_softmax(logits, 1), known(1, IGNORE, 0, IGNORE)).backward()
    moved = logits.grad.abs().sum(1).flatten() > 0
    assert moved.tolist() == [True, False, True, False]


def test_drawn_nodes_count_once_more_by_themselves() -> None:
    """Tversky, 0.8 CE + RCE over what is known, and CE over nodes alone."""
    log_p, target = torch.log_softmax(voxels(0.6, 0.2), 1), known(1, 0)
    found = 0.6 / (0.6 + 0.4 * 0.2 + 0.6 * 0.4)
    ce = -(math.log(0.6) + math.log(0.8)) / 2
    rce = -math.log(1e-4) * (0.4 + 0.2) / 2 / 2
    assert float(label_loss(log_p, target)) == pytest.approx(1 - found + 0.8 * ce + rce - math.log(0.6), abs=1e-4)


def test_divergence_and_entropy_are_as_by_hand() -> None:
    p, q = torch.log_softmax(voxels(0.9), 1), torch.log_softmax(voxels(0.4), 1)
    assert float(divergence(p, q)) == pytest.approx(0.9 * math.log(0.9 / 0.4) + 0.1 * math.log(0.1 / 0.6), abs=1e-6)
    assert float(entropy(torch.softmax(voxels(0.5), 1))) == pytest.approx(math.log(2))
    assert float(entropy(known(1))) == 0.0


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.0067), (25, 0.0612), (50, 0.2938), (75, 0.7454), (99, 1.0), (250, 1.0)])
def test_the_ramp_is_the_published_one(epoch: int, weight: float) -> None:
    assert ramp(epoch / 99) == pytest.approx(weight, abs=1e-4)
    assert ramp(epoch / 99) <= ramp((epoch + 1) / 99)


# ---- pseudo labels


def test_the_pseudo_label_mixes_both_decoders_where_nothing_is_known() -> None:
    nothing = known(IGNORE, IGNORE)
    first, second = torch.softmax(voxels(0.9, 0.2), 1), torch.softmax(voxels(0.3, 0.4), 1)
    found = pseudo_label(first, second, 0.25, nothing)
    mixed = 0.25 * first + 0.75 * second
    expected = torch.sigmoid((2 * mixed[:, 1] - 1) / TEMPERATURE)
    assert torch.allclose(found[:, 1], expected)
    assert torch.allclose(found.sum(1), torch.ones(1, 1, 1, 2))
    assert torch.equal(pseudo_label(first, second, 1.0, nothing), pseudo_label(first, first, 0.5, nothing))
    assert not torch.equal(found, pseudo_label(first, first, 0.25, nothing))
    assert not torch.equal(found, pseudo_label(second, second, 0.25, nothing))


def test_the_pseudo_label_sharpens() -> None:
    p = torch.softmax(voxels(0.8, 0.3), 1)
    found = pseudo_label(p, p, 0.5, known(IGNORE, IGNORE))[0, 1].flatten()
    assert found[0] > 0.85
    assert found[1] < 0.25


def test_the_share_of_nodes_that_is_expected_shifts_the_pseudo_label() -> None:
    p = torch.softmax(voxels(0.6, 0.95), 1)
    doubted = pseudo_label(p, p, 0.5, known(IGNORE, IGNORE), prior=0.2)[0, 1].flatten()
    odds = torch.tensor([0.2, 0.9]) / TEMPERATURE + math.log(0.2 / 0.8)
    assert torch.allclose(doubted, torch.sigmoid(odds))
    assert doubted[0] < 0.5 < doubted[1]
    sure = pseudo_label(p, p, 0.5, known(1, 0), prior=0.2)[0, 1].flatten()
    assert sure[0] >= 0.999
    assert sure[1] <= 0.001


def test_what_is_likely_is_a_node_only_where_nothing_is_known() -> None:
    target = torch.stack([labels(1, 0, IGNORE, IGNORE)[0], labels(0, 1, 1, 0)[0]])[None]
    assert with_likely(target, IGNORE).flatten().tolist() == [1, 0, 1, IGNORE]
    assert with_likely(target[:, :1], IGNORE).flatten().tolist() == [1, 0, IGNORE, IGNORE]


def test_what_is_known_is_pinned_whatever_the_decoders_say() -> None:
    wrong = torch.softmax(voxels(0.01, 0.99), 1)
    found = pseudo_label(wrong, wrong, 0.5, known(1, 0))[0, 1].flatten()
    assert found[0] >= 0.999
    assert found[1] <= 0.001


def test_the_pseudo_label_passes_no_gradient() -> None:
    p = torch.softmax(voxels(0.7), 1).requires_grad_()
    assert not pseudo_label(p, p, 0.5, known(IGNORE)).requires_grad


def test_cross_supervision_of_equal_decoders_is_soft_cross_entropy() -> None:
    log_p = torch.log_softmax(torch.randn(1, 2, 3, 3, 3), 1)
    pseudo = torch.softmax(torch.randn(1, 2, 3, 3, 3), 1)
    assert float(cross_supervision(log_p, log_p, pseudo, torch.ones(1, 3, 3, 3))) == pytest.approx(
        float(soft_cross_entropy(log_p, pseudo).mean())
    )


def test_voxels_on_which_the_decoders_disagree_count_less_and_the_disagreement_counts() -> None:
    log_p, other = torch.log_softmax(voxels(0.9, 0.9), 1), torch.log_softmax(voxels(0.9, 0.2), 1)
    apart = 0.2 * math.log(0.2 / 0.9) + 0.8 * math.log(0.8 / 0.1)
    weight = math.exp(-apart)
    pseudo = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(1, 2, 1, 1, 2)
    # three of the first and two of the second, because less than one voxel's weight counts as one
    by_hand = (-3 * math.log(0.9) - 2 * math.log(0.1) * weight) / (3 + 2 * weight) + 2 * apart / 5
    spread = [torch.cat([part[..., [0]].expand(*part.shape[:-1], 3), part[..., [1]].expand(*part.shape[:-1], 2)], -1)
              for part in (log_p, other, pseudo)]  # fmt: skip
    assert float(cross_supervision(*spread, torch.ones(1, 1, 1, 5))) == pytest.approx(by_hand, abs=1e-5)
    alone = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 5)
    assert float(cross_supervision(*spread, alone)) == pytest.approx(-math.log(0.9) + 2 * apart / 5, abs=1e-5)


@pytest.mark.parametrize(
    ("foreground", "label", "upwards"),
    [(0.7, IGNORE, True), (0.94, IGNORE, True), (0.3, IGNORE, False), (0.1, 1, True), (0.9, 0, False)],
)
def test_pseudo_labels_push_where_they_point(foreground: float, label: int, upwards: bool) -> None:
    """With equal decoders. An all-background target, which the released code has, pushes down everywhere."""
    logits = voxels(foreground).requires_grad_()
    log_p = torch.log_softmax(logits, 1)
    p = log_p.detach().exp()
    pseudo = pseudo_label(p, p, 0.5, known(label))
    cross_supervision(log_p, log_p.detach(), pseudo, torch.ones(1, 1, 1, 1)).backward()
    slope = float(logits.grad[0, 1])
    assert slope < 0 if upwards else slope > 0
