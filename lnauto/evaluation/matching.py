"""When a node is found: the one place in lnauto that says so.

True and predicted components are 26-connected, so that touching nodes count as one, unless both sides carry instances.
Predicted components under 15 mm3 are dropped. A predicted component may stand for a true node if it holds at least 0.3 of it.
Among these candidates, pairs are made so that each side is used at most once and the shared volume is as large as possible. A
true node with a partner is found, one without is missed, and a predicted component without a partner is false.

Candidates come before pairs: a component that covers a small node and grazes a large one stands for the small one, even where it
shares more voxels with the large one, because it could never be counted for that.

What is ignored is taken out before, and with it predicted components that lie mostly there (`pair.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnauto.nodes import Array, Node, label_components, measure_nodes

MIN_OVERLAP = 0.3
MIN_VOLUME_MM3 = 15.0
DEFINITION = (
    "A node is found when, in a one-to-one assignment of predicted and true components by overlap (26-connected on both sides, "
    "so touching nodes count as one unless both sides carry instances; predicted components under {volume:g} mm3 dropped), "
    "intersection over the true node is at least {overlap:g} and the predicted component is matched to it."
)


@dataclass(frozen=True)
class SizeClass:
    """Nodes by short axis in mm, from `low` up to but not including `high`."""

    name: str
    low: float
    high: float

    def holds(self, node: Node) -> bool:
        return self.low <= node.short_axis_mm < self.high


SIZE_CLASSES = (  # RECIST 1.1: below 10 mm normal, from 15 mm a target lesion
    SizeClass("short axis < 10 mm", 0.0, 10.0),
    SizeClass("short axis 10 to 15 mm", 10.0, 15.0),
    SizeClass("short axis >= 15 mm", 15.0, math.inf),
)


@dataclass(frozen=True)
class NodeCounts:
    """How many true nodes there are, how many of them are found, and how many predicted components are false."""

    true: int = 0
    found: int = 0
    false: int = 0

    def __add__(self, other: NodeCounts) -> NodeCounts:
        return NodeCounts(self.true + other.true, self.found + other.found, self.false + other.false)

    @property
    def recall(self) -> float:
        """NaN where there is no true node."""
        return _ratio(self.found, self.true)

    @property
    def precision(self) -> float:
        """NaN where nothing was predicted."""
        return _ratio(self.found, self.found + self.false)

    @property
    def f1(self) -> float:
        """NaN where there is no true node and nothing was predicted."""
        return _ratio(2 * self.found, self.true + self.found + self.false)

    def to_json(self) -> dict[str, Any]:
        """Counts and what follows from them."""
        counts = {"true": self.true, "found": self.found, "false": self.false}
        return {**counts, "recall": self.recall, "precision": self.precision, "f1": self.f1}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


@dataclass(frozen=True)
class Match:
    """A true node and the predicted component that stands for it, by number; `overlap` is the part of the true node it holds."""

    true: int
    predicted: int
    overlap: float


@dataclass(frozen=True)
class NodeMatching:
    """The nodes of one case on both sides, and who stands for whom."""

    true: tuple[Node, ...] = ()
    predicted: tuple[Node, ...] = ()
    matches: tuple[Match, ...] = ()
    dropped: int = 0
    """Predicted components too small to count."""
    by_instances: bool = False

    @property
    def false(self) -> tuple[Node, ...]:
        """The predicted components that stand for no true node."""
        matched = {match.predicted for match in self.matches}
        return tuple(node for node in self.predicted if node.number not in matched)

    @property
    def counts(self) -> NodeCounts:
        return NodeCounts(len(self.true), len(self.matches), len(self.false))

    def counts_of(self, size: SizeClass) -> NodeCounts:
        """The counts of one size: true nodes, found or not, by their own size, false components by theirs."""
        true = {node.number for node in self.true if size.holds(node)}
        found = sum(match.true in true for match in self.matches)
        return NodeCounts(len(true), found, sum(size.holds(node) for node in self.false))

    def to_json(self) -> dict[str, Any]:
        """Counts, and every node with its fate."""
        fate = {match.true: match for match in self.matches}
        true = [{**_told(node), "found": node.number in fate, **_partner(fate.get(node.number))} for node in self.true]
        return {
            **self.counts.to_json(),
            "dropped": self.dropped,
            "by": "instances" if self.by_instances else "components",
            "true_nodes": true,
            "false_nodes": [_told(node) for node in self.false],
        }


def _told(node: Node) -> dict[str, Any]:
    return {
        "number": node.number,
        "centroid_mm": node.centroid_mm,
        "volume_mm3": node.volume_mm3,
        "long_axis_mm": node.long_axis_mm,
        "short_axis_mm": node.short_axis_mm,
    }


def _partner(match: Match | None) -> dict[str, Any]:
    return {} if match is None else {"predicted_number": match.predicted, "overlap": match.overlap}


def match_nodes(
    true: Array,
    predicted: Array,
    spacing: Sequence[float],
    *,
    true_instances: Array | None = None,
    predicted_instances: Array | None = None,
    min_volume_mm3: float = MIN_VOLUME_MM3,
    case: str = "",
    origin: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
) -> NodeMatching:
    """Match the nodes of two masks; instances, numbers where the mask is and 0 elsewhere, count only if both sides carry them."""
    by_instances = true_instances is not None and predicted_instances is not None
    if true_instances is None or predicted_instances is None:
        true_instances, predicted_instances = label_components(true)[0], label_components(predicted)[0]
    predicted_instances, dropped = without_small(predicted_instances, min_volume_mm3 / float(np.prod(spacing)))
    true_nodes, predicted_nodes = (
        tuple(measure_nodes(instances, spacing, case=case, origin=origin, direction=direction))
        for instances in (true_instances, predicted_instances)
    )
    matches = assign(true_instances, predicted_instances)
    return NodeMatching(true_nodes, predicted_nodes, matches, dropped, by_instances)


def without_small(instances: Array, min_voxels: float) -> tuple[Array, int]:
    """The instances of at least so many voxels, and how many were dropped."""
    numbers, sizes = np.unique(instances[instances > 0], return_counts=True)
    small = numbers[sizes < min_voxels * (1 - 1e-9)]  # exactly the limit stays, whatever the division made of it
    if not small.size:
        return instances, 0
    return np.where(np.isin(instances, small), 0, instances), int(small.size)


def assign(true: Array, predicted: Array, min_overlap: float = MIN_OVERLAP) -> tuple[Match, ...]:
    """One to one, the pairs of instances that share most, among those that share at least `min_overlap` of the true one."""
    both = (true > 0) & (predicted > 0)
    width = int(predicted.max(initial=0)) + 1
    pairs, shared = np.unique(true[both].astype(np.int64) * width + predicted[both], return_counts=True)
    sizes = dict(zip(*(part.tolist() for part in np.unique(true[true > 0], return_counts=True)), strict=True))
    candidates = {
        divmod(pair, width): count
        for pair, count in zip(pairs.tolist(), shared.tolist(), strict=True)
        if count >= min_overlap * sizes[pair // width]
    }
    if not candidates:
        return ()
    from scipy.optimize import linear_sum_assignment

    rows, columns = (sorted({pair[side] for pair in candidates}) for side in (0, 1))
    table = np.array([[candidates.get((row, column), 0) for column in columns] for row in rows])
    chosen = ((rows[row], columns[column]) for row, column in zip(*linear_sum_assignment(table, maximize=True), strict=True))
    return tuple(Match(*pair, candidates[pair] / sizes[pair[0]]) for pair in chosen if pair in candidates)


def total(counts: Iterable[NodeCounts]) -> NodeCounts:
    """Counts of several cases together."""
    return sum(counts, NodeCounts())
