"""One run at a time in a folder: who writes there leaves a file that says so, and takes it away at the end.

The file is made by exclusive creation, which network file systems keep; `flock` they may not. While its run is at work its time
is renewed, so that another machine can tell a run that was killed from one that is busy.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from lnauto.errors import InputError
from lnauto.files import NUMBER, misfit, telling_when_full, temporary_prefix, write_json

log = logging.getLogger(__name__)

LOCK = ".lnauto.lock"
SUCCESSION = ".succession"
SUCCESSION_SECONDS = 10.0  # it takes milliseconds [our choice]
BEAT_SECONDS = 30.0
SILENT_SECONDS = 300.0  # ten beats: a run on another machine that was silent for so long is gone [our choice]
SAME_START_SECONDS = 5.0  # two looks at when a process started differ by as much as the clock is set
PROCESSES = Path("/proc/self/ns/pid")  # of Linux: what a process number means; a container has its own
LONGEST_COMMAND = 200
TEXTS = ("token", "command", "machine", "processes", "since")
FORM: dict[str, Any] = dict.fromkeys(TEXTS, str) | {"process": int, "started": NUMBER}

_held: set[tuple[int, Path]] = set()  # by this process: a command that calls another, such as the demo, meets its own locks


@dataclass(frozen=True)
class Owner:
    """Who is at work in a folder."""

    token: str
    command: str
    process: int
    started: float  # of the process, whose number is given out again once it has ended
    machine: str
    processes: str
    since: str

    @classmethod
    def of_this_process(cls) -> Owner:
        command = " ".join(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]).split())
        if len(command) > LONGEST_COMMAND:
            command = f"{command[:LONGEST_COMMAND]} ..."
        me, now = psutil.Process(), datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(uuid.uuid4().hex, command, me.pid, me.create_time(), platform.node(), _processes(), now)

    def __str__(self) -> str:
        return f"{self.command}, process {self.process} on {self.machine}, since {self.since}"

    def is_gone(self, silent_seconds: float) -> bool:
        """Whether it ended without taking its lock away."""
        if (self.machine, self.processes) != (platform.node(), _processes()):
            return silent_seconds > SILENT_SECONDS
        try:
            process = psutil.Process(self.process)
            same = abs(process.create_time() - self.started) < SAME_START_SECONDS
            # Where the clock was set by more than that, the process still renews its lock.
            return process.status() == psutil.STATUS_ZOMBIE or (not same and silent_seconds > 2 * BEAT_SECONDS)
        except psutil.NoSuchProcess:
            return True


UNKNOWN = Owner("", "a run that has just begun, or was killed then", 0, 0.0, "a machine that is not known", "", "just now")


def _processes() -> str:
    return os.readlink(PROCESSES) if PROCESSES.exists() else ""


@contextmanager
def locked(folder: Path, *shared: Path) -> Iterator[None]:
    """Be alone in `folder`, or raise; what a killed run left unfinished there is removed.

    Args:
        shared: folders of which only some files are the run's, such as that of a model beside those of its folds.
    """
    with _holding(folder / LOCK, folder, folder, shared):
        yield


@contextmanager
def locked_beside(path: Path) -> Iterator[None]:
    """The same for a file, or a folder that is exchanged as a whole; the lock lies beside it."""
    with _holding(path.parent / f".{path.name}{LOCK}", path, None, (path.parent,)):
        yield


def at_work(folder: Path) -> Owner | None:
    """Who is at work in `folder`, if it is another process."""
    lock = (folder / LOCK).absolute()
    if (os.getpid(), lock) in _held or (found := _look_at(lock)) is None:
        return None
    owner, silent_seconds = found
    return None if owner.is_gone(silent_seconds) else owner


@contextmanager
def _holding(lock: Path, place: Path, own: Path | None, shared: tuple[Path, ...]) -> Iterator[None]:
    lock = lock.absolute()
    key = (os.getpid(), lock)
    if key in _held:
        yield
        return
    absent = [folder for folder in lock.parents if not folder.exists()]
    try:
        mine = _take(lock, place, own, shared)
        _held.add(key)
        try:
            with _beating(lock, mine):
                yield
        finally:
            _held.discard(key)
            _release(lock, mine)
    finally:
        for folder in absent:  # that nothing was written to
            with suppress(OSError):
                folder.rmdir()


def _take(lock: Path, place: Path, own: Path | None, shared: tuple[Path, ...]) -> Owner:
    mine = Owner.of_this_process()
    try:
        with telling_when_full(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            if (dead := _acquire(lock, mine, place)) is not None:
                log.warning("A run ended in %s without a word (%s); this one takes over.", place, dead)
                _sweep(dead.process, own, shared)
    except OSError as error:
        what = f"the folder cannot be written to ({error.strerror or error})"
        raise InputError.of(what, lock.parent, "check its permissions, or choose another folder") from error
    return mine


def _acquire(lock: Path, mine: Owner, place: Path, patience: float = 0.0) -> Owner | None:
    """Make the lock ours, and say whose it was if that run is gone; raise if it is alive and had it for `patience` seconds."""
    while not _create(lock, mine):
        if (found := _look_at(lock)) is None:
            continue
        owner, silent_seconds = found
        if owner.is_gone(silent_seconds):
            if (dead := _succeed(lock, mine, place)) is not None:
                return dead
        elif max(silent_seconds, 0.0) < patience:
            time.sleep(0.05)
        else:
            remedy = f"wait until it has ended, or end it; if it is certain that it no longer runs, delete {lock}"
            raise InputError.of(f"another run is at work there ({owner})", place, remedy)
    return None


def _succeed(lock: Path, mine: Owner, place: Path) -> Owner | None:
    """Write ourselves over a run that is gone, and say which it was; None: another was faster.

    Of the many that may find it gone, one at a time does so: it holds a lock of its own on the lock, and looks again under it.
    Who was killed with that in its hand is succeeded in the same way.
    """
    own = lock.with_name(f"{lock.name}{SUCCESSION}")
    _acquire(own, mine, place, SUCCESSION_SECONDS)
    try:
        found = _look_at(lock)
        if found is None or not found[0].is_gone(found[1]):
            return None
        write_json(lock, asdict(mine))  # in one step: at no time is there none
        return found[0]
    finally:
        own.unlink(missing_ok=True)


def _create(lock: Path, mine: Owner) -> bool:
    """Whether the lock is ours now."""
    try:
        file = os.fdopen(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "w", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            json.dump(asdict(mine), file)
    except OSError:
        lock.unlink()
        raise
    return True


def _look_at(lock: Path) -> tuple[Owner, float] | None:
    """Who has the lock and for how many seconds nothing was heard of it, by the clock of the disk; None: it is gone."""
    clock = lock.with_name(f"{temporary_prefix(os.getpid())}clock")
    try:
        owner = _owner_of(lock)
        if owner == UNKNOWN:  # perhaps it is being written
            time.sleep(0.2)
            owner = _owner_of(lock)
        return owner, _now(clock) - lock.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        with suppress(OSError):  # a disk that is read-only says so even where there is nothing to remove
            clock.unlink(missing_ok=True)


def _now(clock: Path) -> float:
    """By the clock of the disk; where nothing may be written, by this machine's."""
    try:
        clock.touch()
    except OSError:
        return time.time()
    return clock.stat().st_mtime


def _owner_of(lock: Path) -> Owner:
    """Who wrote the lock. It may have come with somebody else's folder, and the files of its process are swept by its number."""
    try:
        content = json.loads(lock.read_text(encoding="utf-8"))
        return Owner(**content) if misfit(content, FORM) is None and content["process"] >= 0 else UNKNOWN
    except (ValueError, TypeError, RecursionError):
        return UNKNOWN


def _sweep(process: int, own: Path | None, shared: tuple[Path, ...]) -> None:
    """Remove the files that a killed process had not finished."""
    names = f"{temporary_prefix(process)}*"
    for path in [*(own.rglob(names) if own is not None else ()), *(path for folder in shared for path in folder.glob(names))]:
        path.unlink(missing_ok=True)


@contextmanager
def _beating(lock: Path, mine: Owner) -> Iterator[None]:
    """Renew the lock's time until the block ends."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                if _owner_of(lock) != mine:
                    raise FileNotFoundError
                os.utime(lock)
            except FileNotFoundError:
                log.warning("%s is gone, or another run's: two runs may be at work there.", lock)
                return
            except OSError:  # a network that is away for a while
                log.debug("%s could not be renewed.", lock, exc_info=True)

    thread = threading.Thread(target=beat, name="lnauto lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _release(lock: Path, mine: Owner) -> None:
    """Not in a child that was forked meanwhile, and not a lock that another run took over."""
    if mine.process == os.getpid():
        with suppress(OSError):  # what happened before is to be told, not this
            if _owner_of(lock) == mine:
                lock.unlink()
