"""Preprocessed cases that lie in several folders, with labels of their own where they have some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.data.locations import sample_locations
from lnauto.data.preprocess import case_files, likely_folder
from lnauto.files import replacing


class Gathered:
    """What nnU-Net's loader asks of a data set: names, and a case by its name.

    Args:
        folders: for each case the preprocessed folder it lies in.
        labels: a folder that `store_label` wrote into; None: the labels beside the images, where there are some.
        likely: each case comes with a second label, what preprocessing took for a node to begin with, as `likely_folder` has it.
    """

    def __init__(self, folders: Mapping[str, Path], labels: Path | None = None, likely: bool = False) -> None:
        self.folders = {name: folders[name] for name in sorted(folders)}
        self.labels = labels
        self.likely = likely
        self.identifiers = list(self.folders)

    def load_case(self, name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Image, label (None: it has none), second label (None: not asked for), and properties, as nnU-Net's data sets do."""
        from lnauto.compat.storage import load_pickle, open_image

        image, label, facts = case_files(self.folders[name] / name)
        if self.labels is not None:
            _, label, facts = case_files(self.labels / name)
        if not label.is_file():
            return open_image(image), None, None, {}
        drawn = open_image(label)
        return open_image(image), drawn, self._second(name, drawn.shape[1:]), load_pickle(str(facts))

    def _second(self, name: str, shape: Sequence[int]) -> Any:
        from lnauto.compat.storage import open_image

        if not self.likely:
            return None
        path = self._likely_file(name)
        return open_image(path) if path.is_file() else np.zeros(shape, np.int8)

    def _likely_file(self, name: str) -> Path:
        return likely_folder(self.folders[name]) / f"{name}.b2nd"

    def with_likely(self) -> Gathered:
        """The same with second labels, where preprocessing left any."""
        return Gathered(self.folders, self.labels, any(self._likely_file(name).is_file() for name in self.identifiers))


def store_label(folder: Path, name: str, label: Any, properties: Mapping[str, Any], patch: Sequence[int], classes: Any) -> None:
    """A label (1, z, y, x) for a preprocessed case, with the places patches may be centred at; whole or not there."""
    from lnauto.compat.storage import comp_blosc2_params, nnUNetDatasetBlosc2, write_pickle

    label = np.ascontiguousarray(label, np.int16)
    blocks, chunks = comp_blosc2_params(label.shape, tuple(patch), label.itemsize)
    located = {**properties, "class_locations": sample_locations(label, classes, seed=1234)}
    _, final, known = case_files(folder / name)
    with replacing(known) as facts, replacing(final) as voxels:
        nnUNetDatasetBlosc2.save_seg(label, str(voxels.with_suffix("")), chunks_seg=chunks, blocks_seg=blocks)
        write_pickle(located, str(facts))
