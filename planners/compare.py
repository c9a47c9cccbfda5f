"""Where a plan departs from another plan for the same data set, such as stock nnU-Net's, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lnauto.planners.plan import Plan


def departures(plan: Plan, other: dict[str, Any], configuration: str) -> list[str]:
    """A line for each difference in spacing, patch, batch, intensities and network, with this plan's reason."""
    ours, theirs = plan.configuration(configuration), other["configurations"][configuration]
    reasons = {name: reason.split(": ", 1)[-1] for name, reason in plan.lnauto["reasons"].items()}  # without the decision
    spacing = _in_image_order(ours["spacing"], plan.content), _in_image_order(theirs["spacing"], other)
    patch = _in_image_order(ours["patch_size"], plan.content), _in_image_order(theirs["patch_size"], other)
    compared = {
        "spacing": (*(f"{_times(mm)} mm" for mm in spacing), reasons["spacing"]),
        "patch": (*(_extent(side, mm) for side, mm in zip(patch, spacing, strict=True)), reasons["patch"]),
        "batch": (str(ours["batch_size"]), str(theirs["batch_size"]), reasons["patch"]),
        "intensities": (_joined(ours), _joined(theirs), reasons["intensities"]),
        "network": (_network(ours), _network(theirs), reasons["network"]),
    }
    return [f"{name}: {mine} instead of {its} ({why})" for name, (mine, its, why) in compared.items() if mine != its]


def _in_image_order(values: Sequence[float], plans: dict[str, Any]) -> list[float]:
    return [values[axis] for axis in plans["transpose_backward"]]


def _extent(patch: Sequence[float], spacing: Sequence[float]) -> str:
    return f"{_times(patch)} voxels ({_times([round(side * mm) for side, mm in zip(patch, spacing, strict=True)])} mm)"


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def _joined(configuration: dict[str, Any]) -> str:
    return ", ".join(configuration["normalization_schemes"])


def _network(configuration: dict[str, Any]) -> str:
    """Class and width; plans older than nnU-Net 2.5 name them otherwise."""
    if "architecture" not in configuration:
        return f"{configuration['UNet_class_name']} of {configuration['UNet_base_num_features']} features"
    architecture = configuration["architecture"]
    name = architecture["network_class_name"].split(".")[-1]
    return f"{name} of {architecture['arch_kwargs']['features_per_stage'][0]} features"
