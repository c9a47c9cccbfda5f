"""Low-rank adaptation: weights stay, and a product of two thin matrices is added to each.

Ours, in the place of `peft`, whose adapters nnU-Net's blocks never call (documentation/methods/tuning.md). It is a
parametrisation of PyTorch's, so that the network is run as it always was and its weights can be told merged at any time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from lnauto.trainers.parameter_groups import Neurons, output_axis

RANK, ALPHA = 32, 16  # as in the released code of DGST; the product counts ALPHA / RANK
INSIDE = ".parametrizations.weight."  # between a module's name and what PyTorch keeps of its parametrised weight


class LowRank(nn.Module):
    """What is added to a weight: one row per output, one column per number that feeds it."""

    def __init__(self, weight: Tensor, axis: int) -> None:
        super().__init__()
        rows, columns = weight.shape[axis], weight.numel() // weight.shape[axis]
        rank = max(1, min(RANK, rows * columns // (rows + columns)))  # no more numbers than the weight itself has
        self.axis = axis
        self.rows_first = weight.movedim(axis, 0).shape
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.is_meta:  # only shapes are asked for
            return weight
        with torch.autocast(weight.device.type, enabled=False):  # what is merged later is what was trained
            change = (self.up @ self.down).view(self.rows_first).movedim(0, self.axis)
            # Laid out as the weight is: convolutions answer in the layout of their weight, and that of a sum may be another.
            return torch.empty_like(weight).copy_(ALPHA / RANK * change).add_(weight)


def add_low_rank(modules: Iterable[Neurons]) -> list[nn.Parameter]:
    """Let every weight change by a product of low rank; the parameters that make it."""
    added: list[nn.Parameter] = []
    for module in modules:
        change = LowRank(module.weight.detach(), output_axis(module))
        register_parametrization(module, "weight", change)
        added += [change.up, change.down]
    return added


@torch.no_grad()
def merged(network: nn.Module) -> dict[str, Tensor]:
    """The state of the network as if it had been trained without low rank, under the names it had before."""
    whole: dict[int, Tensor] = {}  # nnU-Net registers a module under several names, and they are to share its memory
    result = {}
    for name, value in network.state_dict().items():
        place, inside, rest = name.partition(INSIDE)
        if not inside:
            result[name] = value
        elif rest == "original":
            module: Any = network.get_submodule(place)
            if id(module) not in whole:
                whole[id(module)] = module.weight
            result[f"{place}.weight"] = whole[id(module)]
    return result


def apart(network: nn.Module) -> dict[str, Tensor]:
    """What `merged` cannot tell: the weights that stay, and the products."""
    return {name: value for name, value in network.state_dict().items() if INSIDE in name}
