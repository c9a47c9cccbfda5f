"""What an iteration of each way of tuning costs beside full fine-tuning, in processor time and in memory.

    python tests/benchmarks/tuning_step.py FOLDER

Two networks: the one planned for a tiny data set, and nnU-Net's plain six-stage one of 31 M on a patch as small as it can take,
where whatever depends on the number of weights alone weighs most. nnU-Net's optimiser, fp32, one thread, batches of noise. The
methods take turns in one process; each figure is the median over the rounds of its share of full tuning's in that round. Memory
is the peak of a process per method, on the larger network: of whole iterations, and of the update alone after gradients were made
up, where nothing else hides it. It is given above full tuning's, in copies of the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests build data sets and networks with

import torch
from building import STANDARD, write_balls

from lnauto.files import write_json

METHODS = ("full", "head", "decoder", "bitfit", "norm", "lora", "static", "random", "dgst", "dgst:2", "dgst:0.1")
DATASET, PATCH, BATCH = "Dataset901_Balls", (32, 64, 64), 2
ROUNDS = {"tiny": 5, "standard": 1}  # for each that is asked for
WEIGHED = ("full", "lora", "static", "random", "dgst", "dgst:0.1")
NNUNETS = {"name": "SGD", "learning_rate": 1e-2, "weight_decay": 3e-5, "warm_up_iterations": 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", nargs=2, metavar=("METHOD", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    use(options.folder.resolve())
    if options.memory_of:
        return memory(*options.memory_of)
    figures: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__},
        "command": sys.argv,
        "nnunetv2": version("nnunetv2"),
    }
    for name, times_as_many in ROUNDS.items():
        figures[name] = {"seconds": times(name, times_as_many * options.rounds)}
        show(name, figures[name]["seconds"])
    numbers = sum(value.numel() for value in trainer_of("standard", "full").network.parameters())
    figures["peak_mb"] = {what: peaks(options, what) for what in ("iteration", "update")}
    show_peaks(numbers * 4 / 1024**2, figures["peak_mb"])
    write_json(options.folder / "tuning_step.json", figures)
    return 0


def use(root: Path) -> None:
    """A data set to plan for; trainers want one, batches are noise."""
    from lnauto.networks import probe
    from lnauto.workflow.plan import Request, plan_and_preprocess

    for name in ("raw", "preprocessed", "results"):
        (root / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(root / name)
    if not (root / "preprocessed" / DATASET / "lnautoPlans.json").is_file():
        probe.seconds_per_step = lambda *_: 0.4
        write_balls(root / "raw" / DATASET)
        plan_and_preprocess("901", Request(device="cpu", quiet=True))


def trainer_of(network: str, method: str) -> Any:
    from lnauto.trainers import find_trainer
    from lnauto.trainers.options import Options, Tune
    from lnauto.trainers.schedule import Length
    from lnauto.trainers.tuning import trainer_for

    base = Path(os.environ["nnUNet_preprocessed"]) / DATASET
    plan, description = (json.loads((base / name).read_text()) for name in ("lnautoPlans.json", "dataset.json"))
    plan["lnauto"]["optimizer"] = NNUNETS
    if network == "standard":
        plan["configurations"]["3d_fullres"] |= {"architecture": STANDARD, "patch_size": list(PATCH), "batch_size": BATCH}
    name, _, k = method.partition(":")
    trainer = find_trainer(trainer_for(name))(plan, "3d_fullres", 0, description, torch.device("cpu"))
    tune = Tune(name, float(k) if k else None)
    trainer.configure(Options(Length(1000, None, 1000, 1), precision="fp32", quiet=True, tune=tune))
    trainer.initialize()
    trainer.network.train()
    trainer._set_learning_rate()
    return trainer


def batch_for(trainer: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    sides = [trainer.batch_size, 1, *trainer.configuration_manager.patch_size]
    scales = trainer._get_deep_supervision_scales()
    shapes = [[*sides[:2], *(round(side * share) for side, share in zip(sides[2:], scale, strict=True))] for scale in scales]
    target = [torch.randint(2, shape, generator=generator).short() for shape in shapes]
    return {"data": torch.randn(sides, generator=generator), "target": target}


def times(network: str, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of an iteration, round by round."""
    steps: dict[str, Callable[[], Any]] = {}
    for method in METHODS:
        trainer = trainer_of(network, method)
        steps[method] = partial(trainer.train_step, batch_for(trainer))
        steps[method]()  # the first makes the momentum, and static's choice
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(rounds):
        for method, step in steps.items():
            started = time.process_time()
            step()
            seconds[method].append(time.process_time() - started)
    return seconds


def peaks(options: argparse.Namespace, what: str) -> dict[str, float]:
    """Of a process of its own per method, MB."""
    found = {}
    for method in WEIGHED:
        command = [sys.executable, __file__, str(options.folder), "--memory-of", method, what]
        # Linux hands a peak down to what it starts: measured.py is small, and starts nothing but this.
        file = options.folder / "peak.json"
        small = [sys.executable, str(Path(__file__).with_name("measured.py")), str(file), *command]
        # Memory that was freed goes back to the system at once, so that the peak is what was in use.
        subprocess.run(small, check=True, capture_output=True, env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"})
        found[method] = json.loads(file.read_text())["memory_gb"] * 1024
    return found


def memory(method: str, what: str) -> int:
    trainer = trainer_of("standard", method)
    batch = batch_for(trainer)
    for _ in range(3):
        if what == "iteration":
            trainer.train_step(batch)
            continue
        for parameter in trainer.network.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.full_like(parameter, 1e-3)
        trainer.update()
    return 0


def show(name: str, seconds: dict[str, list[float]]) -> None:
    print(f"\n{name:10}{'s':>9}{'of full':>9}")
    for method, its in seconds.items():
        share = statistics.median(one / other for one, other in zip(its, seconds["full"], strict=True))
        print(f"{method:10}{statistics.median(its):9.3f}{share:9.3f}", flush=True)


def show_peaks(copy: float, peak_mb: dict[str, dict[str, float]]) -> None:
    print(f"\npeak memory above full tuning's, in copies of the weights of {copy:.0f} MB")
    print(f"{'':10}" + "".join(f"{what:>11}" for what in peak_mb))
    for method in WEIGHED:
        print(f"{method:10}" + "".join(f"{(peak[method] - peak['full']) / copy:11.2f}" for peak in peak_mb.values()))


if __name__ == "__main__":
    sys.exit(main())
