"""Truth and prediction of one case, made ready to be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from lnauto.errors import InputError
from lnauto.evaluation.labels import Label, LabelScheme, check_values, values_in
from lnauto.nodes import Array, Box, bounding_box, label_components

ALL_NODES = "all nodes"
"""The key of what is counted over all node labels together; touching nodes of two labels then count as one."""

_Numbers = tuple[Array, Array] | tuple[None, None]


@dataclass(frozen=True)
class Pair:
    """Truth and prediction cut to where either holds something, and the number of every node voxel if both sides have numbers."""

    true: Array
    predicted: Array
    numbers: tuple[Array, Array] | None
    start: tuple[int, ...]
    cut_off: tuple[int, int]
    """Voxels of either side's instances that lie where neither mask holds anything."""
    unjudged: Mapping[str, Array] = field(default_factory=dict)
    """By key, predicted voxels that count for no node: what is left of nodes that lie mostly in ignored voxels."""

    @classmethod
    def of(
        cls, true: Array, predicted: Array, true_numbers: Array | None, predicted_numbers: Array | None, scheme: LabelScheme
    ) -> Pair:
        """Empty what is ignored, take values that are instances for what they are, and cut to one box."""
        if scheme.instances:
            true_numbers = true if true_numbers is None else true_numbers
        numbers = None if true_numbers is None or predicted_numbers is None else (true_numbers, predicted_numbers)
        unjudged = {}
        if scheme.ignore is not None:
            known = true != scheme.ignore
            for label in _kinds(scheme):
                true_node, node = (array > 0 if scheme.instances else label.mask(array) for array in (true, predicted))
                numbered = label_components(node)[0] if numbers is None else (numbers[1] * node).astype(np.int32)
                unjudged[label.name] = _unjudged(numbered, true_node & known, known)
            true, predicted = true * known, predicted * known
            numbers = None if numbers is None else (numbers[0] * known, numbers[1] * known)
        box = bounding_box((true != 0) | (predicted != 0), margin=1) or (slice(0, 1),) * 3
        cut_true, cut_predicted = true[box], predicted[box]
        if scheme.instances:
            value = scheme.labels[0].values[0]
            cut_true, cut_predicted = np.where(cut_true > 0, value, 0), np.where(cut_predicted > 0, value, 0)
        cut_off = (0, 0) if numbers is None else (_outside(numbers[0], box), _outside(numbers[1], box))
        numbers = None if numbers is None else (numbers[0][box], numbers[1][box])
        cut_unjudged = {key: left_out[box] for key, left_out in unjudged.items()}
        return cls(cut_true, cut_predicted, numbers, tuple(side.start for side in box), cut_off, cut_unjudged)

    def check_values(self, scheme: LabelScheme, name: str) -> None:
        """Refuse values that mean nothing."""
        for side, array in (("truth", self.true), ("prediction", self.predicted)):
            check_values(values_in(array), scheme.values(), side, name)

    def nodes(self, scheme: LabelScheme, name: str) -> Iterator[tuple[tuple[str, ...], tuple[Array, Array], _Numbers]]:
        """What to match under which keys: both masks, and both sides' instances inside them if both have some."""
        kinds = _kinds(scheme)
        if not kinds:
            return
        self._check_numbers(kinds[0].mask(self.true), kinds[0].mask(self.predicted), name)
        for label in kinds:
            true, predicted = label.mask(self.true), label.mask(self.predicted)
            if label.name in self.unjudged:
                predicted &= ~self.unjudged[label.name]
            keys = (label.name,) if len(kinds) > 1 else (label.name, scheme.nodes[0].name)
            yield keys, (true, predicted), self._numbers_in(true, predicted)

    def _check_numbers(self, true: Array, predicted: Array, name: str) -> None:
        if self.numbers is None:
            return
        sides = zip(("truth", "prediction"), self.numbers, (true, predicted), self.cut_off, strict=True)
        for side, numbers, mask, cut_off in sides:
            if cut_off or not np.array_equal(numbers > 0, mask):
                what = f"the {side}'s node instances and its node labels cover different voxels"
                raise InputError.of(what, name, "give instances of these very masks, or none")

    def _numbers_in(self, true: Array, predicted: Array) -> _Numbers:
        return (None, None) if self.numbers is None else (self.numbers[0] * true, self.numbers[1] * predicted)


def _kinds(scheme: LabelScheme) -> list[Label]:
    """What nodes are counted as: all of them together, and, where they have several labels, those of each."""
    if not scheme.nodes:
        return []
    every = Label(ALL_NODES, tuple(sorted({value for label in scheme.nodes for value in label.values})))
    return [every, *scheme.nodes] if len(scheme.nodes) > 1 else [every]


def _unjudged(numbered: Array, true: Array, known: Array) -> Array:
    """Predicted nodes that lie mostly where nobody judged and meet no true one: what is left of them are no false nodes."""
    size = np.bincount(numbered.ravel())
    judged = np.bincount(numbered[known], minlength=len(size))
    left_out = 2 * judged < size
    left_out[0] = False
    left_out[numbered[true]] = False
    unjudged: Array = left_out[numbered]
    return unjudged


def _outside(array: Array, box: Box) -> int:
    return int(np.count_nonzero(array) - np.count_nonzero(array[box]))
