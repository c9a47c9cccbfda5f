"""Cases scored once, for the estimate of what was drawn and for the maps of what may have been left out.

Every case is judged by a classifier that has not seen it, so a node's score does not depend on whether the node itself was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from lnauto.allowance import usable_cores
from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import Array
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.completeness.likeness import Likeness, find_candidates, gather_candidates
from lnauto.planners.completeness.surroundings import Floats, drawn_intensities, look_round, read_coarse
from lnauto.planners.completeness.voxels import get_ready, learn, sample, score_of

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

Result = TypeVar("Result")

FOLDS = 6  # parts of the cases, each judged by what the others taught; with fewer, places are ranked worse
FEWEST_CASES, FEWEST_NODES = 8, 6  # annotated; a classifier of fewer knows too little of what is no node
FEWEST_WITH_NODES = 4  # cases
MOST_CASES, MOST_IF_DECLARED = 24, 8  # drawn by the seed if there are more; that all is drawn is checked, not decided upon
SMALL_NODE = 0.75  # of the radius a quarter of drawn nodes stay below: un-drawn ones are smaller
FINE = 65_535  # steps a score is kept in: half the memory of a float, and finer than scores are sure


@dataclass(frozen=True, eq=False)
class Scored:
    """How much each voxel of a case's coarse grid looks like a drawn node, to a classifier that has not seen the case."""

    score: NDArray[np.uint16]  # from 0 to FINE
    numbers: NDArray[np.integer]  # of the drawn nodes
    spacing: Array

    @classmethod
    def of(cls, score: Floats, numbers: NDArray[np.int32], spacing: Array) -> Scored:
        fine = np.rint(score.clip(0, 1) * FINE).astype(np.uint16)
        return cls(fine, numbers.astype(np.min_scalar_type(int(numbers.max()))), spacing)


@dataclass(frozen=True, eq=False)
class Scores:
    """Cases that were learnt from, each as the others judge it, and what judges further ones."""

    of: dict[str, Scored]  # by the name of the case
    likeness: Likeness
    radius: float
    ranges: list[tuple[float, float]]
    model: HistGradientBoostingClassifier  # of the first fold

    def of_further(self, dataset: RawDataset, case: Case) -> Scored:
        """A case that was not learnt from."""
        looked = look_round(read_coarse(dataset, case, self.radius), self.radius, self.ranges)
        return Scored.of(score_of(looked, self.model, self.radius), looked.numbers, looked.spacing)


def small_radius(volumes_mm3: Sequence[float]) -> float:
    """Of what is small among nodes, in mm: everything is measured in it."""
    return SMALL_NODE * float(np.quantile([(3 * volume / (4 * np.pi)) ** (1 / 3) for volume in volumes_mm3], 0.25))


def score_cases(dataset: RawDataset, cases: Sequence[CaseFacts], seed: int = 0, quiet: bool = False) -> Scores | None:
    """Score the annotated cases, or some of them, drawn by the seed; None where too little is drawn to learn from.

    `cases` are the facts of `dataset.cases`, in their order. What an `ignore` label covers is declared to be unknown, so there is
    nothing to find.
    """
    annotated = [(case, facts) for case, facts in zip(dataset.cases, cases, strict=True) if facts.annotated]
    if dataset.ignore_label is not None or len(annotated) < FEWEST_CASES:
        return None
    most = MOST_IF_DECLARED if dataset.annotation == "full" else MOST_CASES
    if len(annotated) > most:
        chosen = np.random.default_rng(seed).choice(len(annotated), most, replace=False)
        annotated = [annotated[at] for at in sorted(chosen)]
    return score_these(dataset, annotated, seed, quiet)


def score_these(dataset: RawDataset, cases: Sequence[tuple[Case, CaseFacts]], seed: int, quiet: bool = False) -> Scores | None:
    """Learn from some cases what drawn nodes look like and judge the others, in turn; None if too few can be seen."""
    volumes = [node.volume_mm3 for _, facts in cases for node in facts.nodes]
    if len(volumes) < FEWEST_NODES:
        return None
    radius, names = small_radius(volumes), [case.name for case, _ in cases]
    coarse = [read_coarse(dataset, case, radius) for case, _ in tqdm(cases, "cases read", delay=2, disable=quiet)]
    with_nodes = [at for at, case in enumerate(coarse) if case.numbers.any()]
    if len(with_nodes) < FEWEST_WITH_NODES:
        return None
    rng = np.random.default_rng(seed)
    fold_of = _folds(with_nodes, len(coarse), rng)
    ranges = drawn_intensities(coarse, radius)
    images = (coarse.pop(0) for _ in names)  # so that an image goes when its features come
    with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:
        ready = pool.submit(get_ready)
        looks = pool.map(lambda case: look_round(case, radius, ranges), images)
        looked = list(tqdm(looks, "cases looked at", len(names), delay=2, disable=quiet))
        samples = [sample(case, rng) for case in looked]
        others = [[one for one, own in zip(samples, fold_of, strict=True) if own != fold] for fold in range(FOLDS)]
        ready.result()
        models = list(pool.map(lambda samples: _alone(learn, samples), others))

        def judge(at: int) -> tuple[Scored, tuple[Array, Array]]:
            case = looked[at]
            score = _alone(score_of, case, models[fold_of[at]], radius)
            looked[at] = None  # features are the most of what is held
            return Scored.of(score, case.numbers, case.spacing), find_candidates(score, case, radius)

        judged = list(tqdm(pool.map(judge, range(len(names))), "un-drawn nodes", len(names), delay=2, disable=quiet))
    scored = {name: one for name, (one, _) in zip(names, judged, strict=True)}
    return Scores(scored, gather_candidates([found for _, found in judged]), radius, ranges, models[0])


def _alone(work: Callable[..., Result], *given: Any) -> Result:
    """On one core, by a thread of many: classifiers that took all cores each would wait for each other. What scikit-learn starts
    threads by is a thread's own to limit, and not there before scikit-learn is."""
    with threadpool_limits(1, user_api="openmp"):
        return work(*given)


def _folds(with_nodes: Sequence[int], cases: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which classifier judges each case; every part of the cases holds nodes."""
    empty = np.setdiff1d(np.arange(cases), with_nodes)
    order = np.concatenate([rng.permutation(with_nodes), rng.permutation(empty)])
    folds = np.empty(cases, np.int64)
    folds[order] = np.arange(cases) % FOLDS
    return folds
