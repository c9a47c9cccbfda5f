"""What predicting a large scan takes of memory, and what `--max-memory` would have counted with; and what one tile takes.

    python tests/benchmarks/memory.py FOLDER --scan ../shared/data/chest_ct

The scan is resampled to 512 x 512 x 600 voxels of 16 bits and stored with three spacings, so that the plan's spacing is much
coarser, somewhat coarser, or its own. Networks are plain ones of 8 features with random weights, on a CPU, PyTorch fp32, without
region; each run is a process of its own. What a tile takes is the highest memory of one pass less what was taken before (Linux).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import prediction
import psutil
import SimpleITK as sitk
import torch
from weak_strokes import machine

from lnauto.files import write_json

SIZE = (512, 512, 600)  # x first
SPACINGS = {"much coarser": (0.78, 0.78, 0.46), "coarser": (1.0, 1.0, 1.25), "its own": tuple(prediction.SPACING[::-1])}
TILES = [(kind, features) for features in (32, 8) for kind in ("fp32", "fp32, channels-last", "bf16", "openvino")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="scans, model, masks and figures")
    parser.add_argument("--scan", type=Path, help="a CT scan, or a folder with one")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SCAN"), help=argparse.SUPPRESS)
    parser.add_argument("--tile", nargs=2, metavar=("KIND", "FEATURES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one or options.tile:
        told = (
            one_scan(*map(Path, options.one)) if options.one else one_tile(options.folder, options.tile[0], int(options.tile[1]))
        )
        print(json.dumps(told))
        return 0
    root = options.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    prediction.FEATURES = [8, 16, 32, 64, 80, 80]
    model = prediction.stock_sized(root, prediction.write_scan(root, options.scan, 0))
    figures: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv), "scans": {}, "tiles": {}}
    print(json.dumps(figures["machine"]), f"\n{'scan':>20} {'peak GB':>8} {'counted with':>13}")
    for name, path in large_scans(root, options.scan).items():
        row = figures["scans"][name] = child(root, "--one", str(model), str(path))
        print(f"{name:>20} {row['gb']:8.2f} {row['counted_gb']:13.2f}", flush=True)
    print(f"{'tile':>20} {'features':>9} {'GB':>6} {'in maps like the first':>23}")
    for kind, features in TILES:
        row = figures["tiles"][f"{kind}, {features}"] = child(root, "--tile", kind, str(features))
        print(f"{kind:>20} {features:9} {row['gb']:6.2f} {row['maps']:23.1f}", flush=True)
    write_json(root / "figures.json", figures)
    return 0


def child(root: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def large_scans(root: Path, scan: Path) -> dict[str, Path]:
    image = sitk.ReadImage(str(scan if scan.is_file() else next(scan.glob("*.nii.gz"))))
    spacing = [step * side / new for step, side, new in zip(image.GetSpacing(), image.GetSize(), SIZE, strict=True)]
    grid = (image.GetOrigin(), spacing, image.GetDirection())
    large = sitk.Resample(image, SIZE, sitk.Transform(), sitk.sitkLinear, *grid, -1024.0, sitk.sitkInt16)
    found = {}
    for name, steps in SPACINGS.items():
        large.SetSpacing(steps)
        found[name] = root / f"{name}.nii"
        sitk.WriteImage(large, str(found[name]))
    return found


def one_scan(model: Path, scan: Path) -> dict[str, float]:
    from lnauto.inference.memory import MemoryLimit
    from lnauto.inference.predictor import Predictor

    counted = [0.0]

    class Recorded(MemoryLimit):
        def check(self, needed: float, name: str) -> None:
            counted.append(psutil.Process().memory_info().rss + needed)

    predictor = Predictor.from_folder(model, device="cpu", precision="fp32", tta="none", overlap=0, crop=False, engine="torch")
    predictor.memory = Recorded()
    predictor.predict_files([scan])
    return {"gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "counted_gb": max(counted) / 1e9}


def one_tile(root: Path, kind: str, features: int) -> dict[str, float]:
    from lnauto.inference import openvino_engine
    from lnauto.networks.compute import Compute

    sys.path.insert(0, str(Path(__file__).parents[1]))
    network, tile = small_network(features), torch.zeros(1, 1, *prediction.PATCH)
    if kind == "openvino":
        path = root / "openvino" / f"{features}.xml"
        openvino_engine.convert(network, 1, path)
        before = psutil.Process().memory_info().rss
        run = openvino_engine.compile_network(path, tile.shape, "fp32")
    else:
        compute = Compute(torch.device("cpu"), kind.split(",")[0], channels_last=kind != "fp32")
        network = compute.prepare(network)
        before = psutil.Process().memory_info().rss

        def run(tile: torch.Tensor) -> torch.Tensor:
            return openvino_engine.run_torch(network, compute, tile)

    Path("/proc/self/clear_refs").write_text("5")  # the highest memory is counted from here on
    run(tile)
    highest = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    taken = int(highest.split()[1]) * 1024 - before
    return {"gb": taken / 1e9, "maps": taken / (4 * features * math.prod(prediction.PATCH))}


def small_network(features: int) -> torch.nn.Module:
    from stock_models import stock_plans

    from lnauto.networks.build import build

    architecture = stock_plans(residual=False)["configurations"]["3d_fullres"]["architecture"]
    widths = [min(features * 2**stage, 10 * features) for stage in range(6)]
    architecture["arch_kwargs"] |= prediction.plain_network(widths)
    return build(architecture, 1, 2, deep_supervision=False).eval()


if __name__ == "__main__":
    sys.exit(main())
