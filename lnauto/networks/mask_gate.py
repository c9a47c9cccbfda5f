"""What a segmentation network sees where it sees nodes: its feature maps, pooled under its own mask.

With m the network's own logit that a voxel is node, detached, and T = 2,

    gate = sigmoid(m / T)    (m brought to the feature map's size),
    of a whole patch   z = mean of x * gate,
    of a component     z = sum of x * gate * component / sum of gate * component.

The first is as published, for images of one lesion each (documentation/methods/mask_gate.md). In three dimensions it says above
all how much of the patch is node: nodes are a hundredth of it. So a component's is a weighted mean, which does not depend on its
size: that is measured and told elsewhere. Sizes are changed by averaging: single points, as interpolation takes them, would miss
small nodes at coarse stages.

The arithmetic is fp32 whatever the network's: with mixed precision others met gradients that are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnauto.data.description import has_regions, outputs_of
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme

TEMPERATURE = 2.0
ENCODER, DECODER = "encoder_", "decoder_"  # and the level: 0 is the image's own resolution
MIDDLE = 2  # the level that is tapped where nothing was tried


@dataclass(frozen=True)
class NodeOutputs:
    """Which of a network's outputs are lymph nodes."""

    places: tuple[int, ...]
    exclusive: bool  # outputs are classes of which each voxel has one; else regions, which may overlap

    @classmethod
    def of_description(cls, description: Mapping[str, Any]) -> NodeOutputs:
        """From `dataset.json`."""
        nodes = LabelScheme.of_description({**description, "instances": False}).nodes
        labels = description["labels"]
        if has_regions(labels):
            outputs = outputs_of(labels)
            return cls(tuple(outputs.index(node.name) for node in nodes), exclusive=False)
        return cls(tuple(sorted(node.values[0] for node in nodes)), exclusive=True)

    def margin(self, logits: Tensor) -> Tensor:
        """The logit that a voxel is node (batch, 1, z, y, x)."""
        places = list(self.places)
        if not self.exclusive:
            return logits[:, places].amax(dim=1, keepdim=True)
        others = [place for place in range(logits.shape[1]) if place not in self.places]
        return (logits[:, places].logsumexp(dim=1) - logits[:, others].logsumexp(dim=1))[:, None]

    def drawn(self, target: Tensor) -> Tensor:
        """Where a label as nnU-Net's loader gives it is node (batch, 1, z, y, x), as numbers 0 and 1."""
        if not self.exclusive:
            return (target[:, list(self.places)] > 0.5).any(dim=1, keepdim=True).float()
        return torch.isin(target[:, :1], torch.tensor(self.places, device=target.device, dtype=target.dtype)).float()


class MaskGate(nn.Module):
    """A U-Net of nnU-Net's. Its `forward` is the segmentation; `features` is what it sees where it sees nodes."""

    def __init__(self, network: nn.Module, nodes: NodeOutputs) -> None:
        super().__init__()
        encoder, decoder = getattr(network, "encoder", None), getattr(network, "decoder", None)
        if not (getattr(encoder, "return_skips", False) and hasattr(encoder, "stages") and hasattr(decoder, "stages")):
            raise InputError.of(
                f"{type(network).__name__} has no encoder and decoder whose stages could be told apart",
                "the plan's architecture",
                "use a U-Net of nnU-Net's, or another trainer",
            )
        self.network = network
        self.nodes = nodes

    @property
    def encoder(self) -> Any:
        return self.network.encoder

    @property
    def decoder(self) -> Any:
        """Under the name by which nnU-Net turns deep supervision on and off."""
        return self.network.decoder

    @property
    def channels(self) -> dict[str, int]:
        """Every stage that can be tapped, from the finest to the coarsest, and how many numbers it gives."""
        widths = [int(width) for width in self.encoder.output_channels]
        encoder = {f"{ENCODER}{level}": width for level, width in enumerate(widths)}
        return encoder | {f"{DECODER}{level}": width for level, width in enumerate(widths[:-1])}

    def forward(self, image: Tensor) -> Any:
        return self.network(image)

    def look(self, image: Tensor, stages: Sequence[str]) -> tuple[Any, dict[str, Tensor]]:
        """What the network answers, and the feature maps of these stages, from one pass."""
        seen: dict[str, Tensor] = {}
        hooks = []
        for step, stage in enumerate(self.decoder.stages):  # from the coarsest to the finest
            name = f"{DECODER}{len(self.decoder.stages) - 1 - step}"
            if name in stages:
                hooks.append(stage.register_forward_hook(lambda _, __, found, name=name: seen.__setitem__(name, found)))
        try:
            skips = self.encoder(image)
            answer = self.decoder(skips)
        finally:
            for hook in hooks:
                hook.remove()
        return answer, seen | {name: skip for level, skip in enumerate(skips) if (name := f"{ENCODER}{level}") in stages}

    def features(self, image: Tensor, components: Tensor | None = None, stages: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Of each component (batch, components, z, y, x: 1 inside) its numbers at each stage (batch, components, channels);
        without components, those of the whole patch (batch, channels)."""
        stages = list(self.channels) if stages is None else stages
        answer, maps = self.look(image, stages)
        return {stage: self.pooled(maps[stage], answer, components) for stage in stages}

    def pooled(self, feature: Tensor, answer: Any, components: Tensor | None) -> Tensor:
        """One feature map under the mask of the same pass; no gradient reaches the mask."""
        logits = answer[0] if isinstance(answer, list | tuple) else answer  # with deep supervision the finest is the first
        with torch.autocast(logits.device.type, enabled=False):
            margin = self.nodes.margin(logits.detach().float())
            if components is None:
                return whole_patch(feature.float(), margin)
            return of_components(feature.float(), margin, components.float())


def whole_patch(feature: Tensor, margin: Tensor) -> Tensor:
    """GAP(x * gate), as published."""
    gate = torch.sigmoid(_brought_to(margin, feature) / TEMPERATURE)
    return (feature * gate).flatten(2).mean(dim=2)


def of_components(feature: Tensor, margin: Tensor, components: Tensor) -> Tensor:
    """The mean of x over each component, weighted by the gate; 0 for a component without a voxel."""
    share = _brought_to(components, feature).flatten(2)
    log_gate = functional.logsigmoid(_brought_to(margin, feature) / TEMPERATURE).flatten(2)
    # Relative to the largest inside: of a component that the network does not see at all, every gate is as good as 0.
    inside = log_gate.masked_fill(share <= 0, float("-inf"))
    highest = inside.amax(dim=2, keepdim=True)
    weight = share * torch.exp(inside - torch.where(highest.isfinite(), highest, 0.0))
    weight = weight / weight.sum(dim=2, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    return torch.einsum("bkn,bcn->bkc", weight, feature.flatten(2))


def _brought_to(values: Tensor, feature: Tensor) -> Tensor:
    """By averaging; what has the size already stays as it is."""
    return functional.interpolate(values, feature.shape[2:], mode="area") if values.shape[2:] != feature.shape[2:] else values


def middle_stage(gate: MaskGate) -> str:
    """What to tap where nothing was tried: neither the first stage nor the bottleneck, where there is a third.

    Others probed every stage: the third of an encoder was best, the bottleneck little better than chance.
    """
    return f"{ENCODER}{max(0, min(MIDDLE, len(gate.encoder.output_channels) - 2))}"


class WithMetastasis(MaskGate):
    """The same with one logit more: whether the nodes of a patch are those of a patient with metastasis."""

    def __init__(self, network: nn.Module, nodes: NodeOutputs, stage: str) -> None:
        super().__init__(network, nodes)
        self.stage = stage
        self.head = nn.Linear(self.channels[stage], 1)
        nn.init.zeros_(self.head.weight)  # it begins without an opinion

    def forward(self, image: Tensor, drawn: Tensor | None = None) -> Any:
        """The segmentation alone; where nodes are given (batch, 1, z, y, x), their logits (batch) as well."""
        if drawn is None:
            return self.network(image)
        answer, maps = self.look(image, [self.stage])
        z = self.pooled(maps[self.stage], answer, drawn)[:, 0]
        with torch.autocast(z.device.type, enabled=False):
            return answer, self.head(z)[:, 0]
