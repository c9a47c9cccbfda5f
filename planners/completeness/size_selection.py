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

    def misfit(at: Array) -> tuple[float, Array]:
        rise = np.exp(at[1]) * (volume - middle) / spread
        odds = at[0] + rise
        value = float(np.logaddexp(0, np.where(seen, -odds, odds)).sum() + (at[0] - 2) ** 2 / 18 + 2 * (at[1] + 0.5) ** 2)
        too_high = expit(odds) - seen
        return value, np.array([too_high.sum() + (at[0] - 2) / 9, too_high @ rise + 4 * (at[1] + 0.5)])

    level, slope = minimize(misfit, [1.5, -0.5], jac=True).x
    return lambda at: np.asarray(expit(level + np.exp(slope) * (at - middle) / spread))


def undrawn(looks: Looks, start: Array | None = None) -> tuple[float, Array]:
    """The number of nodes that were not drawn, and the fitted parameters, from which a similar fit may start."""
    starts = [_start(looks, 1.1, 4.0), _start(looks, 2.0, -0.5)] if start is None else [start]
    best = min((_fit(looks, at) for at in starts), key=lambda fit: float(fit.fun))
    nodes, sizes, chance = _parts(best.x, looks)
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
    return minimize(misfit, np.clip(start, *np.transpose(bounds)), (looks,), method="L-BFGS-B", jac=True, bounds=bounds)


def _parts(at: Array, looks: Looks) -> tuple[float, Array, Array]:
    """Number of nodes, their part in each step of volume, each step's chance of being drawn."""
    sizes = _bell(looks.volumes, at[1], float(np.exp(at[2])))
    chance = expit(at[3] + np.exp(at[4]) * (looks.volumes - looks.drawn.mean()))
    return float(np.exp(at[0])), sizes / (sizes.sum() + ALMOST_NONE), chance


def misfit(at: Array, looks: Looks) -> tuple[float, Array]:
    """Minus the log-likelihood of drawn nodes and candidates, both Poisson, and of the parameters; and its gradient."""
    by_drawn = _misfit_of_drawn(at, looks)
    by_volume = _misfit_by_volume(at, looks)
    unlikely = _unlikeliness(at, looks)
    return by_drawn[0] + by_volume[0] + unlikely[0], by_drawn[1] + by_volume[1] + unlikely[1]


def _misfit_of_drawn(at: Array, looks: Looks) -> tuple[float, Array]:
    """How little the drawn nodes' volumes are to be expected, and that these were drawn."""
    aside = looks.drawn - looks.drawn.mean()
    spread, slope = float(np.exp(at[2])), float(np.exp(at[4]))
    bells, odds, far = _bell(looks.drawn, at[1], spread), at[3] + slope * aside, (looks.drawn - at[1]) / spread
    value = -len(aside) * at[0] - np.log(bells + ALMOST_NONE).sum() + np.logaddexp(0, -odds).sum()
    counts, missed = bells / (bells + ALMOST_NONE), expit(-odds)
    gradient = np.zeros(len(at))
    gradient[:5] = -len(aside), -(counts @ far) / spread, -(counts @ (far**2 - 1)), -missed.sum(), -slope * (missed @ aside)
    return float(value), gradient


def _misfit_by_volume(at: Array, looks: Looks) -> tuple[float, Array]:
    """How many nodes and candidates there should be, and how little the candidates' looks are to be expected."""
    nodes, sizes, chance = _parts(at, looks)
    others, spread, slope, wide = (float(np.exp(at[place])) for place in (5, 2, 4, 8))
    far = (looks.size - at[6] - at[7] * looks.above) / wide
    as_other = others * looks.fall * np.exp(-looks.fall * looks.above) * _bell(far, 0.0, 1.0) / wide
    as_node = nodes * (looks.as_node @ (sizes * (1 - chance)))
    likely = as_node + as_other + ALMOST_NONE
    there = chance + (1 - chance) * looks.seen
    value = nodes * (sizes @ there) + others - np.log(likely).sum()
    explained = nodes * ((1 / likely) @ looks.as_node)  # what one more un-drawn node of each volume would explain
    by_size = nodes * there - explained * (1 - chance)
    by_chance = sizes * (nodes * (1 - looks.seen) + explained) * chance * (1 - chance)
    aside, other = (looks.volumes - at[1]) / spread, as_other / likely
    moved, widened = aside / spread, aside**2 - 1
    gradient = np.array(
        [
            nodes * (sizes @ there) - (as_node / likely).sum(),
            by_size @ (sizes * (moved - sizes @ moved)),
            by_size @ (sizes * (widened - sizes @ widened)),
            by_chance.sum(),
            slope * (by_chance @ (looks.volumes - looks.drawn.mean())),
            others - other.sum(),
            -(other @ far) / wide,
            -(other @ (far * looks.above)) / wide,
            -(other @ (far**2 - 1)),
        ]
    )
    return float(value), gradient


def _unlikeliness(at: Array, looks: Looks) -> tuple[float, Array]:
    """What is held against parameters unlike those that data sets have."""
    off = np.zeros(len(at))
    off[1] = at[1] - looks.drawn.mean() + 0.5  # un-drawn nodes are rather smaller than drawn ones
    off[2] = at[2]  # volumes vary about as those of enlarged nodes do
    off[3] = min(at[3], 0.0)
    off[4] = at[4]
    off[5] = at[5] - np.log(OTHERS * (len(looks.size) + 1))
    off[7] = at[7] - 0.5
    off[8] = at[8] + 0.5
    spreads = np.array([1, 1, 0.35, 2, 0.7, OTHERS_SPREAD, 1, 1, 0.7])
    return float(((off / spreads) ** 2).sum() / 2), off / spreads**2
