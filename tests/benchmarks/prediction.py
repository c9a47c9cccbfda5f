"""Prediction against stock nnU-Net, in the same run on the same machine: seconds, memory, and how far the masks agree.

    python tests/benchmarks/prediction.py FOLDER --scan ../shared/data/chest_ct       # a real chest, a network of stock's size
    python tests/benchmarks/prediction.py FOLDER --phantoms                            # ten phantoms, a trained network
    python tests/benchmarks/prediction.py FOLDER --scan SCAN --device cuda --rows stock torch default

The network of stock's size has random weights, of which the last layer is shifted so that one voxel in a thousand is foreground.
Stock runs with one process for reading and one for writing, with the mirrored copies of the other rows; the row "stock as it is"
mirrors along all axes, as `nnUNetv2_predict` does where it is not told otherwise, and stands beside lnauto's defaults, which are
those of a plan for a CPU and chests. Where a run of stock would take longer than --longest minutes, it
runs on a part of the scan along z, and its seconds are scaled by the number of tiles; the table says so. What a processor can do
is measured by a product of two large matrices and by a copy; what the convolutions of all tiles compute, and what their layers
read and write once each, over the seconds of the whole run, is the share of it that the run reaches.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watching import Watch, apart

import lnauto
from lnauto.allowance import usable_cores
from lnauto.files import read_json, write_json
from lnauto.planners.prediction import choose_tiling

if TYPE_CHECKING:
    import SimpleITK as sitk
    import torch

BIN = Path(sys.executable).parent
NAME, TRAINER = "Dataset801_Scan", "nnUNetTrainer__nnUNetPlans__3d_fullres"
FEATURES, PATCH, SPACING = [32, 64, 128, 256, 320, 320], [64, 128, 128], [2.0, 1.25, 1.25]
FOREGROUND = 1e-3
LONGEST_MM = 39.0  # the 95th percentile node of a phantom
TILING = choose_tiling("cpu", [side * mm for side, mm in zip(PATCH, SPACING, strict=True)], LONGEST_MM)
PLANNED = {"region": "lungs", "inference": {**TILING.settings, "smallest_node_mm3": 30.0}}  # for a CPU and chests
AS_IT_IS = "stock as it is"
SAME = ["--overlap", "0.5", "--region", "none", "--filter", "none", "--quiet"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="scans, models, masks and figures; it is made anew")
    parser.add_argument("--scan", type=Path, help="a CT scan, or a folder with one")
    parser.add_argument("--phantoms", action="store_true", help="train a small network on phantoms and predict ten others")
    parser.add_argument("--tta", default="none", choices=("none", "full"), help="mirrored copies, of rows with the same settings")
    parser.add_argument("--slices", type=int, nargs="+", default=[0], help="of the scan along z (0: all; more than all: padded)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--longest", type=float, default=10.0, help="minutes a run of stock may take")
    parser.add_argument(
        "--rows", nargs="+", default=["stock", "torch", "openvino", "eight bits", "default", "default in eight bits"]
    )
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, help="where the figures go (default: figures.json in the folder)")
    options = parser.parse_args()
    root = options.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {
        "machine": {**apart(machine), "threads": options.threads},
        "peak": apart(peak, options.device, options.threads),
        "command": " ".join(sys.argv),
        "scans": {},
    }
    if options.scan is not None:
        model = apart(stock_sized, root, apart(write_scan, root, options.scan, options.slices[0]))
        for slices in options.slices:
            scan = apart(write_scan, root, options.scan, slices)
            figures["scans"][scan.name] = compare(root, model, scan, options)
            write_json(options.json or root / "figures.json", figures)
    if options.phantoms:
        model, scans = trained_on_phantoms(root)
        figures["scans"][scans.name] = compare(root, model, scans, options)
    write_json(options.json or root / "figures.json", figures)
    show(figures)
    return 0


def machine() -> dict[str, Any]:
    import weak_strokes

    return weak_strokes.machine()


# ---- material


def stock_sized(root: Path, scan: Path) -> Path:
    """A result folder as stock nnU-Net leaves it, with its plain network of 31 million weights."""
    import torch

    from lnauto.networks.build import build

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from stock_models import stock_plans

    plans = stock_plans(residual=False)
    chosen = plans["configurations"]["3d_fullres"]
    chosen["architecture"]["arch_kwargs"] |= plain_network(FEATURES)
    chosen |= {"patch_size": PATCH, "spacing": SPACING}
    for key in ("data", "seg", "probabilities"):
        chosen[f"resampling_fn_{key}_kwargs"] = {"is_seg": key == "seg", "order": 1, "order_z": 0, "force_separate_z": None}
    labels = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "numTraining": 3, "file_ending": ".nii.gz"}
    torch.manual_seed(0)
    network = build(chosen["architecture"], 1, 2, deep_supervision=True)
    with torch.no_grad():
        logits = network(middle_of(scan))[0][0]
        network.decoder.seg_layers[-1].bias[0] += torch.quantile((logits[1] - logits[0])[::2, ::2, ::2], 1 - FOREGROUND)
    model = root / "results" / NAME / TRAINER
    (model / "fold_0").mkdir(parents=True, exist_ok=True)
    made = {"configuration": "3d_fullres", "plans": plans, "dataset_json": labels, "fold": 0}
    content = {"network_weights": network.state_dict(), "init_args": made, "trainer_name": "nnUNetTrainer"}
    torch.save({**content, "inference_allowed_mirroring_axes": [0, 1, 2]}, model / "fold_0/checkpoint_final.pth")
    write_json(model / "plans.json", {**plans, "lnauto": PLANNED})
    write_json(model / "dataset.json", labels)
    return model


def plain_network(features: list[int]) -> dict[str, Any]:
    """The shape of a plain U-Net of so many features a stage."""
    stages = len(features)
    return {
        "n_stages": stages,
        "features_per_stage": features,
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 2), [1, 2, 2]],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


def middle_of(scan: Path) -> torch.Tensor:
    """A tile of the scan, as the plan of `stock_sized` normalises it."""
    import numpy as np
    import SimpleITK as sitk
    import torch

    array = sitk.GetArrayFromImage(sitk.ReadImage(str(next(scan.iterdir())))).astype(np.float32)
    array = np.pad(array, [(0, max(size - side, 0)) for side, size in zip(array.shape, PATCH, strict=True)], mode="edge")
    starts = [max(side - size, 0) // 2 for side, size in zip(array.shape, PATCH, strict=True)]
    tile = array[tuple(slice(start, start + size) for start, size in zip(starts, PATCH, strict=True))]
    return torch.from_numpy((tile.clip(-50, 180) - 60) / 30)[None, None]


def write_scan(root: Path, source: Path, slices: int) -> Path:
    import numpy as np
    import SimpleITK as sitk

    files = (
        [source] if source.is_file() else sorted(path for path in source.iterdir() if path.name.endswith((".nii.gz", ".nrrd")))
    )
    image = sitk.ReadImage(str(files[0]))
    array = sitk.GetArrayFromImage(image)
    if slices:
        array = np.concatenate([array] * -(-slices // len(array)))[:slices]
    folder = root / f"scan of {len(array)} slices"
    folder.mkdir(exist_ok=True)
    found = sitk.GetImageFromArray(array)
    found.SetSpacing(image.GetSpacing())
    sitk.WriteImage(found, str(folder / "scan_0000.nii.gz"))
    return folder


def trained_on_phantoms(root: Path) -> tuple[Path, Path]:
    """A small network trained for some minutes, and ten phantoms it has not seen."""
    raw = root / "raw/Dataset802_Phantoms"
    if not raw.is_dir():
        apart(make_phantoms, raw)
        (raw / "patients.csv").unlink()
    model = root / "results/Dataset802_Phantoms/LNTrainer__lnautoPlans__3d_fullres"
    if not (model / "fold_all/checkpoint_final.pth").is_file():
        run_of([BIN / "lnauto_plan_and_preprocess", "-d", "802", "--device", "cpu", "--quiet"], root)
        run_of([BIN / "lnauto_train", "802", "all", "--iterations", "600", "--device", "cpu", "--quiet", "--continue"], root)
    return model, raw / "imagesTs"


def make_phantoms(folder: Path) -> None:
    from lnauto.data.phantom import make_phantom

    make_phantom(folder, cases=24, test_cases=10, size=96, declare=True, quiet=True)


# ---- runs


def compare(root: Path, model: Path, scans: Path, options: argparse.Namespace) -> dict[str, Any]:
    fold = next(model.glob("fold_*")).name.removeprefix("fold_")
    ours = [BIN / "lnauto_predict", "-i", scans, "-m", model, "-f", fold, "--overwrite", "--device", options.device]
    stocks = "fp32" if options.device == "cpu" else "auto"  # on a card stock computes in half precision, and so does lnauto
    commands = {
        "torch": [*ours, *SAME, "--tta", options.tta, "--engine", "torch", "--precision", stocks],
        "openvino": [*ours, *SAME, "--tta", options.tta, "--engine", "openvino"],
        "eight bits": [*ours, *SAME, "--tta", options.tta, "--precision", "int8"],
        "default": [*ours, "--quiet"],
        "default in eight bits": [*ours, "--quiet", "--precision", "int8"],
    }
    rows: dict[str, Any] = {}
    for name, tta in (("stock", options.tta), (AS_IT_IS, "full")):
        if name in options.rows:
            rows[name] = stock_run(root, model, fold, scans, options, name, tta)
            print(f"{scans.name}, {name}: {rows[name]['seconds']:.1f} s, {rows[name]['gb']:.2f} GB", flush=True)
    for name in options.rows:
        if name in commands:
            out = root / "masks" / scans.name / name
            if name != "torch" and options.device == "cpu":
                run_of(
                    [*commands[name], "--no-report", "-o", out], root, options.threads
                )  # what is done once: conversion and check
            rows[name] = run_of([*commands[name], "--no-report", "-o", out], root, options.threads)
            print(f"{scans.name}, {name}: {rows[name]['seconds']:.1f} s, {rows[name]['gb']:.2f} GB", flush=True)
            rows[name]["made"] = {key: read_json(out / "run.json", "")[key] for key in ("engine", "precision", "tta", "overlap")}
    if options.device == "cpu":
        rows = apart(reach, rows, model, scans, options)
    return apart(agree, root / "masks" / scans.name, rows, scans.with_name("labelsTs"))


def stock_run(
    root: Path, model: Path, fold: str, scans: Path, options: argparse.Namespace, name: str, tta: str
) -> dict[str, Any]:
    """Stock on all of the scans, or, where that would take too long, on as many slices of the only one as it may take."""
    out = root / "masks" / scans.name / name
    stock = [BIN / "nnUNetv2_predict_from_modelfolder", "-m", model, "-f", fold, "-o", out, "-device", options.device]
    flags = ["-npp", "1", "-nps", "1", *([] if tta == "full" else ["--disable_tta"])]
    if len(list(scans.iterdir())) == 1 and options.device == "cpu":
        part = apart(part_of, root, model, scans, options, tta)
        if part is not None:
            found = run_of([*stock, *flags, "-i", part["folder"]], root, options.threads)
            scaled = {key: part[key] for key in ("scaled_by", "slices")}
            return {**found, "seconds": found["seconds"] * part["scaled_by"], **scaled}
    return run_of([*stock, *flags, "-i", scans], root, options.threads)


def part_of(root: Path, model: Path, scans: Path, options: argparse.Namespace, tta: str) -> dict[str, Any] | None:
    """As many slices of the only scan as stock may take, where it may not take all."""
    import SimpleITK as sitk
    import torch

    torch.set_num_threads(options.threads)
    [file] = scans.iterdir()
    image = sitk.ReadImage(str(file))
    tiles, depth = tiles_of(image), image.GetSize()[2]
    seconds = tiles * (8 if tta == "full" else 1) * tile_seconds(model)
    if seconds <= 60 * options.longest:
        return None
    kept = min(depth, max(PATCH[0], round(depth * 60 * options.longest / seconds)))
    part = root / f"part of {scans.name}"
    part.mkdir(exist_ok=True)
    sitk.WriteImage(image[:, :, :kept], str(part / file.name))
    return {"folder": part, "scaled_by": tiles / tiles_of(image[:, :, :kept]), "slices": kept}


def tiles_of(image: sitk.Image) -> int:
    from lnauto.inference.sliding_window import tile_slices

    sides = zip(image.GetSize()[::-1], image.GetSpacing()[::-1], SPACING, strict=True)
    shape = [round(size * side / own) for size, side, own in sides]
    return len(tile_slices([max(side, least) for side, least in zip(shape, PATCH, strict=True)], PATCH, 0.5))


def tile_seconds(model: Path) -> float:
    import torch

    from lnauto.inference.model import load_model

    network, tile = load_model(model).load_network(0), torch.zeros(1, 1, *PATCH)
    with torch.inference_mode():
        started = time.perf_counter()
        network(tile)
    return time.perf_counter() - started


def run_of(command: list[Any], root: Path, threads: int = 0) -> dict[str, Any]:
    """Seconds and peak memory of a command and all it starts."""
    environment = {**os.environ, **{f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}}
    environment["nnUNet_extTrainer"] = str(lnauto.EXT_TRAINER_DIR)  # where stock finds the trainer of a model of lnauto's
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "nnUNet_def_n_proc": str(threads)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watch = Watch(process.pid)
    output, _ = process.communicate()
    watch.ended.set()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{output[-4000:]}")
    return {"seconds": time.perf_counter() - started, "gb": watch.peak / 2**30, **watch.card.told()}


# ---- figures


def agree(folder: Path, rows: dict[str, Any], truth: Path) -> dict[str, Any]:
    """Dice of the foreground with stock's mask, over all scans; and how well each finds the nodes, where they are known."""
    import SimpleITK as sitk

    from lnauto.evaluation.folder import evaluate_folders
    from lnauto.evaluation.pair import ALL_NODES

    for name, row in rows.items():
        both = ours = theirs = 0
        whole = "scaled_by" not in rows.get("stock", {"scaled_by": 0}) and "scaled_by" not in row
        for path in sorted((folder / name).glob("*.nii.gz")) if whole else ():
            mine, stock = (sitk.GetArrayFromImage(sitk.ReadImage(str(folder / each / path.name))) > 0 for each in (name, "stock"))
            both, ours, theirs = both + int((mine & stock).sum()), ours + int(mine.sum()), theirs + int(stock.sum())
        if theirs:
            row["dice_with_stock"] = 2 * both / (ours + theirs)
        if truth.is_dir():
            summary = evaluate_folders(truth, folder / name, dataset_json=truth.with_name("dataset.json")).summary
            row["node_f1"] = float(summary.nodes[ALL_NODES].counts.f1)
    return rows


def reach(rows: dict[str, Any], model: Path, scans: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The share of the processor's products and of its copies that a run with the same tiles reaches."""
    import SimpleITK as sitk

    files = sorted(scans.iterdir())
    if len(files) > 1:
        return rows
    flops, moved = work_of(model)
    tiles, copies = tiles_of(sitk.ReadImage(str(files[0]))), 8 if options.tta == "full" else 1
    can = peak(options.device, options.threads)
    for name in {"stock", "torch", "openvino"} & set(rows):
        precision = rows[name].get("made", {}).get("precision", "fp32")
        each_second = tiles * copies / rows[name]["seconds"] / 1e9
        rows[name]["of_products"] = flops * each_second / can[f"gflop_{precision}"]
        rows[name]["of_copies"] = moved * each_second / can["gb_copied"] * (0.5 if precision == "bf16" else 1)
    return rows


def work_of(model: Path) -> tuple[float, float]:
    """Of one tile: multiplications and additions, and bytes in fp32 that layers read and write."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lnauto.inference.model import load_model

    network, moved = load_model(model).load_network(0).to("meta"), [0]

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        moved[0] += 4 * (sum(each.numel() for each in inputs) + output.numel())

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, *PATCH, device="meta"))
    return float(counter.get_total_flops()), float(moved[0])


def peak(device: str, threads: int) -> dict[str, float]:
    """Products a second in fp32 and bf16 (1e9 multiplications and additions), and bytes copied a second (1e9); of a processor."""
    import torch

    torch.set_num_threads(threads)
    found: dict[str, float] = {}
    if device != "cpu":
        return found
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(2048, 2048).to(kind) for _ in range(2))
        found[f"gflop_{name}"] = 2 * 2048**3 / best(lambda left=left, right=right: left @ right) / 1e9  # type: ignore[misc]
    source, target = torch.zeros(2**27), torch.zeros(2**27)
    found["gb_copied"] = 2 * 4 * 2**27 / best(lambda: target.copy_(source)) / 1e9
    return found


def best(run: Any) -> float:
    seconds: list[float] = []
    while len(seconds) < 5 and sum(seconds) < 10:  # without instructions for bf16 one product takes a minute
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def show(figures: dict[str, Any]) -> None:
    print(json.dumps(figures["machine"]), json.dumps(figures["peak"]))
    for scans, rows in figures["scans"].items():
        print(f"\n{scans}")
        for name, row in rows.items():
            told = f"{name:21} {row['seconds']:8.1f} s {row['gb']:6.2f} GB"
            for stock in {"stock", AS_IT_IS} & set(rows):
                told += f"  {rows[stock]['seconds'] / row['seconds']:6.2f} times the speed of {stock}"
            for key in ("card_gb", "of_products", "of_copies", "dice_with_stock", "node_f1", "scaled_by"):
                told += f"  {key} {row[key]:.4f}" if key in row else ""
            print(told + f"  {row.get('made', '')}")


if __name__ == "__main__":
    sys.exit(main())
