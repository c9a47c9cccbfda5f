"""Puts a plan together: strategy, budget, spacing, network and patch, recipe, intensities, each with its reason."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from lnauto import __version__
from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust
from lnauto.errors import InputError
from lnauto.planners.budget import Budget, Probe, plan_budget
from lnauto.planners.evidence import Evidence
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.geometry import Geometry, choose_geometry, make_fitter
from lnauto.planners.machine import Machine
from lnauto.planners.patient_level import choose_patient_level
from lnauto.planners.plan import CONFIGURATION, PLANS_NAME, Plan
from lnauto.planners.pretraining import choose_pretraining
from lnauto.planners.recipe import choose_recipe
from lnauto.planners.sampling import choose_sampling
from lnauto.planners.spacing import median_spacing
from lnauto.planners.strategy import Strategy, choose_strategy
from lnauto.planners.topology import LADDER
from lnauto.planners.wishes import NONE, Wishes

NODES_TO_KNOW_SIZES = 20
SMALLEST = {
    "full": 0.5,
    "partial_instance": 0.1,
}  # of the 5th percentile of drawn volumes; drawn in part, small ones are drawn least
TORCH_RESAMPLING = "resample_torch_fornnunet"
MASK_NORMALISATION_BELOW = 0.75  # nnU-Net normalises inside the content only if cropping removed more than a quarter


def make_plan(
    dataset: RawDataset,
    fingerprint: Fingerprint,
    evidence: Evidence,
    machine: Machine,
    wishes: Wishes = NONE,
    probe: Probe | None = None,
    region: tuple[str, str] = ("none", "whole images"),
    trust: tuple[Trust | None, str] = (None, "as drawn"),
) -> Plan:
    """The plan for `dataset` on `machine`. Without a `probe`, which times steps on it, the machine's kind has to do."""
    strategy = choose_strategy(evidence, wishes.strategy)
    trainer = wishes.trainer or strategy.trainer
    fitter = make_fitter(fingerprint, evidence, len(dataset.channel_names), len(dataset.labels))
    middle, _ = median_spacing(fingerprint.spacings, fingerprint.shapes_after_crop)
    preset, budget, network_reason = plan_budget(machine, wishes.minutes, lambda preset: fitter.fit(preset, middle), probe)
    recipe = choose_recipe(budget)
    geometry = choose_geometry(fitter, evidence, preset, machine, recipe.short_of_time, wishes)
    schemes, masks, normalisation_reason = _normalisation(dataset, fingerprint)
    smallest, smallest_reason = _smallest_node(evidence, strategy)
    patient_level, patient_reason = choose_patient_level(evidence)
    pretraining, pretraining_reason = choose_pretraining(evidence)
    forward = geometry.forward
    return Plan(
        {
            "dataset_name": dataset.name,
            "plans_name": PLANS_NAME,
            "original_median_spacing_after_transp": _floats(np.median(fingerprint.spacings, axis=0)[forward]),
            "original_median_shape_after_transp": _whole(np.median(fingerprint.shapes_after_crop, axis=0)[forward]),
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": forward,
            "transpose_backward": [forward.index(axis) for axis in range(3)],
            "configurations": {CONFIGURATION: _configuration(geometry, schemes, masks)},
            "experiment_planner_used": "lnauto.planners.planner.make_plan",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": fingerprint.foreground_intensity_properties_per_channel,
            "lnauto": {
                "version": __version__,
                "strategy": strategy.name,
                "trainer": trainer,
                "patient_level": patient_level,
                "patient_head": None,
                "completeness": evidence.completeness.value if evidence.completeness else None,
                "region": region[0],
                "trusted_background": asdict(trust[0]) if trust[0] else None,
                "sampling": choose_sampling(evidence, trust[0] is not None),
                "pretraining": pretraining,
                "budget": budget.to_json(),
                **recipe.settings,
                "inference": {
                    "tta": "full" if machine.device == "cuda" else "fast",
                    "overlap": 0.5,
                    "smallest_node_mm3": smallest,
                },
                "evidence": evidence.to_json() | {"machine": {"value": asdict(machine), "how": "asked of the system"}},
                "alternatives": {
                    "strategy": {
                        "runner_up": strategy.runner_up,
                        "chosen_unless": strategy.unless,
                        "read": list(strategy.evidence),
                    },
                    "network": [other.name for other in LADDER if other is not preset],
                },
                "decided_by": wishes.decided_by(),
                "reasons": {
                    "strategy": _strategy_reason(strategy, trainer),
                    **({"contradiction": strategy.contradiction} if strategy.contradiction else {}),
                    "background": trust[1],
                    "patients": patient_reason,
                    "region": region[1],
                    "spacing": f"{_times(f'{mm:.3g}' for mm in geometry.spacing)} mm (z, y, x): {geometry.spacing_reason}",
                    "patch": _patch_reason(geometry),
                    "intensities": normalisation_reason,
                    "network": f"{preset.name}: {network_reason}",
                    "training": _length(budget),
                    "pre-training": pretraining_reason,
                    **recipe.reasons,
                    "filter": smallest_reason,
                },
            },
        }
    )


def _configuration(geometry: Geometry, schemes: list[str], masks: list[bool]) -> dict[str, Any]:
    # Linear resampling in torch: 95 times faster than nnU-Net's default splines on a chest CT, and the same function by name
    # for stock nnU-Net, which has to be able to run the model.
    resampling = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
    return {
        "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": geometry.topology.batch,
        "patch_size": geometry.topology.patch,
        "median_image_size_in_voxels": _floats(geometry.median_shape),
        "spacing": _floats(geometry.spacing[geometry.forward]),
        "normalization_schemes": schemes,
        "use_mask_for_norm": masks,
        "resampling_fn_data": TORCH_RESAMPLING,
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": TORCH_RESAMPLING,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": TORCH_RESAMPLING,
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": geometry.topology.architecture,
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


def _smallest_node(evidence: Evidence, strategy: Strategy) -> tuple[float | None, str]:
    """Below what volume a predicted component is left out; only where the drawn nodes show how small nodes are."""
    if strategy.name not in SMALLEST:
        return None, "nothing is left out for its size: what is drawn does not say how small nodes are"
    if evidence.node_volume_mm3 is None or evidence.nodes < NODES_TO_KNOW_SIZES:
        return None, f"nothing is left out for its size: fewer than {NODES_TO_KNOW_SIZES} nodes are drawn"
    part = SMALLEST[strategy.name]
    least = round(evidence.node_volume_mm3[0] * part, 1)
    return least, f"components under {least:.3g} mm3 are left out: {part:g} of the 5th percentile of the nodes drawn"


def _strategy_reason(strategy: Strategy, trainer: str | None) -> str:
    by = "" if trainer == strategy.trainer else " (-tr)"
    return f"{strategy.name}, trained by {trainer or 'nothing yet'}{by}: {strategy.reason}"


def _patch_reason(geometry: Geometry) -> str:
    patch = geometry.in_image_order(geometry.topology.patch)  # for people in the image's own order
    extent = [round(side * mm) for side, mm in zip(patch, geometry.spacing, strict=True)]
    return f"{_times(patch)} voxels, {_times(extent)} mm, {geometry.topology.batch} at a time: {geometry.patch_reason}"


def _length(budget: Budget) -> str:
    if budget.minutes is not None:
        expected = f", about {budget.expected_iterations} iterations" if budget.expected_iterations is not None else ""
        return f"{budget.minutes:.3g} minutes a fold{expected}"
    length = f"{budget.epochs} epochs, as stock nnU-Net"
    if budget.seconds_per_iteration is not None and budget.expected_iterations is not None:
        length += f", about {budget.seconds_per_iteration * budget.expected_iterations / 3600:.0f} hours a fold on this machine"
    return length


def _times(values: Any) -> str:
    return " x ".join(str(value) for value in values)


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]


def _whole(values: Any) -> list[int]:
    return [round(float(value)) for value in values]
