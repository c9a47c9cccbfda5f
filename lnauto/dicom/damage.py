"""DICOM files that are cut off or damaged, in whatever part, or that swell when they are unpacked."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.errors import BytesLengthException
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lnauto.errors import InputError

# What pydicom raises where a file breaks the standard, which shows only when the broken element is looked at. Its texts are not
# told: they quote bytes, and where a length is wrong these may be the patient's name.
BROKEN: tuple[type[Exception], ...] = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, OSError, EOFError)
BROKEN += (RuntimeError, struct.error, BytesLengthException)
INTACT = "replace it with an intact copy"
BEGINNING = 2048  # bytes; what says how a file is packed stands in these
META = 144  # bytes before what the group length of the meta information counts
MOST_INFLATED = 256 << 20  # bytes, or MOST_GROWTH times the file's own
MOST_GROWTH = 20
CHUNK = 1 << 20


@contextmanager
def told_as_damaged(what: str, where: object, remedy: str) -> Iterator[None]:
    """What pydicom raises in the block, in our words."""
    try:
        yield
    except BROKEN as error:
        raise InputError.of(f"{what} ({type(error).__name__})", where, remedy) from error


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Of what others wrote against the standard, and can be read, it warns on the console, in the words of the element."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        yield


def swells(path: Path) -> bool:
    """Whether a deflated file is a bomb: pydicom unpacks it as a whole, before anything of it is known."""
    with path.open("rb") as file:
        if str(DeflatedExplicitVRLittleEndian).encode() not in file.read(BEGINNING):
            return False
        file.seek(META + int(read_file_meta_info(path).FileMetaInformationGroupLength))
        most, unpacked, unpacking = max(MOST_INFLATED, MOST_GROWTH * path.stat().st_size), 0, zlib.decompressobj(-zlib.MAX_WBITS)
        while packed := unpacking.unconsumed_tail or file.read(CHUNK):
            try:
                unpacked += len(unpacking.decompress(packed, CHUNK))
            except zlib.error:  # pydicom says what it thinks of it
                return False
            if unpacked > most:
                return True
    return False
