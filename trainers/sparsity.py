"""Which few weights of each output may move, and how the others are kept from it.

Positions are numbered as in a contiguous tensor, whatever the layout of the one they are of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def largest_per_row(values: Tensor, k: int, axis: int = 0) -> Tensor:
    """Positions of the k numbers of largest magnitude of each row: of everything that feeds one index of `axis`.

    `axis` is that of the outputs, 0 in a convolution and 1 in a transposed one; DGST's released code takes 0 in both.
    """
    others = sorted((other for other in range(values.ndim) if other != axis), key=values.stride, reverse=True)  # no copy
    rows = values.abs().permute(axis, *others).flatten(1)
    inside = rows.argmax(dim=1, keepdim=True) if k == 1 else rows.topk(k, dim=1, sorted=False).indices
    steps = torch.empty(values.shape, device="meta").stride()
    positions = torch.arange(len(rows), device=values.device)[:, None] * steps[axis]
    for place, other in zip(torch.unravel_index(inside, [values.shape[other] for other in others]), others, strict=True):
        positions = positions + place * steps[other]
    return positions.flatten()


def as_mask(positions: Tensor, shape: Sequence[int]) -> Tensor:
    """True at the positions."""
    mask = torch.zeros(math.prod(shape), dtype=torch.bool, device=positions.device)
    mask[positions] = True
    return mask.view(*shape)


@torch.no_grad()
def put_back(weight: Tensor, before: Tensor, but: Tensor) -> None:
    """Make a weight what it was before, but for the positions that were allowed to move; same layout."""
    stored = _as_stored(but, weight)
    line = weight.as_strided((weight.numel(),), (1,))
    moved = line[stored]
    weight.copy_(before)
    line[stored] = moved


def _as_stored(positions: Tensor, weight: Tensor) -> Tensor:
    """Where in memory the positions are, counted from the weight's first number; a weight has no gaps."""
    if weight.is_contiguous():
        return positions
    places = torch.unravel_index(positions, weight.shape)
    return torch.stack([place * step for place, step in zip(places, weight.stride(), strict=True)]).sum(dim=0)


class Touched:
    """Which of so many numbers were ever chosen: a bit each."""

    def __init__(self, numbers: int, device: torch.device) -> None:
        self.bits = torch.zeros((numbers + 7) // 8, dtype=torch.uint8, device=device)

    def add(self, positions: Tensor) -> None:
        """All different."""
        for bit in range(8):  # so that no byte is written twice at once
            self.bits[positions[positions % 8 == bit] // 8] |= 1 << bit

    def count(self) -> int:
        per_byte = torch.bincount(self.bits, minlength=256).tolist()
        return sum(times * byte.bit_count() for byte, times in enumerate(per_byte))
