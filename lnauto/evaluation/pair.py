"""Truth and prediction of one case, made ready to be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme, check_values, values_in
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
    unjudged: Array | None = None
    """Predicted voxels that count for no node: what is left of components that lie mostly in ignored voxels."""

    @classmethod
    def of(
        cls, true: Array, predicted: Array, true_numbers: Array | None, predicted_numbers: Array | None, scheme: LabelScheme
    ) -> Pair:
        """Empty what is ignored, take values that are instances for what they are, and cut to one box."""
        if scheme.instances:
            true_numbers = true if true_numbers is None else true_numbers
        numbers = None if true_numbers is None or predicted_numbers is None else (true_numbers, predicted_numbers)
        unjudged = None
        if scheme.ignore is not None:
            known = true != scheme.ignore
            unjudged = _unjudged(true, predicted, known) if numbers is None else None
            true, predicted = true * known, predicted * known
            numbers = None if numbers is None else (numbers[0] * known, numbers[1] * known)
        box = bounding_box((true != 0) | (predicted != 0), margin=1) or (slice(0, 1),) * 3
        cut_true, cut_predicted = true[box], predicted[box]
        if scheme.instances:
            value = scheme.labels[0].values[0]
            cut_true, cut_predicted = np.where(cut_true > 0, value, 0), np.where(cut_predicted > 0, value, 0)
        cut_off = (0, 0) if numbers is None else (_outside(numbers[0], box), _outside(numbers[1], box))
        numbers = None if numbers is None else (numbers[0][box], numbers[1][box])
        unjudged = None if unjudged is None else unjudged[box]
        return cls(cut_true, cut_predicted, numbers, tuple(side.start for side in box), cut_off, unjudged)

    def check_values(self, scheme: LabelScheme, name: str) -> None:
        """Refuse values that mean nothing."""
        for side, array in (("truth", self.true), ("prediction", self.predicted)):
            check_values(values_in(array), scheme.values(), side, name)

    def nodes(self, scheme: LabelScheme, name: str) -> Iterator[tuple[tuple[str, ...], tuple[Array, Array], _Numbers]]:
        """What to match under which keys: both masks, and both sides' instances inside them if both have some."""
        counted = self.predicted if self.unjudged is None else self.predicted * ~self.unjudged
        masks = [(label.name, (label.mask(self.true), label.mask(counted))) for label in scheme.nodes]
        if not masks:
            return
        true, predicted = (np.logical_or.reduce([pair[side] for _, pair in masks]) for side in (0, 1))
        self._check_numbers(true, predicted, name)
        if len(masks) == 1:
            yield (ALL_NODES, masks[0][0]), (true, predicted), self._numbers_in(true, predicted)
            return
        yield (ALL_NODES,), (true, predicted), self._numbers_in(true, predicted)
        for label, pair in masks:
            yield (label,), pair, self._numbers_in(*pair)

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


def _unjudged(true: Array, predicted: Array, known: Array) -> Array:
    """A predicted component that lies mostly where nobody judged and meets no true node: its rim is no false node."""
    components, count = label_components(predicted != 0)
    size = np.bincount(components.ravel(), minlength=count + 1)
    judged = np.bincount(components[known], minlength=count + 1)
    left_out = 2 * judged < size
    left_out[0] = False
    left_out[components[known & (true != 0)]] = False
    unjudged: Array = left_out[components]
    return unjudged


def _outside(array: Array, box: Box) -> int:
    return int(np.count_nonzero(array) - np.count_nonzero(array[box]))
