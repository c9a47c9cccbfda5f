"""`lnauto_demo`: the whole way on a phantom, from nothing to a table and a picture for each test case."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk

from lnauto import __version__
from lnauto.data.phantom import make_patients, make_phantom
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.evaluation.cases import ALL_NODES
from lnauto.evaluation.over_cases import HOW, OverCases
from lnauto.evaluation.summary import Summary
from lnauto.files import read_json, resolved, write_json
from lnauto.paths import VARIABLES
from lnauto.planners.wishes import Wishes
from lnauto.report.demo_page import Link, demo_page
from lnauto.report.overlay import draw_overlay
from lnauto.workflow import threshold_baseline
from lnauto.workflow.evaluate import evaluate, plain
from lnauto.workflow.page_files import write_page
from lnauto.workflow.plan import Request as PlanRequest
from lnauto.workflow.plan import plan_and_preprocess
from lnauto.workflow.predict import Request as PredictRequest
from lnauto.workflow.predict import predict
from lnauto.workflow.report_comparison import report_comparison
from lnauto.workflow.report_training import read_evaluation
from lnauto.workflow.train import Request as TrainRequest
from lnauto.workflow.train import train

log = logging.getLogger(__name__)

MINUTES, LEAST_MINUTES, ALL_MINUTES = 7.5, 1.0, 9.5  # of training, and of everything
BESIDES = 2.2  # what all but training and drawing the phantom may take, in times of drawing: 1.7 was measured, on a slow machine
REMEDY = "remove the folder, or give another one"
NAME, TABLE = "Dataset501_Phantom", "Dataset502_PhantomPatients"
THRESHOLD = "best HU threshold"


@dataclass(frozen=True)
class Settings:
    """How large the demo is; it takes less than ten minutes on two cores unless it is told how long to train."""

    cases: int = 24
    test_cases: int = 4
    size: int = 96
    patients: int = 240  # of the table
    minutes: float | None = None
    seed: int = 0
    device: str | None = None
    quiet: bool = False


def run_demo(output: Path, settings: Settings) -> str:
    """Phantom, plan, train, predict, evaluate, in a folder of its own; what is finished there is not done again."""
    started = time.monotonic()
    output = resolved(output)
    for folder, variable in VARIABLES.items():
        os.environ[variable] = str(output / folder)
    raw, predictions = output / "raw" / NAME, output / "predictions"
    wanted = {"cases": settings.cases, "test_cases": settings.test_cases, "size": settings.size, "seed": settings.seed}
    if raw.is_dir():
        if not wanted.items() <= read_json(output / "phantom.json", REMEDY).items():
            raise InputError.of("there is a demo of other settings already", output, "give another folder, or remove it")
        log.info("1. The phantom is there already, in %s.", raw)
    else:
        write_json(output / "phantom.json", wanted)
        log.info("1. Making %d chest CT phantoms to train on and %d to test on, in %s", settings.cases, settings.test_cases, raw)
        make_phantom(
            raw,
            cases=settings.cases,
            test_cases=settings.test_cases,
            annotation="full",
            size=settings.size,
            seed=settings.seed,
            workers=os.cpu_count() or 1,
            quiet=settings.quiet,
        )
        # Of two dozen patients a head could say nothing, and would take half as long again; step 6 has a table of more.
        (raw / "patients.csv").unlink()
        write_json(output / "phantom.json", {**wanted, "seconds": round(time.monotonic() - started, 1)})
    log.info("\n2. Planning (lnauto_plan_and_preprocess -d 501)")
    minutes = settings.minutes or minutes_to_train(read_json(output / "phantom.json", REMEDY).get("seconds", 0) / 60)
    plan_and_preprocess("501", PlanRequest(wishes=Wishes(minutes=minutes), device=settings.device, quiet=settings.quiet))
    log.info("\n3. Training one model on all cases, in the %g minutes the plan has (lnauto_train 501 all)", minutes)
    network_folder = train("501", ["all"], TrainRequest(device=settings.device, proceed=True, quiet=settings.quiet))
    log.info("\n4. Predicting the test cases (lnauto_predict -i %s -o %s)", raw / "imagesTs", predictions)
    predict(raw / "imagesTs", predictions, PredictRequest(device=settings.device, quiet=settings.quiet, overwrite=True))
    log.info("\n5. Comparing with the truth (lnauto_evaluate -r %s -p %s)", raw / "labelsTs", predictions)
    network, _ = evaluate(raw / "labelsTs", predictions, quiet=settings.quiet)
    threshold = _threshold_rival(RawDataset.read(raw), output / "threshold")
    table = _table({"network": network.summary, THRESHOLD: threshold})
    _draw_overlays(raw, predictions, output / "overlays")
    write_json(output / "demo.json", plain({"network": network.summary.to_json(), "threshold": threshold.to_json()}))
    log.info("\n6. Learning metastasis from a table of %d such patients (lnauto_train 502 cv)", settings.patients)
    head = _learn_from_a_table(output, settings)
    took = f"Done in {(time.monotonic() - started) / 60:.1f} minutes, with at most {_peak_gb():.1f} GB of memory."
    report_comparison(output / "threshold", predictions, output)
    page = _write_page(output, settings, minutes, network_folder, head, took)
    log.info("\n%s\n", table)
    log.info("Pictures of the test cases: %s", output / "overlays")
    log.info("Masks and node table:       %s", predictions)
    log.info("Model and learning curve:   %s", output / "results" / NAME)
    log.info("All of it on a page:        %s", page)
    log.info("%s", took)
    return table


def minutes_to_train(drawing: float) -> float:
    """So that all is done in ten: less on a slow machine, which the minutes show that drawing the phantom took."""
    return round(min(MINUTES, max(LEAST_MINUTES, ALL_MINUTES - (1 + BESIDES) * drawing)), 1)


def _learn_from_a_table(output: Path, settings: Settings) -> Path:
    """A patient head: of two dozen scans it could say nothing, and a table has patients enough. Returns the model's folder."""
    raw = output / "raw" / TABLE
    if not raw.is_dir():
        make_patients(raw, count=settings.patients, seed=settings.seed)
    plan_and_preprocess("502", PlanRequest(device="cpu", quiet=True))
    return train("502", ["cv"], TrainRequest(device="cpu", proceed=True, quiet=True))


def _write_page(output: Path, settings: Settings, minutes: float, network: Path, head: Path, took: str) -> Path:
    """The demo's own page, which leads to those of the commands."""
    found = {of: output / folder / "evaluation.json" for of, folder in (("network", "predictions"), (THRESHOLD, "threshold"))}
    cases = {of: OverCases.of(read_evaluation(path)["each_case"], path) for of, path in found.items()}
    figures = {
        "title": "lnauto: the demo",
        "lead": f"{settings.cases} drawn chests to train on, {settings.test_cases} to test on. {took}",
        "rows": [
            {"of": of, "figures": {name: one.to_json() for name, one in each.estimates().items()}} for of, each in cases.items()
        ],
        "notes": [HOW],
        "made_by": {"lnauto": __version__, "seed": settings.seed, "minutes of training": minutes},
    }
    network_page, head_page = ((model / "report.html").relative_to(output).as_posix() for model in (network, head))
    links = [
        Link("predictions/report.html", "What was found", "each test case slice by slice, and a table of its nodes"),
        Link(
            network_page,
            "How it was learned",
            "the plan with its reasons, the learning curve, and drafts of reporting checklists",
        ),
        Link(
            head_page,
            "Metastasis from a table",
            f"who has metastases, from a table of {settings.patients} patients: ROC, calibration, decision curve, subgroups",
        ),
        Link("comparison.html", "Network and threshold", "both on the same cases, with the differences and their intervals"),
    ]
    pictures = {path.stem: path.read_bytes() for path in sorted((output / "overlays").glob("*.png"))}
    there = [link for link in links if (output / link.to).is_file()]  # a page that could not be written was told already
    return write_page(demo_page(figures, there, pictures), plain(figures), output / "report.html")


def _threshold_rival(dataset: RawDataset, folder: Path) -> Summary:
    """What a HU window and a size filter make of the test cases: the phantom must not be that easy."""
    cases = []
    for case in dataset.annotated_cases:
        assert case.label is not None
        image = sitk.ReadImage(str(case.images[0]))
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(case.label)))
        cases.append((sitk.GetArrayFromImage(image), image.GetSpacing()[::-1], mask))
    threshold = threshold_baseline.fit(cases)
    folder.mkdir(parents=True, exist_ok=True)
    for case in dataset.test_cases:
        image = sitk.ReadImage(str(case.images[0]))
        predicted = sitk.GetImageFromArray(threshold.predict(sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]))
        predicted.CopyInformation(image)
        sitk.WriteImage(predicted, str(folder / f"{case.name}.nii.gz"), True)
    return evaluate(dataset.folder / "labelsTs", folder)[0].summary


def _table(rows: dict[str, Summary]) -> str:
    columns = ("Dice", "recall", "precision", "F1", "false/case")
    lines = [f"{'on the test cases':20}" + "".join(f"{column:>12}" for column in columns)]
    for name, summary in rows.items():
        nodes = summary.nodes[ALL_NODES]
        values = (summary.mean("dice"), nodes.counts.recall, nodes.counts.precision, nodes.counts.f1, nodes.false_per_case)
        lines.append(f"{name:20}" + "".join(f"{value:12.3f}" for value in values))
    return "\n".join(lines)


def _draw_overlays(raw: Path, predictions: Path, folder: Path) -> None:
    figures = {case["case"]: case for case in read_json(predictions / "evaluation.json", "run the demo again")["each_case"]}
    for path in sorted(predictions.glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        image = sitk.ReadImage(str(raw / "imagesTs" / f"{name}_0000.nii.gz"))
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(raw / "labelsTs" / path.name)))
        predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        nodes = figures[name]["nodes"][ALL_NODES]
        title = f"{name}: {nodes['found']} of {nodes['true']} nodes found, {nodes['false']} false"
        spacing = image.GetSpacing()[::-1]
        draw_overlay(sitk.GetArrayFromImage(image).astype(np.float32), predicted, spacing, folder / f"{name}.png", title, truth)


def _peak_gb() -> float:
    """The largest resident memory of this process so far, where the system tells; else what it holds now."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().rss / 1e9
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told * (1 if sys.platform == "darwin" else 1024) / 1e9  # macOS tells bytes, others KiB
