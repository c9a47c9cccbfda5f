"""A model trained on one kind of images and a few cases of another: what each way of adapting reaches there, and forgets here.

    python tests/benchmarks/few_shot.py FOLDER                                # phantoms of two styles
    python tests/benchmarks/few_shot.py FOLDER --hippocampus RAW_DATASET      # and MR, against inverted and resampled copies

Source and target phantoms differ in contrast, noise, spacing and the texture of nodes. Rows: the model as it is, the same network
from scratch, every way of tuning, and `auto`. All but the first train the same number of iterations; `auto` trains its short
tries besides, which its time includes. A seed is that of the images, of the weights and of the batches. A finished run is kept in
FOLDER and not repeated; two processes may share one FOLDER if they are given different seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weak_labels import predict_tests
from weak_strokes import SOFT_TISSUE_HU, machine, mean, once, use  # sets the number of threads, so before torch

# isort: split
import numpy as np
import SimpleITK as sitk
import torch

from lnauto.data.phantom import make_phantom
from lnauto.data.raw import RawDataset
from lnauto.files import write_json

SOURCE_CASES, SOURCE_TESTS, POOL, TARGET_TESTS = 20, 4, 10, 8
SOURCE_SIZE, TARGET_SIZE = 48, 56
BUDGET_MINUTES = 1.5  # for which the plan takes the tiny network; how long is trained is said by --iterations
SHOTS = (1, 5, 10)
SCRATCH, UNADAPTED, AUTO = "from scratch", "no adaptation", "auto"
TUNERS = ("full", "head", "decoder", "bitfit", "norm", "lora", "static", "random", "dgst:1", "dgst:0.05")
ROWS = (UNADAPTED, SCRATCH, *TUNERS, AUTO)
MODEL = "Source"
HIPPOCAMPUS_TESTS = 12


@dataclass(frozen=True)
class Domain:
    """Where the model comes from and where it goes; `write` makes both raw data sets."""

    name: str
    source: str
    target: str
    write: Callable[[Path, int], None]
    source_iterations: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data, models and figures; what is there is gone on from")
    parser.add_argument("--hippocampus", type=Path, help="raw data set")
    parser.add_argument("--no-phantom", action="store_true")
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS, help="cases of the target to learn from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--iterations", type=int, default=100, help="of every adaptation (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go (default: figures.json in the folder)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lnauto").setLevel(logging.ERROR)
    figures: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv), "iterations": options.iterations}
    figures["domains"] = {domain.name: measure(domain, options) for domain in domains(options)}
    write_json(options.json or options.folder / "figures.json", figures)
    show(figures)
    return 0


def domains(options: argparse.Namespace) -> list[Domain]:
    found = [] if options.no_phantom else [Domain("phantom", "Dataset700_Source", "Dataset701_Target", write_phantoms, 1200)]
    if options.hippocampus:
        raw = options.hippocampus.resolve()
        write = lambda folder, seed: write_hippocampus(raw, folder, seed)  # noqa: E731
        found.append(Domain("hippocampus", "Dataset710_Hippocampus", "Dataset711_Inverted", write, 600))
    return found


def measure(domain: Domain, options: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, dict[str, list[Any]]] = {row: {} for row in options.rows}
    for seed in options.seeds:
        root = options.folder.resolve() / domain.name / f"seed {seed}"
        once(root / "ready.json", lambda root=root, seed=seed: in_a_child(prepare, domain, root, seed))
        for shots in options.shots:
            for row in options.rows:
                path = root / f"{shots} cases" / f"{row.replace(':', '_')}, {options.iterations} iterations" / "figures.json"
                found = once(
                    path,
                    lambda path=path, root=root, row=row, shots=shots, seed=seed: in_a_child(
                        run, domain, root, path.parent, row, shots, seed, options.iterations
                    ),
                )
                rows[row].setdefault(str(shots), []).append(found)
                told = ", ".join(f"{key} {value:.3f}" for key, value in found.items() if isinstance(value, float))
                print(f"{domain.name}, seed {seed}, {shots} cases, {row}: {told}", flush=True)
    return {"rows": rows}


def in_a_child(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """So that the peak of the memory is that of this work alone."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def act() -> None:
        found = work(*arguments)
        sender.send({**found, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20})

    child = context.Process(target=act)
    child.start()
    sender.close()
    try:
        found: dict[str, Any] = receiver.recv()
    except EOFError:
        raise SystemExit(f"the child for {arguments} failed") from None
    child.join()
    return found


# ---- data and the model to start from


def prepare(domain: Domain, root: Path, seed: int) -> dict[str, Any]:
    """Both data sets, and the source's model, stored as a foundation model."""
    from lnauto.inference.foundation import foundation_folder, store_foundation
    from lnauto.paths import activate
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, plan_and_preprocess

    use(root, root / "results")
    domain.write(root / "raw", seed)
    wishes = Wishes(minutes=BUDGET_MINUTES)
    plan = plan_and_preprocess(domain.source[7:10], Request(wishes=wishes, device="cpu", quiet=True))
    trainer = trained("LNTrainer", plan.content, domain.source, root, seed, domain.source_iterations)
    description = {"trainer": "LNTrainer", "configuration": "3d_fullres"}
    store_foundation(
        foundation_folder(MODEL, activate().results),
        description,
        plan.content,
        trainer.dataset_json,
        trainer.deployed_weights(),
    )
    plan_and_preprocess(domain.target[7:10], Request(wishes=wishes, device="cpu", pretrained=MODEL, quiet=True))
    return {}


def write_phantoms(raw: Path, seed: int) -> None:
    source = {"cases": SOURCE_CASES, "test_cases": SOURCE_TESTS, "size": SOURCE_SIZE, "style": "a", "seed": 1000 + seed}
    target = {"cases": POOL, "test_cases": TARGET_TESTS, "size": TARGET_SIZE, "style": "b", "seed": 2000 + seed}
    for name, settings in (("Dataset700_Source", source), ("Dataset701_Target", target)):
        make_phantom(raw / name, annotation="full", declare=True, quiet=True, **settings)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    for path in sorted((raw / "Dataset701_Target").glob("*Ts/*.nii.gz")) + sorted(
        (raw / "Dataset701_Target").glob("*Tr/*.nii.gz")
    ):
        image, drawn = sitk.ReadImage(str(path)), path.parent.name.startswith("labels")
        changed = image if drawn else harder(image, rng)
        sitk.WriteImage(coarser(changed, sitk.sitkNearestNeighbor if drawn else sitk.sitkLinear, (1, 1, 1.5)), str(path))


def harder(image: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """Soft tissue of other contrast, and noise, on top of the style's own."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    soft = values > SOFT_TISSUE_HU
    values[soft] = 20 + 1.3 * (values[soft] - 40)
    changed = sitk.GetImageFromArray(values + rng.normal(0, 20, values.shape).astype(np.float32))
    changed.CopyInformation(image)
    return changed


def write_hippocampus(original: Path, raw: Path, seed: int) -> None:
    """The target: copies of some training cases and of the test cases, dark for bright, with voxels 1.4 times as wide."""
    dataset = RawDataset.read(original)
    rng, ending = np.random.default_rng(seed), dataset.file_ending
    training = [case.name for case in dataset.annotated_cases]
    tests = sorted(path.name.removesuffix(ending) for path in (original / "labelsTs").glob(f"*{ending}"))[:HIPPOCAMPUS_TESTS]
    pool = sorted(rng.choice(training, POOL, replace=False))
    for name, cases, changed in (("Dataset710_Hippocampus", training, False), ("Dataset711_Inverted", pool, True)):
        for side, named in (("Tr", cases), ("Ts", tests)):
            for case in named:
                image = sitk.ReadImage(str(original / f"images{side}" / f"{case}_0000{ending}"))
                label = sitk.ReadImage(str(original / f"labels{side}" / f"{case}{ending}"))
                if changed:
                    wider = (1.4, 1.4, 1.4)
                    image = coarser(inverted(image), sitk.sitkLinear, wider)
                    label = coarser(label, sitk.sitkNearestNeighbor, wider)
                write(image, raw / name / f"images{side}" / f"{case}_0000{ending}")
                write(label, raw / name / f"labels{side}" / f"{case}{ending}")
        described = {"channel_names": dataset.channel_names, "labels": dataset.labels, "file_ending": ending}
        write_json(raw / name / "dataset.json", {**described, "numTraining": len(cases), "annotation": "full"})


def write(image: sitk.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def inverted(image: sitk.Image) -> sitk.Image:
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    changed = sitk.GetImageFromArray(values.max() - values)
    changed.CopyInformation(image)
    return changed


def coarser(image: sitk.Image, interpolator: int, times: tuple[float, float, float]) -> sitk.Image:
    size = [max(1, round(side / wider)) for side, wider in zip(image.GetSize(), times, strict=True)]
    spacing = [mm * side / new for mm, side, new in zip(image.GetSpacing(), image.GetSize(), size, strict=True)]
    return sitk.Resample(image, size, sitk.Transform(), interpolator, image.GetOrigin(), spacing, image.GetDirection())


# ---- adapting


def run(domain: Domain, root: Path, folder: Path, row: str, shots: int, seed: int, iterations: int) -> dict[str, Any]:
    use(root, folder / "results")
    (folder / "results").mkdir(parents=True, exist_ok=True)
    if not (folder / "results" / "foundations").exists():
        (folder / "results" / "foundations").symlink_to(root / "results" / "foundations")
    plan = json.loads((root / "preprocessed" / domain.target / f"lnautoPlans_{MODEL}.json").read_text())
    begun = time.process_time()
    tune = row if row in TUNERS else "full"
    if row == AUTO:
        tune = chosen(domain, root, folder, plan, shots, seed, iterations)
    trainer = trained("", plan, domain.target, root, seed, iterations, shots, tune, row)
    seconds = time.process_time() - begun
    found: dict[str, Any] = {"seconds": seconds, "tune": tune}
    if row not in (UNADAPTED, SCRATCH):
        found |= trainer.more_to_record()
    for name, dataset in (("target", domain.target), ("source", domain.source)):
        found |= {f"{name}_{key}": value for key, value in tested(trainer, root / "raw" / dataset, folder / name).items()}
    return found


def trained(
    name: str,
    plan: dict[str, Any],
    dataset: str,
    root: Path,
    seed: int,
    iterations: int,
    shots: int = 0,
    tune: str = "",
    row: str = "",
) -> Any:
    """A network after its training; with `shots`, on the first so many cases alone."""
    from lnauto.data.gathered import Gathered
    from lnauto.paths import activate
    from lnauto.planners.plan import CONFIGURATION
    from lnauto.trainers import find_trainer
    from lnauto.trainers.material import Material
    from lnauto.trainers.options import Options
    from lnauto.trainers.schedule import Length
    from lnauto.trainers.tuning import trainer_for
    from lnauto.workflow.tuner import parse_tune

    activate()
    description = json.loads((root / "raw" / dataset / "dataset.json").read_text())
    options = Options(Length(iterations, None, max(iterations // 4, 1), 1), seed, save_every_seconds=1e9, quiet=True)
    if tune:
        way = parse_tune(tune)
        name = trainer_for(way.method)
        options = replace(options, tune=way, foundation=None if row == SCRATCH else root / "results" / "foundations" / MODEL)
    trainer = find_trainer(name)(plan, CONFIGURATION, "all", description, torch.device("cpu"))
    if shots:
        preprocessed = Path(trainer.preprocessed_dataset_folder)
        cases = cases_of(root, dataset)[:shots]
        trainer.learn_from(Material(Gathered(dict.fromkeys(cases, preprocessed)), (cases[0],)))  # looked at, but decides nothing
    trainer.configure(options)
    trainer.initialize()
    if row == UNADAPTED:
        trainer.inference_allowed_mirroring_axes = (2,)
    else:
        trainer.run_training()
    return trainer


def cases_of(root: Path, dataset: str) -> list[str]:
    return [case.name for case in RawDataset.read(root / "raw" / dataset).annotated_cases]


def chosen(domain: Domain, root: Path, folder: Path, plan: dict[str, Any], shots: int, seed: int, iterations: int) -> str:
    """What `--tune auto` would take."""
    from lnauto.data.folds import make_folds
    from lnauto.planners.plan import CONFIGURATION, Plan
    from lnauto.workflow.choose_tuner import PARTS, Trials, choose_tuner
    from lnauto.workflow.fold import Request

    description = json.loads((root / "raw" / domain.target / "dataset.json").read_text())
    cases = cases_of(root, domain.target)[:shots]
    return choose_tuner(
        Trials(
            Plan(plan),
            description,
            "all",
            Request(iterations=iterations, seed=seed, device="cpu", workers=0, pretrained=MODEL, quiet=True),
            preprocessed=root / "preprocessed" / domain.target / plan["configurations"][CONFIGURATION]["data_identifier"],
            folder=folder / "tries",
            parts=make_folds(cases, {}, n_folds=PARTS),
            seconds=None,
        )
    )


def tested(trainer: Any, raw: Path, masks: Path) -> dict[str, float]:
    from lnauto.evaluation.folder import evaluate_folders
    from lnauto.evaluation.pair import ALL_NODES

    predict_tests(trainer, raw / "imagesTs", masks)
    summary = evaluate_folders(raw / "labelsTs", masks, dataset_json=raw / "dataset.json").summary
    return {"dice": float(summary.mean("dice")), "f1": float(summary.nodes[ALL_NODES].counts.f1)}


# ---- the table


def show(figures: dict[str, Any]) -> None:
    print(json.dumps(figures["machine"]))
    for domain, found in figures["domains"].items():
        rows = found["rows"]
        for shots in next(iter(rows.values())):
            seeds = len(next(iter(rows.values()))[shots])
            print(
                f"\n{domain}, {shots} cases: {figures['iterations']} iterations, means of {seeds} seeds, s.d. of the target's F1"
            )
            heads = ("Dice", "F1", "s.d.", "source", "F1", "each %", "moved %", "seconds", "GB")
            print(f"{'':16}" + "".join(f"{head:>9}" for head in heads))
            for name, runs in rows.items():
                print(f"{name:16}" + "".join(f"{value:9.3f}" for value in line(runs[shots])))
    print_auto(figures)


def line(runs: list[dict[str, Any]]) -> list[float]:
    values = [run["target_f1"] for run in runs]
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    moved = [100 * statistics.mean(run.get(key, float("nan")) for run in runs) for key in ("may_move", "may_have_moved")]
    first = [mean(runs, "target_dice"), mean(runs, "target_f1"), spread, mean(runs, "source_dice"), mean(runs, "source_f1")]
    return [*first, *moved, mean(runs, "seconds"), mean(runs, "peak_gb")]


def print_auto(figures: dict[str, Any]) -> None:
    """How far auto stays below the best row, setting by setting, in points of the mean of Dice and F1."""
    gaps = []
    for domain, found in figures["domains"].items():
        rows = found["rows"]
        for shots in rows.get(AUTO, {}):
            score = {
                name: 50 * (mean(runs[shots], "target_dice") + mean(runs[shots], "target_f1")) for name, runs in rows.items()
            }
            best = max(score, key=lambda name: score[name])
            gaps.append(score[best] - score[AUTO])
            took = ", ".join(run["tune"] for run in rows[AUTO][shots])
            print(f"{domain}, {shots} cases: best is {best} ({score[best]:.1f}); auto {score[AUTO]:.1f}, took {took}")
    if gaps:
        print(f"auto is {statistics.mean(gaps):.1f} points below the best row on average, {max(gaps):.1f} at most")


if __name__ == "__main__":
    sys.exit(main())
