"""Puts a plan together: spacing, normalisation, network and patch, strategy, budget, each with its reason."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from lnauto import __version__
from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust
from lnauto.errors import InputError
from lnauto.planners.evidence import Evidence
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.machine import Machine
from lnauto.planners.plan import CONFIGURATION, PLANS_NAME, Plan
from lnauto.planners.sampling import choose_sampling
from lnauto.planners.spacing import target_spacing
from lnauto.planners.strategy import Strategy, choose_strategy
from lnauto.planners.topology import RESENC, SMALL, Topology, choose_preset, fit

STOCK_EPOCHS, STOCK_ITERATIONS, STOCK_VALIDATION_ITERATIONS = 1000, 250, 50
CPU_MINUTES = 30.0
CPU_ITERATIONS, CPU_VALIDATION_ITERATIONS = 50, 4
NODES_TO_KNOW_SIZES = 20
_MIRRORING = {
    True: "along all axes, as stock nnU-Net",
    False: "left to right only: bodies lie the same way up in every scan, and a short training has no time to learn otherwise",
}
_AUGMENTATION = {
    True: "rotation, scale, noise, blur, brightness, contrast, low resolution and gamma, as stock nnU-Net",
    False: "rotation and scale only: a short training sees each case a few times, and needs intensities as they are",
}
TORCH_RESAMPLING = "resample_torch_fornnunet"
MASK_NORMALISATION_BELOW = 0.75  # nnU-Net normalises inside the content only if cropping removed more than a quarter


def make_plan(
    dataset: RawDataset,
    fingerprint: Fingerprint,
    evidence: Evidence,
    machine: Machine,
    minutes: float | None = None,
    region: tuple[str, str] = ("none", "whole images"),
    trust: tuple[Trust | None, str] = (None, "as drawn"),
) -> Plan:
    """The plan for `dataset` on `machine`; `minutes` is the time one fold may take (the whole command, validation included)."""
    budget = _budget(machine, minutes)
    smallest_axis = fingerprint.node_short_axis_mm[0] if fingerprint.node_short_axis_mm else None
    spacing, spacing_reason = target_spacing(
        fingerprint.spacings, fingerprint.shapes_after_crop, smallest_axis, short_of_time=budget["minutes"] is not None
    )
    forward = [int(np.argmax(spacing)), *(axis for axis in range(3) if axis != int(np.argmax(spacing)))]
    shapes = np.array(fingerprint.shapes_after_crop) * np.array(fingerprint.spacings) / spacing
    median_shape = np.median(np.maximum(np.round(shapes), 1), axis=0)[forward]
    preset = choose_preset(machine)
    topology = fit(preset, spacing[forward], median_shape, len(dataset.channel_names), len(dataset.labels))
    strategy = choose_strategy(evidence)
    optimizer, optimizer_reason = _optimizer(budget)
    smallest, smallest_reason = _smallest_node(fingerprint, strategy)
    schemes, masks, normalisation_reason = _normalisation(dataset, fingerprint)
    return Plan(
        {
            "dataset_name": dataset.name,
            "plans_name": PLANS_NAME,
            "original_median_spacing_after_transp": _floats(np.median(fingerprint.spacings, axis=0)[forward]),
            "original_median_shape_after_transp": _whole(np.median(fingerprint.shapes_after_crop, axis=0)[forward]),
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": forward,
            "transpose_backward": [forward.index(axis) for axis in range(3)],
            "configurations": {
                CONFIGURATION: _configuration(topology, spacing[forward], median_shape, schemes, masks),
            },
            "experiment_planner_used": "lnauto.planners.planner.make_plan",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": fingerprint.foreground_intensity_properties_per_channel,
            "lnauto": {
                "version": __version__,
                "strategy": strategy.name,
                "trainer": strategy.trainer,
                "patient_head": None,
                "completeness": evidence.completeness.value if evidence.completeness else None,
                "region": region[0],
                "trusted_background": asdict(trust[0]) if trust[0] else None,
                "sampling": choose_sampling(evidence, trust[0] is not None),
                "budget": budget,
                "optimizer": optimizer,
                "mirroring": "all" if budget["minutes"] is None else "left_right",
                "augmentation": "full" if budget["minutes"] is None else "geometry",
                "inference": {
                    "tta": "full" if machine.device == "cuda" else "fast",
                    "overlap": 0.5,
                    "smallest_node_mm3": smallest,
                },
                "evidence": evidence.to_json() | {"machine": {"value": asdict(machine), "how": "asked of the system"}},
                "alternatives": {
                    "strategy": {"runner_up": strategy.runner_up, "chosen_unless": strategy.unless},
                    "network": [other.name for other in (*RESENC, SMALL) if other is not preset],
                },
                "reasons": _reasons(strategy, spacing_reason, normalisation_reason, topology, spacing, forward, machine, budget)
                | {
                    "optimizer": optimizer_reason,
                    "mirroring": _MIRRORING[budget["minutes"] is None],
                    "augmentation": _AUGMENTATION[budget["minutes"] is None],
                    "filter": smallest_reason,
                    "region": region[1],
                    "background": trust[1],
                },
            },
        }
    )


def _configuration(
    topology: Topology, spacing: np.ndarray, median_shape: np.ndarray, schemes: list[str], masks: list[bool]
) -> dict[str, Any]:
    # Linear resampling in torch: 95 times faster than nnU-Net's default splines on a chest CT, and the same function by name
    # for stock nnU-Net, which has to be able to run the model.
    resampling = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
    return {
        "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": topology.batch,
        "patch_size": topology.patch,
        "median_image_size_in_voxels": _floats(median_shape),
        "spacing": _floats(spacing),
        "normalization_schemes": schemes,
        "use_mask_for_norm": masks,
        "resampling_fn_data": TORCH_RESAMPLING,
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": TORCH_RESAMPLING,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": TORCH_RESAMPLING,
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": topology.architecture,
        "batch_dice": True,  # a patch often holds no node: Dice of a whole batch is defined more often than of one patch
    }


def _normalisation(dataset: RawDataset, fingerprint: Fingerprint) -> tuple[list[str], list[bool], str]:
    from lnauto.compat.planning import get_normalization_scheme

    schemes = [get_normalization_scheme(name) for name in dataset.channel_names.values()]
    cropped = fingerprint.median_relative_size_after_cropping < MASK_NORMALISATION_BELOW
    masks = [bool(cropped and scheme.leaves_pixels_outside_mask_at_zero_if_use_mask_for_norm_is_true) for scheme in schemes]
    names = [scheme.__name__ for scheme in schemes]
    if "CTNormalization" in names and not fingerprint.foreground_intensity_properties_per_channel:
        raise InputError.of(
            "a CT channel is normalised by the intensities of drawn nodes, and none is drawn",
            f"{dataset.name}/labelsTr",
            "draw nodes in at least one case",
        )
    pairs = ", ".join(f"{channel} by {name}" for channel, name in zip(dataset.channel_names.values(), names, strict=True))
    return names, masks, f"{pairs}, as nnU-Net chooses by the channel's name"


def _budget(machine: Machine, minutes: float | None) -> dict[str, Any]:
    """What one fold's training may cost, as `lnauto_train` reads it."""
    if minutes is None and machine.device == "cuda":
        return {
            "device": machine.device,
            "minutes": None,
            "epochs": STOCK_EPOCHS,
            "iterations_per_epoch": STOCK_ITERATIONS,
            "validation_iterations": STOCK_VALIDATION_ITERATIONS,
        }
    gpu = machine.device == "cuda"
    return {
        "device": machine.device,
        "minutes": CPU_MINUTES if minutes is None else minutes,
        "epochs": None,
        "iterations_per_epoch": STOCK_ITERATIONS if gpu else CPU_ITERATIONS,
        "validation_iterations": STOCK_VALIDATION_ITERATIONS if gpu else CPU_VALIDATION_ITERATIONS,
    }


def _optimizer(budget: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """nnU-Net's own for a training of nnU-Net's own length, else one that is quick at the start."""
    if budget["minutes"] is None:
        settings = {"name": "SGD", "learning_rate": 1e-2, "weight_decay": 3e-5, "warm_up_iterations": 0}
        return settings, "SGD with momentum 0.99, as stock nnU-Net, whose length this training has"
    settings = {"name": "AdamW", "learning_rate": 1e-2, "weight_decay": 1e-2, "warm_up_iterations": 20}
    return settings, "AdamW: in a training of minutes nnU-Net's SGD is still at its start (documentation/benchmarks.md)"


def _smallest_node(fingerprint: Fingerprint, strategy: Strategy) -> tuple[float | None, str]:
    """Below what volume a predicted component is left out; only where the drawn nodes show how small nodes are."""
    if strategy.name != "full":
        return None, "nothing is left out for its size: not every node is drawn, and the small ones are drawn least"
    if sum(fingerprint.nodes_per_case) < NODES_TO_KNOW_SIZES:
        return None, f"nothing is left out for its size: fewer than {NODES_TO_KNOW_SIZES} nodes are drawn"
    least = round(fingerprint.node_volume_mm3[0] / 2, 1)
    return least, f"components under {least:.3g} mm3 are left out: half of the 5th percentile of the nodes drawn"


def _reasons(
    strategy: Strategy,
    spacing_reason: str,
    normalisation_reason: str,
    topology: Topology,
    spacing: np.ndarray,
    forward: list[int],
    machine: Machine,
    budget: dict[str, Any],
) -> dict[str, str]:
    patch = [topology.patch[forward.index(axis)] for axis in range(3)]  # for people in the image's own order
    extent = [round(side * mm) for side, mm in zip(patch, spacing, strict=True)]
    length = f"{budget['minutes']:.3g} minutes a fold" if budget["minutes"] else f"{budget['epochs']} epochs, as stock nnU-Net"
    return {
        "strategy": f"{strategy.name}, trained by {strategy.trainer or 'nothing yet'}: {strategy.reason}",
        "spacing": f"{_times(f'{mm:.3g}' for mm in spacing)} mm (z, y, x): {spacing_reason}",
        "intensities": normalisation_reason,
        "network": f"{topology.preset.name}: the largest that fits {machine.name} ({machine.memory_gb:.0f} GB, {machine.device})",
        "patch": f"{_times(patch)} voxels, {_times(extent)} mm, {topology.batch} at a time: the largest that fits",
        "training": length,
    }


def _times(values: Any) -> str:
    return " x ".join(str(value) for value in values)


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]


def _whole(values: Any) -> list[int]:
    return [round(float(value)) for value in values]
