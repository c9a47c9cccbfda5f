"""Where un-drawn nodes may lie: peaks of how much a place looks like the drawn nodes, each with a score and a size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum_filter
from skimage.segmentation import watershed

from lnauto.nodes import Array
from lnauto.planners.completeness.surroundings import Floats, Looked

PEAK_ABOVE = 0.01
RIDGE = 0.8  # two peaks are one candidate if the score between them does not fall below this part of the lower one
CORE = 0.75  # a candidate's size is the volume where the score is at least this part of its peak


@dataclass(frozen=True)
class Likeness:
    """Drawn nodes and candidates that carry no label, (volume, score, size) each.

    Volume and size are natural logarithms of mm3, the score of odds. `size` is that of the score's peak, known of both;
    a drawn node without a peak has neither score nor size (nan).
    """

    drawn: NDArray[np.float64]  # nodes x (log volume, score, size)
    drawn_case: NDArray[np.int64]
    others: NDArray[np.float64]  # candidates x (score, size)
    others_case: NDArray[np.int64]
    cases: int


def gather_candidates(found: Sequence[tuple[Array, Array]]) -> Likeness:
    """Of all cases, what `find_candidates` said of each."""
    drawn, others = zip(*found, strict=True)
    return Likeness(np.concatenate(drawn), _whose(drawn), np.concatenate(others), _whose(others), len(found))


def _whose(rows: Sequence[Array]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(rows)), [len(part) for part in rows])


def find_candidates(score: Floats, case: Looked, radius: float) -> tuple[Array, Array]:
    """The drawn nodes as (log volume, score, size), and the candidates that are none as (score, size)."""
    peaks = _peaks(score, case.spacing, radius)
    markers = np.zeros(score.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    tops = np.concatenate([[np.inf], score[tuple(peaks.T)]])
    basins = watershed(-score, markers, mask=score > CORE * PEAK_ABOVE)
    sizes = np.bincount(basins[score >= CORE * tops[basins]], minlength=len(tops)) * float(np.prod(case.spacing))
    drawn = np.full((len(case.volumes), 3), np.nan)
    drawn[:, 0] = np.log(np.maximum(case.volumes, 1e-3))
    others = []
    for at, peak in enumerate(peaks, 1):
        seen = np.log(tops[at] / (1 - min(tops[at], 0.9999))), np.log(sizes[at])
        near = case.numbers[tuple(slice(max(0, place - 1), place + 2) for place in peak)]
        if not near.any():
            others.append(seen)
            continue
        node = int(np.bincount(near[near > 0]).argmax())
        if np.isnan(drawn[node - 1, 1]):  # peaks come in order: the highest stands for the node
            drawn[node - 1, 1:] = seen
    return drawn[case.volumes > 0], np.array(others, float).reshape(-1, 2)


def _peaks(score: Floats, spacing: Array, radius: float) -> Array:
    """Local maxima, highest first; one that a high ridge joins to a higher one is no peak of its own."""
    widths = [2 * max(1, round(0.6 * radius / side)) + 1 for side in spacing]
    found = np.argwhere((score == maximum_filter(score, widths)) & (score > PEAK_ABOVE))
    found = found[np.argsort(-score[tuple(found.T)], kind="stable")]
    reach = [int(5 * radius / side) + 1 for side in spacing]
    kept = np.zeros(score.shape, bool)
    for peak in found:
        box = tuple(slice(max(0, place - more), place + more + 1) for place, more in zip(peak, reach, strict=True))
        parts, _ = label(score[box] > RIDGE * score[tuple(peak)])
        here = tuple(place - side.start for place, side in zip(peak, box, strict=True))
        kept[tuple(peak)] = not kept[box][parts == parts[here]].any()
    return found[kept[tuple(found.T)]]
