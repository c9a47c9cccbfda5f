"""Layers that leave channels-last tensors as they are: the same numbers and gradients as the layers they take the place of."""

from __future__ import annotations

import copy

import pytest
import torch

from lnauto.networks.channels_last import (
    ChannelsLastAvgPool3d,
    ChannelsLastConvTranspose3d,
    ChannelsLastInstanceNorm3d,
    use_channels_last,
)
from lnauto.networks.compute import Compute


def test_the_channels_last_norm_equals_the_stock_one() -> None:
    torch.manual_seed(0)
    stock = torch.nn.Sequential(
        torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.InstanceNorm3d(8, affine=True), torch.nn.LeakyReLU()
    )
    torch.nn.init.normal_(stock[1].weight)
    torch.nn.init.normal_(stock[1].bias)
    fast = use_channels_last(copy.deepcopy(stock))
    assert isinstance(fast[1], ChannelsLastInstanceNorm3d)
    assert list(fast.state_dict()) == list(stock.state_dict())
    image, direction = torch.randn(2, 1, 8, 9, 10), torch.randn(2, 8, 8, 9, 10)
    outputs, gradients = [], []
    for network in (stock, fast):
        output = network(image)
        (output * direction).sum().backward()
        outputs.append(output)
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)
    placed = Compute(torch.device("cpu"), "fp32", channels_last=True).place(image)
    assert fast(placed).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_channels_last_transposed_convolution_equals_the_stock_one(autocast: bool) -> None:
    torch.manual_seed(0)
    stock = torch.nn.Sequential(torch.nn.ConvTranspose3d(4, 8, 2, 2))
    fast = use_channels_last(copy.deepcopy(stock))
    assert isinstance(fast[0], ChannelsLastConvTranspose3d)
    assert list(fast.state_dict()) == list(stock.state_dict())
    image, beside = torch.randn(2, 4, 5, 6, 7), torch.randn(2, 3, 10, 12, 14)
    direction = torch.randn(2, 11, 10, 12, 14)
    outputs, gradients = [], []
    for network in (stock, fast):
        given = image.clone(memory_format=torch.channels_last_3d).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = network(given)
        (torch.cat((output, beside), 1) * direction).sum().backward()  # so its gradient is a slice, as in a decoder
        outputs.append(output)
        gradients.append([given.grad, *(parameter.grad for parameter in network.parameters())])
    assert torch.equal(*outputs)
    stock_kept, kept = (output.is_contiguous(memory_format=torch.channels_last_3d) for output in outputs)
    assert kept == stock_kept
    assert kept or autocast  # processors without instructions for bf16 lay its results out in another way
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=0.02 if autocast else 1e-4, atol=0.1 if autocast else 1e-4)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert torch.equal(fast(image), outputs[1])


@pytest.mark.parametrize("block", [(2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_channels_last_pooling_equals_the_stock_one(block: tuple[int, ...], autocast: bool) -> None:
    stock = torch.nn.Sequential(torch.nn.AvgPool3d(block, block))
    fast = use_channels_last(copy.deepcopy(stock))
    assert isinstance(fast[0], ChannelsLastAvgPool3d)
    torch.manual_seed(0)
    image = torch.randn(2, 4, 6, 8, 10).bfloat16() if autocast else torch.randn(2, 4, 6, 8, 10)
    image = image.contiguous(memory_format=torch.channels_last_3d)
    outputs, gradients = [], []
    for network in (stock, fast):
        given = image.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = network(given)
        (output.float() ** 2).sum().backward()
        outputs.append(output.to(image.dtype))
        gradients.append(given.grad)
    assert torch.equal(*outputs) if autocast else torch.allclose(*outputs, rtol=1e-5)
    assert torch.allclose(*gradients, rtol=0.02 if autocast else 1e-5)
    assert outputs[1].is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("pool", [torch.nn.AvgPool3d(3, 2), torch.nn.AvgPool3d(2, 2, 1), torch.nn.AvgPool3d(2, ceil_mode=True)])
def test_pooling_over_blocks_that_overlap_or_reach_over_is_left_alone(pool: torch.nn.AvgPool3d) -> None:
    assert use_channels_last(torch.nn.Sequential(pool))[0] is pool


def test_pooling_leaves_out_what_no_block_fills() -> None:
    image = torch.randn(1, 2, 5, 5, 5)
    fast = use_channels_last(torch.nn.Sequential(torch.nn.AvgPool3d(2)))
    assert torch.equal(fast(image), torch.nn.AvgPool3d(2)(image))
