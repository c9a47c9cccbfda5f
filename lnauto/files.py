"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lnauto.errors import InputError

# What JSON is to hold: a type, or several; [form], a list of such; {"key": form}, an object with these keys at least; and
# {ANY: form}, one with whatever keys.
Form = Any
ANY = object()
NUMBER = (int, float)
NAMES = {list: "a list", dict: "an object", str: "a text", int: "a number", float: "a number", bool: "true or false"}
NAMES |= {type(None): "null"}
MOST_SHOWN = 40  # characters of what stands where something else belongs
# The start of a cell that is a formula to a spreadsheet, behind the apostrophes that keep it from being one.
STARTS_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
WRITTEN_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+|inf|nan)(e[+-]?\d+)?", re.IGNORECASE)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not.

    The temporary name ends as `path` does, because writers choose the format by the ending. A failure to write is an OSError that
    names the file; folders that were made for it go again.
    """
    temporary = path.parent / f".{os.getpid()}.{path.name}"
    missing = _missing(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # where nothing may be written, nothing is there to be removed
            temporary.unlink(missing_ok=True)
        _remove_empty(missing)
        raise


def _missing(path: Path) -> list[Path]:
    """The folders that have to be made for a file or folder, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()]


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # it is not there, or something is in it
        for folder in folders:
            folder.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever fails to be written within is told as an OSError of `path`: libraries tell it in ways of their own, and Python
    tells of a full disk without a name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    except RuntimeError as error:  # SimpleITK's, PyTorch's and Blosc's
        reason = (str(error).strip().splitlines() or ["without a reason"])[-1]
        raise OSError(errno.EIO, reason, str(path)) from error


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """The same for a folder: an empty one beside it, which takes its name; what was there goes then, not before."""
    temporary, earlier = (folder.parent / f".{folder.name}.{state}" for state in ("new", "old"))
    if earlier.exists() and not folder.exists():  # killed between the two renames below
        earlier.rename(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)
    missing = _missing(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rename(earlier)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(missing)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def resolved(path: Path) -> Path:
    """The whole path, links followed; of links that lead in a circle, which Path.resolve does not bear, as far as they lead."""
    return Path(os.path.realpath(path))


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, remedy: str, form: Form = object) -> Any:
    """The content of a JSON file; a missing or broken one, or one of another form, is told with `remedy`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError.of(f"the file cannot be read ({error.strerror or error})", path, remedy) from error
    except (ValueError, RecursionError) as error:
        raise InputError.of(f"this is not valid JSON ({error})", path, remedy) from error
    if (what := misfit(content, form)) is not None:
        raise InputError.of(what, path, remedy)
    return content


def misfit(content: Any, form: Form, place: str = "") -> str | None:
    """Where some JSON is not of the form, and what stands there; None: it is of the form."""
    kind = type(form) if isinstance(form, list | dict) else form
    if not isinstance(content, kind) or (isinstance(content, bool) and kind in (int, NUMBER)):
        return f"{place or 'it'} is {_shown(content)}, not {_name(kind)}"
    parts: list[tuple[str, Any, Form]] = []
    if isinstance(form, list):
        parts = [(f"{place}[{number}]", value, form[0]) for number, value in enumerate(content)]
    elif isinstance(form, dict):
        if missing := [key for key in form if key is not ANY and key not in content]:
            return f"{place or 'it'} does not say {missing[0]}"
        named = [(name, one) for key, one in form.items() for name in (content if key is ANY else [key])]
        parts = [(f"{place}.{name}".lstrip("."), content[name], one) for name, one in named]
    return next((what for at, value, one in parts if (what := misfit(value, one, at)) is not None), None)


def _shown(content: Any) -> str:
    text = json.dumps(content, default=repr)
    return text if len(text) <= MOST_SHOWN else _name(type(content))


def _name(kind: Any) -> str:
    return " or ".join(dict.fromkeys(NAMES.get(one, one.__name__) for one in (kind if isinstance(kind, tuple) else (kind,))))


def csv_text(rows: Iterable[Iterable[object]], delimiter: str = ",") -> str:
    """Rows as CSV: numbers in full, nothing where something is missing, and no text that a spreadsheet takes for a formula."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    return repr(float(value)) if isinstance(value, float) else safe_cell(str(value))


def safe_cell(text: str) -> str:
    """A text for a cell that no spreadsheet takes for a formula; a number is none, whatever its sign."""
    return f"'{text}" if STARTS_FORMULA.match(text) and not WRITTEN_NUMBER.fullmatch(text) else text


def plain_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    return text[1:] if text.startswith("'") and STARTS_FORMULA.match(text) else text


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
