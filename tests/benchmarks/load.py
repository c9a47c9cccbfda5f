"""Whether memory or open files grow with the number of cases: two thousand tiny cases through planning, preprocessing and
prediction, and five hundred predictions in one Python process.

    python tests/benchmarks/load.py FOLDER --json load.json

Cases are balls in 20 voxels a side; the network is the plan's, with random weights. Resident memory and open files are those of
all processes of a command together, read every tenth of a second beside the number of cases that are done; growth is the slope
over the last three quarters of the cases. Planning does not say how far it is, so it is run on a quarter of the cases, too, and
the peaks are compared. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from building import write_balls, write_random_model
from weak_strokes import machine

from lnauto.files import write_json
from lnauto.paths import VARIABLES

NAME, SOME = "Dataset901_Balls", "Dataset902_SomeBalls"
SIDE = 20
EVERY = 0.1  # seconds between two looks
WARM = 0.25  # of the cases, before which caches may still fill
MB = 1e6
# How fast this machine is, is not measured but given: networks would be tried, and their memory would be taken for the cases'.
GIVEN = "import sys; from lnauto.networks import probe; probe.seconds_per_step = lambda *_: 7.0"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data sets, model, masks; what is there from an earlier run goes")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--predictions", type=int, default=500, help="in one process")
    parser.add_argument("--json", type=Path, default=Path("benchmark_load.json"))
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "SCANS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return many_predictions(Path(options.child[0]), Path(options.child[1]), options.predictions)
    root = options.folder.resolve()
    shutil.rmtree(root, ignore_errors=True)
    for name in VARIABLES:
        (root / name).mkdir(parents=True)
    write_balls(root / "raw" / NAME, options.cases, SIDE, test_cases=options.cases)
    write_balls(root / "raw" / SOME, options.cases // 4, SIDE, test_cases=0)
    figures: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv), "cases": options.cases}
    rows = figures["rows"] = run_all(root, options)
    write_json(options.json, figures)
    print(json.dumps(figures["machine"]))
    for name, row in rows.items():
        print(f"{name:>28}  " + "  ".join(f"{key} {value:g}" for key, value in row.items()))
    return 0


def run_all(root: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    planned, out = root / "preprocessed" / NAME, root / "out"
    cases = "lnautoPlans_3d_fullres"
    plan = ("plan_and_preprocess", "--quiet", "--no-preprocess", "-d")
    some = watch(root, [*plan, "902"], lambda: 0)
    every = watch(root, [*plan, "901"], lambda: 0)
    rows = {"plan": compared(some, every, options.cases - options.cases // 4)}
    done = watch(root, ["plan_and_preprocess", "--quiet", "-d", "901"], lambda: count(planned / cases, ".pkl"))
    rows["preprocess"] = grown(done, options.cases)
    model = root / "results" / NAME / "LNTrainer__lnautoPlans__3d_fullres"
    write_random_model(planned, model, ("0",))
    scans = root / "raw" / NAME / "imagesTs"
    arguments = ["predict", "--quiet", "--no-report", "-i", str(scans), "-o", str(out), "-m", str(model)]
    rows["predict"] = grown(watch(root, arguments, lambda: count(out, ".nii.gz")), options.cases)
    again = [sys.executable, __file__, str(root), "--predictions", str(options.predictions), "--child", str(model), str(scans)]
    told = subprocess.run(again, env=environment(root), capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    rows["predictions in one process"] = grown(json.loads(told), options.predictions)
    return rows


def count(folder: Path, ending: str) -> int:
    """Finished cases: what is being written has a name that begins with a dot."""
    if not folder.is_dir():
        return 0
    return sum(entry.name.endswith(ending) and not entry.name.startswith(".") for entry in os.scandir(folder))


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, **{variable: str(root / name) for name, variable in VARIABLES.items()}}


def watch(root: Path, arguments: Sequence[str], finished: Callable[[], int]) -> list[list[float]]:
    """Run a command; at each look: seconds, finished cases, resident bytes, open files."""
    code = f"{GIVEN}; from lnauto.commands.{arguments[0]} import main; sys.exit(main({list(arguments[1:])!r}))"
    seen, started = [], time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(root))
    while process.poll() is None:
        memory, files = held_by(psutil.Process(process.pid))
        if memory:
            seen.append([time.monotonic() - started, finished(), memory, files])
        time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"lnauto_{' '.join(arguments)} ended with {process.returncode}")
    return seen


def held_by(process: psutil.Process) -> tuple[float, float]:
    """Resident bytes and open files of a process and all it started.

    What a child shares with it counts twice, for the moment after a fork; what it shares with programs that come and go beside it
    counts in full, which is steady.
    """
    memory = files = 0
    try:
        for one in (process, *process.children(recursive=True)):
            memory, files = memory + one.memory_info().rss, files + one.num_fds()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it is ending
        return 0, 0
    return memory, files


def many_predictions(model: Path, scans: Path, wanted: int) -> int:
    """Prediction after prediction in this process; prints what was seen as JSON."""
    import SimpleITK as sitk

    from lnauto import Predictor

    predictor, paths = Predictor.from_folder(model, device="cpu"), sorted(scans.glob("*.nii.gz"))
    seen, started = [], time.monotonic()
    for number in range(wanted):
        predictor.predict(sitk.ReadImage(str(paths[number % len(paths)])))
        seen.append([time.monotonic() - started, number + 1, *held_by(psutil.Process())])
    print(json.dumps(seen))
    return 0


def peak(seen: list[list[float]]) -> dict[str, float]:
    return {"seconds": round(seen[-1][0], 1), "peak MB": round(max(look[2] for look in seen) / MB, 1)}


def grown(seen: list[list[float]], cases: int) -> dict[str, float]:
    """The slope over the cases after the first quarter, and how long one takes early and late."""
    within = np.array([look for look in seen if WARM * cases <= look[1] < cases])
    slope = np.polyfit(within[:, 1], within[:, 2:], 1)[0]
    half = len(within) // 2
    pace = [1000 * np.ptp(part[:, 0]) / max(np.ptp(part[:, 1]), 1) for part in (within[:half], within[half:])]
    return {
        **peak(seen),
        "kB a case": round(float(slope[0]) / 1000, 2),
        "files a case": round(float(slope[1]), 5),
        "most files": float(within[:, 3].max()),
        "ms a case early": round(float(pace[0]), 1),
        "ms a case late": round(float(pace[1]), 1),
    }


def compared(some: list[list[float]], every: list[list[float]], more_cases: int) -> dict[str, float]:
    """Two runs whose length is all that differs."""
    memory, files = (max(look[place] for look in every) - max(look[place] for look in some) for place in (2, 3))
    seconds = every[-1][0] - some[-1][0]
    return {
        **peak(every),
        "kB a case": round(memory / more_cases / 1000, 2),
        "files a case": round(files / more_cases, 5),
        "ms a case": round(1000 * seconds / more_cases, 1),
    }


if __name__ == "__main__":
    raise SystemExit(main())
