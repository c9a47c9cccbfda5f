"""How far a stroke speaks for what lies round it: its node, the surroundings, and between them what stays unknown.

From a stroke ways lead to all sides, and a way gets longer where it leaves tissue as bright as the stroke is. What is a short way
off is of the stroke's node, what is a long way off is not. Both lengths are counted in voxel edges, as strokes are as dense as
their voxels; documentation/concepts/trusted_background.md says on what data they were chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from lnauto.data.trusted_background import JOINED_MM, grown, reached, smoothed
from lnauto.nodes import Array, Box, bounding_box, label_components

SMOOTH = 0.3  # standard deviation, in voxel edges: noise goes, and a node's rim stays [our choice]
LEANING = 4.0  # so many voxels a way is longer in one that is as unlike the stroke as what lies round strokes is [our choice]
THICK = 0.5  # times its length a stroke's node may be wide on either side of it, before that is called background [our choice]


@dataclass(frozen=True)
class Stroke:
    """What is drawn on one node, in a box that holds everything its ways may lead to."""

    value: int  # of its label
    box: Box
    drawn: NDArray[np.bool_]  # in the box
    far: float  # voxel edges


def follow(
    image: Array, label: Array, spacing: Sequence[float], ignore: int, node_within: float, background_from: float, reach: float
) -> Array:
    """The label with what strokes on nodes lead to filled in where it is unknown.

    Args:
        image: (channels, z, y, x), raw intensities.
        label: (z, y, x); strokes and what else is known, `ignore` elsewhere.
        spacing: in mm.
        ignore: the value of what is unknown.
        node_within: voxel edges; what a shorter way leads to is of the stroke's node.
        background_from: voxel edges; what no shorter way leads to is background.
        reach: of strokes, as in `Trust`; intensities are compared with how they vary there.
    """
    unknown, strokes = label == ignore, np.where(label == ignore, 0, label)
    near = unknown & reached(strokes > 0, reach, spacing)
    within = bounding_box(near | (strokes > 0))
    if within is None or not near.any() or not (label == 0).any():
        return label
    levels = np.stack([smoothed(channel[within], spacing, SMOOTH * _edge(spacing)) for channel in image])
    around = levels[:, near[within]]
    around = np.stack([around.mean(axis=1), around.var(axis=1)], axis=1)
    nearest = np.full(levels.shape[1:], np.inf, np.float32)
    filled, undecided = np.zeros(nearest.shape, label.dtype), np.zeros(nearest.shape, bool)
    for stroke in _strokes(strokes[within], spacing, background_from):
        here = (slice(None), *stroke.box)
        away = _ways(levels[here], stroke.drawn, around, spacing)
        undecided[stroke.box] |= away < stroke.far
        nearer = (away <= node_within) & (away < nearest[stroke.box])
        nearest[stroke.box][nearer] = away[nearer]
        filled[stroke.box][nearer] = stroke.value
    result = label.copy()
    inside = result[within]
    inside[unknown[within] & ~undecided] = 0
    inside[unknown[within] & (filled > 0)] = filled[unknown[within] & (filled > 0)]
    return result


def _strokes(strokes: Array, spacing: Sequence[float], background_from: float) -> Iterator[Stroke]:
    edge = _edge(spacing)
    for value in np.unique(strokes[strokes > 0]):
        pieces, _ = label_components(grown(strokes == value, JOINED_MM, spacing))
        for number, box in enumerate(find_objects(pieces), 1):
            longest = max((side.stop - side.start) * step for side, step in zip(box, spacing, strict=True)) - 2 * JOINED_MM
            far = max(background_from, THICK * longest / edge)
            more = [int(np.ceil(far * edge / step)) for step in spacing]
            wide = tuple(slice(max(side.start - by, 0), side.stop + by) for side, by in zip(box, more, strict=True))
            yield Stroke(int(value), wide, (strokes[wide] == value) & (pieces[wide] == number), far)


def _ways(levels: Array, drawn: NDArray[np.bool_], around: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
    """From a stroke to each voxel, the length of the shortest way, in voxel edges.

    `around`: mean and variance of the levels near all strokes, channel by channel.
    """
    from skimage.graph import MCP_Geometric

    unlike = np.zeros(drawn.shape)
    for channel, (mean, variance) in zip(levels, around, strict=True):
        own = np.median(channel[drawn])
        unlike += (channel - own) ** 2 / max(variance + (mean - own) ** 2, 1e-12)
    costs = 1 + LEANING * np.sqrt(unlike / len(levels))
    lengths, _ = MCP_Geometric(costs, sampling=tuple(spacing)).find_costs(np.argwhere(drawn))
    return (lengths / _edge(spacing)).astype(np.float32)


def _edge(spacing: Sequence[float]) -> float:
    """Of a voxel as a cube, in mm."""
    return float(np.prod(spacing)) ** (1 / 3)
