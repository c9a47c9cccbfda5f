"""How much each place looks like a drawn node, as a map: where nodes that nobody drew may lie, and where hardly.

The same classifier as for the estimate. A place's value is the per cent of drawn voxels that look less like a drawn node, each
node counting alike and judged without its own case; so the values mean the same in every data set, and a node's does not depend
on its being drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from lnauto.cores import usable_cores
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
from lnauto.planners.completeness.surroundings import Floats, Looked, drawn_intensities, look_round, read_coarse

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
    """A map of each annotated case; `cases` are the facts of `dataset.cases`, in their order."""
    annotated = [(case, facts) for case, facts in zip(dataset.cases, cases, strict=True) if facts.annotated]
    radius = small_radius([node.volume_mm3 for _, facts in annotated for node in facts.nodes])
    rng = np.random.default_rng(seed)
    learnt = _choose([bool(facts.nodes) for _, facts in annotated], rng)
    coarse = [read_coarse(dataset, annotated[at][0], radius) for at in learnt]
    ranges = drawn_intensities(coarse, radius)
    images = (coarse.pop(0) for _ in learnt)  # so that an image goes when its features come
    with ThreadPoolExecutor(usable_cores()) as pool:
        looks = pool.map(lambda case: look_round(case, radius, ranges), images)
        looked = list(tqdm(looks, "likeness learnt", len(learnt), delay=2, disable=quiet))
    samples = [sample(case, rng) for case in looked]
    models = [learn([one for at, one in enumerate(samples) if at % FOLDS != fold]) for fold in range(FOLDS)]
    known: dict[int, Scored] = {}
    for at, case in enumerate(learnt):
        known[case] = Scored.of(looked.pop(0), models[at % FOLDS], radius)
    ladder = np.percentile(np.concatenate([scored.of_drawn for scored in known.values()]), PER_CENT)
    for at, (case, _) in enumerate(tqdm(annotated, "likeness", unit="case", delay=2, disable=quiet)):
        scored = known.pop(at, None)
        if scored is None:
            scored = Scored.of(look_round(read_coarse(dataset, case, radius), radius, ranges), models[0], radius)
        per_cent = np.searchsorted(ladder, scored.score, side="right").clip(0, 100).astype(np.uint8)
        outside = ~binary_dilation(scored.numbers > 0, iterations=RIM)
        undrawn = np.bincount(per_cent[outside], minlength=101) * float(np.prod(scored.spacing)) / 1000
        yield LikenessMap(case, per_cent, scored.spacing, undrawn)


@dataclass(frozen=True, eq=False)
class Scored:
    """How much each voxel of a case's coarse grid looks like a drawn node, to a classifier that has not seen the case."""

    score: Floats
    numbers: NDArray[np.int32]  # of the drawn nodes
    spacing: Array

    @classmethod
    def of(cls, case: Looked, model: HistGradientBoostingClassifier, radius: float) -> Scored:
        return cls(score_of(case, model, radius), case.numbers, case.spacing)

    @property
    def of_drawn(self) -> Array:
        """As many of each node's voxels: large nodes have most of the voxels, and those that nobody drew are small."""
        nodes = np.unique(self.numbers[self.numbers > 0])
        each = [np.percentile(self.score[self.numbers == node], PER_CENT) for node in nodes]
        return np.concatenate(each) if each else np.empty(0)


def _choose(with_nodes: Sequence[bool], rng: np.random.Generator) -> list[int]:
    """Cases to learn from: those with nodes first, so that every part of them holds some."""
    order = rng.permutation(len(with_nodes))
    return sorted(order, key=lambda at: not with_nodes[at])[:MOST_LEARNT]
