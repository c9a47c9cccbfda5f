"""Foundation models with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from lnauto.inference.foundation import Foundation, store_foundation
from lnauto.networks.build import build


def make_foundation(
    results: Path,
    plans: dict[str, Any],
    labels: dict[str, Any],
    name: str = "FM",
    channels: tuple[str, ...] = ("CT",),
    seed: int = 5,
) -> Foundation:
    """A foundation model with random weights, under a plan that differs from any the balls would get."""
    plans = json.loads(json.dumps(plans))
    configuration = plans["configurations"]["3d_fullres"]
    configuration["spacing"] = [2.5, 2.0, 2.0]
    configuration["patch_size"] = [16, 16, 16]
    plans["foreground_intensity_properties_per_channel"]["0"] |= {"median": 55.0, "std": 12.0, "percentile_00_5": -20.0}
    outputs = len([value for label, value in labels.items() if label != "ignore"])
    torch.manual_seed(seed)
    network = build(configuration["architecture"], len(channels), outputs, deep_supervision=True)
    description = {"name": name, "trainer": "nnUNetTrainer", "configuration": "3d_fullres"}
    dataset = {
        "channel_names": {str(n): channel for n, channel in enumerate(channels)},
        "labels": labels,
        "file_ending": ".nii.gz",
    }
    return store_foundation(results / "foundations" / name, description, plans, dataset, network.state_dict())
