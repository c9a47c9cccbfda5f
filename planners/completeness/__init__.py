"""What share of the nodes was drawn: estimated, with an interval, from places that look like drawn nodes but were not drawn."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from lnauto.planners.completeness.likeness import Likeness
from lnauto.planners.completeness.scores import FEWEST_NODES, Scores, score_cases
from lnauto.planners.completeness.size_selection import FALL, Looks, prepare, undrawn
from lnauto.planners.evidence import Completeness

__all__ = ["estimate_completeness", "score_cases", "with_interval"]

DRAWS = 50  # of cases, with replacement, for the interval
INTERVAL = (5, 95)  # percentiles of what the draws give
FALL_SPREAD = 0.12  # from data set to data set, logarithm; found on phantoms
WIDENED = 1.5  # the draws do not train anew, nor doubt the model; found on phantoms


def estimate_completeness(scores: Scores | None, seed: int = 0) -> Completeness | None:
    """The share of nodes that were drawn, or None where it cannot be said."""
    if scores is None or np.isfinite(scores.likeness.drawn[:, 1]).sum() < FEWEST_NODES:
        return None
    return with_interval(scores.likeness, seed)


def with_interval(likeness: Likeness, seed: int) -> Completeness:
    """The estimate from all cases, and what cases drawn again and again give."""
    with threadpool_limits(1):  # the fits are small: on several threads of a busy machine they took six times as long
        return _with_interval(likeness, np.random.default_rng(seed))


def _with_interval(likeness: Likeness, rng: np.random.Generator) -> Completeness:
    looks = prepare(likeness.drawn, likeness.others)
    missing, fitted = undrawn(looks)
    value = _share(looks, missing)
    shares = []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(likeness.cases, size=likeness.cases), minlength=likeness.cases)
        drawn = likeness.drawn[np.repeat(np.arange(len(likeness.drawn)), times[likeness.drawn_case])]
        others = likeness.others[np.repeat(np.arange(len(likeness.others)), times[likeness.others_case])]
        fall = FALL * float(np.exp(FALL_SPREAD * rng.normal()))
        if np.isfinite(drawn[:, 1]).sum() >= FEWEST_NODES:
            again = prepare(drawn, others, fall)
            shares.append(_share(again, undrawn(again, fitted)[0]))
    low, high = np.clip(value + WIDENED * (np.percentile([*shares, value], INTERVAL) - value), 0, 1)
    return Completeness(round(value, 3), round(float(min(low, value)), 3), round(float(max(high, value)), 3))


def _share(looks: Looks, missing: float) -> float:
    return len(looks.drawn) / (len(looks.drawn) + max(missing, 1e-6))
