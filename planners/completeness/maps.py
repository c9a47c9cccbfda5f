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
from tqdm import tqdm

from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.completeness.scores import (
    FEWEST_CASES,
    FEWEST_NODES,
    FEWEST_WITH_NODES,
    FINE,
    MOST_CASES,
    Scored,
    Scores,
    score_these,
)

ENOUGH_WITH_NODES = 12  # cases; with fewer of those there are, maps are worth a look at others
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


def likeness_maps(
    dataset: RawDataset, cases: Sequence[CaseFacts], scores: Scores | None, seed: int = 0, quiet: bool = False
) -> Iterator[LikenessMap]:
    """A map of each annotated case; `cases` are the facts of `dataset.cases`, in their order.

    `scores` are those the estimate was made from, and are used up; too few of them for maps are made anew.
    """
    annotated = [(case, facts) for case, facts in zip(dataset.cases, cases, strict=True) if facts.annotated]
    if scores is None or not _suffice(scores, annotated):
        scores = score_these(dataset, _nodes_first(annotated, np.random.default_rng(seed)), seed, quiet)
    if scores is None:
        return
    ladder = np.percentile(np.concatenate([_of_drawn(scored) for scored in scores.of.values()]), PER_CENT)
    per_cent_of = np.searchsorted(ladder, np.arange(FINE + 1), side="right").clip(0, 100).astype(np.uint8)
    for case, _ in tqdm(annotated, "likeness", unit="case", delay=2, disable=quiet):
        scored = scores.of.pop(case.name, None) or scores.of_further(dataset, case)
        per_cent = per_cent_of[scored.score]
        outside = ~binary_dilation(scored.numbers > 0, iterations=RIM)
        undrawn = np.bincount(per_cent[outside], minlength=101) * float(np.prod(scored.spacing)) / 1000
        yield LikenessMap(case, per_cent, scored.spacing, undrawn)


def _of_drawn(scored: Scored) -> Array:
    """As many of each node's voxels: large nodes have most of the voxels, and those that nobody drew are small."""
    each = [np.percentile(scored.score[scored.numbers == node], PER_CENT) for node in np.unique(scored.numbers) if node]
    return np.concatenate(each) if each else np.empty(0)


def _suffice(scores: Scores, annotated: Sequence[tuple[Case, CaseFacts]]) -> bool:
    """Whether enough of the cases that were learnt from hold nodes: of many cases they are drawn without regard to that."""
    with_nodes = {case.name for case, facts in annotated if facts.nodes}
    return len(with_nodes & scores.of.keys()) >= min(len(with_nodes), ENOUGH_WITH_NODES)


def _nodes_first(annotated: Sequence[tuple[Case, CaseFacts]], rng: np.random.Generator) -> list[tuple[Case, CaseFacts]]:
    order = [annotated[at] for at in rng.permutation(len(annotated))]
    return sorted(order, key=lambda case: not case[1].nodes)[:MOST_CASES]
