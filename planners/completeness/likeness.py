"""Where un-drawn nodes may lie: places that look like the drawn nodes, and how much they do.

A classifier of voxels learns drawn against not drawn. Every case is judged by one that has not seen it, so a node's score does
not depend on whether the node itself was drawn. Peaks of the score are the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum_filter
from skimage.segmentation import watershed
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from lnauto.cores import usable_cores
from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array
from lnauto.planners.completeness.surroundings import FINEST, Floats, Looked, drawn_intensities, look_round, read_coarse, smooth

FOLDS = 3
FEWEST_CASES, FEWEST_NODES = 8, 6  # annotated; a classifier of fewer knows too little of what is no node
FEWEST_WITH_NODES = 4  # cases
SMALL_NODE = 0.75  # of the radius a quarter of drawn nodes stay below: un-drawn ones are smaller
PER_NODE, PER_CASE = 100, 4000  # voxels learnt from: drawn ones, others
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


def small_radius(volumes_mm3: Sequence[float]) -> float:
    """Of what is small among nodes, in mm: everything is measured in it."""
    return SMALL_NODE * float(np.quantile([(3 * volume / (4 * np.pi)) ** (1 / 3) for volume in volumes_mm3], 0.25))


def find_likeness(
    dataset: RawDataset, cases: Sequence[Case], radius_mm: float, seed: int, quiet: bool = False
) -> Likeness | None:
    """Learn from some cases what drawn nodes look like, find what looks like them in the others; None if too few can be seen."""
    rng = np.random.default_rng(seed)
    coarse = [read_coarse(dataset, case, radius_mm) for case in tqdm(cases, "cases read", delay=2, disable=quiet)]
    with_nodes = [at for at, case in enumerate(coarse) if case.numbers.any()]
    if len(with_nodes) < FEWEST_WITH_NODES:
        return None
    empty = np.setdiff1d(np.arange(len(coarse)), with_nodes)
    order = np.concatenate([rng.permutation(with_nodes), rng.permutation(empty)])  # so that every part of the cases holds nodes
    ranges = drawn_intensities(coarse, radius_mm)
    images = (coarse.pop(0) for _ in cases)  # so that an image goes when its features come
    with ThreadPoolExecutor(usable_cores()) as pool:
        looks = pool.map(lambda case: look_round(case, radius_mm, ranges), images)
        looked = list(tqdm(looks, "cases looked at", len(cases), delay=2, disable=quiet))
    found: dict[int, tuple[Array, Array]] = {}
    for fold in tqdm(range(FOLDS), "un-drawn nodes", delay=2, disable=quiet):
        held_out = order[fold::FOLDS]
        model = learn([sample(looked[at], rng) for at in order if at not in held_out])
        found |= {int(at): _candidates(looked[at], model, radius_mm) for at in held_out}
    drawn, others = zip(*(found[at] for at in range(len(looked))), strict=True)
    return Likeness(np.concatenate(drawn), _whose(drawn), np.concatenate(others), _whose(others), len(looked))


def _whose(rows: Sequence[Array]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(rows)), [len(part) for part in rows])


Sample = tuple[Array, Array]  # features of some voxels, and which of these are drawn


def sample(case: Looked, rng: np.random.Generator) -> Sample:
    """Voxels to learn from; drawn nodes count alike, whatever their size."""
    seen, drawn = [np.empty((0, case.features.shape[1]), np.float16)], [np.empty(0, bool)]
    numbers = case.numbers[case.possible]
    for wanted in (*np.unique(numbers[numbers > 0]), 0):
        voxels = np.flatnonzero(numbers == wanted)
        chosen = rng.choice(voxels, min(len(voxels), PER_NODE if wanted else PER_CASE), replace=False)
        seen.append(case.features[chosen])
        drawn.append(np.full(len(chosen), wanted > 0))
    return np.concatenate(seen), np.concatenate(drawn)


def learn(samples: Sequence[Sample]) -> HistGradientBoostingClassifier:
    """Drawn against not drawn."""
    model = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.1, max_leaf_nodes=15, l2_regularization=1.0, early_stopping=False, random_state=0
    )
    seen, drawn = zip(*samples, strict=True)
    return model.fit(np.concatenate(seen).astype(np.float32), np.concatenate(drawn))


def score_of(case: Looked, model: HistGradientBoostingClassifier, radius: float) -> Floats:
    """How much each voxel looks like a drawn node, from 0 to 1."""
    score = np.zeros(case.numbers.shape, np.float32)
    if case.possible.any():
        score[case.possible] = model.predict_proba(case.features.astype(np.float32))[:, 1]
    return smooth(score, FINEST, radius, case.spacing)


def _candidates(case: Looked, model: HistGradientBoostingClassifier, radius: float) -> tuple[Array, Array]:
    """The drawn nodes as (log volume, score, size), and the candidates that are none as (score, size)."""
    score = score_of(case, model, radius)
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
