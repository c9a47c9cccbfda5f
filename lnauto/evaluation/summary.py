"""Many cases in a few numbers: per label mean, deviation and median over cases; nodes counted over all cases together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lnauto.evaluation.cases import CaseResult, distinct
from lnauto.evaluation.matching import DEFINITION, MIN_OVERLAP, SIZE_CLASSES, NodeCounts, NodeMatching, total
from lnauto.evaluation.overlap import pooled
from lnauto.evaluation.protocols import Protocol


@dataclass(frozen=True)
class Statistics:
    """A score over the cases in which it exists; NaN where there are too few."""

    mean: float
    sd: float
    """With one degree of freedom taken off."""
    median: float
    cases: int
    left_out: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Statistics:
        every = np.array(list(values), float)
        there = every[~np.isnan(every)]
        count = int(there.size)
        return cls(
            mean=float(there.mean()) if count else math.nan,
            sd=float(there.std(ddof=1)) if count > 1 else math.nan,
            median=float(np.median(there)) if count else math.nan,
            cases=count,
            left_out=int(every.size) - count,
        )


@dataclass(frozen=True)
class LabelSummary:
    """One label over all cases; `pooled_dice` is that of all volumes (mm3) added up."""

    scores: Mapping[str, Statistics]
    pooled_dice: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**{name: asdict(score) for name, score in self.scores.items()}, "pooled_dice": self.pooled_dice}


@dataclass(frozen=True)
class NodeSummary:
    """Nodes over all cases: counted together, by size, and as the cases' own recall, precision and F1."""

    counts: NodeCounts
    by_size: Mapping[str, NodeCounts]
    per_case: Mapping[str, Statistics]
    false_per_case: float
    dropped: int

    @classmethod
    def of(cls, matchings: Sequence[NodeMatching]) -> NodeSummary:
        counts = [matching.counts for matching in matchings]
        together = total(counts)
        return cls(
            counts=together,
            by_size={size.name: total(matching.counts_of(size) for matching in matchings) for size in SIZE_CLASSES},
            per_case={name: Statistics.of(getattr(count, name) for count in counts) for name in ("recall", "precision", "f1")},
            false_per_case=together.false / len(counts),
            dropped=sum(matching.dropped for matching in matchings),
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "pooled": self.counts.to_json(),
            "by_size": {name: counts.to_json() for name, counts in self.by_size.items()},
            "per_case": {name: asdict(score) for name, score in self.per_case.items()},
            "false_per_case": self.false_per_case,
            "dropped": self.dropped,
        }


@dataclass(frozen=True)
class Summary:
    """All cases of one evaluation."""

    protocol: Protocol
    min_volume_mm3: float
    cases: int
    labels: Mapping[str, LabelSummary]
    nodes: Mapping[str, NodeSummary]

    def mean(self, score: str = "dice") -> float:
        """The labels' means of a score, averaged; under a protocol that aggregates, their Dice over all cases together."""
        if self.protocol.aggregated:
            return Statistics.of(label.pooled_dice for label in self.labels.values()).mean
        return Statistics.of(label.scores[score].mean for label in self.labels.values()).mean

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain types; NaN where a number does not exist."""
        scores = ("dice",) if self.protocol.aggregated else tuple(self.protocol.scores)
        return {
            "protocol": self.protocol.to_json(),
            "node_found": DEFINITION.format(volume=self.min_volume_mm3, overlap=MIN_OVERLAP),
            "cases": self.cases,
            "mean_over_labels": {name: self.mean(name) for name in scores},
            "labels": {name: label.to_json() for name, label in self.labels.items()},
            "nodes": {name: nodes.to_json() for name, nodes in distinct(self.nodes).items()},
        }


def summarise(results: Sequence[CaseResult]) -> Summary:
    """Sum up cases evaluated under one protocol; a label counts in the cases that have it (see `complete`)."""
    if not results:
        raise ValueError("no case to sum up")
    protocol, min_volume = results[0].protocol, results[0].min_volume_mm3
    if any((result.protocol, result.min_volume_mm3) != (protocol, min_volume) for result in results):
        raise ValueError("cases evaluated in different ways cannot be summed up together")
    labels = {}
    for name in dict.fromkeys(name for result in results for name in result.labels):
        there = [result.labels[name] for result in results if name in result.labels]
        scores = {score: Statistics.of(label.scores[score] for label in there) for score in protocol.scores}
        labels[name] = LabelSummary(scores, pooled(label.overlap for label in there).dice)
    nodes = {
        name: NodeSummary.of([result.nodes[name] for result in results if name in result.nodes])
        for name in dict.fromkeys(name for result in results for name in result.nodes)
    }
    return Summary(protocol, min_volume, len(results), labels, nodes)
