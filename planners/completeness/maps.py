"""How much each place looks like a drawn node, as a map: where nodes that nobody drew may lie, and where hardly.

The same classifier as for the estimate. A place's value is the per cent of drawn voxels that look less like a drawn node, each
node counting alike and judged without its own case; so the values mean the same in every data set, and a node's does not depend
on its being drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.completeness.likeness import (
    FEWEST_CASES,
    FEWEST_NODES,
    FEWEST_WITH_NODES,
    learn,
    sample,
    score_of,
    small_radius,
)
from lnauto.planners.completeness.surroundings import Looked, drawn_intensities, look_round, read_coarse

FOLDS = 4
MOST_LEARNT = 32  # cases classifiers learn from, drawn by the seed if there are more
PER_CENT = np.arange(101)
RIM = 2  # voxels of the coarse grid round a drawn node that are neither it nor something else


@dataclass(frozen=True, eq=False)
class LikenessMap:
    """A case's map on its coarse grid, whose first voxel begins where the image's does."""

    case: Case
    per_cent: NDArray[np.uint8]
    spacing: Array
    undrawn_ml: Array  # by per cent: how much of the volume outside drawn nodes has that value


def can_be_mapped(cases: Sequence[CaseFacts]) -> bool:
    """Whether enough is drawn to learn what nodes look like."""
    annotated = [case for case in cases if case.annotated]
    with_nodes = [case for case in annotated if case.nodes]
    enough_nodes = sum(len(case.nodes) for case in annotated) >= FEWEST_NODES
    return len(annotated) >= FEWEST_CASES and len(with_nodes) >= FEWEST_WITH_NODES and enough_nodes


def likeness_maps(dataset: RawDataset, cases: Sequence[CaseFacts], seed: int = 0, quiet: bool = False) -> Iterator[LikenessMap]:
    """A map of each annotated case; `cases` are the facts of `dataset.cases`, in their order.

    A case's image is read twice, because the images of a large data set do not fit into memory together.
    """
    annotated = [(case, facts) for case, facts in zip(dataset.cases, cases, strict=True) if facts.annotated]
    radius = small_radius([node.volume_mm3 for _, facts in annotated for node in facts.nodes])
    rng = np.random.default_rng(seed)
    learnt = _choose([bool(facts.nodes) for _, facts in annotated], rng)
    coarse = [read_coarse(dataset, annotated[at][0], radius) for at in learnt]
    ranges = drawn_intensities(coarse, radius)
    looked = [look_round(case, radius, ranges) for case in tqdm(coarse, "likeness learnt", delay=2, disable=quiet)]
    del coarse
    samples = [sample(case, rng) for case in looked]
    models = [learn([one for at, one in enumerate(samples) if at % FOLDS != fold]) for fold in range(FOLDS)]
    drawn = [_drawn_scores(case, models[at % FOLDS], radius) for at, case in enumerate(looked)]
    ladder = np.percentile(np.concatenate(drawn), PER_CENT)
    del looked
    fold_of = {case: at % FOLDS for at, case in enumerate(learnt)}
    for at, (case, _) in enumerate(tqdm(annotated, "likeness", unit="case", delay=2, disable=quiet)):
        seen = look_round(read_coarse(dataset, case, radius), radius, ranges)
        score = score_of(seen, models[fold_of.get(at, 0)], radius)
        per_cent = np.searchsorted(ladder, score, side="right").clip(0, 100).astype(np.uint8)
        outside = ~binary_dilation(seen.numbers > 0, iterations=RIM)
        undrawn = np.bincount(per_cent[outside], minlength=101) * float(np.prod(seen.spacing)) / 1000
        yield LikenessMap(case, per_cent, seen.spacing, undrawn)


def _choose(with_nodes: Sequence[bool], rng: np.random.Generator) -> list[int]:
    """Cases to learn from: those with nodes first, so that every part of them holds some."""
    order = rng.permutation(len(with_nodes))
    return sorted(order, key=lambda at: not with_nodes[at])[:MOST_LEARNT]


def _drawn_scores(case: Looked, model: HistGradientBoostingClassifier, radius: float) -> Array:
    """As many of each node's voxels: large nodes have most of the voxels, and those that nobody drew are small."""
    score = score_of(case, model, radius)
    each = [np.percentile(score[case.numbers == node], PER_CENT) for node in np.unique(case.numbers[case.numbers > 0])]
    return np.concatenate(each) if each else np.empty(0)
