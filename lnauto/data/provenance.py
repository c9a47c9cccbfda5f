"""What preprocessed cases were made of, so that a change of labels, images or plan is noticed."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lnauto.data.raw import Case
from lnauto.files import read_json, write_json

CHUNK = 1 << 22
SAVE_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Source:
    """A raw file as it was read: where it lay, its size and time, and its content's digest."""

    path: str
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True)
class MadeOf:
    """What a preprocessed case depends on. It is looked at before the case is made: a file that is saved meanwhile then makes the
    case stale, and is not taken for what it was made of."""

    hash: str  # of plan and labels
    sources: tuple[Source, ...]

    @classmethod
    def of(cls, case: Case, data_hash: str) -> MadeOf:
        return cls(data_hash, tuple(_describe(path) for path in _files(case)))


class Provenance:
    """The record beside a folder of preprocessed cases: per case, its sources and the hash of plan and labels.

    It is one file, so that writing it after every case would take a time that grows with the square of their number. A case that
    was made after the last writing is made again by the run after a kill.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved_at = -math.inf
        self.cases: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self.cases = read_json(path, "delete it; the cases are then preprocessed again")

    def is_current(self, case: Case, data_hash: str) -> bool:
        """Whether the case was made from these very files under this very plan."""
        known = self.cases.get(case.name)
        if known is None or known["hash"] != data_hash or len(known["sources"]) != len(_files(case)):
            return False
        return all(_unchanged(path, Source(**source)) for path, source in zip(_files(case), known["sources"], strict=True))

    def digests(self, cases: Iterable[str]) -> dict[str, list[str]]:
        """Of each case's files, as they were when it was made; cases of which nothing is known are left out."""
        known = {case: self.cases[case] for case in cases if case in self.cases}
        return {case: [source["digest"] for source in entry["sources"]] for case, entry in known.items()}

    def record(self, case: Case, made_of: MadeOf) -> None:
        self.cases[case.name] = asdict(made_of)
        if time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS:
            self._save()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever ends the block, what was recorded in it is written down."""
        try:
            yield
        finally:
            self._save()

    def _save(self) -> None:
        write_json(self.path, self.cases)
        self._saved_at = time.monotonic()


def _files(case: Case) -> list[Path]:
    return [*case.images, *([case.label] if case.label is not None else [])]


def _unchanged(path: Path, known: Source) -> bool:
    if not path.is_file():
        return False
    state = path.stat()
    if (state.st_size, state.st_mtime_ns) == (known.size, known.mtime_ns):
        return True  # a file that was neither written nor exchanged need not be read
    return state.st_size == known.size and digest_of(path) == known.digest


def _describe(path: Path) -> Source:
    state = path.stat()
    return Source(str(path), state.st_size, state.st_mtime_ns, digest_of(path))


def digest_of(path: Path) -> str:
    """What tells a file's content from any other."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
