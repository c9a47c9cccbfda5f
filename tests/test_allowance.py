"""What a container or a batch system lets a process use, as Linux's control groups tell it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lnauto import allowance
from lnauto.commands.common import share_cores
from lnauto.errors import InputError
from lnauto.image_files import UnreadableError, check_bytes
from lnauto.inference.memory import MemoryLimit

GB = 10**9
LARGE_STAT = "anon 5000000000\ninactive_file 1000000000\n"
Groups = Callable[[str, dict[str, str]], None]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    """Eight cores, much memory, and such groups: what /proc/self/cgroup says, and files below /sys/fs/cgroup."""

    def make(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / name).write_text(text)
        monkeypatch.setattr(allowance, "OWN", tmp_path / "own")
        monkeypatch.setattr(allowance, "GROUPS", tmp_path / "groups")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": 200 * GB}))
    monkeypatch.setattr(psutil, "swap_memory", lambda: type("", (), {"free": 0}))
    return make


def test_a_container_has_the_cores_and_the_memory_it_was_given(groups: Groups) -> None:
    limits = {"memory.max": f"{16 * GB}\n", "memory.current": f"{6 * GB}\n", "memory.stat": LARGE_STAT}
    groups("0::/\n", {"cpu.max": "250000 100000\n", **limits})
    assert allowance.usable_cores() == 3  # a part of a core is a thread, too
    assert allowance.memory_left() == 11 * GB  # a file that was read is given up where memory is wanted


def test_what_is_over_a_containers_limit_is_refused_and_swap_is_no_memory_to_count_on(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "swap_memory", lambda: type("", (), {"free": 50 * GB}))
    groups("", {})
    assert (allowance.memory_left(), allowance.memory_left(with_swap=False)) == (250 * GB, 200 * GB)
    groups("0::/\n", {"memory.max": f"{3 * GB}\n", "memory.current": f"{GB}\n"})
    with pytest.raises(UnreadableError, match=r"2\.0 GB left"):
        check_bytes(3 * GB)
    with pytest.raises(InputError, match=r"2\.0 GB left"):
        MemoryLimit().check(3 * GB, "one")


def test_a_job_has_what_the_groups_round_its_own_leave(groups: Groups) -> None:
    around = {"slurm/cpu.max": "200000 100000\n", "slurm/memory.max": f"{4 * GB}\n", "slurm/memory.current": f"{GB}\n"}
    own = {"slurm/job/cpu.max": "max 100000\n", "slurm/job/memory.max": "max\n", "slurm/job/memory.current": f"{GB}\n"}
    groups("0::/slurm/job\n", {**around, **own, "slurm/memory.stat": "inactive_file 0\n"})
    assert allowance.usable_cores() == 2
    assert allowance.memory_left() == 3 * GB


def test_the_first_version_tells_in_files_of_its_own(groups: Groups) -> None:
    processor = {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    memory = {"memory/memory.limit_in_bytes": f"{8 * GB}\n", "memory/memory.usage_in_bytes": f"{3 * GB}\n"}
    own = "5:memory:/docker/0123\n2:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123\n"  # there is no such folder
    groups(own, {**processor, **memory, "memory/memory.stat": "inactive_file 5\ntotal_inactive_file 2000000000\n"})
    assert allowance.usable_cores() == 4
    assert allowance.memory_left() == 7 * GB


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("", {}),  # no Linux
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "1\n"}),
        ("2:cpu:/\n5:memory:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
        ("0::/../../elsewhere\n", {}),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}),  # of more cores than it may compute on
    ],
)
def test_without_a_limit_the_machine_is_what_counts(groups: Groups, own: str, files: dict[str, str]) -> None:
    groups(own, files)
    assert (allowance.usable_cores(), allowance.granted_cores()) == (8, None)
    assert allowance.memory_left() == 200 * GB


@pytest.mark.parametrize(
    ("given", "quota", "threads"),
    [(None, "200000", "2"), ("5", "200000", "5"), (None, "max", None)],
    ids=["quota", "given", "none"],
)
def test_no_more_threads_are_started_than_there_is_time_for(
    groups: Groups, monkeypatch: pytest.MonkeyPatch, given: str | None, quota: str, threads: str | None
) -> None:
    groups("0::/\n", {"cpu.max": f"{quota} 100000\n"})
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    share_cores()
    assert os.environ.get("OMP_NUM_THREADS") == threads
