"""What a row of the fault table is: a function that makes the fault, and what must come of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faults.material import Material

REFUSED, PARTLY, WORKS = 2, 3, 0
Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Attempt:
    """A command on bad input.

    `names`: every one of these texts must stand in the message. `right`: says what is wrong with a result that should be right,
    with asserts. `leaves`: patterns of files that may be new although the command refused, such as what it remembers of a check.
    """

    command: str
    arguments: tuple[object, ...]
    code: int
    names: tuple[str, ...] = ()
    right: Callable[[], None] | None = None
    patch: Patch | None = None
    leaves: tuple[str, ...] = ()


def refused(
    command: str, *arguments: object, names: str | tuple[str, ...], patch: Patch | None = None, leaves: str = ""
) -> Attempt:
    """Exit code 2: nothing was done."""
    texts = (names,) if isinstance(names, str) else names
    return Attempt(command, arguments, REFUSED, texts, patch=patch, leaves=(leaves,) if leaves else ())


def partly(
    command: str, *arguments: object, names: str | tuple[str, ...], right: Callable[[], None], patch: Patch | None = None
) -> Attempt:
    """Exit code 3: this case failed, the others are done, as `right` asserts."""
    return Attempt(command, arguments, PARTLY, (names,) if isinstance(names, str) else names, right, patch)


def works(command: str, *arguments: object, right: Callable[[], None]) -> Attempt:
    """Exit code 0: unlucky, but well defined, and `right` asserts that the result is."""
    return Attempt(command, arguments, WORKS, right=right)


@dataclass(frozen=True)
class Place:
    """An empty folder of the row's own, in which the command runs, and what all rows share."""

    here: Path
    material: Material

    def copy(self, source: Path, to: str) -> Path:
        """Something of the shared material, to spoil."""
        target = self.here / to
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
        return target

    def text(self, name: str, content: str, encoding: str = "utf-8") -> Path:
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(encoding))
        return path

    def scan(self, name: str = "scans/scan_0000.nii.gz") -> Path:
        return self.copy(self.material.scan, name)

    def predict(self, *more: object, scans: object = "scans", model: object = None) -> tuple[object, ...]:
        """Arguments of a prediction on the CPU, without what takes time."""
        fast = ("--device", "cpu", "--engine", "torch", "--precision", "fp32", "--tta", "none", "--no-report", "--quiet")
        return "-i", scans, "-o", "out", "-m", model or self.material.model, *fast, *more


@dataclass(frozen=True)
class Row:
    subject: str
    fault: str
    make: Callable[[Place], Attempt]


@dataclass
class Rows:
    """The rows of one subject."""

    subject: str
    rows: list[Row] = field(default_factory=list)

    def add(self, fault: str) -> Callable[[Callable[[Place], Attempt]], Callable[[Place], Attempt]]:
        def decorate(make: Callable[[Place], Attempt]) -> Callable[[Place], Attempt]:
            self.rows.append(Row(self.subject, fault, make))
            return make

        return decorate
