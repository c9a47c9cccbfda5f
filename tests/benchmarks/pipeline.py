"""Planning, preprocessing and training against stock nnU-Net, in the same run on the same machine.

    python tests/benchmarks/pipeline.py                       # the phantom: plan + preprocess, iterations per second
    python tests/benchmarks/pipeline.py --parts hippocampus --realdata ../shared/data    # ten minutes each on real MR

Stock and lnauto take turns; the table gives medians and their ratio. Everything is written to a temporary folder, the figures
to the JSON file named with --json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import psutil

BIN = Path(sys.executable).parent
PHANTOM, DECLARED, HIPPOCAMPUS = "Dataset501_Phantom", "Dataset502_Declared", "Dataset004_Hippocampus"
VARIABLES = ("raw", "preprocessed", "results")
WARM_UP = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("prepare", "training", "hippocampus"), default=["prepare", "training"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=30, help="timed iterations of a training run")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of the hippocampus part")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--realdata", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--json", type=Path, default=Path("benchmark_pipeline.json"))
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return WORKERS[options.worker[0]](*options.worker[1:])
    figures: dict[str, Any] = {"machine": machine(options.device), "command": " ".join(sys.argv)}
    with tempfile.TemporaryDirectory(prefix="lnauto_benchmark_") as folder:
        root = Path(folder)
        if {"prepare", "training"} & set(options.parts):
            shape = ["--cases", options.cases, "--size", options.size]
            run([BIN / "lnauto_make_phantom", root / "raw" / PHANTOM, *shape, "--quiet"], root)
        if "prepare" in options.parts:
            run([BIN / "lnauto_make_phantom", root / "raw" / DECLARED, *shape, "--quiet", "--declare"], root)
        for name, measure in PARTS.items():
            if name.removesuffix("_declared") in options.parts:
                figures[name] = measure(root, options)
                options.json.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures)
    return 0


def machine(device: str) -> dict[str, Any]:
    import torch

    cores = len(os.sched_getaffinity(0))
    name = torch.cuda.get_device_name(0) if device == "cuda" else processor()
    versions = {package: version(package) for package in ("torch", "nnunetv2", "lnauto")}
    return {"device": name, "cores": cores, "python": platform.python_version(), **versions}


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def run(command: list[Any], root: Path, preprocessed: str = "preprocessed") -> float:
    """Seconds of a whole command, in the benchmark's own folders."""
    environment = {**os.environ, **{f"nnUNet_{name}": str(root / name) for name in VARIABLES}}
    environment["nnUNet_preprocessed"] = str(root / preprocessed)
    started = time.perf_counter()
    process = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{process.stdout[-2000:]}\n{process.stderr[-4000:]}")
    run.output = process.stdout  # type: ignore[attr-defined]
    return time.perf_counter() - started


def take_turns(repeats: int, **contestants: Callable[[int], float]) -> dict[str, Any]:
    """Every contestant in every round; figures, medians, and the median of the rounds' ratios."""
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats):
        for name, contestant in contestants.items():
            rounds[name].append(contestant(number))
    first, second = rounds.values()
    return {
        **{name: {"all": values, "median": statistics.median(values)} for name, values in rounds.items()},
        "ratio": statistics.median(one / other for one, other in zip(first, second, strict=True)),
    }


def prepare(root: Path, options: argparse.Namespace, dataset: str = PHANTOM) -> dict[str, Any]:
    """Wall time of planning and preprocessing, stock with the flags that are fastest on two cores."""
    number = int(dataset[7:10])
    stock = [BIN / "nnUNetv2_plan_and_preprocess", "-d", number, "-npfp", "2", "-np", "2", "-c", "3d_fullres"]
    ours = [BIN / "lnauto_plan_and_preprocess", "-d", number, "--device", options.device]
    return take_turns(
        options.repeats,
        stock_seconds=lambda turn: run(stock, root, f"stock_{turn}"),
        lnauto_seconds=lambda turn: run(ours, root, f"ours_{turn}"),
    )


def prepare_declared(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The same phantoms with "annotation": "full" in dataset.json: eight cases are looked at to check it, and no map is made."""
    return prepare(root, options, DECLARED)


def training(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an iteration, batches included, on lnauto's plan and data."""
    run([BIN / "lnauto_plan_and_preprocess", "-d", "501", "--quiet", "--device", options.device], root)

    def worker(name: str) -> float:
        run([sys.executable, __file__, "--worker", name, str(options.iterations), options.device], root)
        return float(run.output.split()[-1])  # type: ignore[attr-defined]

    return take_turns(options.repeats, stock_seconds=lambda _: worker("stock"), lnauto_seconds=lambda _: worker("lnauto"))


def plan_and_labels(dataset: str, plans: str) -> tuple[dict[str, Any], dict[str, Any]]:
    base = Path(os.environ["nnUNet_preprocessed"]) / dataset
    return json.loads((base / f"{plans}.json").read_text()), json.loads((base / "dataset.json").read_text())


def stock_trainer(dataset: str, plans: str, device: str) -> Any:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as nnUNetv2_train does
    torch.backends.cudnn.benchmark = True  # likewise
    plan, description = plan_and_labels(dataset, plans)
    base = Path(os.environ["nnUNet_preprocessed"]) / dataset
    fingerprint = base / "dataset_fingerprint.json"  # stock copies it
    if not fingerprint.exists():
        fingerprint.write_text("{}")
    trainer = nnUNetTrainer({**plan, "continue_training": False}, "3d_fullres", "all", description, torch.device(device))
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def leave() -> NoReturn:
    """End at once: stock's background workers would keep the pipe to the benchmark open for minutes."""
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(0)


def time_stock(iterations: str, device: str) -> int:
    trainer = stock_trainer(PHANTOM, "lnautoPlans", device)
    for _ in range(WARM_UP):
        trainer.train_step(next(trainer.dataloader_train))
    started = time.perf_counter()
    for _ in range(int(iterations)):
        trainer.train_step(next(trainer.dataloader_train))
    print((time.perf_counter() - started) / int(iterations), flush=True)
    leave()


def time_lnauto(iterations: str, device: str) -> int:
    from lnauto.commands.common import share_cores

    share_cores()
    import torch

    from lnauto.trainers.lntrainer import LNTrainer
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length
    from lnauto.workflow.fold import workers_for

    plan, description = plan_and_labels(PHANTOM, "lnautoPlans")
    trainer = LNTrainer(plan, "3d_fullres", "all", description, torch.device(device))
    length = Length(1000, None, 1000, 1)
    trainer.configure(Options(length, workers=workers_for(device, length), quiet=True))
    trainer.on_train_start()
    batches = trainer.dataloader_train
    for _ in range(WARM_UP):
        trainer.train_step(next(batches))
    started = time.perf_counter()
    for _ in range(int(iterations)):
        trainer.train_step(next(batches))
    print((time.perf_counter() - started) / int(iterations), flush=True)
    leave()


def hippocampus(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Mean Dice over both labels of the 20 test cases after so many minutes; planning, prediction and start come on top."""
    raw = options.realdata.resolve() / HIPPOCAMPUS
    (root / "raw").mkdir(exist_ok=True)
    (root / "raw" / HIPPOCAMPUS).symlink_to(raw)
    device = ["--device", options.device, "--quiet"]
    run([BIN / "lnauto_plan_and_preprocess", "-d", "4", *device], root)
    run([BIN / "lnauto_train", "4", "all", "--budget", f"{options.minutes}min", *device], root)
    run([BIN / "lnauto_predict", "-i", raw / "imagesTs", "-o", root / "ours", "-d", "4", *device], root)
    stock = ["-d", "4", "-npfp", "2", "-np", "2", "-c", "3d_fullres"]
    run([BIN / "nnUNetv2_plan_and_preprocess", *stock], root, "stock")
    run([sys.executable, __file__, "--worker", "stock_minutes", str(options.minutes), options.device], root, "stock")
    iterations = int(run.output.split()[-1])  # type: ignore[attr-defined]
    predict = [BIN / "nnUNetv2_predict", "-i", raw / "imagesTs", "-o", root / "stocks"]
    predict += ["-d", "4", "-c", "3d_fullres", "-f", "all", "-device", options.device, "-npp", "1", "-nps", "1"]
    run(predict, root, "stock")
    return {
        "lnauto": score(raw / "labelsTs", root / "ours"),
        "stock": {**score(raw / "labelsTs", root / "stocks"), "iterations": iterations},
        "minutes": options.minutes,
    }


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    from lnauto.evaluation.folder import evaluate_folders

    summary = evaluate_folders(truth, predictions).summary
    labels = {name: label.scores["dice"].mean for name, label in summary.labels.items()}
    return {"cases": summary.cases, "mean_dice": summary.mean("dice"), "dice": labels}


def stock_minutes(minutes: str, device: str) -> int:
    """Stock's plan, trainer and settings; only the end comes after so many minutes, and the rate's decay is fitted to them."""
    started = time.perf_counter()
    trainer = stock_trainer(HIPPOCAMPUS, "nnUNetPlans", device)
    iterations = 0
    while (gone := (time.perf_counter() - started) / (float(minutes) * 60)) < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - gone) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        iterations += 1
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    print(iterations, flush=True)
    leave()


PARTS = {"prepare": prepare, "prepare_declared": prepare_declared, "training": training, "hippocampus": hippocampus}
WORKERS: dict[str, Callable[..., int]] = {"stock": time_stock, "lnauto": time_lnauto, "stock_minutes": stock_minutes}


def show(figures: dict[str, Any]) -> None:
    print(json.dumps(figures["machine"]))
    print(f"{'':32}{'stock':>12}{'lnauto':>12}{'ratio':>9}")
    titles = {
        "prepare": "plan + preprocess, s",
        "prepare_declared": "the same, declared full, s",
        "training": "training iteration, s",
    }
    for part, title in titles.items():
        if part in figures:
            found = figures[part]
            print(
                f"{title:32}{found['stock_seconds']['median']:12.3f}{found['lnauto_seconds']['median']:12.3f}{found['ratio']:9.2f}"
            )
    if "hippocampus" in figures:
        found = figures["hippocampus"]
        title = f"hippocampus Dice, {found['minutes']:g} min"
        print(f"{title:32}{found['stock']['mean_dice']:12.3f}{found['lnauto']['mean_dice']:12.3f}")


if __name__ == "__main__":
    sys.exit(main())
