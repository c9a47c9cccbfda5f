"""What images are made into and what network sees them: fitted to the data set, each decision with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lnauto.data.raw import RawDataset
from lnauto.data.resample import TORCH_RESAMPLING
from lnauto.errors import InputError
from lnauto.planners.budget import Budget, Probe, plan_budget
from lnauto.planners.evidence import Evidence
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.geometry import Geometry, choose_geometry, make_fitter
from lnauto.planners.machine import Machine
from lnauto.planners.plan import CONFIGURATION, PLANS_NAME
from lnauto.planners.recipe import Recipe, choose_recipe
from lnauto.planners.spacing import median_spacing
from lnauto.planners.topology import LADDER
from lnauto.planners.wishes import Wishes

READER = "SimpleITKIO"  # nnU-Net's
MASK_NORMALISATION_BELOW = 0.75  # nnU-Net normalises inside the content only if cropping removed more than a quarter


@dataclass(frozen=True)
class Frame:
    """The part of a plan that is either fitted to a data set or taken over from a foundation model."""

    name: str  # of the plan
    forward: list[int]  # nnU-Net's order of the axes
    configuration: dict[str, Any]
    intensities: dict[str, dict[str, float]]  # of foreground, by channel; CT is normalised by them
    reader: str
    orientation: str | None  # that images are turned to; None: they are learned from as they lie
    budget: Budget
    recipe: Recipe
    reasons: dict[str, str]
    other_networks: list[str]
    foundation: dict[str, Any] | None = None


def own_frame(
    dataset: RawDataset, fingerprint: Fingerprint, evidence: Evidence, machine: Machine, wishes: Wishes, probe: Probe | None
) -> Frame:
    """Fitted to the data set and the machine."""
    fitter = make_fitter(fingerprint, evidence, len(dataset.labels))
    middle, _ = median_spacing(fingerprint.spacings, fingerprint.shapes_after_crop)
    preset, budget, network_reason = plan_budget(machine, wishes.minutes, lambda preset: fitter.fit(preset, middle), probe)
    recipe = choose_recipe(budget)
    geometry = choose_geometry(fitter, evidence, preset, machine, recipe.short_of_time, wishes)
    schemes, masks, normalisation_reason = normalisation(dataset, fingerprint)
    return Frame(
        name=PLANS_NAME,
        forward=geometry.forward,
        configuration=_configuration(geometry, schemes, masks),
        intensities=fingerprint.foreground_intensity_properties_per_channel,
        reader=READER,
        orientation=None,
        budget=budget,
        recipe=recipe,
        reasons={
            "spacing": f"{times(f'{mm:.3g}' for mm in geometry.spacing)} mm (z, y, x): {geometry.spacing_reason}",
            "patch": _patch_reason(geometry),
            "intensities": normalisation_reason,
            "network": f"{preset.name}: {network_reason}",
            "training": length_told(budget),
        },
        other_networks=[other.name for other in LADDER if other is not preset],
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
        "median_image_size_in_voxels": floats(geometry.median_shape),
        "spacing": floats(geometry.spacing[geometry.forward]),
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


def normalisation(dataset: RawDataset, fingerprint: Fingerprint) -> tuple[list[str], list[bool], str]:
    from lnauto.compat.normalization import get_normalization_scheme

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


def _patch_reason(geometry: Geometry) -> str:
    patch = geometry.in_image_order(geometry.topology.patch)  # for people in the image's own order
    extent = [round(side * mm) for side, mm in zip(patch, geometry.spacing, strict=True)]
    return f"{times(patch)} voxels, {times(extent)} mm, {geometry.topology.batch} at a time: {geometry.patch_reason}"


def length_told(budget: Budget) -> str:
    """How long a fold trains."""
    if budget.minutes is not None:
        expected = f", about {budget.expected_iterations} iterations" if budget.expected_iterations is not None else ""
        return f"{budget.minutes:.3g} minutes a fold{expected}"
    length = f"{budget.epochs} epochs, as stock nnU-Net"
    if budget.seconds_per_iteration is not None and budget.expected_iterations is not None:
        length += f", about {budget.seconds_per_iteration * budget.expected_iterations / 3600:.0f} hours a fold on this machine"
    return length


def times(values: Iterable[Any]) -> str:
    return " x ".join(str(value) for value in values)


def floats(values: Any) -> list[float]:
    return [float(value) for value in values]
