"""One case: its labels scored, its nodes matched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme, values_in
from lnauto.evaluation.matching import MIN_VOLUME_MM3, NodeMatching, match_nodes
from lnauto.evaluation.overlap import Overlap
from lnauto.evaluation.pair import ALL_NODES, Pair
from lnauto.evaluation.protocols import Protocol, protocol_of
from lnauto.evaluation.surface import SurfaceDistances
from lnauto.evaluation.surfels import surface_dice
from lnauto.nodes import Array, world_point

T = TypeVar("T")


@dataclass(frozen=True)
class LabelResult:
    """A label's volumes, and its scores by name as the protocol wants them."""

    overlap: Overlap
    scores: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Scores and volumes."""
        return {**self.scores, **asdict(self.overlap)}


@dataclass(frozen=True)
class CaseResult:
    """Everything said about one case: labels by name; nodes by `ALL_NODES` and by each node label's name."""

    case: str
    protocol: Protocol
    labels: Mapping[str, LabelResult]
    nodes: Mapping[str, NodeMatching] = field(default_factory=dict)
    min_volume_mm3: float = MIN_VOLUME_MM3

    def to_json(self) -> dict[str, Any]:
        """Labels and nodes, with NaN where a score does not exist."""
        return {
            "case": self.case,
            "labels": {name: label.to_json() for name, label in self.labels.items()},
            "nodes": {name: matching.to_json() for name, matching in distinct(self.nodes).items()},
        }


def distinct(nodes: Mapping[str, T]) -> Mapping[str, T]:
    """What to tell of nodes: with one node label, its own entry says the same as that of all nodes."""
    return nodes if len(nodes) != 2 else {ALL_NODES: nodes[ALL_NODES]}


def evaluate_case(
    truth: Array,
    predicted: Array,
    spacing: Sequence[float],
    labels: LabelScheme | Mapping[str, Any] | None = None,
    node_labels: Iterable[int] | None = None,
    *,
    protocol: str | Protocol = "lnauto",
    min_volume_mm3: float = MIN_VOLUME_MM3,
    true_instances: Array | None = None,
    predicted_instances: Array | None = None,
    case: str = "",
    origin: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
) -> CaseResult:
    """Score one predicted label map against the true one, both (z, y, x) integers.

    Args:
        truth: the true label map; voxels it marks as `ignore` are left out of everything.
        predicted: the predicted one, on the same grid.
        spacing: (z, y, x) in mm.
        labels: `labels` of `dataset.json`, or a scheme made of it; without them every value from 1 is a label.
        node_labels: the values that are lymph nodes; without them, those whose name says so, else all.
        protocol: one of `PROTOCOLS`, or one of your own.
        min_volume_mm3: predicted components smaller than this are neither found nor false; Dice and the like keep them.
        true_instances: a number for every voxel of a node, 0 elsewhere; counts only if both sides have it.
        predicted_instances: the same for the prediction.
        case: its name, for messages and results.
        origin: the images' own, as SimpleITK gives it; without it nodes have no place in the world.
        direction: the same; without it the array's axes are taken for the patient's.
    """
    name = case or "a case without a name"
    protocol = protocol_of(protocol)
    arrays = {"prediction": predicted, "true instances": true_instances, "predicted instances": predicted_instances}
    for what, array in arrays.items():
        if array is not None and array.shape != truth.shape:
            raise InputError.of(f"{what}: shape {array.shape}, the truth: {truth.shape}", name, "bring both to one grid")
    if labels is None:
        labels = LabelScheme.from_values(values_in(truth) | values_in(predicted), node_labels)
    elif not isinstance(labels, LabelScheme):
        labels = LabelScheme.of(labels, node_labels)

    pair = Pair.of(truth, predicted, true_instances, predicted_instances, labels)
    pair.check_values(labels, name)
    scores = {label.name: _score(label.mask(pair.true), label.mask(pair.predicted), spacing, protocol) for label in labels.labels}
    place = None if origin is None else world_point(pair.start, spacing, origin, direction)
    nodes: dict[str, NodeMatching] = {}
    for keys, masks, (true_numbers, predicted_numbers) in pair.nodes(labels, name):
        matching = match_nodes(
            *masks,
            spacing,
            true_instances=true_numbers,
            predicted_instances=predicted_numbers,
            min_volume_mm3=min_volume_mm3,
            case=case,
            origin=place,
            direction=direction,
        )
        nodes |= dict.fromkeys(keys, matching)
    return CaseResult(case, protocol, scores, nodes, min_volume_mm3)


def complete(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Give every case the labels of the others, as empty on both sides; for labels that were taken from the masks' values."""
    labels = dict.fromkeys(name for result in results for name in result.labels)
    nodes = dict.fromkeys(name for result in results for name in result.nodes)
    return [
        replace(
            result,
            labels={name: result.labels.get(name) or _empty(result.protocol) for name in labels},
            nodes={name: result.nodes.get(name) or NodeMatching() for name in nodes},
        )
        for result in results
    ]


def _empty(protocol: Protocol) -> LabelResult:
    return LabelResult(Overlap(0.0, 0.0, 0.0), {name: rule.both for name, rule in protocol.scores.items()})


def _score(true: Array, predicted: Array, spacing: Sequence[float], protocol: Protocol) -> LabelResult:
    overlap = Overlap.of(true, predicted, spacing)
    if not overlap.true_mm3 and not overlap.predicted_mm3:
        return _empty(protocol)
    if not overlap.true_mm3 or not overlap.predicted_mm3:
        return LabelResult(overlap, {name: rule.one for name, rule in protocol.scores.items()})
    scores = {"dice": overlap.dice}
    if "nsd" in protocol.scores:
        scores["nsd"] = surface_dice(true, predicted, spacing, protocol.tolerance_mm)
    if "assd" in protocol.scores or "hd95" in protocol.scores:
        distances = SurfaceDistances.of(true, predicted, spacing)
        scores["assd"] = distances.pooled_assd() if protocol.pooled_assd else distances.assd()
        scores["hd95"] = distances.hausdorff95()
    return LabelResult(overlap, {name: scores[name] for name in protocol.scores})
