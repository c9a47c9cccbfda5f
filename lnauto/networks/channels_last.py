"""Instance normalisation that leaves channels-last tensors as they are.

PyTorch computes instance normalisation as a batch normalisation of the reshaped tensor, which forces channels-last
activations into the contiguous layout and back, in the forward and in the backward pass: on a CPU with bf16 convolutions
those copies were 30 % of a training step (documentation/benchmarks.md). Batch normalisation of one sample at a time is
the same formula and has channels-last kernels.
"""

from __future__ import annotations

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


def use_channels_last(network: nn.Module) -> nn.Module:
    """Lay the network's weights out channels-last and exchange its instance norms, in place; names and values stay."""
    exchanged: dict[int, nn.Module] = {}  # nnU-Net registers a module under several names
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is not nn.InstanceNorm3d or child.track_running_stats:
                continue
            if id(child) not in exchanged:
                norm = ChannelsLastInstanceNorm3d(child.num_features, child.eps, affine=child.affine)
                norm.weight, norm.bias = child.weight, child.bias
                exchanged[id(child)] = norm
            setattr(parent, name, exchanged[id(child)])
    return network.to(memory_format=torch.channels_last_3d)
