"""The parameters of a network by what kind of module they belong to; names of parameters say nothing here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lnauto.errors import InputError

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # the first: batch and instance norms of all dimensions
NEURONS = (_ConvNd, nn.Linear)  # of the weights of these each output has its own

Neurons = _ConvNd | nn.Linear


@dataclass(frozen=True)
class ParameterGroups:
    """Each parameter is in one of these."""

    heads: list[nn.Parameter] = field(default_factory=list)  # what turns features into classes, at every scale
    scales: list[nn.Parameter] = field(default_factory=list)  # of norms
    shifts: list[nn.Parameter] = field(default_factory=list)  # of norms
    biases: list[nn.Parameter] = field(default_factory=list)  # of everything else
    neurons: list[Neurons] = field(default_factory=list)  # the modules; theirs are the weights
    others: list[nn.Parameter] = field(default_factory=list)  # of no such module, like a transformer's place embedding

    @property
    def weights(self) -> list[nn.Parameter]:
        return [cast(nn.Parameter, module.weight) for module in self.neurons]

    @property
    def dense(self) -> list[nn.Parameter]:
        """All but the weights, which are nearly all."""
        return [*self.heads, *self.scales, *self.shifts, *self.biases]


def parameter_groups(network: nn.Module) -> ParameterGroups:
    """Of a U-Net of nnU-Net's."""
    groups = ParameterGroups(heads=list(heads_of(network).parameters()))
    seen = {id(parameter) for parameter in groups.heads}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if isinstance(module, NORMS):
                (groups.scales if name == "weight" else groups.shifts).append(parameter)
            elif isinstance(module, NEURONS) and name == "weight":
                groups.neurons.append(module)
            elif isinstance(module, NEURONS):
                groups.biases.append(parameter)
            else:
                groups.others.append(parameter)
    return groups


def heads_of(network: Any) -> nn.Module:
    heads = getattr(getattr(network, "decoder", None), "seg_layers", None)
    if not isinstance(heads, nn.Module):
        raise InputError.of(
            f"the heads of {type(network).__name__} cannot be told from the rest of it",
            "the plan's architecture",
            "use a U-Net of nnU-Net's, or --tune full",
        )
    return heads


def decoder_of(network: Any) -> list[nn.Parameter]:
    """The decoder's parameters with its heads', without the encoder's, which nnU-Net's decoder lists as its own."""
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    return [parameter for parameter in network.decoder.parameters() if id(parameter) not in encoder]


def output_axis(module: Neurons) -> int:
    """The axis of a weight along which there is one index per output."""
    return 1 if isinstance(module, _ConvTransposeNd) and module.groups == 1 else 0
