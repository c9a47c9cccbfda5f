"""What looking at a whole chest costs, beside stock nnU-Net's fingerprint and preprocessing of the same cases.

Every side is a process of its own; stock and lnauto take turns. Stock's plan is made before, and counts neither as time nor as
memory; imports count for neither side, but the whole processes' seconds are in the JSON file. Memory is that of the largest
process, as the system counts it at its end; stock's workers are not added up. The half case is the middle half of the slices,
where all nodes lie: so the cost of a voxel can be told from that of a node. One case has no estimate of completeness, eight have:
"estimate s" must not be 0 there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BIN = Path(sys.executable).parent
VARIABLES = ("raw", "preprocessed", "results")
NODES = 8
NODE_HU = (40.0, 10.0)
FAT_HU = (-140.0, -50.0)
MIDDLE = ((0.3, 0.7), (0.3, 0.65), (0.33, 0.67))  # where the mediastinum lies in the scan, as shares of z, y and x
STOCK = """
import json, sys, time
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, preprocess
started = time.perf_counter()
extract_fingerprints([int(sys.argv[1])], num_processes=2)
between = time.perf_counter()
preprocess([int(sys.argv[1])], configurations=["3d_fullres"], num_processes=[2])
print()
print(json.dumps({"fingerprint": between - started, "preprocessing": time.perf_counter() - between}))
"""  # as text: nnU-Net's workers import the program that starts them, and this one is slow to import
DATA_SETS = {"1 case": (801, 1, False), "1 half": (802, 1, True), "8 cases": (803, 8, False), "8 halves": (804, 8, True)}


def speed(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    worker = [sys.executable, str(Path(__file__).with_name("planning.py")), "--worker"]
    figures = {}
    for name, (number, cases, half) in DATA_SETS.items():
        folder = root / "raw" / f"Dataset{number}_Chest"
        made, _ = measure([*worker, "paste", folder, options.realdata.resolve(), cases, int(half)], root)
        measure([BIN / "nnUNetv2_plan_and_preprocess", "-d", number, "-npfp", "2", "--no_pp"], root)
        commands = {"stock": [sys.executable, "-c", STOCK, number], "lnauto": [*worker, "look", folder]}
        rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in commands}
        for _ in range(options.repeats):
            for side, command in commands.items():
                output, figure = measure(command, root)
                parts = json.loads(output.splitlines()[-1])
                rounds[side].append({**figure, "seconds": sum(parts.values()), **parts})
        figures[name] = {"megavoxels": float(made.split()[-1]), "rounds": rounds, **medians(rounds)}
    return figures


def medians(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    middle = {side: {key: statistics.median(one[key] for one in turns) for key in turns[0]} for side, turns in rounds.items()}
    pairs = list(zip(rounds["stock"], rounds["lnauto"], strict=True))
    return {**middle, "ratio": statistics.median(stock["seconds"] / ours["seconds"] for stock, ours in pairs)}


def measure(command: list[Any], root: Path) -> tuple[str, dict[str, float]]:
    """The output of a command, the seconds of its process, and the peak memory (GB) of the largest of its processes."""
    environment = {**os.environ, **{f"nnUNet_{name}": str(root / name) for name in VARIABLES}}
    figures = root / "figures.json"
    whole = [sys.executable, str(Path(__file__).with_name("measured.py")), str(figures), *(str(part) for part in command)]
    process = subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{process.stdout[-2000:]}\n{process.stderr[-4000:]}")
    return process.stdout, json.loads(figures.read_text())


def look(folder: str) -> int:
    """Everything the planner looks at, up to the choice of a strategy; prints the seconds of its parts."""
    from lnauto.commands.common import share_cores

    share_cores()
    from lnauto.data.raw import RawDataset
    from lnauto.planners.completeness import estimate_completeness, score_cases
    from lnauto.planners.evidence import gather
    from lnauto.planners.fingerprint import look_at_all, summarise
    from lnauto.planners.strategy import choose_strategy

    ticks = [time.perf_counter()]
    dataset = RawDataset.read(Path(folder))
    cases = look_at_all(dataset, quiet=True)
    ticks.append(time.perf_counter())
    completeness = estimate_completeness(score_cases(dataset, cases, quiet=True))
    ticks.append(time.perf_counter())
    summarise(cases)
    choose_strategy(gather(dataset, cases, completeness))
    ticks.append(time.perf_counter())
    names = ("fingerprint", "completeness", "decision")
    print(json.dumps(dict(zip(names, (round(float(step), 3) for step in np.diff(ticks)), strict=True))))
    return 0


def paste(folder: str, realdata: str, cases: str, half: str) -> int:
    """The chest so many times, each with other real node shapes in its mediastinal fat; prints the megavoxels of all."""
    import SimpleITK as sitk

    source, out = Path(realdata), Path(folder)
    (image_path,) = (source / "chest_ct").glob("*.nii.gz")
    image = sitk.ReadImage(str(image_path))
    chest = sitk.GetArrayFromImage(image)
    spacing = image.GetSpacing()[::-1]
    shapes = json.loads((source / "node_shapes" / "node_shapes.json").read_text())
    shapes = [shape for shape in shapes if shape["key"].startswith("MED")]
    quarter = len(chest) // 4 if int(half) else 0
    kept = slice(quarter, len(chest) - quarter)
    for name in ("imagesTr", "labelsTr"):
        (out / name).mkdir(parents=True)
    with np.load(source / "node_shapes" / "node_shapes.npz") as packed:
        for number in range(int(cases)):
            scan, label = paste_nodes(chest, spacing, shapes, packed, np.random.default_rng(number))
            for path, array in ((f"imagesTr/chest_{number}_0000.nii.gz", scan), (f"labelsTr/chest_{number}.nii.gz", label)):
                result = sitk.GetImageFromArray(array[kept])
                result.SetSpacing(image.GetSpacing())
                sitk.WriteImage(result, str(out / path))
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}
    (out / "dataset.json").write_text(json.dumps({**description, "numTraining": int(cases)}))
    print(chest[kept].size * int(cases) / 1e6)
    return 0


def paste_nodes(
    chest: np.ndarray, spacing: tuple[float, ...], shapes: list[dict[str, Any]], packed: Any, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A copy of the scan with nodes in fat, and their mask; a node comes where its middle and most of it lie in fat."""
    from scipy.ndimage import zoom

    scan, label = chest.copy(), np.zeros(chest.shape, np.uint8)
    fat = (chest > FAT_HU[0]) & (chest < FAT_HU[1])
    middle = np.zeros_like(fat)
    middle[tuple(slice(int(low * side), int(high * side)) for (low, high), side in zip(MIDDLE, chest.shape, strict=True))] = True
    places = np.argwhere(fat & middle)
    pasted = 0
    while pasted < NODES:
        shape = shapes[rng.integers(len(shapes))]
        bits = np.unpackbits(packed[shape["key"]])[: np.prod(shape["shape"])].reshape(shape["shape"])
        mask = zoom(bits, np.array(shape["spacing_zyx"]) / spacing, order=0, prefilter=False) > 0
        for corner in places[rng.integers(len(places), size=200)] - np.array(mask.shape) // 2:
            box = tuple(slice(int(start), int(start) + side) for start, side in zip(corner, mask.shape, strict=True))
            if label[box].shape == mask.shape and not label[box].any() and fat[box][mask].mean() > 0.5:
                scan[box][mask] = rng.normal(*NODE_HU, int(mask.sum())).astype(scan.dtype)
                label[box][mask] = 1
                pasted += 1
                break
    return scan, label


def show_speed(figures: dict[str, Any]) -> None:
    columns = ("Mvoxel", "stock s", "lnauto s", "ratio", "stock GB", "lnauto GB", "estimate s", "s/Mvoxel")
    print(f"{'':10}" + "".join(f"{column:>11}" for column in columns))
    for name, found in figures.items():
        stock, ours, size = found["stock"], found["lnauto"], found["megavoxels"]
        row = (size, stock["seconds"], ours["seconds"], found["ratio"], stock["memory_gb"], ours["memory_gb"])
        row += (ours["completeness"],)
        print(f"{name:10}" + "".join(f"{value:11.2f}" for value in row) + f"{ours['seconds'] / size:11.3f}")
    print("ratio: stock's seconds of lnauto's; the last column is lnauto's")


WORKERS = {"look": look, "paste": paste}
