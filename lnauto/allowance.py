"""What of the machine this process may use: less than there is in a container, under a batch system, or by `taskset`.

Containers and batch systems set limits by Linux's control groups, of which there are two versions; a group's limit is one of all
groups within it. Nobody else asks for them: PyTorch starts as many threads as the machine has cores, psutil tells of all memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY = (  # of either version: the limit, what is taken of it, and what of that the system gives back
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def usable_cores() -> int:
    """Cores that this process may compute on, or as many as it is given time of."""
    return granted_cores() or _allowed_cores()


def granted_cores() -> int | None:
    """As many cores as this process is given time of, where these are fewer than it may compute on."""
    granted = max(1, math.ceil(min([_allowed_cores(), *_shares_of_time()])))
    return granted if granted < _allowed_cores() else None


def memory_left(with_swap: bool = True) -> int:
    """Bytes that this process may still take; with those that would be swapped to the disk, or without."""
    import psutil

    swap = psutil.swap_memory().free if with_swap else 0
    return min([psutil.virtual_memory().available + swap, *_parts_of_memory()])


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shares_of_time() -> Iterator[float]:
    """By each group that has a limit, in cores."""
    for group in _groups("cpu"):
        quota_and_period = _numbers(group / "cpu.max") or [
            number for name in ("quota", "period") for number in _numbers(group / f"cpu.cfs_{name}_us")
        ]
        if len(quota_and_period) == 2 and min(quota_and_period) > 0:
            yield quota_and_period[0] / quota_and_period[1]


def _parts_of_memory() -> Iterator[int]:
    """By each group that has a limit, what is left of it."""
    for group in _groups("memory"):
        for limit, taken, kept in MEMORY:
            figures = [*_numbers(group / limit), *_numbers(group / taken)]
            if len(figures) == 2:
                yield max(0, figures[0] - figures[1] + _named(group / "memory.stat", kept))


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the groups this process is in, from its own to the outermost that is to be seen."""
    for line in _lines(OWN):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = GROUPS / controller if controllers else GROUPS
        own = root / path.strip("/")  # in a container this may be the outer group's name, and no folder here
        yield own
        yield from (parent for parent in own.parents if parent == root or root in parent.parents)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _numbers(path: Path) -> list[int]:
    """What a file of numbers holds; nothing where one is "max"."""
    words = [word for line in _lines(path) for word in line.split()]
    return [int(word) for word in words] if all(word.lstrip("-").isdigit() for word in words) else []


def _named(path: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in _lines(path) if line.split()[0] == name), 0)
