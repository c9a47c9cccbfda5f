"""How many nodes were not drawn, from what drawn nodes and candidates look like, if large nodes are drawn rather than small ones.

A model of four parts, fitted together. Nodes have log-normal volumes. Whether one is drawn depends on its volume. What a node of
a volume looks like (score, size of its peak, or no peak at all) is learnt from the drawn nodes, for which both are known: given
the volume, being drawn changes nothing. Candidates without a label are un-drawn nodes, or something else, whose scores fall off
exponentially. The un-drawn nodes are those that explain the candidates' scores and sizes beyond that fall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from scipy.special import expit, ndtr

from lnauto.nodes import Array

FALL = 1.2  # per unit of log-odds, of the scores of what is no node; as found on phantoms, and taken as known
BELOW_MEDIAN = 3.0  # candidates are looked at down to so much below the median score of drawn nodes
OTHERS, OTHERS_SPREAD = 0.75, 0.2  # of the candidates are no node: so deep a look finds mostly those
VOLUMES = 40  # steps of the grid of log volumes
BELOW, ABOVE = 2.5, 1.0  # how far that grid reaches beyond the drawn nodes' log volumes
LEAST_SPREAD = 0.2  # of looks round what a volume lets expect
MOST_ODDS = 8.0  # logarithm, of being drawn: all are
ALMOST_NONE = 1e-12


@dataclass(frozen=True, eq=False)
class Looks:
    """What the fit needs: the drawn nodes' log volumes, and how well each volume explains each candidate."""

    drawn: Array
    volumes: Array  # grid of log volumes
    seen: Array  # the chance that a node of such a volume is a candidate
    as_node: Array  # candidates x volumes: density of the candidate's look if it is such a node, seen or not
    above: Array  # candidates: by how much the score exceeds the lowest one looked at
    size: Array  # candidates
    fall: float  # of the scores of what is no node


def prepare(drawn: Array, others: Array, fall: float = FALL) -> Looks:
    """Learn from the drawn nodes (log volume, score, size) how volume shows; weigh the candidates (score, size)."""
    lowest = float(np.nanmedian(drawn[:, 1])) - BELOW_MEDIAN
    found = drawn[np.nan_to_num(drawn[:, 1], nan=-np.inf) > lowest]
    others = others[others[:, 0] > lowest]
    volume, score, size = drawn[:, 0], others[:, :1], others[:, 1:]
    grid = np.linspace(volume.min() - BELOW, volume.max() + ABOVE, VOLUMES)
    middle = found.mean(axis=0)
    ones = np.ones(len(found))
    by_volume, size_spread = _line(np.stack([ones, found[:, 0] - middle[0]], 1), found[:, 2])
    by_both, score_spread = _line(np.stack([ones, found[:, 0] - middle[0], found[:, 2] - middle[2]], 1), found[:, 1])
    size_wanted = by_volume[0] + by_volume[1] * (grid - middle[0])
    score_wanted = by_both[0] + by_both[1] * (grid - middle[0]) + by_both[2] * (size - middle[2])
    above = np.maximum(ndtr((score_wanted - lowest) / score_spread), 0.05)
    seen = _chance_seen(volume, np.nan_to_num(drawn[:, 1], nan=-np.inf) > lowest)(grid)
    as_node = _bell(size, size_wanted, size_spread) * _bell(score, score_wanted, score_spread) / above * seen
    return Looks(volume, grid, seen, as_node, score[:, 0] - lowest, size[:, 0], fall)


def _line(columns: Array, values: Array) -> tuple[Array, float]:
    """Least squares, slopes held back a little, and the spread of what is left."""
    held = np.diag([0.0] + [0.5] * (columns.shape[1] - 1))
    factors = np.linalg.solve(columns.T @ columns + held, columns.T @ values)
    left = values - columns @ factors
    spread = np.sqrt((left @ left + 0.5) / (max(len(values) - columns.shape[1], 1) + 1))
    return factors, max(float(spread), LEAST_SPREAD)


def _bell(values: Array, middle: Array | float, spread: float) -> Array:
    density: Array = np.exp(-0.5 * ((values - middle) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    return density


def _chance_seen(volume: Array, seen: Array) -> Callable[[Array], Array]:
    """Logistic in the log volume and never falling; without many nodes it stays near the share that was seen."""
    middle, spread = float(volume.mean()), max(float(volume.std()), LEAST_SPREAD)

    def misfit(at: Array) -> float:
        odds = at[0] + np.exp(at[1]) * (volume - middle) / spread
        return float(np.logaddexp(0, np.where(seen, -odds, odds)).sum() + (at[0] - 2) ** 2 / 18 + 2 * (at[1] + 0.5) ** 2)

    level, slope = minimize(misfit, [1.5, -0.5]).x
    return lambda at: np.asarray(expit(level + np.exp(slope) * (at - middle) / spread))


def undrawn(looks: Looks, start: Array | None = None) -> tuple[float, Array]:
    """The number of nodes that were not drawn, and the fitted parameters, from which a similar fit may start."""
    starts = [_start(looks, 1.1, 4.0), _start(looks, 2.0, -0.5)] if start is None else [start]
    best = min((_fit(looks, at) for at in starts), key=lambda fit: float(fit.fun))
    nodes, sizes, chance, _ = _parts(best.x, looks)
    return float(nodes * (sizes * (1 - chance)).sum()), best.x


def _start(looks: Looks, times_drawn: float, odds: float) -> Array:
    count, middle = len(looks.drawn), float(looks.drawn.mean())
    left = max(len(looks.size) - (times_drawn - 1) * count, 1.0)
    size = float(looks.size.mean()) if len(looks.size) else middle
    return np.array([np.log(times_drawn * count), middle + 1 - times_drawn, 0.0, odds, 0.0, np.log(left), size, 0.5, -0.5])


def _fit(looks: Looks, start: Array) -> OptimizeResult:
    count, middle = np.log(len(looks.drawn)), float(looks.drawn.mean())
    bounds = [(count - 0.1, count + 5), (middle - 4, middle + 3), (-2.0, 1.0), (-MOST_ODDS, MOST_ODDS), (-3.0, 2.0)]
    bounds += [(-3.0, 12.0), (-10.0, 30.0), (-3.0, 3.0), (-2.0, 2.0)]
    return minimize(_misfit, np.clip(start, *np.transpose(bounds)), (looks,), method="L-BFGS-B", bounds=bounds)


def _parts(at: Array, looks: Looks) -> tuple[float, Array, Array, float]:
    """Number of nodes, their part in each step of volume, each step's chance of being drawn, number of other candidates."""
    sizes = _bell(looks.volumes, at[1], float(np.exp(at[2])))
    chance = expit(at[3] + np.exp(at[4]) * (looks.volumes - looks.drawn.mean()))
    return float(np.exp(at[0])), sizes / (sizes.sum() + ALMOST_NONE), chance, float(np.exp(at[5]))


def _misfit(at: Array, looks: Looks) -> float:
    """Minus the log-likelihood of drawn nodes and candidates, both Poisson, and of the parameters."""
    nodes, sizes, chance, others = _parts(at, looks)
    volume = looks.drawn
    odds = at[3] + np.exp(at[4]) * (volume - volume.mean())
    drawn = (
        len(volume) * at[0]
        + np.log(_bell(volume, at[1], float(np.exp(at[2]))) + ALMOST_NONE).sum()
        - np.logaddexp(0, -odds).sum()
    )
    as_other = (
        looks.fall * np.exp(-looks.fall * looks.above) * _bell(looks.size, at[6] + at[7] * looks.above, float(np.exp(at[8])))
    )
    candidates = np.log(nodes * (looks.as_node @ (sizes * (1 - chance))) + others * as_other + ALMOST_NONE).sum()
    expected = nodes * ((sizes * chance).sum() + (sizes * (1 - chance) * looks.seen).sum()) + others
    unlikely = (
        ((at[1] - volume.mean() + 0.5) / 1.0) ** 2  # un-drawn nodes are rather smaller than drawn ones
        + (at[2] / 0.35) ** 2  # volumes vary about as those of enlarged nodes do
        + (min(at[3], 0.0) / 2.0) ** 2
        + (at[4] / 0.7) ** 2
        + ((at[5] - np.log(OTHERS * (len(looks.size) + 1))) / OTHERS_SPREAD) ** 2
        + (at[7] - 0.5) ** 2
        + ((at[8] + 0.5) / 0.7) ** 2
    )
    return float(expected - drawn - candidates + unlikely / 2)
