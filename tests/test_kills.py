"""The benchmarks of kills and of load, in short: a kill in each of the three commands, and many predictions in one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.smoke
def test_a_command_that_was_killed_and_run_again_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """In a process of its own, which forks the commands: one that has computed with PyTorch could not."""
    small = ("--kills", "1", "--no-repeat", "--cases", "4", "--test-cases", "1", "--size", "32", "--iterations", "4")
    command = [
        sys.executable,
        str(BENCHMARKS / "kills.py"),
        str(tmp_path / "kills"),
        *small,
        "--json",
        str(tmp_path / "kills.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = json.loads((tmp_path / "kills.json").read_text())["stages"]
    assert list(stages) == ["preprocessing", "training", "prediction"]
    for stage in stages.values():
        [kill] = stage["kills"]
        assert (kill["identical"], kill["left_behind"], kill["lock_left"] == kill["taken_over"]) == (True, [], True)


def test_prediction_after_prediction_leaves_no_file_open(random_model: Path) -> None:
    from lnauto import Predictor

    scan = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 60, (20, 20, 20)).astype(np.float32))
    scan.SetSpacing((1.5, 1.5, 2.0))
    predictor, process = Predictor.from_folder(random_model, ["0"], "cpu", engine="torch", precision="fp32"), psutil.Process()
    predictor.predict(scan)
    files, memory = process.num_fds(), process.memory_info().rss
    for _ in range(40):
        predictor.predict(scan)
    assert process.num_fds() == files
    assert process.memory_info().rss - memory < 40e6  # a megabyte for each, thirty times what the scan takes
