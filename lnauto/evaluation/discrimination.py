"""How well a score ranks patients with metastasis above those without: ROC and precision-recall, with intervals.

Intervals are over patients, and take the scores as given: they do not tell how another training would have come out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr

from lnauto.evaluation.estimates import CONFIDENCE, Difference, Estimate, Flags, Floats, Z, labelled, not_hard, with_both_classes

REPEATS = 2000
TAILS = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
NOTHING = 1e-20  # a variance that is rounding
GRID = np.linspace(0, 1, 101)


def auc(truth: ArrayLike, score: ArrayLike) -> Estimate:
    """Area under the ROC curve with DeLong's interval; a tie counts half."""
    labels, scores = _ranking(truth, score)
    return auc_of(labels, scores)


def auc_of(labels: Flags, scores: Floats) -> Estimate:
    """The same of labels and scores that were looked at before; also of counts, which may happen to be 0 or 1."""
    outranked = _outranked(labels, scores)
    value, variance = float(outranked[0].mean()), _variance(*outranked)
    if not variance > NOTHING:  # perfect ranking, all scores alike, or a class of one patient
        return Estimate(value, *_model_interval(value, int(labels.sum()), int((~labels).sum())))
    reach = Z * math.sqrt(variance) / (value * (1 - value))
    return Estimate(value, float(expit(logit(value) - reach)), float(expit(logit(value) + reach)))


def paired_delong(truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> Difference:
    """The difference of two AUCs of the same patients; interval and p are NaN where the data give it no variance."""
    labels, scores = _ranking(truth, first)
    return difference_of(labels, scores, _ranking(truth, second)[1])


def difference_of(labels: Flags, first: Floats, second: Floats) -> Difference:
    """The same of labels and scores that were looked at before."""
    outranked = [ours - theirs for ours, theirs in zip(_outranked(labels, first), _outranked(labels, second), strict=True)]
    value, variance = float(outranked[0].mean()), _variance(*outranked)
    if variance > NOTHING:
        reach = Z * math.sqrt(variance)
        p = 2 * float(ndtr(-abs(value) / math.sqrt(variance)))
        return Difference(value, max(value - reach, -1.0), min(value + reach, 1.0), p)
    if np.allclose(np.concatenate(outranked), 0, atol=1e-12):  # the same ranking across the classes
        return Difference(0.0, 0.0, 0.0, 1.0)
    return Difference(value, math.nan, math.nan, math.nan)


def bootstrap_auc(truth: ArrayLike, score: ArrayLike, seed: int, repeats: int = REPEATS) -> Estimate:
    """AUC with the percentile interval over patients drawn again, as many of each class as there are."""
    labels, scores = _ranking(truth, score)
    found, false = _redrawn_curves(labels, scores, seed, repeats)
    areas = (np.diff(false, axis=1) * (found[:, 1:] + found[:, :-1]) / 2).sum(axis=1)
    return percentile_interval(float(_outranked(labels, scores)[0].mean()), areas)


def average_precision(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the precision-recall curve, in steps; a score that knows nothing has the prevalence."""
    from sklearn.metrics import average_precision_score  # half a second to import, for what needs no curve

    labels, scores = _ranking(truth, score)
    return float(average_precision_score(labels, scores))


def bootstrap_average_precision(truth: ArrayLike, score: ArrayLike, seed: int, repeats: int = REPEATS) -> Estimate:
    """Average precision at this prevalence, with the percentile interval over patients drawn again."""
    labels, scores = _ranking(truth, score)
    found, false = _redrawn_curves(labels, scores, seed, repeats)
    caught, alarms = found[:, 1:] * labels.sum(), false[:, 1:] * (~labels).sum()
    precision = caught / np.maximum(caught + alarms, 1)
    return percentile_interval(average_precision(labels, scores), (np.diff(found, axis=1) * precision).sum(axis=1))


@dataclass(frozen=True)
class Roc:
    """The curve, and the 95 % interval of sensitivity at each rate of false positives on a grid."""

    false_positive_rate: tuple[float, ...]
    sensitivity: tuple[float, ...]
    grid: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: list(values) for name, values in vars(self).items()}


def roc(truth: ArrayLike, score: ArrayLike, seed: int, repeats: int = REPEATS) -> Roc:
    """The ROC curve with a band, point by point, over patients drawn again."""
    from sklearn.metrics import roc_curve

    labels, scores = _ranking(truth, score)
    false, found, _ = roc_curve(labels, scores)
    draws = zip(*_redrawn_curves(labels, scores, seed, repeats), strict=True)
    low, high = np.percentile([np.interp(GRID, drawn_false, drawn_found) for drawn_found, drawn_false in draws], TAILS, axis=0)
    return Roc(*(tuple(map(float, values)) for values in (false, found, GRID, low, high)))


def redrawn(labels: Flags, seed: int, repeats: int) -> NDArray[np.int64]:
    """How often each patient (a column) is drawn in each repeat (a row), with replacement within each class.

    By class, because a draw without one of the classes has no figure, and because DeLong's variance is that of these numbers.
    """
    generator = np.random.default_rng(seed)
    times = np.zeros((repeats, labels.size), np.int64)
    for members in (np.flatnonzero(labels), np.flatnonzero(~labels)):
        if members.size:
            times[:, members] = generator.multinomial(members.size, np.full(members.size, 1 / members.size), size=repeats)
    return times


def _redrawn_curves(labels: Flags, scores: Floats, seed: int, repeats: int) -> tuple[Floats, Floats]:
    """Sensitivity and rate of false positives of every draw (a row), from the highest threshold down."""
    times = redrawn(labels, seed, repeats)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # patients of one score come in together

    def rate(members: Flags) -> Floats:
        so_far = (times * members)[:, order].cumsum(axis=1)[:, last]
        return np.hstack([np.zeros((repeats, 1)), so_far / members.sum()])

    return rate(labels), rate(~labels)


def percentile_interval(value: float, draws: ArrayLike) -> Estimate:
    low, high = np.percentile(np.asarray(draws, float), TAILS)
    return Estimate(value, float(low), float(high))


def _ranking(truth: ArrayLike, score: ArrayLike) -> tuple[Flags, Floats]:
    labels, scores = labelled(truth, score)
    with_both_classes(labels)
    not_hard(scores)
    return labels, scores


def _outranked(labels: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """For each patient with metastasis the share of those without whom the score puts below, and for each without, above.

    Both have the AUC as their mean; their variances are DeLong's (1988). By midranks, as Sun and Xu (2014) do.
    """
    from scipy.stats import rankdata

    positive, negative = scores[labels], scores[~labels]
    together = rankdata(np.concatenate([positive, negative]))
    below = (together[: positive.size] - rankdata(positive)) / negative.size
    above = 1 - (together[positive.size :] - rankdata(negative)) / positive.size
    return below, above


def _variance(below: Floats, above: Floats) -> float:
    """NaN where a class has one patient."""
    if min(below.size, above.size) < 2:
        return math.nan
    return float(below.var(ddof=1) / below.size + above.var(ddof=1) / above.size)


def _model_interval(value: float, m: int, n: int) -> tuple[float, float]:
    """Where DeLong's variance says nothing: all AUCs whose distance from this one is within chance (Newcombe 2006, method 5)."""
    from scipy.optimize import brentq

    more = (m + n) / 2 - 1

    def beyond(area: float) -> float:
        variance = area * (1 - area) * (1 + more * (1 - area) / (2 - area) + more * area / (1 + area)) / (m * n)
        return (value - area) ** 2 - Z**2 * variance

    low = 0.0 if value == 0 else float(brentq(beyond, 0, value - 1e-9))
    high = 1.0 if value == 1 else float(brentq(beyond, value + 1e-9, 1))
    return low, high
