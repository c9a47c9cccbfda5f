"""How a trained network reads bags: which clinical columns, and on what scale; learned from its own training patients alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lnauto.trainers.patient.bag import NODE, SHAPES, Bag, Batch, Floats, collate
from lnauto.trainers.patient.columns import Column, encode, learn_columns
from lnauto.trainers.patient.decision import Floats as Doubles


@dataclass(frozen=True, eq=False)
class Reader:
    """From bags to a batch."""

    columns: tuple[Column, ...]
    dropped: dict[str, str]  # columns that cannot be learned from, and why
    mean: tuple[float, ...]  # of SHAPES and SIGNS, over nodes
    deviation: tuple[float, ...]

    @classmethod
    def learn(cls, bags: Sequence[Bag], columns: Sequence[str]) -> Reader:
        learned, dropped = learn_columns(rows_of(bags, columns), columns)
        nodes = np.concatenate([_measured(bag)[bag.kinds == NODE] for bag in bags])
        if not len(nodes):
            return cls(learned, dropped, (0.0,) * nodes.shape[1], (1.0,) * nodes.shape[1])
        deviation = np.where(nodes.std(axis=0) > 0, nodes.std(axis=0), 1)
        return cls(learned, dropped, tuple(nodes.mean(axis=0).tolist()), tuple(deviation.tolist()))

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Reader:
        columns = tuple(Column.from_json(column) for column in stored["columns"])
        return cls(columns, stored["dropped"], tuple(stored["mean"]), tuple(stored["deviation"]))

    def to_json(self) -> dict[str, Any]:
        columns = [column.to_json() for column in self.columns]
        return {"columns": columns, "dropped": self.dropped, "mean": list(self.mean), "deviation": list(self.deviation)}

    @property
    def numbers(self) -> int:
        """How many numbers a clinical row becomes."""
        return sum(len(column.features) for column in self.columns)

    def clinical(self, bags: Sequence[Bag]) -> Doubles:
        return encode(self.columns, rows_of(bags, [column.name for column in self.columns]))

    def batch(self, bags: Sequence[Bag]) -> Batch:
        scaled = [self._standardised(bag) for bag in bags]
        shapes, signs = ([one[:, part] for one in scaled] for part in (slice(len(SHAPES)), slice(len(SHAPES), None)))
        return collate(bags, shapes, signs, self.clinical(bags).astype(np.float32))

    def _standardised(self, bag: Bag) -> Floats:
        scaled = (_measured(bag) - np.array(self.mean)) / np.array(self.deviation)
        scaled[bag.kinds != NODE] = 0  # a block of the region has no form
        return np.asarray(scaled, np.float32)


def _measured(bag: Bag) -> Floats:
    return np.concatenate([bag.shapes, bag.signs], axis=1)


def rows_of(bags: Sequence[Bag], columns: Sequence[str]) -> pd.DataFrame:
    """The clinical rows as a table; what a bag does not say is missing."""
    index = [bag.patient for bag in bags]
    return pd.DataFrame({name: pd.Series([bag.row.get(name) for bag in bags], index=index) for name in columns}, index=index)
