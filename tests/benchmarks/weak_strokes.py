"""Strokes over a tenth of what is node and a hundredth of what is not, against complete masks of the same images.

    python tests/benchmarks/weak_strokes.py FOLDER                                # the phantom
    python tests/benchmarks/weak_strokes.py FOLDER --hippocampus RAW_DATASET      # and real MR, two labels

Four rows on the same network, patch, seeds and number of iterations: complete masks (LNTrainer), strokes by their own
cross-entropy alone, LNTrainerScribble if strokes led nowhere, and as it is. The step of LNTrainerScribble is timed against
LNTrainer's, beside what the operations of its decoders explain. What strokes lead to is compared with the masks, voxel by voxel,
as preprocessed. A finished run is kept in FOLDER and not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import SimpleITK as sitk
import torch
from strokes import MOST_OF_BACKGROUND, MOST_OF_FOREGROUND, draw_strokes, shares
from torch.utils.flop_counter import FlopCounterMode

from lnauto.data.phantom import make_phantom
from lnauto.files import write_json

ROWS = ("full", "strokes alone", "leading nowhere", "LNTrainerScribble")
CASES, TEST_CASES, SIZE = 24, 10, 64
TIMED_STEPS = 8
SOFT_TISSUE_HU = -300


@dataclass(frozen=True)
class Data:
    """A data set of images, once with complete masks and once with strokes."""

    name: str
    full: str
    strokes: str
    patch: tuple[int, int, int]
    iterations: int


PHANTOM = Data("phantom", "Dataset611_Phantom", "Dataset612_PhantomStrokes", (32, 40, 40), 500)
HIPPOCAMPUS = Data("hippocampus", "Dataset621_Hippocampus", "Dataset622_HippocampusStrokes", (32, 40, 32), 600)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data, models and figures; what is there is gone on from")
    parser.add_argument("--hippocampus", type=Path, help="raw data set, with labelsTs")
    parser.add_argument("--no-phantom", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--iterations", type=int, help="of every training (default: as in the documentation)")
    parser.add_argument("--json", type=Path, help="where the figures go (default: figures.json in the folder)")
    options = parser.parse_args()
    figures = measure(options)
    write_json(options.json or options.folder / "figures.json", figures)
    show(figures)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    root = options.folder.resolve()
    figures: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv)}
    wanted: list[tuple[Data, Callable[[Path], None]]] = []
    if not options.no_phantom:
        wanted.append((PHANTOM, write_phantom))
    if options.hippocampus:
        wanted.append((HIPPOCAMPUS, lambda folder: write_hippocampus(folder, options.hippocampus.resolve())))
    for data, write in wanted:
        write(root / "raw")
        plan_alike(root, data)
        iterations = options.iterations or data.iterations
        runs = {
            row: [one_run(root, data, row, seed, iterations) for seed in options.seeds] for row in ROWS if row in options.rows
        }
        figures[data.name] = {
            "drawn": drawn_shares(root, data),
            "led to": led_to(root, data),
            "iterations": iterations,
            "seeds": options.seeds,
            "rows": runs,
            "cost": once(root / f"cost_{data.name}.json", lambda data=data: cost(root, data)),
        }
    return figures


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": name, "threads": 1, **{package: version(package) for package in ("torch", "nnunetv2", "lnauto")}}


def once(path: Path, make: Callable[[], Any]) -> Any:
    """What was measured before, or is now."""
    if not path.is_file():
        write_json(path, make())
    return json.loads(path.read_text())


# ---- data


def write_phantom(raw: Path) -> None:
    if not (raw / PHANTOM.full).is_dir():
        make_phantom(raw / PHANTOM.full, cases=CASES, test_cases=TEST_CASES, size=SIZE, declare=True, seed=7, quiet=True)
    write_strokes(raw, PHANTOM, raw / PHANTOM.full, soft_tissue=True)


def write_hippocampus(raw: Path, source: Path) -> None:
    description = json.loads((source / "dataset.json").read_text())
    link(raw / HIPPOCAMPUS.full, source, "imagesTr", "labelsTr", "imagesTs", "labelsTs")
    write_json(raw / HIPPOCAMPUS.full / "dataset.json", {**description, "annotation": "full"})
    write_strokes(raw, HIPPOCAMPUS, source, soft_tissue=False)


def link(folder: Path, source: Path, *parts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if not (folder / part).exists():
            (folder / part).symlink_to(source / part)


def write_strokes(raw: Path, data: Data, source: Path, soft_tissue: bool) -> None:
    """The same images, and of each label what a tenth of its voxels say; with soft tissue, no stroke goes through air or lung."""
    folder = raw / data.strokes
    if (folder / "dataset.json").is_file():
        return
    description = json.loads((source / "dataset.json").read_text())
    ignore = max(description["labels"].values()) + 1
    link(folder, source, "imagesTr", "imagesTs", "labelsTs")
    (folder / "labelsTr").mkdir(exist_ok=True)
    for number, path in enumerate(sorted((source / "labelsTr").glob("*.nii.gz"))):
        image = sitk.ReadImage(str(path))
        label = sitk.GetArrayFromImage(image).astype(np.uint8)
        scan = source / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")
        body = sitk.GetArrayFromImage(sitk.ReadImage(str(scan))) > SOFT_TISSUE_HU if soft_tissue else None
        written = sitk.GetImageFromArray(draw_strokes(np.random.default_rng(number), label, ignore, body))
        written.CopyInformation(image)
        sitk.WriteImage(written, str(folder / "labelsTr" / path.name))
    labels = {**description["labels"], "ignore": ignore}
    write_json(folder / "dataset.json", {**description, "labels": labels, "annotation": "scribble"})


def drawn_shares(root: Path, data: Data) -> dict[str, float]:
    """The largest share of each label that is drawn in any case; within what was promised, or there is nothing to compare."""
    ignore = json.loads((root / "raw" / data.strokes / "dataset.json").read_text())["labels"]["ignore"]
    largest: dict[int, float] = {}
    for path in sorted((root / "raw" / data.strokes / "labelsTr").iterdir()):
        strokes, truth = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(root / "raw" / name / "labelsTr" / path.name)))
            for name in (data.strokes, data.full)
        )
        for value, share in shares(strokes, truth, ignore).items():
            largest[value] = max(largest.get(value, 0.0), share)
    for value, share in largest.items():
        if share > (MOST_OF_FOREGROUND if value else MOST_OF_BACKGROUND):
            raise SystemExit(f"{data.strokes}: {share:.2%} of label {value} is drawn")
    return {str(value): share for value, share in largest.items()}


def led_to(root: Path, data: Data) -> dict[str, float]:
    """What training by strokes learns of the voxels of nodes: found, rightly of what is taken for node, lost, unknown."""
    counts = np.zeros(5)
    learned, truths = (preprocessed_labels(root, name) for name in (data.strokes, data.full))
    ignore = json.loads((root / "raw" / data.strokes / "dataset.json").read_text())["labels"]["ignore"]
    for case, truth in truths.items():
        nodes, said = truth > 0, learned[case]
        taken = (said > 0) & (said != ignore)
        counts += [part.sum() for part in (nodes, taken, taken & (said == truth), nodes & (said == 0), nodes & (said == ignore))]
    nodes, taken, right, lost, unknown = counts
    return {"found": right / nodes, "right": right / taken, "lost": lost / nodes, "unknown": unknown / nodes}


def preprocessed_labels(root: Path, name: str) -> dict[str, np.ndarray]:
    import blosc2

    from lnauto.data.raw import RawDataset
    from lnauto.paths import activate
    from lnauto.planners.plan import CONFIGURATION, Plan
    from lnauto.workflow.plan import bring_up_to_date

    base = root / "preprocessed" / name
    plan = Plan.load(base / "lnautoPlans.json", "run again in another folder")
    bring_up_to_date(RawDataset.read(root / "raw" / name), plan, CONFIGURATION, activate(), quiet=True)
    folder = base / f"lnautoPlans_{CONFIGURATION}"
    return {path.name: blosc2.open(str(path))[0] for path in sorted(folder.glob("*_seg.b2nd"))}


# ---- training


def use(root: Path, results: Path) -> None:
    for name, folder in (("raw", root / "raw"), ("preprocessed", root / "preprocessed"), ("results", results)):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder)


def plan_alike(root: Path, data: Data) -> None:
    """Both data sets with the network, intensities and recipe that lnauto plans for the strokes: nothing of the masks leaks."""
    from lnauto.planners.plan import CONFIGURATION
    from lnauto.planners.topology import TINY, fit_to_patch
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, plan_and_preprocess

    use(root, root / "results")
    plans = [root / "preprocessed" / name / "lnautoPlans.json" for name in (data.strokes, data.full)]
    if all(path.is_file() for path in plans):
        return
    wishes = Wishes(patch=data.patch, minutes=30)
    contents = []
    for name, path in zip((data.strokes, data.full), plans, strict=True):
        plan_and_preprocess(name, Request(wishes=wishes, device="cpu", do_preprocess=False, quiet=True))
        contents.append(json.loads(path.read_text()))
    strokes, full = contents
    configuration = strokes["configurations"][CONFIGURATION]
    tiny = fit_to_patch(TINY, np.array(configuration["spacing"]), configuration["patch_size"], 2)
    configuration |= {"architecture": tiny.architecture, "batch_size": tiny.batch}
    full["configurations"][CONFIGURATION] = {**copy.deepcopy(configuration), "data_identifier": f"lnautoPlans_{CONFIGURATION}"}
    full["foreground_intensity_properties_per_channel"] = strokes["foreground_intensity_properties_per_channel"]
    for key in ("optimizer", "augmentation", "mirroring", "budget", "inference", "region"):
        full["lnauto"][key] = strokes["lnauto"][key]
    for path, content in zip(plans, contents, strict=True):
        write_json(path, content)


def one_run(root: Path, data: Data, row: str, seed: int, iterations: int) -> dict[str, Any]:
    folder = root / "runs" / f"{data.name}, {row}, seed {seed}, {iterations} iterations"
    return once(folder / "figures.json", lambda: train_and_test(root, folder, data, row, seed, iterations))


def train_and_test(root: Path, folder: Path, data: Data, row: str, seed: int, iterations: int) -> dict[str, Any]:
    from lnauto.evaluation.folder import evaluate_folders
    from lnauto.evaluation.pair import ALL_NODES
    from lnauto.trainers.scribble import LNTrainerScribble
    from lnauto.workflow import predict, train

    use(root, folder / "results")
    name = data.full if row == "full" else data.strokes
    trainer = "LNTrainer" if row == "full" else "LNTrainerScribble"
    defaults = LNTrainerScribble.consistency, LNTrainerScribble.projection
    if row == "strokes alone":
        LNTrainerScribble.consistency = LNTrainerScribble.projection = 0.0
    begun = time.monotonic()
    try:
        request = train.Request(
            iterations=iterations, seed=seed, device="cpu", trainer=trainer, proceed=True, workers=0, quiet=True
        )
        with background_of(row, root / "preprocessed" / name / "lnautoPlans.json"):
            model = train.train(name, ["all"], request)
    finally:
        LNTrainerScribble.consistency, LNTrainerScribble.projection = defaults
    seconds = time.monotonic() - begun
    asked = predict.Request(model=model, device="cpu", size_filter=False, quiet=True)
    predict.predict(root / "raw" / name / "imagesTs", folder / "masks", asked)
    truth = root / "raw" / data.full
    summary = evaluate_folders(truth / "labelsTs", folder / "masks", dataset_json=truth / "dataset.json").summary
    found = {
        "dice": summary.mean("dice"),
        "dice_per_label": {label: each.scores["dice"].mean for label, each in summary.labels.items()},
        "assd": summary.mean("assd"),
        "seconds": seconds,
    }
    if data is PHANTOM:
        nodes = summary.nodes[ALL_NODES]
        found |= {"node_recall": nodes.counts.recall, "node_f1": nodes.counts.f1, "false_per_case": nodes.false_per_case}
    print(
        f"{folder.name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items() if isinstance(value, float)),
        flush=True,
    )
    return found


@contextmanager
def background_of(row: str, plan: Path) -> Iterator[None]:
    """What a row takes for background and for nodes; the plan is as it was afterwards."""
    before = json.loads(plan.read_text())
    content = copy.deepcopy(before)
    if row == "strokes alone":
        content["lnauto"]["trusted_background"] = None
    if row == "leading nowhere":
        content["lnauto"]["trusted_background"]["node_within"] = None
    write_json(plan, content)
    try:
        yield
    finally:
        write_json(plan, before)


# ---- what a step costs


def cost(root: Path, data: Data) -> dict[str, Any]:
    """Processor seconds of a step and operations of its passes; the two trainers take turns, and the median of each counts."""
    trainers = {name: stepping(root, data, name) for name in ("LNTrainer", "LNTrainerScribble")}
    operations = {name: count(step) for name, step in trainers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(TIMED_STEPS):
        for name, step in trainers.items():
            started = time.thread_time()
            step()
            seconds[name].append(time.thread_time() - started)
    plain, ours = trainers
    ratio = statistics.median(seconds[ours]) / statistics.median(seconds[plain])
    explained = operations[ours] / operations[plain]
    return {"seconds": seconds, "operations": operations, "time_ratio": ratio, "operations_ratio": explained}


def stepping(root: Path, data: Data, name: str) -> Callable[[], Any]:
    from lnauto.planners.plan import CONFIGURATION
    from lnauto.trainers import find_trainer
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length

    use(root, root / "cost")
    base = root / "preprocessed" / data.strokes
    plan, description = (json.loads((base / file).read_text()) for file in ("lnautoPlans.json", "dataset.json"))
    trainer = find_trainer(name)(plan, CONFIGURATION, "all", description, torch.device("cpu"))
    trainer.configure(Options(Length(1000, None, 1000, 1), quiet=True))
    trainer.on_train_start()
    assert trainer.dataloader_train is not None
    batch = next(trainer.dataloader_train)
    trainer.clock.iteration = 500
    return lambda: trainer.train_step(batch)


def count(step: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


# ---- the table


def show(figures: dict[str, Any]) -> None:
    print(json.dumps(figures["machine"]))
    for data, found in figures.items():
        if data in ("machine", "command"):
            continue
        drawn = ", ".join(f"{share:.2%} of label {value}" for value, share in found["drawn"].items())
        print(f"\n{data}: at most {drawn} drawn in any case; {found['iterations']} iterations, seeds {found['seeds']}")
        of_nodes = {name: f"{share:.1%}" for name, share in found["led to"].items()}
        print(f"of the voxels of nodes: {of_nodes} ('right': of what is taken for node)")
        full = mean(found["rows"].get("full", []), "dice")
        print(f"{'':20}{'Dice':>8}{'sd':>7}{'of full':>9}{'ASSD':>8}{'recall':>8}{'F1':>8}{'false':>8}")
        for row, runs in found["rows"].items():
            values = [run["dice"] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            more = "".join(f"{mean(runs, key):8.3f}" for key in ("node_recall", "node_f1", "false_per_case") if key in runs[0])
            share = mean(runs, "dice") / full if full else float("nan")
            print(f"{row:20}{mean(runs, 'dice'):8.3f}{spread:7.3f}{share:9.1%}{mean(runs, 'assd'):8.2f}{more}")
        time_ratio, explained = found["cost"]["time_ratio"], found["cost"]["operations_ratio"]
        print(
            f"a step takes {time_ratio:.2f} times LNTrainer's; operations explain {explained:.2f} ({time_ratio / explained:.2f})"
        )


def mean(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.fmean(run[key] for run in runs) if runs else 0.0


if __name__ == "__main__":
    sys.exit(main())
