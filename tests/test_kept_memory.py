"""A training on a CPU keeps the memory it frees."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from ball_trainings import make_trainer

from lnauto.trainers import lntrainer

ROUNDS = 20
PAGES_ASKED_FOR = """
import resource, sys
import numpy as np
from lnauto.networks.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for number in range(int(sys.argv[2]) + 1):
    if number == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.full(10_000_000, number, np.float32) for _ in range(3)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_is_freed_is_not_asked_for_again() -> None:
    asked = {}
    for how in ("keep", "as it comes"):
        command = [sys.executable, "-c", PAGES_ASKED_FOR, how, str(ROUNDS)]
        asked[how] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert asked["keep"] < 1000
    assert asked["as it comes"] > 20 * asked["keep"]


def test_a_training_asks_for_it(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr(lntrainer, "keep_freed_memory", lambda: asked.append(None))
    make_trainer(balls).initialize()
    assert asked == [None]
