"""What the values of a mask mean: its labels, those among them that are lymph nodes, and the voxels to leave out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.nodes import Array, names_nodes

_REMEDY = "see nnU-Net's documentation of dataset.json, and lnauto's for the keys it adds"


@dataclass(frozen=True)
class Label:
    """A name and the values that mean it: one, or several for a region."""

    name: str
    values: tuple[int, ...]

    def mask(self, array: Array) -> Array:
        """Where the array holds the label."""
        return array == self.values[0] if len(self.values) == 1 else np.isin(array, self.values)


@dataclass(frozen=True)
class LabelScheme:
    """The labels to score (no background, no ignore), and what else a mask's values say."""

    labels: tuple[Label, ...]
    nodes: tuple[Label, ...]
    ignore: int | None = None
    instances: bool = False
    """Every value from 1 is a node of its own; there is one label."""

    @classmethod
    def of(
        cls,
        labels: Mapping[str, Any],
        node_labels: Iterable[int] | None = None,
        *,
        instances: bool = False,
        where: object = "labels",
    ) -> LabelScheme:
        """From `labels` and `node_labels` as `dataset.json` holds them; beside an ignore label values are no instances."""
        values = {name: _values(name, value, where) for name, value in labels.items()}
        ignore = values.pop("ignore", (None,))[0]
        scored = tuple(Label(name, held) for name, held in values.items() if held and held != (0,) and name != "background")
        if not scored:
            raise InputError.of("there is no label besides background", where, _REMEDY)
        if instances and len(scored) > 1:
            what = f"values cannot be node instances and {len(scored)} labels at once"
            raise InputError.of(what, where, 'leave one label, or remove "instances"')
        return cls(scored, _nodes(scored, node_labels, where), ignore, instances and ignore is None)

    @classmethod
    def of_description(cls, description: Mapping[str, Any]) -> LabelScheme:
        """From a `dataset.json` that was read and checked already."""
        return cls.of(description["labels"], description.get("node_labels"), instances=bool(description.get("instances", False)))

    @classmethod
    def from_dataset_json(cls, path: Path, node_labels: Iterable[int] | None = None) -> LabelScheme:
        """From a data set's own description; `node_labels` takes the place of what it says of nodes."""
        content = read_json(path, _REMEDY)
        if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
            raise InputError.of('"labels" is missing or is no dictionary', path, _REMEDY)
        nodes = content.get("node_labels") if node_labels is None else list(node_labels)
        if nodes is not None and not (isinstance(nodes, list) and all(isinstance(value, int) for value in nodes)):
            raise InputError.of(f'"node_labels" is {nodes!r}, not a list of label values', path, "write it like [2, 3]")
        return cls.of(content["labels"], nodes, instances=bool(content.get("instances", False)), where=path)

    @classmethod
    def from_values(cls, values: Iterable[int], node_labels: Iterable[int] | None = None) -> LabelScheme:
        """Where nothing is said: every value from 1 is a label of its own."""
        labels = tuple(Label(f"label {value}", (value,)) for value in sorted(values) if value)
        wanted = None if node_labels is None else set(node_labels)
        return cls(labels, tuple(label for label in labels if wanted is None or wanted.issuperset(label.values)))

    def values(self) -> set[int]:
        """All values that have a meaning."""
        return {0}.union(*(label.values for label in self.labels))


def values_in(array: Array) -> set[int]:
    """The distinct values of an integer array; quick for the small types that masks have."""
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        return set(np.unique(array).tolist())
    seen = np.zeros(np.iinfo(array.dtype).max + 1, bool)
    seen[array] = True
    return set(np.flatnonzero(seen).tolist())


def check_values(found: Collection[int], known: Collection[int], noun: str, where: object) -> None:
    """Refuse a mask, called so, with values that mean nothing."""
    if unknown := sorted(set(found) - set(known)):
        what = f"the {noun} holds {', '.join(map(str, unknown[:5]))}, which is no label's value"
        raise InputError.of(what, where, "add it to the labels in dataset.json, or correct the mask")


def _values(name: str, value: Any, where: object) -> tuple[int, ...]:
    given = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not all(isinstance(item, int) for item in given):
        raise InputError.of(f"label {name!r} has the value {value!r}, not a whole number", where, _REMEDY)
    return tuple(given)


def _nodes(labels: tuple[Label, ...], node_labels: Iterable[int] | None, where: object) -> tuple[Label, ...]:
    """The labels that are nodes: those named, else those whose name says so, else all."""
    if node_labels is None:
        return tuple(label for label in labels if names_nodes(label.name)) or labels
    wanted = set(node_labels)
    unknown = wanted.difference(*(label.values for label in labels))
    if unknown:
        what = f"node_labels names {', '.join(map(str, sorted(unknown)))}, which is no label's value"
        raise InputError.of(what, where, "name the values of the labels that are lymph nodes")
    return tuple(label for label in labels if wanted.issuperset(label.values))
