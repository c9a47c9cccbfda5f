"""What one image file holds, as the checks of a data set need it: header and voxels, read once.

SimpleITK reads on where a file is cut off or its header says the impossible, so NIfTI files are looked through beside it.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK

MOST_VALUES = 1000  # of a label's values; only what is no label image at all has more
CHUNK = 1 << 20
NIFTI_FLOATS = {16: 4, 64: 8}  # NIfTI's codes for types that can be NaN, and their bytes


class UnreadableError(Exception):
    """The file is no intact image; the text says why."""


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
    if not path.is_file():
        raise UnreadableError("it does not exist")
    if path.stat().st_size == 0:
        raise UnreadableError("it is empty")
    stated, not_finite = _look_at_nifti(path) if path.name.endswith((".nii", ".nii.gz")) else ((), 0)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        header: dict[str, Any] = {
            "size": tuple(reader.GetSize()),
            "spacing": tuple(reader.GetSpacing()),
            "origin": tuple(reader.GetOrigin()),
            "direction": tuple(reader.GetDirection()),
            "components": reader.GetNumberOfComponents(),
        }
        if any(not side > 0 for side in stated):
            header["spacing"] = stated  # SimpleITK takes a zero for 1 mm
        if not FileFacts(**header).is_volume or 0 in reader.GetSpacing():  # with a zero, SimpleITK refuses to read on
            return FileFacts(**header)
        voxels = SimpleITK.GetArrayViewFromImage(image := reader.Execute())
        pixels = _label_facts(voxels) if is_label else {"lowest": float(voxels.min()), "highest": float(voxels.max())}
        seen = _count_not_finite(voxels)
        del voxels, image  # the view must go before the image it looks into
    except RuntimeError as error:
        raise UnreadableError(_reason(error)) from error
    return FileFacts(**header, **pixels, not_finite=max(not_finite, seen))


def _look_at_nifti(path: Path) -> tuple[tuple[float, ...], int]:
    """The spacing that a NIfTI header states (empty: no NIfTI-1) and the number of NaN and infinite voxels.

    SimpleITK hides both, and what a file lacks: it takes a spacing of zero for 1 mm, and NaN, infinity and missing bytes for 0.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            found = _read_nifti(file)
            while file.read(CHUNK):  # on to the end, where the checksum stands
                pass
            return found
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableError("its compressed data are cut off or damaged") from error
    except (ValueError, ArithmeticError, MemoryError) as error:
        raise UnreadableError("its header is damaged") from error
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error


def _read_nifti(file: gzip.GzipFile | BufferedReader) -> tuple[tuple[float, ...], int]:
    header = file.read(348)
    order = next((order for order in "<>" if header[:4] == struct.pack(f"{order}i", 348)), "")
    if not order or len(header) < 348:
        return (), 0  # SimpleITK says what it is, if it knows
    dimensions, *sides = struct.unpack(f"{order}8h", header[40:56])
    code, bits = struct.unpack(f"{order}2h", header[70:74])
    _, *spacing, offset = struct.unpack(f"{order}9f", header[76:112])
    file.read(max(int(offset), 352) - 348)  # voxels never begin before 352, whatever the header says
    needed = math.prod(sides[:dimensions]) * bits // 8
    got, not_finite, width = 0, 0, NIFTI_FLOATS.get(code)
    while chunk := file.read(max(min(CHUNK, needed - got), 0)):
        got += len(chunk)
        if width and not len(chunk) % width:  # only a file that is cut off ends within a voxel
            not_finite += _count_not_finite(np.frombuffer(chunk, f"{order}f{width}")[None])
    if got < needed:
        raise UnreadableError(f"it is cut off, with {got} of {needed} bytes of voxels")
    return tuple(spacing[: min(dimensions, 3)]), not_finite


def _label_facts(voxels: np.ndarray) -> dict[str, Any]:
    values = pd.unique(voxels.ravel())  # by hashing: much faster than NumPy's sorting
    finite = np.sort(values[np.isfinite(values)])
    is_whole = finite == np.round(finite)
    return {
        "values": tuple(int(value) for value in finite[is_whole][:MOST_VALUES]),
        "fractions": tuple(float(value) for value in finite[~is_whole][:3]),
    }


def _count_not_finite(voxels: np.ndarray) -> int:
    """Slab by slab, for memory's sake."""
    return sum(slab.size - int(np.count_nonzero(np.isfinite(slab))) for slab in voxels) if voxels.dtype.kind == "f" else 0


def _reason(error: RuntimeError) -> str:
    """The last line of what SimpleITK says, without its own class names and addresses."""
    line = str(error).strip().splitlines()[-1].strip()
    line = re.sub(r"^(sitk::ERROR|ITK ERROR):\s*(\w+\(0x[0-9a-f]+\):\s*)?", "", line)
    return "SimpleITK knows no such format" if line.startswith("Unable to determine ImageIO") else line.rstrip(".")
