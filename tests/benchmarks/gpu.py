"""On a card: prediction and training against stock nnU-Net, ways to compute a tile, every trainer once, and longer weak training.

    python tests/benchmarks/gpu.py FOLDER --scan SCAN                               # everything, on a card
    python tests/benchmarks/gpu.py FOLDER --scan SCAN --device cpu --small          # a dry run on a processor

Parts, each in a process of its own that ends when its time is up; figures are written as they come, to FOLDER/figures:

predict  commands against commands (prediction.py)
shares   where the time goes in one process: reading and resampling, tiles, the way back (gpu_tiles.py)
tiles    seconds of one tile of a network of stock's size, computed in several ways, and how far each is from fp32
train    seconds of an iteration on stock's network and patch, eager and compiled, and what of them is waiting for batches
smoke    every trainer for some iterations, its model on the card and on the processor (gpu_smoke.py)
weak     weak_labels.py with three tenths of the nodes drawn, trained for longer
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pipeline
import prediction
import psutil
import torch
from gpu_tiles import shares, tiles

from lnauto.files import write_json

LIMITS = {"predict": 200, "shares": 90, "tiles": 150, "train": 240, "smoke": 200, "weak": 260}  # seconds
HERE = Path(__file__).parent
ROWS = ("complete masks", "undrawn = background", "LNTrainerPartial")
SEEDS = (20, 21, 22)
PLANNED_FOR = 0.4  # seconds of a step that the weak labels' plan is told: a processor's, and the same for every seed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--scan", type=Path, help="a CT scan, or a folder with one")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tta", nargs="+", default=["none"], choices=("none", "full"), help="of the part predict")
    parser.add_argument("--iterations", type=int, default=100, help="of the part train")
    parser.add_argument("--kinds", nargs="+", default=list(TRAINED), choices=list(TRAINED), help="of the part train")
    parser.add_argument("--rows", nargs="+", default=[], help="of the part smoke (default: all)")
    parser.add_argument("--weak-iterations", type=int, default=2000)
    parser.add_argument("--small", action="store_true", help="networks, patches and trainings as small as they can be")
    parser.add_argument("--limit", type=float, help="seconds each part may take (default: each its own)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    (options.folder / "figures").mkdir(parents=True, exist_ok=True)
    if options.small:
        prediction.FEATURES, prediction.PATCH = [4, 8, 8, 8, 8, 8], [32, 64, 64]
    if options.worker:
        WORKERS[options.worker[0]](options, *options.worker[1:])
        return 0
    if options.part:
        PARTS[options.part](options)
        return 0
    write_json(options.folder / "figures/machine.json", {**pipeline.machine(options.device), "command": " ".join(sys.argv)})
    for part in options.parts:
        started = time.monotonic()
        told = again(options, "--part", part, seconds=options.limit or LIMITS[part])
        print(f"--- {part}: {told or 'done'} after {time.monotonic() - started:.0f} s", flush=True)
    show(options)
    return 0


def again(options: argparse.Namespace, *more: Any, seconds: float, **variables: str) -> str:
    """This program in another process; what went wrong, or nothing. What it says lies in FOLDER/figures."""
    log = options.folder / "figures" / f"{'_'.join(str(word) for word in more).strip('-').replace(' ', '_').replace('=', '')}.log"
    given = sys.argv[1:]
    given = given[: given.index("--part")] if "--part" in given else given
    command = [sys.executable, __file__, *given, *map(str, more)]
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **variables})
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            end(process)
    last = log.read_text().strip().splitlines()[-4:]
    return "" if code == 0 else f"{'time is up' if code == -1 else 'FAILED'}: {' | '.join(last)[-600:]}"


def end(process: subprocess.Popen[Any]) -> None:
    """A process and what it started, if anything of it still runs."""
    try:
        tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.Error:
        tree = []
    for each in tree:
        with suppress(psutil.Error):
            each.kill()
    process.wait()


# ---- predict


def predict(options: argparse.Namespace) -> None:
    for tta in options.tta:
        given = ["--scan", options.scan, "--slices", "48" if options.small else "0", "--device", options.device]
        given += ["--rows", "stock", "torch", "default", "--tta", tta, "--threads", len(os.sched_getaffinity(0))]
        given += ["--json", options.folder / f"figures/predict_{tta}.json"]
        subprocess.run([sys.executable, HERE / "prediction.py", options.folder / "predict", *map(str, given)], check=True)


# ---- train


def train(options: argparse.Namespace) -> None:
    root, device = options.folder / "train", ["--device", options.device]
    (root / "raw").mkdir(parents=True, exist_ok=True)
    if not (root / "preprocessed" / pipeline.PHANTOM / "lnautoPlans.json").is_file():
        shape = ["--cases", "8", "--size", "48" if options.small else "96", "--quiet"]
        pipeline.run([pipeline.BIN / "lnauto_make_phantom", root / "raw" / pipeline.PHANTOM, *shape], root)
        pipeline.run([pipeline.BIN / "lnauto_plan_and_preprocess", "-d", "501", "--budget", "10min", "--quiet", *device], root)
        as_stocks(root / "preprocessed" / pipeline.PHANTOM / "lnautoPlans.json")
    variables = {f"nnUNet_{name}": str(root / name) for name in pipeline.VARIABLES}
    found: dict[str, Any] = {}
    for kind in options.kinds:
        compiles = {"nnUNet_compile": str(kind.endswith("compiled"))}
        told = again(options, "--worker", "train", kind, seconds=150, **variables, **compiles)
        place = root / f"{kind}.json"
        found[kind] = {"error": told} if told else json.loads(place.read_text())
        write_json(options.folder / "figures/train.json", found)
        print(kind, found[kind], flush=True)


def as_stocks(path: Path) -> None:
    """The plan with stock's network, patch and optimiser."""
    plan = json.loads(path.read_text())
    chosen = plan["configurations"]["3d_fullres"]
    chosen["architecture"]["network_class_name"] = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    kwargs = chosen["architecture"]["arch_kwargs"]
    kwargs.pop("n_blocks_per_stage", None)
    kwargs.update(prediction.plain_network(prediction.FEATURES))
    chosen.update(patch_size=prediction.PATCH, batch_size=2)
    plan["lnauto"]["optimizer"] = {"name": "SGD", "learning_rate": 1e-2, "weight_decay": 3e-5, "warm_up_iterations": 0}
    write_json(path, plan)


TRAINED = ("stock", "lnauto", "lnauto channels last", "lnauto fp32", "lnauto bf16", "stock compiled", "lnauto compiled")


def train_one(options: argparse.Namespace, kind: str) -> None:
    """Seconds of an iteration, batches included, after some that warm up; of these, seconds of waiting for a batch."""
    trainer = pipeline.stock_trainer(pipeline.PHANTOM, "lnautoPlans", options.device) if "stock" in kind else own(options, kind)
    batches, steps, waited = trainer.dataloader_train, list[float](), list[float]()
    warm_up, count = (1, 3) if options.small else (15, options.iterations)
    began = time.perf_counter()
    for number in range(warm_up + count):
        started = time.perf_counter()
        batch = next(batches)
        there = time.perf_counter()
        trainer.train_step(batch)  # ends with the loss on the processor, so the card is done
        if number == warm_up - 1:
            began = time.perf_counter()
        if number >= warm_up:
            waited.append(there - started)
            steps.append(time.perf_counter() - there)
    seconds = (time.perf_counter() - began) / count
    taken = torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else float("nan")
    figures = {"seconds": seconds, "step": statistics.median(steps), "waiting": statistics.fmean(waited), "card_gb": taken}
    write_json(options.folder / "train" / f"{kind}.json", figures)
    pipeline.leave()


def own(options: argparse.Namespace, kind: str) -> Any:
    from lnauto.networks.compute import Compute
    from lnauto.trainers.lntrainer import LNTrainer
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length
    from lnauto.workflow.fold import workers_for

    plan, description = pipeline.plan_and_labels(pipeline.PHANTOM, "lnautoPlans")
    trainer = LNTrainer(plan, "3d_fullres", "all", description, torch.device(options.device))
    length = Length(1000, None, 1000, 1)
    precision = kind.split()[-1] if kind.endswith(("fp32", "bf16")) else "auto"
    trainer.configure(Options(length, precision=precision, workers=workers_for(options.device, length), quiet=True))
    if kind.endswith("channels last"):
        trainer.compute = Compute(trainer.device, "amp", channels_last=True)
    trainer.on_train_start()
    if kind.endswith("compiled"):
        trainer.network.compile()  # in place: names in checkpoints stay
    return trainer


# ---- smoke and weak


def smoke(options: argparse.Namespace) -> None:
    import gpu_smoke

    gpu_smoke.run(options.folder / "smoke", options.folder / "figures", options.device, options.rows, options.small)


def weak(options: argparse.Namespace) -> None:
    """Seeds planned one after the other, so that all have the same network; then all rows of all seeds at once."""
    import weak_labels

    from lnauto.networks import probe

    probe.seconds_per_step = lambda *_: PLANNED_FOR
    kind, seeds = "phantom, 0.3 drawn", SEEDS[:1] if options.small else SEEDS
    root = options.folder / "weak"
    for seed in seeds:
        if not (root / kind / f"seed {seed}" / "planned").is_file():
            weak_labels.plan_alike(root / kind / f"seed {seed}", kind, seed)
    print("planned", time.process_time(), flush=True)
    iterations = 4 if options.small else options.weak_iterations
    given = ["--fractions", "0.3", "--iterations", iterations, "--device", options.device]
    running = []
    for seed in seeds:
        for number, row in enumerate(ROWS):
            file = options.folder / f"figures/weak_{seed}_{number}.json"
            command = [sys.executable, HERE / "weak_labels.py", root, *given, "--seeds", seed, "--rows", row, "--json", file]
            running.append((row, file, subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)))
    found: dict[str, Any] = {"iterations": iterations, "rows": {row: [] for row in ROWS}, "failed": []}
    for row, file, process in running:
        if process.wait() or not file.is_file():
            found["failed"].append(f"{row}, {file.name}")
            continue
        found["rows"][row] += json.loads(file.read_text())["sets"][kind]["rows"][row]
        write_json(options.folder / "figures/weak.json", found)


PARTS = {"predict": predict, "shares": shares, "tiles": tiles, "train": train, "smoke": smoke, "weak": weak}
WORKERS: dict[str, Callable[..., None]] = {"train": train_one}


# ---- the table


def show(options: argparse.Namespace) -> None:
    for path in sorted((options.folder / "figures").glob("*.json")):
        found = json.loads(path.read_text())
        if path.stem.startswith("weak_"):
            continue
        print(f"\n{path.stem}")
        if path.stem.startswith("predict"):
            prediction.show(found)
        elif path.stem == "weak":
            for row, runs in found["rows"].items():
                f1 = " ".join(f"{run['f1']:.3f}" for run in runs)
                print(f"{row:24} F1 {f1}  gap closed {gap(found['rows'], row):.0%}")
        else:
            for name, values in found.items():
                print(f"{name:34} {told(values)}")


def told(values: Any) -> str:
    if not isinstance(values, dict):
        return str(values)
    return "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())


def gap(rows: dict[str, Any], row: str) -> float:
    from weak_labels import gap_closed

    return gap_closed(rows, row) if all(rows.values()) else float("nan")


if __name__ == "__main__":
    sys.exit(main())
