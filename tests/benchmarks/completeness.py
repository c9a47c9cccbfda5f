"""How well the share of drawn nodes is estimated: phantoms drawn in part, real data as they are and with whole cases undrawn.

    python tests/benchmarks/completeness.py                        # 25 phantoms of seeds that nothing was tuned on
    python tests/benchmarks/completeness.py --style b --size 64    # another family of scans, a smaller field of view
    python tests/benchmarks/completeness.py --parts real --realdata ../shared/data

A phantom is drawn once for each seed; each fraction's labels are then made as `lnauto_make_phantom --annotation partial` makes
them. The truth is the number of drawn nodes over that of all nodes. Figures go to the JSON file named with --json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from lnauto.data.phantom import make_phantom
from lnauto.data.phantom.annotation import partial
from lnauto.data.raw import RawDataset
from lnauto.nodes import label_components
from lnauto.planners.case_facts import look_at
from lnauto.planners.completeness import estimate_completeness, score_cases

FRACTIONS = (0.2, 0.35, 0.5, 0.7, 1.0)
FULL_REAL, PARTIAL_REAL = ("Dataset004_Hippocampus", "Dataset051_STSPETCT"), "Dataset502_SemiRealChest"
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("phantom", "real"), default=["phantom"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102, 103, 104])
    parser.add_argument("--fractions", nargs="+", type=float, default=list(FRACTIONS))
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--style", default="a")
    parser.add_argument("--workers", type=int, default=1, choices=(1, 2))
    parser.add_argument("--realdata", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--json", type=Path, default=Path("benchmark_completeness.json"))
    options = parser.parse_args()
    figures: dict[str, Any] = {"command": " ".join(sys.argv)}
    with tempfile.TemporaryDirectory(prefix="lnauto_benchmark_") as folder:
        if "phantom" in options.parts:
            tasks = [(Path(folder), seed, options) for seed in options.seeds]
            with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
                rows = [row for found in pool.map(phantoms, tasks) for row in found]
            figures["phantom"] = {"rows": rows, **summary(rows)}
        if "real" in options.parts:
            figures["real"] = {"rows": real(Path(folder), options.realdata.resolve())}
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def phantoms(task: tuple[Path, int, argparse.Namespace]) -> list[Row]:
    """One seed at every fraction."""
    root, seed, options = task
    folder = root / str(seed) / "Dataset501_Phantom"
    make_phantom(folder, cases=options.cases, size=options.size, seed=seed, style=options.style, quiet=True)
    rows = []
    for fraction in options.fractions:
        drawn, nodes = redraw(folder, fraction, seed)
        rows.append(
            {
                "data": f"{options.style}{options.size} x{options.cases}",
                "seed": seed,
                "fraction": fraction,
                "truth": drawn / nodes,
            }
        )
        rows[-1] |= estimate(folder)
        show(rows[-1])
    shutil.rmtree(folder)
    return rows


def redraw(folder: Path, fraction: float, seed: int) -> tuple[int, int]:
    """Rewrite the labels at this fraction: how many nodes are drawn, and how many there are."""
    drawn = nodes = 0
    for index, path in enumerate(sorted((folder / "truth" / "nodes").iterdir())):
        image = sitk.ReadImage(str(path))
        instances = sitk.GetArrayFromImage(image)
        volumes = np.bincount(instances.ravel())[1:] * float(np.prod(image.GetSpacing()))
        chosen = partial(np.random.default_rng((seed, 0, index, 1)), volumes, fraction)
        drawn, nodes = drawn + len(chosen), nodes + len(volumes)
        label = sitk.GetImageFromArray(np.isin(instances, chosen).astype(np.uint8))
        label.CopyInformation(image)
        sitk.WriteImage(label, str(folder / "labelsTr" / path.name), useCompression=True)
    return drawn, nodes


def estimate(folder: Path, seed: int = 0) -> Row:
    dataset = RawDataset.read(folder)
    facts = [look_at(dataset, case, 0) for case in dataset.cases]
    started = time.perf_counter()
    found = estimate_completeness(score_cases(dataset, facts, seed, quiet=True), seed)
    seconds = time.perf_counter() - started
    interval = {"value": found.value, "low": found.low, "high": found.high} if found else {"value": None}
    return {"nodes_drawn": sum(len(case.nodes) for case in facts), **interval, "seconds": seconds}


def show(row: Row) -> None:
    found = "cannot be said" if row["value"] is None else f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
    fraction = f"{row['fraction']:.2f}" if "fraction" in row else ""
    truth = f"{row['truth']:.2f}" if row["truth"] is not None else "?"
    print(f"{row['data']:34} seed {row['seed']:<4} {fraction:5} truth {truth:5} {found:24} {row['seconds']:6.1f} s", flush=True)


def summary(rows: list[Row]) -> Row:
    """What the contract asks for, said in one line each."""
    said = [row for row in rows if row["value"] is not None]
    errors = [abs(row["value"] - row["truth"]) for row in said]
    inside = [row["low"] <= row["truth"] <= row["high"] for row in said]
    fractions = sorted({row["fraction"] for row in said})
    medians = {fraction: statistics.median(row["value"] for row in said if row["fraction"] == fraction) for fraction in fractions}
    full = [row["value"] for row in said if row["truth"] == 1]
    found = {
        "said": f"{len(said)} of {len(rows)}",
        "mean_absolute_error": round(statistics.mean(errors), 3),
        "medians": {str(fraction): round(value, 3) for fraction, value in medians.items()},
        "covered": f"{sum(inside)} of {len(inside)}",
        "least_for_full": round(min(full), 3) if full else None,
    }
    for name, value in found.items():
        print(f"{name:20} {value}")
    return found


def real(root: Path, data: Path) -> list[Row]:
    """Real data sets as they are, the semi-real one in part and in full, and the full ones with most cases undrawn."""
    rows = [{"data": PARTIAL_REAL, "seed": 0, "truth": share_of_nodes(data / PARTIAL_REAL), **estimate(data / PARTIAL_REAL)}]
    show(rows[-1])
    full = copied(data / PARTIAL_REAL, root / "Dataset502_Full", "truthTr")
    rows.append({"data": "Dataset502_SemiRealChest in full", "seed": 0, "truth": 1.0, **estimate(full)})
    show(rows[-1])
    for name in FULL_REAL:
        for seed in range(2):
            rows.append({"data": name, "seed": seed, "truth": 1.0, **estimate(data / name, seed)})
            show(rows[-1])
            partly = copied(data / name, root / f"{name}_{seed}")
            kept = undraw(partly, 0.4, seed)
            rows.append({"data": f"{name} in part", "seed": seed, "truth": kept, **estimate(partly, seed)})
            show(rows[-1])
    return rows


def share_of_nodes(folder: Path) -> float:
    drawn = nodes = 0
    for path in sorted((folder / "truthTr").glob("*.nii.gz")):
        instances, count = label_components(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labelsTr" / path.name)))
        drawn, nodes = drawn + len(set(np.unique(instances[label > 0])) - {0}), nodes + count
    return drawn / nodes


def copied(source: Path, target: Path, labels: str = "labelsTr") -> Path:
    shutil.copytree(source / labels, target / "labelsTr")
    (target / "imagesTr").symlink_to(source / "imagesTr")
    shutil.copy(source / "dataset.json", target)
    return target


def undraw(folder: Path, keep: float, seed: int) -> float:
    """Empty the labels of all cases but this share, and say what share that is."""
    paths = sorted(folder.glob("labelsTr/*.nii.gz"))
    kept = np.random.default_rng(seed).permutation(len(paths)) < round(keep * len(paths))
    for path, stays in zip(paths, kept, strict=True):
        if not stays:
            image = sitk.ReadImage(str(path))
            sitk.WriteImage(image * 0, str(path))
    return float(kept.mean())


if __name__ == "__main__":
    sys.exit(main())
