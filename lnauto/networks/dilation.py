"""Dilated 3D convolutions whose weights learn as fast as those of dense ones, on a CPU.

oneDNN has no fast kernel for the gradient of the weights where the first spatial axis is dilated: that gradient alone then takes
two to six times as long as without dilation, and a decoder of dilation 3 or 6 twice as long as a dense one
(documentation/methods/scribble.md). Slices that are `dilation` apart never meet the slices between them. So the gradient is
that of a convolution dense along this axis over every dilation-th slice, summed over where one starts: the same products in
another order. Forward pass and the gradient of the input are fast as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_convolution_backward = torch.ops.aten.convolution_backward


class DilatedConv3d(nn.Conv3d):
    """`nn.Conv3d` of stride 1 that keeps the size of what it is given; its weights have the same names and values."""

    @classmethod
    def like(cls, conv: nn.Conv3d, dilation: Sequence[int]) -> DilatedConv3d:
        """`conv` with its kernel spread out, where it is wider than a voxel; with the very same weights."""
        spread = [each if side > 1 else 1 for each, side in zip(dilation, conv.kernel_size, strict=True)]
        padding = [each * (side // 2) for each, side in zip(spread, conv.kernel_size, strict=True)]
        bias, shape = conv.bias is not None, conv.kernel_size
        made = cls(conv.in_channels, conv.out_channels, shape, 1, tuple(padding), tuple(spread), bias=bias, device="meta")  # type: ignore[arg-type]
        made.weight, made.bias = conv.weight, conv.bias
        return made

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled() or not _pays(x.shape[2], self.dilation[0]):
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        result: Tensor = _Convolution.apply(x.to(dtype), self.weight.to(dtype), bias, self.padding, self.dilation)
        return result


def dilate(module: nn.Module, dilation: Sequence[int]) -> None:
    """Exchange the 3D convolutions within a module for dilated ones, in place; names and values of the weights stay."""
    exchanged: dict[int, DilatedConv3d] = {}  # nnU-Net registers a module under several names
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv3d):
                setattr(parent, name, exchanged.setdefault(id(child), DilatedConv3d.like(child, dilation)))


def _pays(slices: int, dilation: int) -> bool:
    """Whether every slice has others to meet on both sides; with fewer there is little to gain.

    With just two slices it would be wrong, too: oneDNN's bf16 gradient of the weights is uninitialised memory there (torch 2.15).
    """
    return dilation > 1 and slices > 2 * dilation


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Any, dilation: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation, ctx.has_bias = padding, dilation, bias is not None
        return functional.conv3d(x, weight, bias, 1, padding, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        padding, dilation = ctx.padding, ctx.dilation
        of_input, _, _ = _backward(gradient, x, weight, padding, dilation, [ctx.needs_input_grad[0], False, False])
        step = dilation[0]
        _, of_weight, of_bias = _backward(
            every_nth_slice(gradient, step),
            every_nth_slice(x, step),
            weight,
            [padding[0] // step, *padding[1:]],
            [1, *dilation[1:]],
            [False, True, ctx.has_bias],
        )
        return of_input, of_weight, of_bias, None, None


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, padding: Any, dilation: Any, wanted: list[bool]) -> Any:
    sizes = [weight.shape[0]] if wanted[2] else None
    return _convolution_backward(gradient, x, weight, sizes, [1, 1, 1], padding, dilation, False, [0, 0, 0], 1, wanted)


def every_nth_slice(x: Tensor, n: int) -> Tensor:
    """Slices 0, n, 2n, ... of every sample as a sample of their own, likewise 1, n + 1, ... and so on; filled up with zeros."""
    if missing := -x.shape[2] % n:
        x = functional.pad(x, (0, 0, 0, 0, 0, missing))
    return torch.cat([x[:, :, start::n] for start in range(n)])
