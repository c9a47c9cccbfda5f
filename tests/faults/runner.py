"""Runs a row as its user would, and says everything that is not as it should be."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from faults.material import Material
from faults.rows import PARTLY, REFUSED, WORKS, Attempt, Place, Row
from lnauto.paths import VARIABLES

MOST_LINES = 4
TEMPORARY = ("*/.*", ".*")  # as lnauto names what is not finished


@dataclass(frozen=True)
class Outcome:
    """What came of a row; `wrong` is empty where all is as it should be."""

    row: Row
    command: str
    code: int | str
    message: str
    seconds: float
    wrong: tuple[str, ...]

    @property
    def first_line(self) -> str:
        return self.message.splitlines()[0] if self.message else ""


def run(row: Row, material: Material, here: Path) -> Outcome:
    """Make the fault in the empty folder `here`, run the command on it, and judge."""
    with pytest.MonkeyPatch.context() as patch, _quiet_logging():
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(here / name))
        patch.chdir(here)
        attempt = row.make(Place(here, material))
        before, shared = contents(here), material.state()
        if attempt.patch is not None:
            attempt.patch(patch)
        begun = time.monotonic()
        code, said, message = _call(attempt)
        seconds = time.monotonic() - begun
        patch.undo()
        patch.chdir(here)
        wrong = [*_judge(attempt, code, said, message), *_changed(before, contents(here), attempt)]
        wrong += ["it wrote into what it was only to read"] if material.state() != shared else []
        if attempt.right is not None and code == attempt.code:
            try:
                attempt.right()
            except Exception as error:
                wrong.append(f"the result is not right ({type(error).__name__}: {error})")
    return Outcome(row, attempt.command, code, message.replace(str(here), "."), seconds, tuple(wrong))


def _call(attempt: Attempt) -> tuple[int | str, str, str]:
    """Exit code, what was printed and what was complained of; an exception is what a user would see as a traceback."""
    main = importlib.import_module(f"lnauto.commands.{attempt.command}").main
    out, err = io.StringIO(), io.StringIO()
    with _written_by_libraries() as besides, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str = main([str(argument) for argument in attempt.arguments])
        except SystemExit as end:  # argparse's way
            code = end.code if end.code is not None else 0
        except Exception as error:
            code = f"traceback of {type(error).__name__}: {str(error)[:200]}"
        told = besides()
    return code, out.getvalue(), err.getvalue() + told


@contextlib.contextmanager
def _written_by_libraries() -> Iterator[Callable[[], str]]:
    """What code that is not Python's writes to the console, past Python's own streams."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in kept:
                os.dup2(file.fileno(), stream)

            def said() -> str:
                file.seek(0)
                return file.read().decode(errors="replace")

            yield said
        finally:
            for stream, own in kept.items():
                os.dup2(own, stream)
                os.close(own)


def _judge(attempt: Attempt, code: int | str, said: str, message: str) -> list[str]:
    wrong = []
    if code != attempt.code:
        wrong.append(f"exit code {code} instead of {attempt.code}")
    if "Traceback" in message + said:
        wrong.append("a traceback is shown")
    if attempt.code == WORKS:
        return wrong + [f"it complained: {line}" for line in message.splitlines() if line and not _is_progress(line)]
    lines = [line for line in message.splitlines() if line.startswith("lnauto: ")]
    others = [line for line in message.splitlines() if line and line not in lines and not _is_progress(line)]
    if not 1 <= len(lines) <= MOST_LINES:
        wrong.append(f"{len(lines)} lines of complaint instead of 1 to {MOST_LINES}")
    if others:
        wrong.append(f"lines besides: {others[:3]}")
    wrong += [f"no remedy in: {line}" for line in lines if not re.search(r", in .+; .+", line, re.DOTALL)]
    wrong += [f"it does not say {name!r}" for name in attempt.names if name not in message]
    return wrong


def _is_progress(line: str) -> bool:
    """Of tqdm."""
    return "\r" in line or re.match(r"^[\w ]+:\s+\d+%", line) is not None


def _changed(before: dict[str, str], after: dict[str, str], attempt: Attempt) -> list[str]:
    """What was there is byte-identical; nothing is new where all was refused; nothing temporary is left."""
    kept = {name: digest for name, digest in before.items() if not any(fnmatch(name, one) for one in attempt.leaves)}
    wrong = [f"{name} was changed" for name, digest in kept.items() if name in after and digest != after[name]]
    wrong += [f"{name} is gone" for name in before if name not in after]
    new = [name for name in after if name not in before]
    if attempt.code == REFUSED:
        wrong += [f"{name} was left behind" for name in new if not any(fnmatch(name, one) for one in attempt.leaves)]
    if attempt.code in (PARTLY, WORKS) or attempt.leaves:
        wrong += [f"the temporary {name} was left behind" for name in new if any(fnmatch(name, one) for one in TEMPORARY)]
    return wrong


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file, where links lead, and which folders there are."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place, name)
            key = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[key] = f"link to {os.readlink(path)}"
            elif path.is_dir():
                found[key] = "folder"
            elif path.is_file():
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@contextlib.contextmanager
def _quiet_logging():
    """A command sets up the console's log for itself; afterwards it is as it was."""
    log = logging.getLogger("lnauto")
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    try:
        yield
    finally:
        for handler in log.handlers:
            if handler not in handlers:
                with contextlib.suppress(OSError):  # of a log on a full disk
                    handler.close()
        log.handlers, log.level, log.propagate = handlers, level, propagate


@contextlib.contextmanager
def isolated(folder: Path):
    """Nothing is read from or written to the user's cache, and no speed is measured."""
    from lnauto.networks import machine_cache, probe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_cache, "FOLDER", folder / "cache")
        patch.setattr(probe, "seconds_per_step", lambda *_: 7.0)
        yield
