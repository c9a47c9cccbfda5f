"""Every trainer for some iterations on a card: does it run, and does its model say the same on the processor?

What gpu.py's part `smoke` does. A row is a chain of commands in a folder of its own; rows run side by side.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import SimpleITK as sitk

from lnauto.files import write_json

AT_ONCE, CORES_EACH = 8, 2
STOPPED_AFTER = 25.0  # seconds, of the training that goes on afterwards
COMMAND_SECONDS = 170
HEADS = ("LNMTrainerRadiomics", "LNMTrainerABMIL", "LNMTrainerVAE", "LNMTrainerWeGA", "LNMTrainerMaskGate")


class FailedError(Exception):
    """A command of a row."""


@dataclass
class Row:
    """What is drawn, how it is planned, and how it is trained."""

    name: str
    annotation: str = "full"
    train: Sequence[str] = ()
    plan: Sequence[str] = ("--budget", "2min")
    cases: int = 5
    size: int = 48
    chain: Callable[[Runner], dict[str, Any]] | None = None
    predict: bool = True
    patients: bool = False


@dataclass
class Runner:
    """The commands of one row."""

    root: Path
    row: Row
    device: str
    iterations: int
    done: list[str] = field(default_factory=list)

    def run(self, name: str, *words: Any, stop_after: float | None = None) -> str:
        command = [str(pipeline.BIN / name), *map(str, words)]
        self.done.append(" ".join([name, *command[1:]]))
        variables = {f"nnUNet_{each}": str(self.root / each) for each in pipeline.VARIABLES}
        environment = {**os.environ, **variables, "OMP_NUM_THREADS": str(CORES_EACH)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            said, _ = process.communicate(timeout=stop_after or COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT if stop_after else signal.SIGKILL)
            said, _ = process.communicate()
            if stop_after:
                return said
            raise FailedError(f"{self.done[-1]}: time is up | {said[-600:]}") from None
        if process.returncode:
            raise FailedError(f"{self.done[-1]}: code {process.returncode} | {said.strip()[-1500:]}")
        return said

    @property
    def on(self) -> list[str]:
        return ["--device", self.device, "--quiet"]

    def prepare(self) -> None:
        row, folder = self.row, self.root / "raw/Dataset701_Smoke"
        shape = ["--cases", row.cases, "--test-cases", 1, "--size", row.size, "--annotation", row.annotation, "--declare"]
        self.run("lnauto_make_phantom", folder, *(shape if row.annotation != "none" else shape[:-1]), "--quiet")
        if not row.patients:  # the table would have a patient head trained as well
            (folder / "patients.csv").unlink()
        self.run("lnauto_plan_and_preprocess", "-d", "701", *row.plan, *self.on)

    def train(self, *more: Any, **how: Any) -> str:
        length = () if "--budget" in (*self.row.train, *more) else ("--iterations", self.iterations)
        return self.run("lnauto_train", "701", "0", *length, *self.row.train, *more, *self.on, **how)

    def model(self) -> Path:
        found = sorted((self.root / "results").glob("Dataset701_Smoke/*/fold_0/checkpoint_final.pth"), key=os.path.getmtime)
        return found[-1].parent.parent

    def compare(self) -> dict[str, Any]:
        """The same model on the card and on the processor: Dice of what is not background, and voxels of it."""
        masks = []
        for device in (self.device, "cpu"):
            out = self.root / f"masks {device} {len(masks)}"
            given = ["-i", self.root / "raw/Dataset701_Smoke/imagesTs", "-o", out, "-m", self.model(), "-f", "0", "--no-report"]
            self.run("lnauto_predict", *given, "--filter", "none", "--device", device, "--quiet")
            masks.append(sitk.GetArrayFromImage(sitk.ReadImage(str(next(out.glob("*.nii.gz"))))) > 0)
        both, total = int(np.logical_and(*masks).sum()), int(masks[0].sum() + masks[1].sum())
        return {"dice": 2 * both / total if total else 1.0, "voxels": [int(mask.sum()) for mask in masks]}


def trained(runner: Runner) -> dict[str, Any]:
    runner.train()
    return {}


def goes_on(runner: Runner) -> dict[str, Any]:
    """A training that is stopped by a signal, and goes on."""
    runner.iterations *= 1000
    said = runner.train(stop_after=STOPPED_AFTER)
    there = (runner.root / "results").glob("Dataset701_Smoke/*/fold_0/checkpoint_latest.pth")
    if not list(there):
        raise FailedError(f"no checkpoint after the signal: {said[-600:]}")
    said = runner.run("lnauto_train", "701", "0", "--continue", "--budget", "60s", "--device", runner.device)
    if "goes on from iteration" not in said:
        raise FailedError(f"it began anew: {said[-600:]}")
    return {"told": next(line for line in said.splitlines() if "goes on from" in line)}


def tuned(method: str) -> Callable[[Runner], dict[str, Any]]:
    def chain(runner: Runner) -> dict[str, Any]:
        runner.train()
        runner.run("lnauto_import_model", runner.model(), "--name", "Before", "--quiet")
        runner.run("lnauto_plan_and_preprocess", "-d", "701", "--pretrained", "Before", *runner.row.plan, *runner.on)
        runner.train("--pretrained", "Before", "--tune", method)
        return {}

    return chain


def heads(runner: Runner) -> dict[str, Any]:
    runner.train()
    told: dict[str, Any] = {}
    for name in HEADS:
        try:
            runner.run("lnauto_train", "701", "0", "-tr", name, *runner.on)
            told[name] = "ok"
        except FailedError as error:
            told[name] = str(error)[-500:]
    if wrong := {name: text for name, text in told.items() if text != "ok"}:
        raise FailedError(str(wrong))
    return told


def doctor(runner: Runner) -> dict[str, Any]:
    """What it says of the machine; that something is missing (OpenVINO, on a card no loss) is for the reader to judge."""
    try:
        return {"told": runner.run("lnauto_doctor")[-1500:]}
    except FailedError as error:
        return {"told": str(error)}


SMOKE = (
    Row("doctor", chain=doctor, predict=False),
    Row("LNTrainer, the card's plan", plan=()),
    Row("LNTrainer"),
    Row("LNTrainer fp32", train=("--precision", "fp32")),
    Row("LNTrainer bf16", train=("--precision", "bf16")),
    Row("LNTrainer with workers", train=("--workers", "2")),
    Row("LNTrainer by time", train=("--budget", "60s")),
    Row("LNTrainerIgnore", "partial", ("-tr", "LNTrainerIgnore")),
    Row("LNTrainerPartial", "partial"),
    Row("LNTrainerScribble", "scribble"),
    Row("LNTrainerJoint", train=("-tr", "LNTrainerJoint"), cases=10, patients=True),
    Row("pre-training", train=("--pretrain",)),
    Row("rounds", "partial", ("--rounds", "1")),
    Row("goes on", chain=goes_on),
    *(Row(f"tuned by {method}", chain=tuned(method)) for method in ("full", "lora", "dgst", "static", "random")),
    Row("patient heads", chain=heads, cases=24, patients=True),
)


def run(folder: Path, figures: Path, device: str, names: Sequence[str], small: bool) -> None:
    """Figures of every row, as it ends; the rows named, or all."""
    found: dict[str, Any] = {}
    rows = [row for row in SMOKE if row.name in names or not names]

    def one(row: Row) -> None:
        runner = Runner(folder / row.name.replace(" ", "_").replace(",", ""), row, device, 4 if small else 30)
        runner.root.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        told: dict[str, Any] = {}
        try:
            if row.chain is not doctor:
                runner.prepare()
            told = row.chain(runner) if row.chain is not None else trained(runner)
            told |= runner.compare() if row.predict else {}
            found[row.name] = {"ok": True, **told}
        except Exception as error:  # a row that fails is a finding, and the others go on
            found[row.name] = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        found[row.name]["seconds"] = round(time.monotonic() - started, 1)
        write_json(figures / "smoke.json", dict(found))
        print(row.name, found[row.name], flush=True)

    with ThreadPoolExecutor(AT_ONCE if device == "cuda" else 2) as pool:
        list(pool.map(one, rows))
