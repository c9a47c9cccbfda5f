"""One slice as its header tells it: a file of its own, or a frame of a multi-frame file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

Numbers = tuple[float, ...]
LEAST_FRAME = 8  # bytes of a file that a slice takes, however it is packed: a header of such a number more is a bomb


@dataclass(frozen=True)
class Frame:
    """Where a slice is kept and where it lies; what the header does not say is None."""

    path: Path
    instance: str  # its file's SOP Instance UID
    number: int  # which frame of the file, from 0
    shape: tuple[int, int]
    position: Numbers | None
    orientation: Numbers | None
    pixel: Numbers | None  # mm from row to row, and from column to column


def frames_of(dataset: Dataset, path: Path) -> list[Frame]:
    """The slices of an image file."""
    count = int(dataset.get("NumberOfFrames") or 1)
    if not 0 < count <= max(path.stat().st_size // LEAST_FRAME, 1):
        raise ValueError(f"its header promises {count} images")
    return [
        Frame(
            path=path,
            instance=str(dataset.SOPInstanceUID),
            number=number,
            shape=(int(dataset.Rows), int(dataset.Columns)),
            position=_numbers(functional(dataset, number, "PlanePositionSequence", "ImagePositionPatient"), 3),
            orientation=_numbers(functional(dataset, number, "PlaneOrientationSequence", "ImageOrientationPatient"), 6),
            pixel=_numbers(functional(dataset, number, "PixelMeasuresSequence", "PixelSpacing"), 2),
        )
        for number in range(count)
    ]


def functional(dataset: Dataset, number: int, sequence: str, keyword: str) -> Any:
    """What holds for one frame: said of the frame itself, of all frames, or of the whole file; None if nowhere."""
    for item in _groups(dataset, number):
        group = item.get(sequence)
        if group and keyword in group[0]:
            return group[0].get(keyword)
    return dataset.get(keyword)


def _groups(dataset: Dataset, number: int) -> list[Dataset]:
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    return [*own[number : number + 1], *shared[:1]]


def _numbers(value: Any, count: int) -> Numbers | None:
    if value is None or isinstance(value, str) or len(value) != count:
        return None
    return tuple(float(number) for number in value)
