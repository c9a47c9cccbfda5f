"""What image files say and lack that SimpleITK hides: it reads on where a file is cut off or its header says the impossible, and
takes a promise of any size at its word."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.allowance import memory_left
from lnauto.files import NIFTI

CHUNK = 1 << 20
NIFTI_HEADER = 348  # bytes
MOST_BEHIND = 1 << 20  # bytes after the voxels; some programs leave a few, only a bomb has more
MOST_UNPACKED = 1032  # bytes that a byte of gzip data can become
FLOATS = {16: 4, 64: 8}  # NIfTI's codes for types that can be NaN, and their bytes
BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128}
BITS |= {1792: 128, 2048: 256, 2304: 32}  # of NIfTI's types


class UnreadableError(Exception):
    """The file is no intact image; the text says why."""


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI-1 header states."""

    order: str
    sides: tuple[int, ...]
    spacing: tuple[float, ...]
    code: int
    bytes_before: int  # where voxels begin

    @property
    def bytes_of_voxels(self) -> int:
        return math.prod(self.sides) * BITS[self.code] // 8


def is_nifti(path: Path) -> bool:
    return path.name.endswith(NIFTI)


def check_there(path: Path) -> None:
    """Whether there is a file with something in it."""
    if path.is_dir():
        raise UnreadableError("it is a folder")
    if path.is_symlink() and not path.exists():
        raise UnreadableError("it is a link that leads nowhere")
    if not path.is_file():
        raise UnreadableError("it does not exist")
    if path.stat().st_size == 0:
        raise UnreadableError("it is empty")


def read_header(path: Path) -> NiftiHeader | None:
    """The header of a NIfTI-1 file, if it is one (SimpleITK says what else it is, if it knows), and whether it can be true."""
    with _opened(path) as file:
        return _header(file, path)


def look_through(path: Path) -> tuple[NiftiHeader | None, int]:
    """The header, and the number of NaN and infinite voxels; read to the end, where the checksum stands.

    SimpleITK hides them, and what a file lacks: it takes a spacing of zero for 1 mm, and NaN, infinity and missing bytes for 0.
    """
    with _opened(path) as file:
        header = _header(file, path)
        if header is None:
            return None, 0
        file.read(header.bytes_before - NIFTI_HEADER)
        needed, width = header.bytes_of_voxels, FLOATS.get(header.code)
        got, not_finite = 0, 0
        while chunk := file.read(max(min(CHUNK, needed - got), 0)):
            got += len(chunk)
            if width and not len(chunk) % width:  # only a file that is cut off ends within a voxel
                not_finite += count_not_finite(np.frombuffer(chunk, f"{header.order}f{width}")[None])
        if got < needed:
            raise UnreadableError(f"it is cut off, with {got} of {needed} bytes of voxels")
        behind = 0
        while chunk := file.read(CHUNK):
            behind += len(chunk)
            if behind > MOST_BEHIND:
                raise UnreadableError("its data go on long after its voxels")
        return header, not_finite


@contextmanager
def quiet_itk() -> Iterator[None]:
    """ITK's warnings about headers go to the console as they please; what matters in them is told in our own lines."""
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(before)


def header_reader(path: Path) -> Any:
    """SimpleITK's reader of a file of any format, its header read."""
    import SimpleITK

    check_there(path)
    if is_nifti(path):
        read_header(path)  # of what cannot be true, ITK's library writes to the console
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableError(itk_reason(error)) from error
    if "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()):
        raise UnreadableError("it holds complex numbers")
    return reader


def bytes_promised(reader: Any) -> int:
    """What the voxels of a reader whose header is read take in memory."""
    import SimpleITK

    voxel = SimpleITK.Image([1] * reader.GetDimension(), reader.GetPixelID(), reader.GetNumberOfComponents())
    return math.prod(reader.GetSize()) * voxel.GetSizeOfPixelComponent() * reader.GetNumberOfComponents()


def check_memory(reader: Any) -> None:
    """Whether the voxels fit into the memory that is left."""
    check_bytes(bytes_promised(reader))


def check_bytes(needed: int) -> None:
    left = memory_left()
    if needed > left:
        raise UnreadableError(
            f"its header promises {needed / 1e9:.1f} GB of voxels, and this machine has {left / 1e9:.1f} GB left"
        )


def itk_reason(error: RuntimeError) -> str:
    """The last line of what SimpleITK says, without its own class names and addresses."""
    line = str(error).strip().splitlines()[-1].strip()
    line = re.sub(r"^(sitk::ERROR|ITK ERROR):\s*(\w+\(0x[0-9a-f]+\):\s*)?", "", line)
    return "SimpleITK knows no such format" if line.startswith("Unable to determine ImageIO") else line.rstrip(".")


def count_not_finite(voxels: np.ndarray) -> int:
    """Slab by slab, for memory's sake."""
    return sum(slab.size - int(np.count_nonzero(np.isfinite(slab))) for slab in voxels) if voxels.dtype.kind == "f" else 0


@contextmanager
def _opened(path: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """The file's content, unpacked where it is packed; what goes wrong within the block is told of the file."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableError("its compressed data are cut off or damaged") from error
    except (ValueError, ArithmeticError, MemoryError, struct.error) as error:
        raise UnreadableError("its header is damaged") from error
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error


def _header(file: gzip.GzipFile | BufferedReader, path: Path) -> NiftiHeader | None:
    content = file.read(NIFTI_HEADER)
    order = next((order for order in "<>" if content[:4] == struct.pack(f"{order}i", NIFTI_HEADER)), "")
    if not order or len(content) < NIFTI_HEADER:
        return None
    dimensions, *sides = struct.unpack(f"{order}8h", content[40:56])
    code, _ = struct.unpack(f"{order}2h", content[70:74])
    _, *spacing, offset = struct.unpack(f"{order}9f", content[76:112])
    if not 1 <= dimensions <= 7 or min(sides[:dimensions]) < 1:
        told = "x".join(map(str, sides[: max(dimensions, 0)]))
        raise UnreadableError(f"its header is damaged: {dimensions} dimensions, of {told or 'no'} voxels")
    if code not in BITS:
        raise UnreadableError(f"its header is damaged: there is no type {code} of voxels")
    _check_place(content, order)
    before = max(int(offset), 352)  # voxels never begin before that, whatever the header says
    header = NiftiHeader(order, tuple(sides[:dimensions]), tuple(spacing[: min(dimensions, 3)]), code, before)
    size = path.stat().st_size
    if header.bytes_of_voxels > MOST_UNPACKED * size:
        raise UnreadableError(
            f"its header promises {header.bytes_of_voxels / 1e9:.4g} GB of voxels, and the file has {size} bytes"
        )
    return header


def _check_place(content: bytes, order: str) -> None:
    """Rotation and offsets, where their codes say that they count."""
    by_rotation, by_matrix = struct.unpack(f"{order}2h", content[252:256])
    numbers = struct.unpack(f"{order}18f", content[256:328])
    places = [*(numbers[:6] if by_rotation > 0 else ()), *(numbers[6:] if by_matrix > 0 else ())]
    if not all(map(math.isfinite, places)):
        raise UnreadableError("its header places it at NaN or infinity")
