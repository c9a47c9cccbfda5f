"""Which weights may move: positions, counts on the standard network, and what puts the others back."""

from __future__ import annotations

import math

import pytest
import torch
from building import STANDARD
from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.networks.build import build
from lnauto.trainers.options import Tune
from lnauto.trainers.parameter_groups import decoder_of, output_axis, parameter_groups
from lnauto.trainers.sparsity import Touched, as_mask, largest_per_row, put_back

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


@pytest.fixture(scope="module")
def standard() -> nn.Module:
    """nnU-Net's plain six-stage network of 31 M, without memory."""
    with torch.device("meta"):
        return build(STANDARD, 1, 2, deep_supervision=True, allow_init=False)


def rows_of(values: Tensor, axis: int) -> Tensor:
    return values.movedim(axis, 0).flatten(1)


# ---- positions


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("k", [1, 3, 1000])
def test_each_row_has_its_k_largest(layout: torch.memory_format, axis: int, k: int) -> None:
    values = torch.randn(5, 4, 3, 2, 3, generator=torch.Generator().manual_seed(k)).to(memory_format=layout)
    length = values.numel() // values.shape[axis]
    positions = largest_per_row(values, min(k, length), axis)
    assert len(set(positions.tolist())) == len(positions)
    mask = rows_of(as_mask(positions, values.shape), axis)
    magnitudes = rows_of(values.abs(), axis)
    assert (mask.sum(1) == min(k, length)).all()
    assert (magnitudes.where(mask, torch.inf).amin(1) >= magnitudes.where(~mask, -1.0).amax(1)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_everything_is_put_back_but_the_positions(layout: torch.memory_format) -> None:
    before = torch.randn(5, 4, 3, 2, 3).to(memory_format=layout)
    weight = before + 1
    mask = torch.rand(weight.shape) < 0.2
    put_back(weight, before, mask.flatten().nonzero()[:, 0])
    assert torch.equal(weight, torch.where(mask, before + 1, before))


def test_k_is_a_number_or_a_share_and_never_none_of_a_row() -> None:
    assert [Tune("dgst", k).of_row(200) for k in (None, 1, 7, 500, 0.1, 0.001)] == [1, 1, 7, 200, 20, 1]


IMPOSSIBLE = [*(("dgst", k) for k in (0, -1, 1.5, math.inf, math.nan)), ("head", 2), ("gradient", None)]


@pytest.mark.parametrize(("method", "k"), IMPOSSIBLE)
def test_a_tuning_that_cannot_be_is_refused(method: str, k: float | None) -> None:
    with pytest.raises(InputError, match="--tune"):
        Tune(method, k)


def test_every_number_that_was_chosen_once_counts_once() -> None:
    touched, known = Touched(1003, torch.device("cpu")), set[int]()
    for seed in range(5):
        positions = torch.randperm(1003, generator=torch.Generator().manual_seed(seed))[: 60 * seed]
        touched.add(positions)
        known |= set(positions.tolist())
    assert 0 < touched.count() == len(known) < 1003


# ---- the standard network


@pytest.mark.parametrize(("k", "per_output", "released"), [(1, 18_570, 18_858), (2, 23_210, 23_786)])
def test_as_many_numbers_of_the_standard_network_move_as_by_hand(
    standard: nn.Module, k: int, per_output: int, released: int
) -> None:
    groups = parameter_groups(standard)
    assert sum(parameter.numel() for parameter in standard.parameters()) == 31_113_098
    assert sum(parameter.numel() for parameter in groups.dense) == 13_930
    counts = {"per output": 13_930, "released": 13_930}
    for module in groups.neurons:
        gradient = torch.randn(module.weight.shape)
        for convention, axis in (("per output", output_axis(module)), ("released", 0)):
            counts[convention] += int(as_mask(largest_per_row(gradient, k, axis), gradient.shape).sum())
    assert counts == {"per output": per_output, "released": released}


def test_a_transposed_convolution_has_a_row_per_output_channel() -> None:
    module = nn.ConvTranspose3d(6, 4, 2, 2)
    gradient = torch.randn(module.weight.shape)
    mask = as_mask(largest_per_row(gradient, 1, output_axis(module)), gradient.shape)
    assert mask.sum((0, 2, 3, 4)).tolist() == [1] * 4
    assert output_axis(nn.Conv3d(6, 4, 2)) == output_axis(nn.ConvTranspose3d(6, 6, 2, groups=6)) == 0


# ---- groups


def test_every_parameter_is_in_one_group(standard: nn.Module) -> None:
    groups = parameter_groups(standard)
    ids = [id(parameter) for parameter in (*groups.dense, *groups.weights, *groups.others)]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(parameter) for parameter in standard.parameters()}


def test_groups_follow_the_modules_and_not_the_names() -> None:
    """The released code asks whether a name holds norm, bias, head or gamma."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = network_encoder
            self.seg_layers = nn.ModuleList([nn.Conv3d(4, 2, 1)])
            self.overhead = nn.ConvTranspose3d(4, 4, 2, 2)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = network_encoder
            self.decoder = Decoder()
            self.biased_norm = nn.Conv3d(1, 4, 1)
            self.first = nn.GroupNorm(2, 4)
            self.gamma = nn.Parameter(torch.ones(4))

    network_encoder = nn.Linear(3, 5)
    network = Network()
    groups = parameter_groups(network)
    assert _same(groups.heads, network.decoder.seg_layers.parameters())
    assert _same(groups.scales, [network.first.weight])
    assert _same(groups.shifts, [network.first.bias])
    assert _same(groups.biases, [network_encoder.bias, network.decoder.overhead.bias, network.biased_norm.bias])
    assert _same(groups.weights, [network_encoder.weight, network.decoder.overhead.weight, network.biased_norm.weight])
    assert _same(groups.others, [network.gamma])
    assert _same(decoder_of(network), [*network.decoder.seg_layers.parameters(), *network.decoder.overhead.parameters()])


def test_a_network_without_heads_is_named() -> None:
    with pytest.raises(InputError, match="the heads of Conv3d"):
        parameter_groups(nn.Conv3d(1, 1, 1))


def _same(found: object, expected: object) -> bool:
    return {id(each) for each in found} == {id(each) for each in expected}  # type: ignore[attr-defined]


def test_the_standard_decoder_leaves_the_encoder_out(standard: nn.Module) -> None:
    expected = [value for name, value in standard.named_parameters() if name.startswith("decoder.")]
    assert len(expected) > 30
    assert _same(decoder_of(standard), expected)
