"""What pseudo-label rounds bring on a phantom: nodes found and invented in test cases of which every node is known.

python tests/benchmarks/rounds.py FOLDER [--iterations N] [--seed N] [--trainer NAME]

One training without rounds, and one round in several ways that share their two labellers: as it is; without leaving any case out;
without teaching what both labellers call background; and, as in CLISC but without its filter, all labels of the first labeller.
Every final network trains equally long. FOLDER keeps what was made, and a second call makes what is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.commands import evaluate, predict, train
from lnauto.data.phantom import make_phantom
from lnauto.files import read_json, write_json
from lnauto.nodes import Array
from lnauto.paths import VARIABLES
from lnauto.planners.wishes import Wishes
from lnauto.trainers.agreement import keep_best, pseudo_labels
from lnauto.workflow import labelling
from lnauto.workflow.plan import Request, plan_and_preprocess

NAME = "Dataset921_Rounds"
ANNOTATED, UNANNOTATED, TEST = 10, 4, 8


def nodes_alone(label: Array, first: Array, second: Array, ignore: int) -> Array:
    return np.where((label == ignore) & (first == second) & (first > 0), first, label).astype(label.dtype)


def first_alone(label: Array, first: Array, _: Array, ignore: int) -> Array:
    return np.where(label == ignore, first, label).astype(label.dtype)


def everyone(scores: dict[str, float]) -> list[str]:
    return keep_best(scores, 1.0)


WAYS: dict[str, tuple[Callable[..., Array], Callable[..., list[str]]]] = {
    "rounds": (pseudo_labels, keep_best),
    "no case left out": (pseudo_labels, everyone),
    "no background taught": (nodes_alone, keep_best),
    "first labeller alone, no case left out": (first_alone, everyone),
}


def prepare(folder: Path) -> None:
    for name, variable in VARIABLES.items():
        os.environ[variable] = str(folder / name)
    raw = folder / "raw" / NAME
    if not raw.is_dir():
        cases = ANNOTATED + UNANNOTATED
        make_phantom(raw, cases=cases, annotation="partial", fraction=0.35, size=48, seed=11, declare=True, test_cases=TEST)
        without = [f"phantom_{number:03d}" for number in range(ANNOTATED, cases)]
        for case in without:
            (raw / f"labelsTr/{case}.nii.gz").unlink()
        write_json(raw / "dataset.json", read_json(raw / "dataset.json", "") | {"unannotated": without})
        plan_and_preprocess("921", Request(wishes=Wishes(minutes=5), quiet=True))


def run(command: Any, *words: object) -> None:
    if command.main([str(word) for word in words]) != 0:
        raise SystemExit(1)


def figures(folder: Path, results: Path) -> dict[str, float]:
    [model] = (results / NAME).iterdir()
    raw, masks = folder / "raw" / NAME, results / "predictions"
    run(predict, "-i", raw / "imagesTs", "-o", masks, "-m", model, "--quiet", "--overwrite")
    run(evaluate, "-r", raw / "labelsTs", "-p", masks, "--quiet")
    found = read_json(masks / "evaluation.json", "")
    pooled = found["nodes"]["all nodes"]["pooled"]
    kept = {key: pooled[key] for key in ("true", "found", "false", "recall", "precision", "f1")}
    return {**kept, "dice": found["labels"]["node"]["dice"]["mean"]}


def measure(
    folder: Path, iterations: int = 250, seed: int = 0, trainer: str = "LNTrainer", ways: Sequence[str] = ("plain", *WAYS)
) -> dict[str, dict[str, float]]:
    """Figures of each way; ways that share labellers need `rounds` before them."""
    prepare(folder)
    length = ("--iterations", iterations, "--seed", seed, "-tr", trainer, "--quiet")
    own, found = folder / f"{trainer}_{seed}", {}
    for way in ways:
        results = own / way.replace(" ", "_").replace(",", "")
        os.environ[VARIABLES["results"]] = str(results)
        if not (results / "figures.json").is_file():
            rounds = () if way == "plain" else ("--rounds", 1)
            if way not in ("plain", "rounds"):
                share_labellers(own / "rounds", results)
            labelling.pseudo_labels, labelling.keep_best = WAYS.get(way, WAYS["rounds"])
            run(train, 921, "all", *length, *rounds, "--continue")
            write_json(results / "figures.json", figures(folder, results))
        found[way] = read_json(results / "figures.json", "")
        print(way, ", ".join(f"{key} {value:.3g}" for key, value in found[way].items()), sep=": ", flush=True)
    return found


def share_labellers(shared: Path, results: Path) -> None:
    """The same labellers as another way's, and nothing of what it made with them."""
    shutil.rmtree(results, ignore_errors=True)
    shutil.copytree(shared, results)
    (results / "figures.json").unlink()
    shutil.rmtree(results / "predictions")
    for fold in results.glob(f"{NAME}/*/fold_all"):
        (fold / "checkpoint_final.pth").unlink()
        (fold / "rounds/round_1/agreement.json").unlink()
        shutil.rmtree(fold / "rounds/round_1/labels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trainer", default="LNTrainer")
    options = parser.parse_args()
    measure(options.folder.resolve(), options.iterations, options.seed, options.trainer)


if __name__ == "__main__":
    main()
