"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import math
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnauto.errors import InputError, NoSpaceError

STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # of a cell, for spreadsheets
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
NOTHING_LEFT = 1 << 20  # bytes; a disk with less is full
NIFTI = (".nii", ".nii.gz")
NIFTI_HEADER = 348  # bytes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not.

    The temporary name ends as `path` does, because writers choose the format by the ending.
    """
    with telling_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{temporary_prefix(os.getpid())}{path.name}"
    try:
        with telling_when_full(path):
            yield temporary
            if path.name.endswith(NIFTI) and _is_cut_off(temporary):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_prefix(process: int) -> str:
    """What the names of files begin with that a process has not finished."""
    return f".{process}."


@contextmanager
def telling_when_full(path: Path) -> Iterator[None]:
    """What fails in the block because the disk is full is told as that.

    Libraries in C++ (of weights, of images) raise RuntimeError and do not say why; the disk does. Of a folder that is made as a
    whole, the folder is told.
    """
    try:
        yield
    except (OSError, RuntimeError, NoSpaceError) as error:
        known = error.errno in FULL if isinstance(error, OSError) else isinstance(error, NoSpaceError)
        if known or (isinstance(error, RuntimeError) and _is_full(path)):
            remedy = "free space there, then run the command again"
            raise NoSpaceError.of("the disk is full, so the file cannot be written", path, remedy) from error
        raise


def _is_full(path: Path) -> bool:
    there = next(parent for parent in path.absolute().parents if parent.exists())
    return shutil.disk_usage(there).free < NOTHING_LEFT


def _is_cut_off(path: Path) -> bool:
    """Whether a NIfTI file that was just written ends before its voxels do: ITK's writer says nothing of a full disk."""
    packed = path.name.endswith(".gz")
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(NIFTI_HEADER)
        dimensions, *sides = struct.unpack_from("<8h", header, 40)
        size, bits, offset = (struct.unpack_from(kind, header, place)[0] for kind, place in (("<i", 0), ("<h", 72), ("<f", 108)))
        if size != NIFTI_HEADER:  # another version, for sides above 32767
            return False
        whole = int(offset) + math.prod(sides[:dimensions]) * bits // 8
        if not packed:
            return path.stat().st_size < whole
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)  # where gzip keeps the size of what it packed
            return int(struct.unpack("<I", file.read(4))[0]) != whole % (1 << 32)
    except (OSError, EOFError, struct.error, zlib.error):
        return True


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: an empty one beside it, which takes its name; what was there goes then, not before."""
    temporary, earlier = (folder.parent / f".{folder.name}.{state}" for state in ("new", "old"))
    if earlier.exists() and not folder.exists():  # killed between the two renames below
        earlier.rename(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)
    try:
        with telling_when_full(folder):
            temporary.mkdir(parents=True)
            yield temporary
            if folder.exists():
                folder.rename(earlier)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)


@contextmanager
def workshop(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, for the parts of it, which goes at the end; that of a run that was killed goes first."""
    folder = path.parent / f".{path.name}.parts"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with telling_when_full(path):
            folder.mkdir(parents=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file; a missing or broken one is told with `remedy`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError.of(f"the file cannot be read ({error.strerror or error})", path, remedy) from error
    except ValueError as error:
        raise InputError.of(f"this is not valid JSON ({error})", path, remedy) from error


def safe_cell(text: str) -> str:
    """A text for a cell of a CSV that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(STARTS_FORMULA) else text


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
