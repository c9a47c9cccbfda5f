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
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lnauto.errors import InputError, NoSpaceError

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
NOTHING_LEFT = 1 << 20  # bytes; a disk with less is full
NIFTI = (".nii", ".nii.gz")
# What JSON is to hold: a type, or several; [form], a list of such; {"key": form}, an object with these keys at least; and
# {ANY: form}, one with whatever keys.
Form = Any
ANY = object()
NUMBER = (int, float)
NAMES = {list: "a list", dict: "an object", str: "a text", int: "a number", float: "a number", bool: "true or false"}
NAMES |= {type(None): "null"}
LARGEST = 2**63  # Python reads whole numbers of any size, and cannot divide all of them
MOST_SHOWN = 40  # characters of what stands where something else belongs
# The start of a cell that is a formula to a spreadsheet, behind the apostrophes that keep it from being one.
STARTS_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# The same within a text: a spreadsheet that takes another separator than the table has would begin a cell there, quotes or not.
BEGINS_FORMULA = r"""["']*[=+\-@\uff1d\uff0b\uff0d\uff20]"""
WITHIN, NEUTRALISED = (re.compile(rf"(?<=[,;\t\r\n]){mark}(?={BEGINS_FORMULA})") for mark in ("", "'"))
WRITTEN_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+|inf|nan)(e[+-]?\d+)?", re.IGNORECASE)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not.

    The temporary name ends as `path` does, because writers choose the format by the ending. A failure to write is an OSError that
    names the file; folders that were made for it go again.
    """
    temporary = path.parent / f"{temporary_prefix(os.getpid())}{path.name}"
    missing = _missing(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if path.name.endswith(NIFTI) and _is_cut_off(temporary):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _reach_the_disk(temporary)
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # where nothing may be written, nothing is there to be removed
            temporary.unlink(missing_ok=True)
        _remove_empty(missing)
        raise


def _reach_the_disk(path: Path) -> None:
    """Of a file that took its name before, a power cut may leave the name with nothing in it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _missing(path: Path) -> list[Path]:
    """The folders that have to be made for a file or folder, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()]


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # it is not there, or something is in it
        for folder in folders:
            folder.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fails to be written within is told as an OSError of `path`, a full disk as that: libraries tell it in ways of their
    own, and Python tells of a full disk without a name."""
    try:
        with telling_when_full(path):
            yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    except RuntimeError as error:  # SimpleITK's, PyTorch's and Blosc's
        reason = (str(error).strip().splitlines() or ["without a reason"])[-1]
        raise OSError(errno.EIO, reason, str(path)) from error


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
    from lnauto.image_files import NIFTI_HEADER, UnreadableError, read_header

    size = path.stat().st_size
    try:
        header = read_header(path)
    except UnreadableError:
        return True
    if header is None:  # of another version, for sides above 32767, unless it ends within its header
        return size < NIFTI_HEADER
    whole = header.bytes_before + header.bytes_of_voxels
    if not path.name.endswith(".gz"):
        return size < whole
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)  # where gzip keeps the size of what it packed
        return int(struct.unpack("<I", file.read(4))[0]) != whole % (1 << 32)


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
        with telling_when_full(folder):
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
    if isinstance(content, int) and abs(content) > LARGEST:
        return f"{place or 'it'} is a number beyond what is reckoned with"
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
    """A text for a cell that no spreadsheet takes for a formula, nor what follows a separator in it; a number is none."""
    is_formula = STARTS_FORMULA.match(text) and not WRITTEN_NUMBER.fullmatch(text)
    inner = WITHIN.sub("'", text)
    return f"'{inner}" if is_formula else inner


def plain_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    whole = text[1:] if text.startswith("'") and STARTS_FORMULA.match(text) else text
    return NEUTRALISED.sub("", whole)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
