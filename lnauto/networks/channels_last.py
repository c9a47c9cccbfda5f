"""Layers that leave channels-last tensors as they are.

PyTorch computes instance normalisation as a batch normalisation of the reshaped tensor, which forces channels-last
activations into the contiguous layout and back, in the forward and in the backward pass: on a CPU with bf16 convolutions
those copies were 30 % of a training step (documentation/benchmarks.md). Batch normalisation of one sample at a time is
the same formula and has channels-last kernels. Its average pooling answers channels-last tensors with contiguous ones and,
under autocast on a CPU, makes a copy in fp32 first; the outcome here is the same in bf16 to the last bit. The gradient of a
transposed convolution's bias takes oneDNN longer than all else of that layer's backward pass.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelsLastInstanceNorm3d(nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` without running statistics, sample by sample."""

    def forward(self, x: Tensor) -> Tensor:
        normalised = [
            functional.batch_norm(sample, None, None, self.weight, self.bias, training=True, momentum=0.0, eps=self.eps)
            for sample in x.split(1)
        ]
        return normalised[0] if len(normalised) == 1 else torch.cat(normalised)


class ChannelsLastConvTranspose3d(nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` whose bias gets its gradient from a plain sum."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.bias is None or output_size is not None or not torch.is_grad_enabled():
            return super().forward(x, output_size)
        padding = cast(tuple[int, ...], self.padding)  # "same" there is only for plain convolutions
        settings = self.stride, padding, self.output_padding, self.groups, self.dilation
        spread = functional.conv_transpose3d(x, self.weight, self.bias.detach(), *settings)
        biased: Tensor = _BiasAdded.apply(spread, self.bias)
        return biased

    @classmethod
    def like(cls, layer: nn.ConvTranspose3d) -> ChannelsLastConvTranspose3d:
        """One with the same weights."""
        same = copy.copy(layer)
        same.__class__ = cls
        return cast(ChannelsLastConvTranspose3d, same)


class _BiasAdded(torch.autograd.Function):
    """Of a tensor to which a bias was added already, where no gradient was kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype = bias.dtype
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)  # of a concatenation it is every other block
        return gradient, gradient.sum((0, 2, 3, 4)).to(ctx.dtype)


class ChannelsLastAvgPool3d(nn.AvgPool3d):
    """`nn.AvgPool3d` of blocks that lie side by side, such as residual encoders halve their skips with."""

    def forward(self, x: Tensor) -> Tensor:
        block = _of_each_axis(self.kernel_size)
        if any(side % step for side, step in zip(x.shape[2:], block, strict=True)):  # what is over is left out: rare
            return super().forward(x)
        pooled: Tensor = _BlockMeans.apply(x, block)
        return pooled

    @classmethod
    def like(cls, pool: nn.AvgPool3d) -> ChannelsLastAvgPool3d | None:
        """One that does the same, or None where blocks overlap or reach over the edge."""
        block, stride, padding = (_of_each_axis(value) for value in (pool.kernel_size, pool.stride, pool.padding))
        beside = block == stride and not any(padding) and not pool.ceil_mode
        return cls(block) if beside and pool.divisor_override is None else None


def _of_each_axis(value: Any) -> tuple[int, int, int]:
    z, y, x = (value,) * 3 if isinstance(value, int) else value
    return z, y, x


class _BlockMeans(torch.autograd.Function):
    """Means of blocks, added up in fp32 whatever the tensor is kept in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: tuple[int, ...]) -> Tensor:
        ctx.block = block
        n, c, *sides = x.shape
        dz, dy, dx = block
        places = x.permute(0, 2, 3, 4, 1).reshape(n, sides[0] // dz, dz, sides[1] // dy, dy, sides[2] // dx, dx, c)
        total = places[:, :, 0, :, 0, :, 0].to(torch.float32, copy=True)
        for corner in list(itertools.product(range(dz), range(dy), range(dx)))[1:]:
            total += places[:, :, corner[0], :, corner[1], :, corner[2]]
        return (total / (dz * dy * dx)).to(x.dtype).permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        dz, dy, dx = ctx.block
        n, c, z, y, x = gradient.shape
        each = (gradient / (dz * dy * dx)).permute(0, 2, 3, 4, 1)[:, :, None, :, None, :, None]
        spread = each.expand(n, z, dz, y, dy, x, dx, c).reshape(n, z * dz, y * dy, x * dx, c)
        return spread.permute(0, 4, 1, 2, 3), None


def use_channels_last(network: nn.Module) -> nn.Module:
    """Lay the network's weights out channels-last and exchange layers that would not keep it, in place; names and values stay."""
    exchanged: dict[int, nn.Module] = {}  # nnU-Net registers a module under several names
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if id(child) not in exchanged:
                exchanged[id(child)] = _channels_last(child)
            if exchanged[id(child)] is not child:
                setattr(parent, name, exchanged[id(child)])
    return network.to(memory_format=torch.channels_last_3d)


def _channels_last(layer: nn.Module) -> nn.Module:
    """What computes the same as `layer` and leaves channels-last tensors as they are, if it is not that already."""
    if type(layer) is nn.InstanceNorm3d and not layer.track_running_stats:
        norm = ChannelsLastInstanceNorm3d(layer.num_features, layer.eps, affine=layer.affine)
        norm.weight, norm.bias = layer.weight, layer.bias
        return norm
    if type(layer) is nn.ConvTranspose3d:
        return ChannelsLastConvTranspose3d.like(layer)
    if type(layer) is nn.AvgPool3d:
        return ChannelsLastAvgPool3d.like(layer) or layer
    return layer
