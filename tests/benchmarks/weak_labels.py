"""Nodes drawn in part: what a network makes of them, against complete masks of the same images.

    python tests/benchmarks/weak_labels.py FOLDER                                   # the phantom
    python tests/benchmarks/weak_labels.py FOLDER --semireal RAW_DATASET            # and semi-synthetic chests
    python tests/benchmarks/weak_labels.py FOLDER --fractions 0.3 --seeds 0 1 2 --cases 48 --test-cases 16
    python tests/benchmarks/weak_labels.py FOLDER --device cuda --iterations 2000

Rows, on the same images, network, patch, seeds and number of iterations: complete masks; what is not drawn as background; DBDMP's
losses on labels alone; DBDMP with the all-background target of the released code; trusted background alone; and LNTrainerPartial
as planned. A seed is that of the images, of the weights and of the batches. For strokes see weak_strokes.py. A finished run is
kept in FOLDER and not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weak_strokes import count, link, machine, mean, once, use  # sets the number of threads, so before torch

# isort: split
import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional

from lnauto.data.phantom import make_phantom
from lnauto.data.raw import RawDataset
from lnauto.files import write_json
from lnauto.trainers.ignore import LNTrainerIgnore
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.losses import known_classes, ramp
from lnauto.trainers.partial import LABELS, RISE, LNTrainerPartial, cross_supervision, label_loss

CASES, TEST_CASES, SIZE = 16, 8, 64
BUDGET_MINUTES = 1.5  # for which the plan takes the tiny network; how long is trained is said by --iterations
PART, FULL, NAIVE = "Dataset631_Part", "Dataset632_Full", "Dataset633_Naive"
TIMED_STEPS = 10


class LabelLosses(LNTrainerPartial):
    """DBDMP's losses on labels, without pseudo labels."""

    def loss_of_outputs(self, outputs: list[Any], target: Any) -> Tensor:
        known = known_classes(target[0][:, 0], 2)
        logits = outputs[0][0].float(), outputs[1].float()
        return LABELS * sum(label_loss(functional.log_softmax(each, dim=1), known) for each in logits)  # type: ignore[return-value]


class Released(LNTrainerPartial):
    """DBDMP as its code was released: the cross-entropy's target is background everywhere."""

    def loss_of_outputs(self, outputs: list[Any], target: Any) -> Tensor:
        known = known_classes(target[0][:, 0], 2)
        first, second = (functional.log_softmax(each.float(), dim=1) for each in (outputs[0][0], outputs[1]))
        background, everywhere = torch.zeros_like(first), torch.ones_like(first[:, 0])
        background[:, 0] = 1
        crossed = cross_supervision(first, second, background, everywhere) + cross_supervision(
            second, first, background, everywhere
        )
        labels = label_loss(first, known) + label_loss(second, known)
        return LABELS * labels + ramp(self.clock.progress / RISE) * crossed / 2


@dataclass(frozen=True)
class Row:
    name: str
    dataset: str
    trainer: type[LNTrainer]


ROWS = (
    Row("complete masks", FULL, LNTrainer),
    Row("undrawn = background", NAIVE, LNTrainer),
    Row("label losses", NAIVE, LabelLosses),
    Row("DBDMP as released", NAIVE, Released),
    Row("trusted background", PART, LNTrainerIgnore),
    Row("LNTrainerPartial", PART, LNTrainerPartial),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data, models and figures; what is there is gone on from")
    parser.add_argument("--semireal", type=Path, help="raw data set drawn in part, with truthTr and labelsTs complete")
    parser.add_argument("--no-phantom", action="store_true")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.15, 0.3, 0.5], help="of the phantom's nodes drawn")
    parser.add_argument("--cases", type=int, default=CASES, help="phantoms to learn from (default: %(default)s)")
    parser.add_argument("--test-cases", type=int, default=TEST_CASES, help="phantoms to test on (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--iterations", type=int, default=400, help="of every training (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where it is trained; the plan is a processor's")
    parser.add_argument("--json", type=Path, help="where the figures go (default: figures.json in the folder)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = options.folder.resolve()
    figures: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv), "iterations": options.iterations}
    figures["sets"] = {name: measure(root / name, name, options) for name in kinds(options)}
    write_json(options.json or root / "figures.json", figures)
    show(figures)
    return 0


def kinds(options: argparse.Namespace) -> list[str]:
    cases = options.cases, options.test_cases
    size = "" if cases == (CASES, TEST_CASES) else ", {} and {} cases".format(*cases)
    phantoms = [] if options.no_phantom else [f"phantom, {fraction:g} drawn{size}" for fraction in options.fractions]
    return [*phantoms, *(["semireal"] if options.semireal else [])]


def measure(root: Path, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {row: [] for row in options.rows}
    for seed in options.seeds:
        own = root / f"seed {seed}" if kind.startswith("phantom") else root / "data"
        if not (own / "planned").is_file():
            semireal = None if kind.startswith("phantom") else options.semireal
            plan_alike(own, kind, seed, semireal, (options.cases, options.test_cases))
        for row in ROWS:
            if row.name in rows:
                rows[row.name].append(one_run(own, kind, row, seed, options.iterations, options.device))
    # What a step costs is counted in a processor's seconds.
    return {"rows": rows} | ({"cost": once(root / "cost.json", lambda: cost(own))} if options.device == "cpu" else {})


# ---- data


def plan_alike(
    root: Path, kind: str, seed: int, semireal: Path | None = None, cases: tuple[int, int] = (CASES, TEST_CASES)
) -> None:
    """Three data sets of the same images, with the network, intensities and recipe planned for the one drawn in part."""
    from lnauto.paths import activate
    from lnauto.planners.plan import CONFIGURATION, Plan
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, bring_up_to_date, plan_and_preprocess

    use(root, root / "results")
    source, truth = link_semireal(root, semireal) if semireal else write_phantom(root, kind, seed, *cases)
    description = json.loads((source / "dataset.json").read_text())
    for name, labels in ((FULL, truth), (NAIVE, source / "labelsTr")):
        link(root / "raw" / name, source, "imagesTr")
        if not (root / "raw" / name / "labelsTr").exists():
            (root / "raw" / name / "labelsTr").symlink_to(labels)
        write_json(root / "raw" / name / "dataset.json", {**description, "annotation": "full"})
    asked = Request(wishes=Wishes(minutes=BUDGET_MINUTES), device="cpu", quiet=True)
    plan = plan_and_preprocess(PART.split("_")[0].removeprefix("Dataset"), asked)
    for name in (FULL, NAIVE):
        other = Plan(copy.deepcopy(plan.content))
        other.content["dataset_name"] = name
        other.lnauto.update(trusted_background=None, strategy="full", trainer="LNTrainer")
        other.save(root / "preprocessed" / name / "lnautoPlans.json")
        write_json(root / "preprocessed" / name / "splits_final.json", json.loads(splits(root).read_text()))
        bring_up_to_date(RawDataset.read(root / "raw" / name), other, CONFIGURATION, activate(), quiet=True)
    (root / "planned").touch()


def splits(root: Path) -> Path:
    return root / "preprocessed" / PART / "splits_final.json"


def write_phantom(root: Path, kind: str, seed: int, cases: int, test_cases: int) -> tuple[Path, Path]:
    folder, fraction = root / "raw" / PART, float(kind.split()[1])
    shape = {"cases": cases, "test_cases": test_cases, "size": SIZE}
    make_phantom(folder, annotation="partial", fraction=fraction, declare=True, seed=seed, quiet=True, **shape)  # type: ignore[arg-type]
    return folder, folder / "truth" / "labelsTr"


def link_semireal(root: Path, source: Path) -> tuple[Path, Path]:
    source, folder = source.resolve(), root / "raw" / PART
    link(folder, source, "imagesTr", "labelsTr", "imagesTs", "labelsTs")
    description = json.loads((source / "dataset.json").read_text())
    write_json(folder / "dataset.json", {**description, "annotation": "partial"})
    return folder, source / "truthTr"


# ---- training


def one_run(root: Path, kind: str, row: Row, seed: int, iterations: int, device: str = "cpu") -> dict[str, float]:
    folder = root / "runs" / f"{row.name}, seed {seed}, {iterations} iterations"
    found: dict[str, float] = once(folder / "figures.json", lambda: train_and_test(root, folder, row, seed, iterations, device))
    print(f"{kind}, {folder.name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
    return found


def train_and_test(root: Path, folder: Path, row: Row, seed: int, iterations: int, device: str = "cpu") -> dict[str, float]:
    from lnauto.evaluation.folder import evaluate_folders
    from lnauto.evaluation.pair import ALL_NODES

    use(root, folder / "results")
    trainer = make_trainer(root, row, seed, iterations, device)
    clock = time.thread_time if device == "cpu" else time.perf_counter
    begun = clock()
    trainer.run_training()
    seconds = clock() - begun
    predict_tests(trainer, root / "raw" / PART / "imagesTs", folder / "masks")
    truth = root / "raw" / PART
    summary = evaluate_folders(truth / "labelsTs", folder / "masks", dataset_json=truth / "dataset.json").summary
    nodes = summary.nodes[ALL_NODES]
    return {
        "dice": summary.mean("dice"),
        "assd": summary.mean("assd"),
        "recall": nodes.counts.recall,
        "false_per_case": nodes.false_per_case,
        "f1": nodes.counts.f1,
        "seconds_per_iteration": seconds / iterations,
    }


def make_trainer(root: Path, row: Row, seed: int, iterations: int, device: str = "cpu") -> LNTrainer:
    """On all cases, without looks at the training cases in between."""
    from lnauto.paths import activate
    from lnauto.planners.plan import CONFIGURATION
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length

    activate()
    base = root / "preprocessed" / row.dataset
    plan = json.loads((base / "lnautoPlans.json").read_text())
    # `dataset.json` beside the plan has the ignore label that preprocessing added; where nothing is trusted there is none.
    place = base if (base / "dataset.json").is_file() else root / "raw" / row.dataset
    description = json.loads((place / "dataset.json").read_text())
    trainer = row.trainer(plan, CONFIGURATION, "all", description, torch.device(device))
    length, workers = Length(iterations, None, max(iterations // 4, 1), 1), int(device != "cpu")
    trainer.configure(Options(length, seed, workers=workers, save_every_seconds=1e9, quiet=True))
    trainer.initialize()
    return trainer


def predict_tests(trainer: LNTrainer, images: Path, masks: Path) -> None:
    from lnauto.trainers.validation import predictor_of

    region = trainer.plans_manager.plans["lnauto"]["region"]
    predictor = replace(predictor_of(trainer), region=region)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    masks.mkdir(parents=True, exist_ok=True)
    for path in sorted(images.glob("*_0000.nii.gz")):
        sitk.WriteImage(predictor.predict_files([path]), str(masks / path.name.replace("_0000", "")), True)


# ---- what a step costs


def cost(root: Path) -> dict[str, float]:
    """Processor seconds of a step and operations of its passes; the two trainers take turns, and the medians count."""
    use(root, root / "cost")
    steps = {}
    for row in (Row("plain", PART, LNTrainer), ROWS[-1]):
        trainer = make_trainer(root, row, 0, 1000)
        trainer.on_train_start()
        assert trainer.dataloader_train is not None
        trainer.clock.iteration = 500
        batch = next(trainer.dataloader_train)
        steps[row.name] = lambda trainer=trainer, batch=batch: trainer.train_step(copy_of(batch))
    operations = [count(step) for step in steps.values()]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TIMED_STEPS):
        for name, step in steps.items():
            begun = time.thread_time()
            step()
            seconds[name].append(time.thread_time() - begun)
    plain, ours = (statistics.median(found) for found in seconds.values())
    return {
        "plain_seconds": plain,
        "seconds": ours,
        "time_ratio": ours / plain,
        "operations_ratio": operations[1] / operations[0],
    }


def copy_of(batch: dict[str, Any]) -> dict[str, Any]:
    """Labels are written into by the losses."""
    return {**batch, "target": [np.copy(each) if isinstance(each, np.ndarray) else each.clone() for each in batch["target"]]}


# ---- the table


def show(figures: dict[str, Any]) -> None:
    print(json.dumps(figures["machine"]))
    for kind, found in figures["sets"].items():
        rows = found["rows"]
        seeds = len(next(iter(rows.values())))
        print(f"\n{kind}: {figures['iterations']} iterations, means of {seeds} seeds, s.d. of F1")
        print(f"{'':22}{'Dice':>8}{'ASSD':>8}{'recall':>8}{'false':>8}{'F1':>8}{'s.d.':>7}{'gap closed':>12}{'time':>7}")
        for name, runs in rows.items():
            values = [run["f1"] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            means = "".join(f"{mean(runs, key):8.3f}" for key in ("dice", "assd", "recall", "false_per_case", "f1"))
            plain = mean(rows[ROWS[0].name], "seconds_per_iteration") if ROWS[0].name in rows else float("nan")
            time_ratio = mean(runs, "seconds_per_iteration") / plain
            print(f"{name:22}{means}{spread:7.3f}{gap_closed(rows, name):12.0%}{time_ratio:7.2f}")
        if "cost" not in found:
            continue
        ratio, operations = (found["cost"][key] for key in ("time_ratio", "operations_ratio"))
        print(f"a step takes {ratio:.2f} times LNTrainer's; operations explain {operations:.2f} ({ratio / operations:.2f})")


def gap_closed(rows: dict[str, Any], name: str) -> float:
    """Of the way in node F1 from learning everything un-drawn as background to complete masks; NaN without one of both."""
    if not all(rows.get(row.name) for row in ROWS[:2]):
        return float("nan")
    full, naive = (mean(rows[row.name], "f1") for row in ROWS[:2])
    return (mean(rows[name], "f1") - naive) / (full - naive) if full != naive else float("nan")


if __name__ == "__main__":
    sys.exit(main())
