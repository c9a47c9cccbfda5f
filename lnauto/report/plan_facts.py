"""What the picture beside the plan shows, taken from the cases and the plan; lengths are (z, y, x) in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # whoever draws is handed the facts, and need not import what they are taken from
    from lnauto.planners.case_facts import CaseFacts
    from lnauto.planners.plan import Plan

Lengths = tuple[float, float, float]
SEEN_ALONG = {**dict.fromkeys("RL", "sagittal"), **dict.fromkeys("AP", "coronal"), **dict.fromkeys("IS", "axial")}


@dataclass(frozen=True)
class Channel:
    """One channel: the mean intensity of every node, and of what lies round it."""

    name: str
    normalisation: str
    inside: tuple[float, ...]
    shell: tuple[float, ...]
    clipped_to: tuple[float, float] | None  # CT only: the other schemes clip nothing


@dataclass(frozen=True)
class Share:
    """How much of something is annotated, in words and as a part of 1, where it is known, with its interval."""

    name: str
    told: str
    value: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PlanFacts:
    """Everything the picture says."""

    dataset: str
    title: str
    reason: str
    voxel: Lengths
    patch: Lengths
    image: Lengths
    planes: tuple[str, str]  # what is seen of a patient along the array's y, and along its z
    short_axes: tuple[float, ...]
    percentiles: Lengths | None  # 5th, 50th and 95th of the short axes
    long_axis: float | None  # 95th percentile
    channels: tuple[Channel, ...]
    nodes_per_case: tuple[int, ...]
    shares: tuple[Share, ...]
    tiles: tuple[tuple[str, str], ...]  # a large figure, and what it is
    lines: tuple[tuple[str, str], ...]


def plan_facts(cases: Sequence[CaseFacts], plan: Plan) -> PlanFacts:
    """What there is to show of a data set and its plan."""
    from lnauto.planners.plan import CONFIGURATION

    block, chosen = plan.lnauto, plan.configuration(CONFIGURATION)
    spacing = _lengths(plan, chosen["spacing"])
    patch = _lengths(plan, chosen["patch_size"])
    image = _lengths(plan, chosen["median_image_size_in_voxels"])
    annotated = [case for case in cases if case.annotated]
    nodes = [node for case in annotated for node in case.nodes]
    title, _, reason = block["reasons"]["strategy"].partition(": ")
    short = tuple(node.short_axis_mm for node in nodes)
    return PlanFacts(
        dataset=plan.content["dataset_name"],
        title=title,
        reason=reason,
        voxel=spacing,
        patch=_product(patch, spacing),
        image=_product(image, spacing),
        planes=_planes(plan),
        short_axes=short,
        percentiles=_triple(np.percentile(short, [5, 50, 95])) if nodes else None,
        long_axis=float(np.percentile([node.long_axis_mm for node in nodes], 95)) if nodes else None,
        channels=_channels(plan, [node.inside for node in nodes], [node.shell for node in nodes]),
        nodes_per_case=tuple(len(case.nodes) for case in annotated),
        shares=_shares(annotated, len(cases), block["evidence"]["completeness"]["value"]),
        tiles=_tiles(block["budget"]),
        lines=(
            ("network", block["reasons"]["network"]),
            ("spacing", f"{times(spacing)} mm"),
            ("patch", f"{times(patch)} voxels, {times(_product(patch, spacing))} mm"),
            ("batch", f"{chosen['batch_size']}"),
            ("training", block["reasons"]["training"]),
        ),
    )


def _lengths(plan: Plan, values: Sequence[float]) -> Lengths:
    """From the order of the network's axes to (z, y, x)."""
    return _triple([values[axis] for axis in plan.content["transpose_backward"]])


def _planes(plan: Plan) -> tuple[str, str]:
    """Images that lie in different ways are taken for axial ones."""
    from lnauto.data.scans import way_to_lie

    _, y, z = tuple(way_to_lie(plan.content) or "LPS")
    return SEEN_ALONG[y], SEEN_ALONG[z]


def _triple(values: Any) -> Lengths:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _product(left: Lengths, right: Lengths) -> Lengths:
    return _triple(np.multiply(left, right))


def _channels(plan: Plan, inside: Sequence[tuple[float, ...]], shell: Sequence[tuple[float, ...]]) -> tuple[Channel, ...]:
    names = plan.lnauto["evidence"]["channels"]["value"]
    from lnauto.planners.plan import CONFIGURATION

    schemes = plan.configuration(CONFIGURATION)["normalization_schemes"]
    properties = plan.content["foreground_intensity_properties_per_channel"]
    found = []
    for number, (name, scheme) in enumerate(zip(names, schemes, strict=True)):
        known = properties.get(str(number)) if scheme == "CTNormalization" else None
        found.append(
            Channel(
                name=name,
                normalisation=scheme,
                inside=_known(node[number] for node in inside),
                shell=_known(node[number] for node in shell),
                clipped_to=(known["percentile_00_5"], known["percentile_99_5"]) if known else None,
            )
        )
    return tuple(found)


def _known(values: Any) -> tuple[float, ...]:
    return tuple(value for value in values if not math.isnan(value))  # a node may have no shell, in a label without gaps


def _shares(annotated: Sequence[CaseFacts], all_cases: int, estimate: dict[str, float] | None) -> tuple[Share, ...]:
    """How much of the cases, of their voxels and of their nodes is annotated."""
    cases = Share("cases annotated", f"{len(annotated)} of {all_cases}", len(annotated) / all_cases)
    voxels, nodes = Share("voxels drawn", "none"), Share("nodes drawn", "not estimated")
    if annotated:
        drawn = float(np.median([case.drawn for case in annotated]))
        voxels = Share("voxels drawn", f"{drawn:.0%}" if drawn > 0.1 else f"{drawn:.1%}", drawn)
    if estimate:
        value, low, high = estimate["value"], estimate["low"], estimate["high"]
        nodes = Share("nodes drawn", f"{value:.0%} ({low:.0%} to {high:.0%})", value, (low, high))
    return cases, voxels, nodes


def _tiles(budget: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The time, the iterations that fit into it, and the seconds of one, as far as they are known."""
    iterations, seconds = budget.get("expected_iterations"), budget.get("seconds_per_iteration")
    tiles = [(f"{budget['minutes']:.3g} min", "a fold")] if budget["minutes"] else [(f"{budget['epochs']:,}", "epochs a fold")]
    if budget["minutes"] is None:
        iterations = budget["epochs"] * budget["iterations_per_epoch"]
    tiles += [(f"{iterations:,.0f}", "iterations")] if iterations else []
    tiles += [(f"{seconds:.2g} s", "an iteration")] if seconds else []
    return tuple(tiles)


def times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
