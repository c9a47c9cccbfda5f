"""How well anybody could tell who has metastases: the label model turned round, exactly.

Given the reach of the tumour's cells, whether a node is metastatic depends on its station alone, and its marks on whether it is
metastatic; so the chance of what is seen is a product over the nodes, summed over the four reaches. What is seen is the plan:
the tumour's side and T stage, the marker, and of each node its station, size, elongation, hilum, dead core and chalk. It is
more than a picture shows (a core of 5 mm is two voxels wide, and noisy), and counts the few nodes that found no place, so no
head can have a higher AUC but by luck. Whether a node found a place depends on its form and station, but not on whether it is
metastatic, and so tells nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import rankdata

from lnauto.data.phantom.canvas import Array
from lnauto.data.phantom.case import draw_plan
from lnauto.data.phantom.nodes import (
    CHALK,
    ELONGATION,
    HILUM,
    LARGEST_ML,
    SMALLEST_ML,
    VOLUME_ML,
    Form,
    necrosis_chance,
)
from lnauto.data.phantom.patients import DRAINED, MARKER, MARKER_SD, METASTATIC, REACH_BY_T, T_STAGES, Plan, draw_marker
from lnauto.data.phantom.stations import STATIONS, n_group

LOOKS = ("size", "appearance", "context", "t_stage", "marker")
SIMULATED = 2  # beside 0 and 1 of training and test cases, so that no simulated patient is one of a data set


def posterior(
    plan: Plan,
    placed: Sequence[bool] | None = None,
    *,
    t_stage: int | None = None,
    marker: float | None = None,
    blind: Collection[str] = (),
) -> float:
    """The chance that a patient has metastases among the nodes that found a place (`placed`; without it, all).

    A T stage or marker of None is missing. `blind` names what is not looked at, of `LOOKS`. Blind to stations, a node lies at an
    average one, as if the nodes of a patient lay independently of each other: close to exact; all else is exact.
    """
    there = [True] * len(plan.nodes) if placed is None else placed
    groups = [n_group(station, plan.tumour_side) for station, _ in plan.nodes]
    ratio = np.exp([evidence(form, blind) for _, form in plan.nodes])
    none = seen = 0.0
    for reach, prior in enumerate(_reach_chances(None if "t_stage" in blind else t_stage)):
        by_group = _average_chance(reach) if "context" in blind else METASTATIC[reach]
        chance = np.array([by_group[group - 1] for group in groups])
        either = 1 - chance + chance * ratio  # of what is seen of a node, over its chance in a benign one
        seen += prior * float(np.prod(either))
        none += prior * float(np.prod(np.where(there, 1 - chance, either)))
    known = 0.0 if marker is None or "marker" in blind else marker_evidence(marker)
    if seen <= none:  # no node that could be metastatic
        return 0.0
    return float(expit(np.log((seen - none) / none) + known))


def evidence(form: Form, blind: Collection[str] = ()) -> float:
    """Of a node's marks: the logarithm of their chance in a metastatic node over that in a benign one."""
    volume = form.volume_mm3 / 1000
    found = 0.0
    if "size" not in blind:
        found += VOLUME_ML[True].log_density(volume) - VOLUME_ML[False].log_density(volume)
    if "appearance" not in blind:
        dead = {kind: average_necrosis(kind) if "size" in blind else necrosis_chance(volume, kind) for kind in (False, True)}
        found += ELONGATION[True].log_density(form.elongation) - ELONGATION[False].log_density(form.elongation)
        for shown, chance in ((form.hilum > 0, HILUM), (form.necrosis > 0, dead), (form.chalk, CHALK)):
            bad, good = (chance[kind] if shown else 1 - chance[kind] for kind in (True, False))
            found += float(np.log(bad / good))
    return found


def marker_evidence(marker: float) -> float:
    """The same of a patient's marker."""
    none, some = ((np.log(marker) - MARKER[lnm]) / MARKER_SD for lnm in (0, 1))
    return float(none**2 - some**2) / 2


@cache
def average_necrosis(metastatic: bool) -> float:
    """The chance of a dead core in a node of unknown size."""
    volumes = np.geomspace(SMALLEST_ML, LARGEST_ML, 2001)
    parts = np.diff(VOLUME_ML[metastatic].part_below(volumes))
    chances = [necrosis_chance(float(volume), metastatic) for volume in np.sqrt(volumes[1:] * volumes[:-1])]
    return float(parts @ chances)


def _reach_chances(t_stage: int | None) -> Sequence[float]:
    if t_stage is not None:
        return REACH_BY_T[t_stage - 1]
    return [float(np.dot(T_STAGES, column)) for column in zip(*REACH_BY_T, strict=True)]


@cache
def _average_chance(reach: int) -> tuple[float, float, float]:
    """That a node at an unknown station is metastatic; the sides are alike."""
    weights = [station.weight * DRAINED[n_group(name, "R")] for name, station in STATIONS.items()]
    chances = [METASTATIC[reach][n_group(name, "R") - 1] for name in STATIONS]
    average = float(np.average(chances, weights=weights))
    return average, average, average


@dataclass(frozen=True)
class Auc:
    """With the 95 % interval that the number of simulated patients leaves (DeLong)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, labels: ArrayLike, scores: ArrayLike) -> Auc:
        truth, score = np.asarray(labels, bool), np.asarray(scores, float)
        ranks = rankdata(score)
        above, below = int(truth.sum()), int((~truth).sum())
        if not above or not below:
            raise ValueError("patients with and without metastases are needed")
        bad = (ranks[truth] - rankdata(score[truth])) / below
        good = 1 - (ranks[~truth] - rankdata(score[~truth])) / above
        reach = 1.96 * np.sqrt(bad.var(ddof=1) / above + good.var(ddof=1) / below) if min(above, below) > 1 else np.inf
        value = float(bad.mean())
        return cls(value, max(0.0, value - float(reach)), min(1.0, value + float(reach)))


@dataclass(frozen=True, eq=False)
class Simulated:
    """Patients that were planned and not drawn: every node found a place."""

    plans: tuple[Plan, ...]
    lnm: Array
    marker: Array

    @classmethod
    def draw(cls, patients: int, *, size: int = 96, seed: int = 0, style: str = "a") -> Simulated:
        """As `make_case` would draw them; none of them is a case of a data set."""
        plans = tuple(draw_plan((seed, SIMULATED, index), size, style) for index in range(patients))
        rng = np.random.default_rng((seed, SIMULATED))
        lnm = np.array([int(any(form.metastatic for _, form in plan.nodes)) for plan in plans])
        return cls(plans, lnm, np.array([draw_marker(rng, label) for label in lnm.tolist()]))

    def posteriors(self, blind: Collection[str] = ()) -> Array:
        return np.array(
            [
                posterior(plan, t_stage=plan.t_stage, marker=marker, blind=blind)
                for plan, marker in zip(self.plans, self.marker.tolist(), strict=True)
            ]
        )

    def optimum(self, blind: Collection[str] = ()) -> Auc:
        """The Bayes-optimal AUC: nothing that sees what `posterior` sees ranks the patients better."""
        return Auc.of(self.lnm, self.posteriors(blind))

    def short_axis_rule(self) -> Auc:
        """The AUC of the largest short axis."""
        return Auc.of(self.lnm, [max(2 * min(form.radii[:2]) for _, form in plan.nodes) for plan in self.plans])
