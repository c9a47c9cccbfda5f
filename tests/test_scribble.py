"""Strokes: the terms of TDNet's loss against figures by hand, and its decoders. (The training: test_scribble_training.py.)"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from building import random_logits
from torch import Tensor

from lnauto.networks.dilation import DilatedConv3d
from lnauto.networks.multi_decoder import MultiDecoder
from lnauto.trainers.scribble import (
    LNTrainerScribble,
    class_table,
    partial_cross_entropy,
    pixel_consistency,
    projection_consistency,
)

IGNORE = 2


def uspc(*branches: Tensor) -> Tensor:
    log_p = [torch.log_softmax(each, 1) for each in branches]
    return pixel_consistency([each.exp() for each in log_p], log_p)


def mpcc(*branches: Tensor) -> Tensor:
    return projection_consistency([torch.softmax(each, 1) for each in branches])


def voxels(*foreground: float) -> Tensor:
    """Logits of two classes with these probabilities of foreground, one voxel beside the other."""
    p = torch.tensor(foreground).view(1, 1, 1, 1, -1)
    return torch.cat([torch.log(1 - p), torch.log(p)], dim=1)


# ---- pixel consistency


@pytest.mark.parametrize("classes", [2, 4])
def test_pixel_consistency_is_zero_where_all_decoders_agree_and_positive_where_one_does_not(classes: int) -> None:
    same, other = random_logits(0, classes), random_logits(1, classes)
    assert abs(float(uspc(same, same, same))) < 1e-6
    for odd in range(3):
        branches = [other if number == odd else same for number in range(3)]
        assert float(uspc(*branches)) > 0.01


def test_pixel_consistency_is_the_divergence_from_each_decoder_to_their_mean() -> None:
    """Foreground .9, .9 and .3, mean .7: .1905; in the other direction it would be .2154."""
    often = 0.9 * math.log(0.9 / 0.7) + 0.1 * math.log(0.1 / 0.3)
    once = 0.3 * math.log(0.3 / 0.7) + 0.7 * math.log(0.7 / 0.3)
    assert (2 * often + once) / 3 == pytest.approx(0.1905, abs=1e-4)
    assert float(uspc(voxels(0.9), voxels(0.9), voxels(0.3))) == pytest.approx((2 * often + once) / 3, abs=1e-6)


def test_a_voxel_weighs_what_its_mean_is_sure_of() -> None:
    """Beside voxels that all agree on, one that they do not agree on counts with exp(-entropy); uniform counts 1/C, one-hot 1."""
    odd = [(0.6,), (0.8,), (0.7,)]
    alone = float(uspc(*(voxels(*p) for p in odd)))
    own = math.exp(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
    for sure, weight in ((0.5, 0.5), (1 - 1e-7, 1.0)):
        together = float(uspc(*(voxels(*p, sure) for p in odd)))
        assert together == pytest.approx(alone * own / (own + weight), rel=1e-4)


def test_pixel_consistency_is_not_lowered_by_being_unsure() -> None:
    """The gradient is that of the divergences alone, at fixed weights."""
    branches = [voxels(p, q).requires_grad_() for p, q in ((0.9, 0.6), (0.7, 0.8), (0.3, 0.9))]
    uspc(*branches).backward()
    p = torch.stack([torch.softmax(each.detach(), 1) for each in branches])
    mean = p.mean(0)
    weight = torch.exp((mean * mean.log()).sum(1))
    ratio = (p / mean).log()
    for each, got in zip(range(3), branches, strict=True):
        inner = p[each] * (ratio[each] - (p[each] * ratio[each]).sum(1, keepdim=True)) / 3
        assert torch.allclose(got.grad, inner * weight[:, None] / weight.sum(), atol=1e-6)


def test_pixel_consistency_has_finite_gradients_where_every_decoder_is_certain() -> None:
    branches = [torch.tensor([[300.0], [-300.0]]).view(1, 2, 1, 1, 1).repeat(1, 1, 2, 2, 2).requires_grad_() for _ in range(3)]
    (uspc(*branches) + mpcc(*branches)).backward()
    assert all(bool(torch.isfinite(each.grad).all()) for each in branches)


# ---- projection consistency


def test_projection_consistency_is_zero_for_equal_decoders_and_positive_for_others() -> None:
    assert abs(float(mpcc(random_logits(0), random_logits(0), random_logits(0)))) < 1e-6
    assert float(mpcc(random_logits(0), random_logits(0), 3 * random_logits(1) + 1)) > 1e-5


def test_the_class_table_is_symmetric_sums_to_one_and_counts_what_meets_in_the_projection() -> None:
    p = torch.zeros(1, 2, 2, 1, 2)
    p[0, 0, :, 0, 0] = 1.0  # one column of background, one half of each class
    p[0, 0, 0, 0, 1] = p[0, 1, 1, 0, 1] = 1.0
    table = class_table(p, view=2)
    assert torch.allclose(table, torch.tensor([[[1.25, 0.25], [0.25, 0.25]]]) / 2)
    many = class_table(torch.softmax(random_logits(3, classes=4), 1), view=3)
    assert torch.allclose(many, many.transpose(1, 2))
    assert torch.allclose(many.sum(dim=(1, 2)), torch.ones(2))


def test_projection_consistency_compares_every_decoder_with_their_mean_in_every_view() -> None:
    p = [torch.softmax(random_logits(seed), 1).numpy().astype(np.float64) for seed in range(3)]
    terms = []
    for axis in (2, 3, 4):
        flat = [each.mean(axis).reshape(2, 3, -1) for each in p]
        tables = [each @ each.transpose(0, 2, 1) for each in flat]
        tables = [each / each.sum((1, 2), keepdims=True) for each in tables]
        mean = sum(tables) / 3
        terms += [(each * np.log(each / mean)).sum((1, 2)).mean() for each in tables]
    assert float(mpcc(*(random_logits(seed) for seed in range(3)))) == pytest.approx(sum(terms) / 9, rel=1e-4)


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_projection_consistency_does_not_see_a_flip_within_the_plane(axis: int) -> None:
    """Nor one across it: a class table says what meets, not where."""
    branches = [random_logits(seed) for seed in range(3)]
    flipped = [branches[0], branches[1].flip(axis), branches[2]]
    assert torch.allclose(mpcc(*flipped), mpcc(*branches), rtol=1e-4)
    for view in {2, 3, 4} - {axis}:
        p = torch.softmax(branches[0], 1)
        assert torch.allclose(class_table(p.flip(axis), view), class_table(p, view), atol=1e-6)


# ---- partial cross-entropy


def test_only_drawn_voxels_have_a_gradient_and_all_decoders_share_it() -> None:
    branches = [random_logits(seed, classes=2).requires_grad_() for seed in range(3)]
    target = torch.full((2, 4, 5, 6), IGNORE)
    target[0, 1, 2, 3], target[1, 0, 0, 0] = 1, 0
    loss = partial_cross_entropy([torch.log_softmax(each, 1) for each in branches], target, IGNORE)
    expected = [torch.nn.functional.cross_entropy(each, target, ignore_index=IGNORE) for each in branches]
    assert torch.allclose(loss, torch.stack(expected).mean())
    loss.backward()
    for each in branches:
        assert bool((each.grad.movedim(1, -1)[target == IGNORE] == 0).all())
        assert bool((each.grad.movedim(1, -1)[target != IGNORE] != 0).all())


def test_a_batch_without_a_drawn_voxel_costs_nothing() -> None:
    one = random_logits(0).requires_grad_()
    loss = partial_cross_entropy([torch.log_softmax(one, 1)], torch.full((2, 4, 5, 6), 3), 3)
    loss.backward()
    assert loss == 0
    assert float(one.grad.abs().max()) == 0


# ---- the decoders


SMALL_NET = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": 1,
        "n_conv_per_stage_decoder": 1,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
}


def decoders(side: int = 24) -> MultiDecoder:
    from lnauto.networks.build import build

    torch.manual_seed(0)
    network = build(SMALL_NET, 1, 2, deep_supervision=False)
    return MultiDecoder(network, LNTrainerScribble.auxiliaries(None), [side] * 3)  # type: ignore[arg-type]


def test_a_dilated_decoder_looks_further_than_the_first() -> None:
    """How far from the middle the finest features are looked at; norms would let every voxel see all others."""
    network = decoders()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.InstanceNorm3d):
                setattr(module, name, torch.nn.Identity())
    skips = [each.detach() for each in network.encoder(torch.randn(1, 1, 24, 24, 24))]
    reach = []
    for decoder in (network.decoder, *network.auxiliary):
        finest = skips[0].clone().requires_grad_()
        decoder([finest, *skips[1:]])[0, 1, 12, 12, 12].backward()
        assert finest.grad is not None
        seen = torch.nonzero(finest.grad.abs().sum(dim=(0, 1)))
        reach.append((seen - 12).abs().amax(dim=0).tolist())
    assert reach == [[1, 1, 1], [3, 3, 3], [6, 6, 6]]


def test_prediction_is_bit_for_bit_the_first_decoders_output() -> None:
    network, image = decoders(), torch.randn(2, 1, 24, 24, 24)
    first, second, third = network.train()(image)
    alone = network.eval()(image)
    assert torch.equal(alone, first)
    assert torch.equal(alone, network.network.eval()(image))
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(second, third, atol=1e-3)


def test_up_to_half_of_the_features_are_dropped_before_the_further_decoders_alone() -> None:
    network, image = decoders().train(), torch.randn(1, 1, 24, 24, 24)
    dropped: list[float] = []

    def look(module: torch.nn.Module, given: tuple[list[Tensor]]) -> None:
        empty = [(feature == 0).all(dim=(2, 3, 4)) for feature in given[0]]
        dropped.append(float(torch.cat(empty, dim=1).float().mean()))

    for decoder in (network.decoder, *network.auxiliary):
        decoder.register_forward_pre_hook(look)
    for _ in range(40):
        network(image)
    first, second, third = np.array(dropped).reshape(40, 3).T
    assert first.max() == 0
    for further in (second, third):
        assert further.mean() == pytest.approx(0.25, abs=0.1)
        assert further.std() > 0.1


def test_the_decoders_start_from_three_kinds_of_weights() -> None:
    network = decoders()
    spread = []
    for decoder in (network.decoder, *network.auxiliary):
        conv = next(each for each in decoder.stages.modules() if isinstance(each, torch.nn.Conv3d))  # 16 to 8 features
        spread.append(float(conv.weight.detach().std()))
        assert float(conv.bias.detach().abs().max()) == 0  # type: ignore[union-attr]
    kaiming, xavier = math.sqrt(2 / (16 * 27)), math.sqrt(2 / ((16 + 8) * 27))
    assert spread == pytest.approx([kaiming, xavier, 0.02], rel=0.05)


@pytest.mark.parametrize("dilation", [(3, 3, 3), (2, 1, 4), (1, 3, 3), (6, 6, 6)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3)])
@pytest.mark.parametrize("slices", [4, 7, 13, 14])
def test_a_fast_dilated_convolution_has_the_gradients_of_a_plain_one(
    slices: int, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    fast = DilatedConv3d.like(torch.nn.Conv3d(3, 5, kernel, padding="same", dtype=torch.float64), dilation)
    plain = torch.nn.Conv3d(3, 5, kernel, padding=fast.padding, dilation=fast.dilation, dtype=torch.float64)
    plain.load_state_dict(fast.state_dict())
    image = torch.randn(2, 3, slices, 9, 8, dtype=torch.float64)
    found = []
    for conv in (fast, plain):
        x = image.clone().requires_grad_()
        y = conv(x)
        (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)).sum().backward()
        assert conv.bias is not None
        found.append((y.detach(), x.grad, conv.weight.grad, conv.bias.grad))
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert torch.allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("slices", [4, 5, 6, 7, 9, 12])
def test_weights_learn_the_same_in_bf16(slices: int) -> None:
    """Two slices a sample would be enough for oneDNN to answer with uninitialised memory."""
    torch.manual_seed(0)
    conv = DilatedConv3d.like(torch.nn.Conv3d(16, 16, 3), (3, 3, 3)).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 16, slices, 10, 10).contiguous(memory_format=torch.channels_last_3d)
    gradients = []
    for reduced in (False, True):
        conv.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            y = conv(x)
        y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape).to(y.dtype))
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad)
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 0.02
