"""What one image file holds, as the checks of a data set need it: header and voxels, read once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK

from lnauto.image_files import (
    UnreadableError,
    check_memory,
    check_there,
    count_not_finite,
    header_reader,
    is_nifti,
    itk_reason,
    look_through,
    quiet_itk,
)

MOST_VALUES = 1000  # of a label's values; only what is no label image at all has more


@dataclass(frozen=True)
class FileFacts:
    """What the checks need to know of one file; axes in SimpleITK's order, x first."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    components: int
    not_finite: int = 0
    lowest: float | None = None
    highest: float | None = None
    values: tuple[int, ...] = ()  # of a label: its whole numbers, ascending
    fractions: tuple[float, ...] = ()  # of a label: a few of the values that are no whole numbers

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> FileFacts:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
        return cls(**values)

    @property
    def is_volume(self) -> bool:
        return len(self.size) == 3 and min(self.size) > 1 and self.components == 1

    @property
    def has_spacing(self) -> bool:
        return all(math.isfinite(side) and side > 0 for side in self.spacing)


def read_facts(path: Path, is_label: bool) -> FileFacts:
    """Read header and voxels."""
    with quiet_itk():
        return _read_facts(path, is_label)


def _read_facts(path: Path, is_label: bool) -> FileFacts:
    check_there(path)
    nifti, not_finite = look_through(path) if is_nifti(path) else (None, 0)
    reader = header_reader(path)
    try:
        header: dict[str, Any] = {
            "size": tuple(reader.GetSize()),
            "spacing": tuple(reader.GetSpacing()),
            "origin": tuple(reader.GetOrigin()),
            "direction": tuple(reader.GetDirection()),
            "components": reader.GetNumberOfComponents(),
        }
        if nifti is not None and not all(0 < side < math.inf for side in nifti.spacing):
            header["spacing"] = nifti.spacing  # SimpleITK takes a zero for 1 mm
        if not FileFacts(**header).is_volume or 0 in reader.GetSpacing():  # with a zero, SimpleITK refuses to read on
            return FileFacts(**header)
        check_memory(reader)
        voxels = SimpleITK.GetArrayViewFromImage(image := reader.Execute())
        pixels = _label_facts(voxels) if is_label else {"lowest": float(voxels.min()), "highest": float(voxels.max())}
        seen = count_not_finite(voxels)
        del voxels, image  # the view must go before the image it looks into
    except RuntimeError as error:
        raise UnreadableError(itk_reason(error)) from error
    return FileFacts(**header, **pixels, not_finite=max(not_finite, seen))


def _label_facts(voxels: np.ndarray) -> dict[str, Any]:
    values = pd.unique(voxels.ravel())  # by hashing: much faster than NumPy's sorting
    finite = np.sort(values[np.isfinite(values)])
    is_whole = finite == np.round(finite)
    return {
        "values": tuple(int(value) for value in finite[is_whole][:MOST_VALUES]),
        "fractions": tuple(float(value) for value in finite[~is_whole][:3]),
    }
