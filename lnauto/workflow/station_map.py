"""In which lymph-node station a node lies, where a map of the stations is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnauto.data.checks import mask_faults
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme
from lnauto.evaluation.masks import Mask, read_mask
from lnauto.nodes import Piece


@dataclass(frozen=True)
class StationMaps:
    """A label map of stations for each case, and what its values are called; a value without a name is its own."""

    files: Mapping[str, Path]
    names: Mapping[int, str]

    @classmethod
    def described(cls, files: Mapping[str, Path]) -> StationMaps:
        """Names are read from a `dataset.json` beside the maps, if there is one."""
        description = next(iter(files.values())).parent / "dataset.json"
        labels = LabelScheme.from_dataset_json(description).labels if description.is_file() else ()
        return cls(files, {value: label.name for label in labels for value in label.values})

    def of_nodes(self, case: str, pieces: Iterable[Piece], mask: Mask) -> list[str | None]:
        """Of each node the station with most of its voxels; None: it lies in none, or the case has no map."""
        path = self.files.get(case)
        if path is None:
            return [None for _ in pieces]
        if faults := mask_faults(path):
            raise InputError.of(faults[0], path, "check that it is a whole 3D image")
        stations = read_mask(path)
        if not stations.lies_on(mask):
            what = f"the station map has another grid ({stations.grid()}) than the mask ({mask.grid()})"
            raise InputError.of(what, path, "resample it to the mask's grid")
        return [self._of_node(stations.array[piece.box][piece.mask]) for piece in pieces]

    def _of_node(self, values: np.ndarray) -> str | None:
        found, counts = np.unique(values[values > 0], return_counts=True)
        if not found.size:
            return None
        value = int(found[counts.argmax()])
        return self.names.get(value, str(value))
