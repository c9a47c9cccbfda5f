"""Masks read back from SEG and RTSTRUCT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lnauto.dicom.listing import Series, read_folder
from lnauto.dicom.masks import Mask, read_mask
from lnauto.errors import InputError


def the_series(folder: Path) -> Series:
    [found] = read_folder(folder).series
    return found


def read(folder: Path, pattern: str = "", **options: Any) -> Mask:
    contents = read_folder(folder)
    return read_mask(contents.drawings, contents, pattern, **options)


def refusal(folder: Path, pattern: str = "") -> str:
    with pytest.raises(InputError) as caught:
        read(folder, pattern)
    return str(caught.value)


def values_of(mask: Mask) -> np.ndarray:
    return sitk.GetArrayFromImage(mask.instances)
