"""How much each voxel looks like a drawn node: a classifier of voxels, drawn against not drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from lnauto.nodes import Array
from lnauto.planners.completeness.surroundings import FINEST, Floats, Looked, smooth

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

PER_NODE, PER_CASE = 100, 2500  # voxels learnt from: drawn ones, others
SPARSE_FROM = 1.5  # voxels to a small node's radius: every second of them still meets each node
HOPELESS = 0.008  # a place where none of every second voxel scores more has no peak that counts
CHUNK = 16_384  # voxels scored at a time: what the trees read stays in the processor's cache

Sample = tuple[Array, Array]  # features of some voxels, and which of these are drawn


def sample(case: Looked, rng: np.random.Generator) -> Sample:
    """Voxels to learn from; drawn nodes count alike, whatever their size."""
    seen, drawn = [np.empty((0, len(case.features)), np.float16)], [np.empty(0, bool)]
    numbers = case.numbers[case.possible]
    for wanted in (*np.unique(numbers[numbers > 0]), 0):
        voxels = np.flatnonzero(numbers == wanted)
        chosen = rng.choice(voxels, min(len(voxels), PER_NODE if wanted else PER_CASE), replace=False)
        seen.append(case.features[:, chosen].T)
        drawn.append(np.full(len(chosen), wanted > 0))
    return np.concatenate(seen), np.concatenate(drawn)


def get_ready() -> None:
    """Import what `learn` needs, which takes a second: while other threads compute, that costs nothing."""
    import sklearn.ensemble  # noqa: F401


def learn(samples: Sequence[Sample]) -> HistGradientBoostingClassifier:
    """Drawn against not drawn."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=40,
        learning_rate=0.15,
        max_leaf_nodes=15,
        max_bins=63,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    seen, drawn = zip(*samples, strict=True)
    return model.fit(np.concatenate(seen).astype(np.float32), np.concatenate(drawn))


def score_of(case: Looked, model: HistGradientBoostingClassifier, radius: float) -> Floats:
    """How much each voxel looks like a drawn node, from 0 to 1.

    Most places are hopeless, and their neighbours, too: every second voxel is scored, the others where one of those round them
    may be node. What is left out takes the score of its neighbour.
    """
    shape = case.possible.shape
    steps = tuple(2 if radius / side >= SPARSE_FROM else 1 for side in case.spacing)
    sparse = tuple(slice(None, None, step) for step in steps)
    first = np.zeros(shape, bool)
    first[sparse] = case.possible[sparse]
    score = np.zeros(shape, np.float32)
    score[first] = _scores(case.features, first[case.possible], model)
    round_it = maximum_filter(score[sparse], [3 if step > 1 else 1 for step in steps])
    more = _spread(round_it > HOPELESS, steps, shape) & case.possible & ~first
    left_out = case.possible & ~first & ~more
    score[left_out] = _spread(score[sparse], steps, shape)[left_out]
    score[more] = _scores(case.features, more[case.possible], model)
    return smooth(score, FINEST, radius, case.spacing)


def _scores(features: NDArray[np.float16], wanted: NDArray[np.bool_], model: HistGradientBoostingClassifier) -> Array:
    rows = np.flatnonzero(wanted)
    parts = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    scores = [model.predict_proba(features[:, part].T.astype(np.float32, order="C"))[:, 1] for part in parts]
    return np.concatenate(scores) if scores else np.empty(0)


def _spread(values: Array, steps: Sequence[int], shape: Sequence[int]) -> Array:
    """Values of every so manieth voxel, each repeated until the next."""
    for axis, step in enumerate(steps):
        values = np.repeat(values, step, axis) if step > 1 else values
    return values[tuple(slice(side) for side in shape)]
