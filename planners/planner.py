"""Puts a plan together: strategy, spacing, network, patch, budget, recipe, intensities, each with its reason."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from lnauto import __version__
from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust
from lnauto.planners.adaptation import frame_under
from lnauto.planners.budget import Probe
from lnauto.planners.evidence import Evidence
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.frame import floats, own_frame
from lnauto.planners.machine import Machine
from lnauto.planners.patient_level import choose_patient_head, is_head
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.planners.prediction import choose_tiling
from lnauto.planners.pretraining import choose_pretraining
from lnauto.planners.sampling import choose_sampling
from lnauto.planners.strategy import Strategy, choose_strategy, drawn_in_part
from lnauto.planners.wishes import NONE, Wishes

if TYPE_CHECKING:
    from lnauto.inference.foundation import Foundation

NODES_TO_KNOW_SIZES = 20
SMALLEST, SMALLEST_IN_PART = 0.5, 0.1  # of the 5th percentile of drawn volumes; drawn in part, small ones are drawn least
SHOW_SIZES = ("full", "few_shot", "partial_instance")  # strategies under which what is drawn shows how small nodes are


def make_plan(
    dataset: RawDataset,
    fingerprint: Fingerprint,
    evidence: Evidence,
    machine: Machine,
    wishes: Wishes = NONE,
    probe: Probe | None = None,
    region: tuple[str, str] = ("none", "whole images"),
    trust: tuple[Trust | None, str] = (None, "as drawn"),
    foundation: Foundation | None = None,
) -> Plan:
    """The plan for `dataset` on `machine`. Without a `probe`, which times steps on it, the machine's kind has to do."""
    strategy = choose_strategy(evidence, wishes.strategy)
    head = wishes.trainer if is_head(wishes.trainer) else None
    trainer = strategy.trainer if head is not None else wishes.trainer or strategy.trainer
    given = (dataset, fingerprint, evidence, machine, wishes, probe)
    frame = own_frame(*given) if foundation is None else frame_under(foundation, strategy.name, *given)
    smallest, smallest_reason = _smallest_node(evidence, strategy)
    annotated = [case.name for case in dataset.annotated_cases]
    patients = choose_patient_head(dataset.patients, annotated, f"{dataset.name}/patients.csv", head, wishes.masks)
    pretraining, pretraining_reason = choose_pretraining(evidence)
    orientation, orientation_reason = _orientation(frame.orientation, evidence.orientation)
    forward, network = frame.forward, frame.configuration
    patch_mm = [side * mm for side, mm in zip(network["patch_size"], network["spacing"], strict=True)]
    tiling = choose_tiling(machine.device, patch_mm, evidence.node_long_axis_mm[-1] if evidence.node_long_axis_mm else None)
    return Plan(
        {
            "dataset_name": dataset.name,
            "plans_name": frame.name,
            "original_median_spacing_after_transp": floats(np.median(fingerprint.spacings, axis=0)[forward]),
            "original_median_shape_after_transp": _whole(np.median(fingerprint.shapes_after_crop, axis=0)[forward]),
            "image_reader_writer": frame.reader,
            "transpose_forward": forward,
            "transpose_backward": [forward.index(axis) for axis in range(3)],
            "configurations": {CONFIGURATION: network},
            "experiment_planner_used": "lnauto.planners.planner.make_plan",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": frame.intensities,
            "lnauto": {
                "version": __version__,
                "strategy": strategy.name,
                "trainer": trainer,
                "patient_level": patients.level,
                "patient_head": patients.settings,
                "completeness": evidence.completeness.value if evidence.completeness else None,
                "region": region[0],
                "trusted_background": asdict(trust[0]) if trust[0] else None,
                "sampling": choose_sampling(evidence, trust[0] is not None),
                "pretraining": pretraining,
                "foundation": frame.foundation,
                "budget": frame.budget.to_json(),
                **frame.recipe.settings,
                "inference": {
                    **tiling.settings,
                    "smallest_node_mm3": smallest,
                    "orientation": orientation,
                },
                "evidence": evidence.to_json() | {"machine": {"value": asdict(machine), "how": "asked of the system"}},
                "alternatives": {
                    "strategy": strategy.rivals(),
                    "network": frame.other_networks,
                },
                "decided_by": wishes.decided_by(),
                "reasons": {
                    "strategy": _strategy_reason(strategy, trainer),
                    **({"contradiction": strategy.contradiction} if strategy.contradiction else {}),
                    "background": trust[1],
                    "patients": patients.reason,
                    "region": region[1],
                    **frame.reasons,
                    "pre-training": pretraining_reason,
                    **frame.recipe.reasons,
                    "tiles": tiling.reason,
                    "filter": smallest_reason,
                    "orientation": orientation_reason,
                },
            },
        }
    )


def _smallest_node(evidence: Evidence, strategy: Strategy) -> tuple[float | None, str]:
    """Below what volume a predicted component is left out; only where the drawn nodes show how small nodes are."""
    if strategy.name not in SHOW_SIZES:
        return None, "nothing is left out for its size: what is drawn does not say how small nodes are"
    if evidence.node_volume_mm3 is None or evidence.nodes < NODES_TO_KNOW_SIZES:
        return None, f"nothing is left out for its size: fewer than {NODES_TO_KNOW_SIZES} nodes are drawn"
    in_part = strategy.name == "partial_instance" or (strategy.name == "few_shot" and drawn_in_part(evidence))
    part = SMALLEST_IN_PART if in_part else SMALLEST
    least = round(evidence.node_volume_mm3[0] * part, 1)
    return least, f"components under {least:.3g} mm3 are left out: {part:g} of the 5th percentile of the nodes drawn"


def _orientation(given: str | None, shared: str | None) -> tuple[str | None, str]:
    """How scans lie when a network sees them, and why."""
    if given is not None:
        reason = f"scans that lie in another way are turned to {given}, as the foundation model was trained, and their masks back"
        return given, reason
    if shared is None:
        return None, "scans are predicted the way they lie: the images at hand lie in different ways"
    return shared, f"scans that lie in another way are turned to {shared}, as all images at hand are, and their masks back"


def _strategy_reason(strategy: Strategy, trainer: str | None) -> str:
    by = "" if trainer == strategy.trainer else " (-tr)"
    return f"{strategy.name}, trained by {trainer or 'nothing yet'}{by}: {strategy.reason}"


def _whole(values: Any) -> list[int]:
    return [round(float(value)) for value in values]
