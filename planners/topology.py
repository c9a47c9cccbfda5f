"""A network and a patch that fit the machine.

The search is nnU-Net's: a patch with the image's proportions in millimetres, pooled as its spacing allows, shrunk along
the axis that covers most of the median image until the network's feature maps fit. With a GPU the presets are nnU-Net's
ResEnc M, L and XL, and the outcome equals stock's (tests/test_planning.py compares them). On a CPU a residual
encoder of 16 features is fitted to what two cores train in minutes (documentation/benchmarks.md compares it with a plain one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lnauto.planners.machine import Machine

SMALLEST_FEATURE_MAP = 4  # edge of the deepest feature map, as in nnU-Net
START_EDGE = 256  # the search starts from a patch of this many voxels cubed
UNLIMITED_POOLING = 999999


@dataclass(frozen=True)
class Preset:
    """A family of networks, and how large the feature maps of one training patch may be."""

    name: str
    features: int
    max_features: int
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    feature_map_voxels: float
    memory_gb: float  # of GPU memory the preset was made for
    largest_batch: int | None = None


_RESIDUAL_ENCODER = (1, 3, 4, 6, 6, 6, 6, 6, 6)
_RESIDUAL_DECODER = (1,) * 8

RESENC = (
    Preset("ResEnc M", 32, 320, _RESIDUAL_ENCODER, _RESIDUAL_DECODER, 680e6, 8),
    Preset("ResEnc L", 32, 320, _RESIDUAL_ENCODER, _RESIDUAL_DECODER, 2100e6, 24),
    Preset("ResEnc XL", 32, 320, _RESIDUAL_ENCODER, _RESIDUAL_DECODER, 3600e6, 40),
)
SMALL = Preset("small ResEnc", 16, 128, (1, 2, 2, 2, 2, 2, 2, 2, 2), _RESIDUAL_DECODER, 13e6, 0, largest_batch=2)


@dataclass(frozen=True)
class Topology:
    """A patch, a batch and the network that takes them, as nnU-Net's plan holds them."""

    preset: Preset
    patch: list[int]
    batch: int
    architecture: dict[str, Any]
    feature_map_voxels: float


def choose_preset(machine: Machine) -> Preset:
    """The largest ResEnc that the card holds (never less than nnU-Net's 8 GB one), or the small network without a GPU."""
    if machine.device != "cuda":
        return SMALL
    fitting = [preset for preset in RESENC if preset.memory_gb <= machine.memory_gb * 1.05]  # a "24 GB" card holds 23.7 GiB
    return fitting[-1] if fitting else RESENC[0]


def fit(preset: Preset, spacing: np.ndarray, median_shape: np.ndarray, channels: int, classes: int) -> Topology:
    """The largest patch, in the proportions of the image, whose feature maps `preset` allows."""
    from lnauto.compat.planning import get_pool_and_conv_props

    def topology_of(size: Any) -> tuple[Any, Any, list[int], np.ndarray]:
        _, strides, kernels, padded, divisor = get_pool_and_conv_props(spacing, size, SMALLEST_FEATURE_MAP, UNLIMITED_POOLING)
        return strides, kernels, [int(side) for side in padded], divisor

    per_mm = 1 / np.asarray(spacing)
    wanted = [round(side) for side in per_mm * (START_EDGE**3 / np.prod(per_mm)) ** (1 / 3)]
    strides, kernels, patch, divisor = topology_of([min(side, most) for side, most in zip(wanted, median_shape, strict=True)])
    while True:
        architecture = _architecture(preset, strides, kernels)
        cost = _feature_map_voxels(architecture, patch, channels, classes)
        if cost <= preset.feature_map_voxels:
            break
        axis = int(np.argsort([side / most for side, most in zip(patch, median_shape, strict=True)])[-1])
        # The step is what the smaller patch must be divisible by: a smaller patch may pool less, and need a finer step.
        smaller = list(patch)
        smaller[axis] -= int(divisor[axis])
        patch[axis] -= int(topology_of(smaller)[3][axis])
        strides, kernels, patch, divisor = topology_of(patch)
    batch = max(round(preset.feature_map_voxels / cost * 2), 2)
    return Topology(preset, patch, min(batch, preset.largest_batch or batch), architecture, cost)


def _architecture(preset: Preset, strides: Any, kernels: Any) -> dict[str, Any]:
    stages = len(strides)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(preset.max_features, preset.features * 2**stage) for stage in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [list(kernel) for kernel in kernels],
            "strides": [list(stride) for stride in strides],
            "n_blocks_per_stage": list(preset.encoder_blocks[:stages]),
            "n_conv_per_stage_decoder": list(preset.decoder_blocks[: stages - 1]),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _feature_map_voxels(architecture: dict[str, Any], patch: list[int], channels: int, classes: int) -> float:
    """Voxels of all feature maps of one sample: nnU-Net's own estimate of what a training step holds in memory."""
    import torch

    from lnauto.compat.networks import get_network_from_plans

    with torch.device("meta"):  # the estimate reads shapes only; weights would cost a second a try
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            channels,
            classes,
            allow_init=False,
        )
    return float(network.compute_conv_feature_map_size(patch))
