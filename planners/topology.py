"""A network and a patch that fit the machine.

The search is nnU-Net's: a patch with the image's proportions in millimetres, pooled as its spacing allows, shrunk along
the axis that covers most of the median image until the network's feature maps fit. One thing is added: an axis is not shrunk
below what a large node needs while another can be. With a GPU the presets are nnU-Net's ResEnc M, L and XL, and where nodes ask
for nothing the outcome equals stock's (tests/test_planning.py compares them). The smaller ones are for what a CPU trains in
minutes or hours (documentation/benchmarks.md compares the small one with others; the tiny and the medium one are inferred).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    least_iterations: int  # with time for fewer, a smaller network is taken [ours; of the small one between what was measured]
    largest_batch: int | None = None


_RESIDUAL_ENCODER = (1, 3, 4, 6, 6, 6, 6, 6, 6)
_RESIDUAL_DECODER = (1,) * 8

TINY = Preset("tiny ResEnc", 8, 64, (1, 2, 2, 2, 2, 2, 2, 2, 2), _RESIDUAL_DECODER, 6.5e6, 0, 0, largest_batch=2)
SMALL = Preset("small ResEnc", 16, 128, (1, 2, 2, 2, 2, 2, 2, 2, 2), _RESIDUAL_DECODER, 13e6, 0, 300, largest_batch=2)
MEDIUM = Preset("medium ResEnc", 24, 256, (1, 2, 3, 4, 4, 4, 4, 4, 4), _RESIDUAL_DECODER, 52e6, 0, 5_000, largest_batch=2)
RESENC = (
    Preset("ResEnc M", 32, 320, _RESIDUAL_ENCODER, _RESIDUAL_DECODER, 680e6, 8, 10_000),
    Preset("ResEnc L", 32, 320, _RESIDUAL_ENCODER, _RESIDUAL_DECODER, 2100e6, 24, 20_000),
    Preset("ResEnc XL", 32, 320, _RESIDUAL_ENCODER, _RESIDUAL_DECODER, 3600e6, 40, 40_000),
)
LADDER = (TINY, SMALL, MEDIUM, *RESENC)


@dataclass(frozen=True)
class Topology:
    """A patch, a batch and the network that takes them, as nnU-Net's plan holds them."""

    preset: Preset
    patch: list[int]
    batch: int
    architecture: dict[str, Any]
    feature_map_voxels: float

    @property
    def gpu_memory_gb(self) -> float:
        """What training takes, by nnU-Net's rule: its presets fill the cards they were made for."""
        reference = RESENC[1]
        width = self.preset.features / reference.features
        return reference.memory_gb * width * self.feature_map_voxels * self.batch / (2 * reference.feature_map_voxels)


def choose_preset(machine: Machine) -> Preset:
    """The largest ResEnc that the card holds (never less than nnU-Net's 8 GB one), or the small network without a GPU."""
    if machine.device != "cuda":
        return SMALL
    fitting = [preset for preset in RESENC if preset.memory_gb <= machine.memory_gb * 1.05]  # a "24 GB" card holds 23.7 GiB
    return fitting[-1] if fitting else RESENC[0]


def fit(
    preset: Preset,
    spacing: np.ndarray,
    median_shape: np.ndarray,
    classes: int,
    least_mm: float = 0.0,
) -> Topology:
    """The largest patch, in the proportions of the image, whose feature maps `preset` allows.

    It keeps `least_mm` along every axis (or the whole image, where that is smaller) while another axis can give way.
    """
    least = np.minimum(least_mm / np.asarray(spacing), median_shape)
    per_mm = 1 / np.asarray(spacing)
    wanted = [round(side) for side in per_mm * (START_EDGE**3 / np.prod(per_mm)) ** (1 / 3)]
    pooled = _pooled(spacing, [min(side, most) for side, most in zip(wanted, median_shape, strict=True)])
    while (topology := _topology(preset, pooled, classes)).feature_map_voxels > preset.feature_map_voxels:
        pooled = _shrunk(spacing, pooled, median_shape, least)
    return topology


def fit_to_patch(preset: Preset, spacing: np.ndarray, patch: Sequence[int], classes: int) -> Topology:
    """The network for a patch somebody else chose, enlarged to what it can pool."""
    return _topology(preset, _pooled(spacing, patch), classes)


@dataclass(frozen=True)
class _Pooled:
    """A patch, and how nnU-Net would pool it."""

    patch: list[int]
    strides: Any
    kernels: Any
    divisor: np.ndarray


def _pooled(spacing: np.ndarray, size: Any) -> _Pooled:
    from lnauto.compat.planning import get_pool_and_conv_props

    _, strides, kernels, padded, divisor = get_pool_and_conv_props(spacing, size, SMALLEST_FEATURE_MAP, UNLIMITED_POOLING)
    return _Pooled([int(side) for side in padded], strides, kernels, divisor)


def _topology(preset: Preset, pooled: _Pooled, classes: int) -> Topology:
    architecture = _architecture(preset, pooled.strides, pooled.kernels)
    cost = _feature_map_voxels(architecture, pooled.patch, classes)
    batch = max(round(preset.feature_map_voxels / cost * 2), 2)
    return Topology(preset, pooled.patch, min(batch, preset.largest_batch or batch), architecture, cost)


def _shrunk(spacing: np.ndarray, pooled: _Pooled, median_shape: np.ndarray, least: np.ndarray) -> _Pooled:
    """A step smaller along the axis that covers most of the median image, of those on which nodes leave room."""
    covered = [side / most for side, most in zip(pooled.patch, median_shape, strict=True)]
    order = [int(axis) for axis in np.argsort(covered)[::-1]]
    roomy = [axis for axis in order if pooled.patch[axis] - pooled.divisor[axis] >= max(least[axis], SMALLEST_FEATURE_MAP)]
    axis = (roomy or order)[0]
    # The step is what the smaller patch must be divisible by: a smaller patch may pool less, and need a finer step.
    smaller = list(pooled.patch)
    smaller[axis] -= int(pooled.divisor[axis])
    patch = list(pooled.patch)
    patch[axis] -= int(_pooled(spacing, smaller).divisor[axis])
    return _pooled(spacing, patch)


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


def _feature_map_voxels(architecture: dict[str, Any], patch: Sequence[int], classes: int) -> float:
    """Voxels of all feature maps of one sample: nnU-Net's own estimate of what a training step holds in memory.

    Counted here as its network counts them, which would have to be built for that, and takes as long as PyTorch takes to import.
    """
    sizes = architecture["arch_kwargs"]
    features, stages = sizes["features_per_stage"], range(sizes["n_stages"])
    voxels = np.prod(np.asarray(patch) // np.cumprod(sizes["strides"], axis=0), axis=1)
    total = (features[0] + classes) * np.prod(patch)  # the stem, and what comes out
    for stage in stages:
        shortcut = stage > 0 and (features[stage] != features[stage - 1] or max(sizes["strides"][stage]) > 1)
        total += features[stage] * voxels[stage] * (2 * sizes["n_blocks_per_stage"][stage] + shortcut)
    for stage in stages[:-1]:  # of the decoder: a transposed convolution and the others
        total += features[stage] * voxels[stage] * (1 + sizes["n_conv_per_stage_decoder"][stage])
    return float(total)
