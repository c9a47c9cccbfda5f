"""One encoder, several decoders: while training they disagree usefully; what predicts is the network as it was.

The first decoder is the network's own. Each further one is a copy with weights of its own, wider dilation if asked for, and
random features dropped before it, so that it sees the same image in another way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnauto.errors import InputError
from lnauto.networks.dilation import dilate

Initialise = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Auxiliary:
    """A further decoder."""

    dilation: int = 1
    drop: tuple[float, float] = (0.5, 0.5)  # the share of features dropped is drawn anew for each batch, between these
    init: Initialise | None = None  # None: it starts from the first decoder's weights


class MultiDecoder(nn.Module):
    """A segmentation network of nnU-Net's with further decoders on its encoder.

    In training it answers with one output per decoder; in evaluation it is the plain network, at the plain network's cost.
    """

    def __init__(self, network: nn.Module, auxiliaries: Sequence[Auxiliary], patch: Sequence[int]) -> None:
        super().__init__()
        if not (hasattr(network, "encoder") and hasattr(network, "decoder") and hasattr(network.decoder, "stages")):
            raise InputError.of(
                f"{type(network).__name__} has no encoder and decoder that could be told apart, and this trainer adds decoders",
                "the plan's architecture",
                "use a U-Net of nnU-Net's, or -tr LNTrainerIgnore",
            )
        self.network = network
        self.drops = [auxiliary.drop for auxiliary in auxiliaries]
        self.auxiliary = nn.ModuleList(_another(network, auxiliary, patch) for auxiliary in auxiliaries)

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder  # type: ignore[return-value]

    @property
    def decoder(self) -> nn.Module:
        """Under the name by which nnU-Net turns deep supervision on and off."""
        return self.network.decoder  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Tensor | list[Tensor] | list[Tensor | list[Tensor]]:
        if not self.training:
            return self.network(image)
        skips = self.encoder(image)
        outputs = [self.decoder(skips)]
        for decoder, (low, high) in zip(self.auxiliary, self.drops, strict=True):
            share = low + (high - low) * float(torch.rand(()))
            outputs.append(decoder([functional.dropout3d(feature, share) for feature in skips]))
        return outputs


def _another(network: Any, auxiliary: Auxiliary, patch: Sequence[int]) -> nn.Module:
    first: Any = network.decoder
    decoder: Any = copy.deepcopy(first, {id(first.encoder): first.encoder})
    decoder.encoder = None  # the copy would list the shared encoder's weights as its own
    decoder.deep_supervision = False
    if auxiliary.init is not None:
        decoder.apply(auxiliary.init)
    if auxiliary.dilation > 1:
        _dilate(decoder, auxiliary.dilation, _sizes(network, patch))
    return decoder


def _sizes(network: Any, patch: Sequence[int]) -> list[list[int]]:
    """Of the feature maps a decoder's stages work on, from the coarsest to the finest."""
    sizes, size = [], list(patch)
    for stride in network.encoder.strides:
        steps = [stride] * len(size) if isinstance(stride, int) else stride
        size = [side // step for side, step in zip(size, steps, strict=True)]
        sizes.append(size)
    return sizes[-2::-1]


def _dilate(decoder: Any, dilation: int, sizes: list[list[int]]) -> None:
    """Dilation that reaches no further than half a feature map: beyond, a kernel would see its middle and padding only."""
    for stage, size in zip(decoder.stages, sizes, strict=True):
        dilate(stage, [max(1, min(dilation, side // 2)) for side in size])
