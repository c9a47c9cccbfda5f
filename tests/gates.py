"""Small networks and bags with features, for tests of what stands on a network's own mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from bags import drawn_bag
from torch import nn

from lnauto.networks.build import build
from lnauto.trainers.patient.bag import Bag

ARCHITECTURE = "dynamic_network_architectures.architectures.unet."
STAGES = {"encoder_0": 4, "encoder_1": 6, "encoder_2": 8}  # and how many numbers each gives


def small_network(kind: str = "PlainConvUNet", classes: int = 2, supervised: bool = False) -> nn.Module:
    """Three stages, a few features."""
    blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    settings: dict[str, Any] = {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        blocks: [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    described = {
        "network_class_name": ARCHITECTURE + kind,
        "arch_kwargs": settings,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    torch.manual_seed(0)
    return build(described, 1, classes, deep_supervision=supervised, allow_init=True)


def seen_bag(rng: np.random.Generator, patient: str, nodes: int, label: int, tells: str | None, strength: float) -> Bag:
    """Features of every stage are noise; at the stage that tells, those of one node of a patient with metastasis are shifted."""
    bag = drawn_bag(rng, patient, nodes, label=label)
    features = {stage: rng.normal(0, 1, (nodes, width)).astype(np.float32) for stage, width in STAGES.items()}
    if tells is not None and nodes and label:
        features[tells][0, :3] += strength
    return replace(bag, features=features)


def seen_bags(patients: int, seed: int = 0, tells: str | None = "encoder_1", strength: float = 3.0) -> list[Bag]:
    """Every second patient has metastasis, in one of up to four nodes."""
    rng = np.random.default_rng(seed)
    return [seen_bag(rng, f"p{number:03d}", int(rng.integers(1, 5)), number % 2, tells, strength) for number in range(patients)]
