"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnauto.errors import InputError

STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # of a cell, for spreadsheets


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not.

    The temporary name ends as `path` does, because writers choose the format by the ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{os.getpid()}.{path.name}"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: an empty one beside it, which takes its name; what was there goes then, not before."""
    temporary, earlier = (folder.parent / f".{folder.name}.{state}" for state in ("new", "old"))
    if earlier.exists() and not folder.exists():  # killed between the two renames below
        earlier.rename(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            folder.rename(earlier)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)


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
