"""Background one can trust where only some nodes are drawn: voxels that cannot belong to a node, drawn or not.

A voxel that is neither drawn nor trusted is unknown, and gets nnU-Net's ignore label. Every rule errs on the side of unknown: a
node that nobody drew must not be taught as background. The one that gives most, likeness, also errs most (measured in
documentation/concepts/trusted_background.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter, maximum_filter1d, minimum_filter

from lnauto.nodes import Array, Box, label_components

SMOOTH_MM = 1.0  # standard deviation: noise goes, and a node of 5 mm keeps its middle [our choice]
REASONS = ("unknown", "region", "air", "bone", "intensity", "depth", "unlike", "far", "organ", "shell")
"""Why a voxel is background; a voxel that several rules name counts for the last of them."""
LEAST_REACH_MM = 10.0  # of a node beyond its stroke, be this a dot [our choice]
JOINED_MM = 3.0  # strokes so near to each other are on one node [our choice]
LEAST_BRIGHT_ML = 10.0  # what is bright in smaller pieces may be a calcified node [our choice]


@dataclass(frozen=True)
class Trust:
    """The rules, in numbers; None: that rule does not hold. The plan stores them as they are."""

    low: tuple[float | None, ...]  # smoothed intensity of node, channel by channel
    high: tuple[float | None, ...]
    region: str  # outside it there is no node
    smooth_mm: float = SMOOTH_MM
    margin_mm: float = 1.0  # round voxels that look like node: a small node's edge looks like its surroundings
    shell_mm: float | None = 3.0  # round drawn nodes, where annotators look closest
    depth_mm: float | None = None  # a voxel with that much on all sides of what looks like node lies in an organ
    air_below: float | None = None  # HU, smoothed, channel 0; None: air is what is 0 in every channel
    bone_above: float | None = None
    organs: str | None = None  # folder beside labelsTr: what is not 0 there is an organ, never node
    likeness: str | None = None  # folder beside the plan: per cent of drawn voxels that look less like a drawn node
    unlike_below: float = 20.0  # per cent: what looks less like a drawn node than all but so many of them ... [our choice]
    unlike_margin_mm: float = 3.0  # ... and is no rim of what looks like one [our choice]
    reach: float | None = None  # of strokes: so many times its length a node reaches beyond its stroke, and each node has one
    likely_from: float | None = None  # per cent: what looks more like one, and is unknown, is taken for a node to begin with
    node_within: float | None = None  # of strokes: what so short a way through like tissue leads to is node, in voxel edges ...
    background_from: float = 6.0  # ... and what no way shorter than that leads to is background (`lnauto.data.strokes`)

    @classmethod
    def of_plan(cls, plans: Mapping[str, Any]) -> Trust | None:
        """What a plan says; None: the background is as drawn."""
        block = plans.get("lnauto", {}).get("trusted_background")
        if block is None:
            return None
        given = {field.name: block[field.name] for field in fields(cls) if field.name in block}
        return cls(**{**given, "low": tuple(given["low"]), "high": tuple(given["high"])})


def with_ignore(description: Mapping[str, Any], trust: Trust | None) -> dict[str, Any]:
    """`dataset.json` as training needs it: with the label of voxels that are neither drawn nor trusted."""
    return dict(description) if trust is None else adding_ignore(description)


def adding_ignore(description: Mapping[str, Any]) -> dict[str, Any]:
    """The same with a value for voxels of which nothing is known, unless it has one."""
    if "ignore" in description["labels"]:
        return dict(description)
    labels = description["labels"]
    values = [value for entry in labels.values() for value in (entry if isinstance(entry, list) else [entry])]
    return {**description, "labels": {**labels, "ignore": max(values) + 1}, "ignore_added": True}


def as_drawn(description: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what `with_ignore` added: as the raw labels are."""
    if not description.get("ignore_added"):
        return dict(description)
    labels = {name: entry for name, entry in description["labels"].items() if name != "ignore"}
    return {**{key: value for key, value in description.items() if key != "ignore_added"}, "labels": labels}


def numbers_nodes(description: Mapping[str, Any]) -> bool:
    """Whether each value of the masks that were drawn is a node of its own. With an ignore label among them they hold but the
    values that are declared, and so no numbers."""
    drawn = as_drawn(description)
    return bool(drawn.get("instances")) and "ignore" not in drawn["labels"]


def materialise(
    image: Array,
    label: Array,
    spacing: Sequence[float],
    trust: Trust,
    box: Box,
    description: Mapping[str, Any],
    organs: Array | None = None,
    likeness: Array | None = None,
) -> Array:
    """The label a network may learn from: what is drawn as drawn, 0 where that is certain, `ignore` elsewhere.

    Args:
        image: (channels, z, y, x), raw intensities.
        label: (z, y, x), as drawn.
        spacing: in mm.
        trust: the rules.
        box: the region of `trust`, in voxels.
        description: `dataset.json` with its ignore label.
        organs: (z, y, x); not 0 where an organ is that is no node.
        likeness: (z, y, x); per cent of drawn voxels that look less like a drawn node.
    """
    if trust.reach is not None and not (label == 0).any():
        return label  # no stroke says what is no node, so perhaps nobody looked for nodes everywhere
    ignore = description["labels"]["ignore"]
    own_ignore = not description.get("ignore_added")
    drawn = (label > 0) & (label != ignore) if own_ignore else label > 0
    known = trusted_background(image, drawn, spacing, trust, box, organs, likeness)
    if own_ignore:
        known |= label == 0
    return np.where(drawn, label, np.where(known, 0, ignore)).astype(label.dtype)


def trusted_background(
    image: Array,
    nodes: Array,
    spacing: Sequence[float],
    trust: Trust,
    box: Box,
    organs: Array | None = None,
    likeness: Array | None = None,
) -> NDArray[np.bool_]:
    """Voxels that cannot be node, or hardly; never one that is drawn as node."""
    trusted: NDArray[np.bool_] = reasons(image, nodes, spacing, trust, box, organs, likeness) > 0
    return trusted


def reasons(
    image: Array,
    nodes: Array,
    spacing: Sequence[float],
    trust: Trust,
    box: Box,
    organs: Array | None = None,
    likeness: Array | None = None,
) -> NDArray[np.uint8]:
    """Voxel by voxel, the place in `REASONS` of why it is background."""
    why = np.full(nodes.shape, REASONS.index("region"), np.uint8)
    smooth = [smoothed(channel[box], spacing, trust.smooth_mm) for channel in image]
    inside = np.zeros(smooth[0].shape, np.uint8)
    within = (slice(None), *box)
    air = (image[within] == 0).all(axis=0) if trust.air_below is None else smooth[0] < trust.air_below
    inside[air] = REASONS.index("air")
    if trust.bone_above is not None:
        inside[_large(smooth[0] > trust.bone_above, LEAST_BRIGHT_ML, spacing)] = REASONS.index("bone")
    like_node = np.ones(inside.shape, bool)
    for channel, low, high in zip(smooth, trust.low, trust.high, strict=True):
        if low is not None:
            like_node &= channel >= low
        if high is not None:
            like_node &= ~_large(channel > high, LEAST_BRIGHT_ML, spacing)
    possible = grown(like_node, trust.margin_mm, spacing)
    inside[~possible & (inside == 0)] = REASONS.index("intensity")
    if trust.depth_mm is not None:
        inside[_deep(like_node, trust.depth_mm, spacing)] = REASONS.index("depth")
    if likeness is not None:
        alike = grown(likeness[box] >= trust.unlike_below, trust.unlike_margin_mm, spacing)
        inside[~alike & (inside == 0)] = REASONS.index("unlike")
    if trust.reach is not None:
        inside[~reached(nodes, trust.reach, spacing)[box] & (inside == 0)] = REASONS.index("far")
    if organs is not None:
        inside[organs[box] > 0] = REASONS.index("organ")
    why[box] = inside
    if trust.shell_mm is not None:
        why[grown(nodes, trust.shell_mm, spacing)] = REASONS.index("shell")
    why[nodes] = 0
    return why


def smoothed(channel: Array, spacing: Sequence[float], smooth_mm: float) -> NDArray[np.float32]:
    """A channel as the rules look at it."""
    result: NDArray[np.float32] = gaussian_filter(channel.astype(np.float32, copy=False), [smooth_mm / side for side in spacing])
    return result


def grown(mask: Array, by_mm: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """A mask, and what lies within so many millimetres of it along an axis; the next voxel at least."""
    wider = mask.copy()
    for axis, side in enumerate(spacing):
        width = 2 * max(1, round(by_mm / side)) + 1
        wider |= maximum_filter1d(mask.view(np.uint8), width, axis=axis, mode="constant").view(bool)
    return wider


def reached(strokes: Array, reach: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Where the nodes may be that strokes are on: boxes round these, wider by so many times their longest side."""
    near = np.zeros(strokes.shape, bool)
    pieces, _ = label_components(grown(strokes, JOINED_MM, spacing))
    for box in find_objects(pieces):
        longest = max((side.stop - side.start) * step for side, step in zip(box, spacing, strict=True))
        more = [math.ceil(max(reach * longest, LEAST_REACH_MM) / step) for step in spacing]
        near[tuple(slice(max(side.start - by, 0), side.stop + by) for side, by in zip(box, more, strict=True))] = True
    return near


def _deep(mask: Array, by_mm: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Middles of cubes that lie in a mask and reach so far to all sides; beyond the border there may be anything."""
    sides = [2 * max(1, round(by_mm / side)) + 1 for side in spacing]
    deep: NDArray[np.bool_] = minimum_filter(mask.view(np.uint8), sides, mode="constant").view(bool)
    return deep


def _large(mask: Array, least_ml: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """The pieces of a mask that have at least that volume."""
    pieces, _ = label_components(mask)
    volumes = np.bincount(pieces.ravel()) * float(np.prod(spacing)) / 1000
    large = volumes >= least_ml
    large[0] = False
    kept: NDArray[np.bool_] = large[pieces]
    return kept
