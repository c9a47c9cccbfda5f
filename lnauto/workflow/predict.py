"""`lnauto_predict`: find the model and the scans, write a mask for each, and a table of nodes."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lnauto import __version__
from lnauto.data.patients import PatientTable
from lnauto.data.raw import Case
from lnauto.errors import CasesFailedError, InputError, Problem
from lnauto.files import resolved
from lnauto.image_files import UnreadableError, header_reader
from lnauto.locks import locked
from lnauto.nodes import Node
from lnauto.paths import TRAIN_IT, Paths, activate, find_dataset
from lnauto.planners.patient_level import is_head
from lnauto.planners.plan import Plan
from lnauto.workflow.archive import opened
from lnauto.workflow.head_files import DESCRIPTION
from lnauto.workflow.head_predict import ATTENTION, Heads, find_heads, predict_heads, read_patients
from lnauto.workflow.mask_values import Meaning
from lnauto.workflow.node_table import measure_masks, write_nodes
from lnauto.workflow.prediction_record import ENDING, SETTINGS, Record
from lnauto.workflow.report import PATIENTS, PROBABILITIES, try_report, write_sources

if TYPE_CHECKING:
    from lnauto.inference.model import Model
    from lnauto.inference.predictor import Predictor
    from lnauto.workflow.head_predict import NodeReading

log = logging.getLogger(__name__)

READABLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
CHANNEL = re.compile(r"_(\d{4})$")
FIRST = "_0000"
BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"  # tile by tile, so that one scan has a time left, too
ENGINE_NAMES = {"torch": "PyTorch", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Request:
    """What the command line asks of a prediction; None: as the model's plan has it."""

    dataset: str | None = None
    model: Path | None = None
    configuration: str | None = None
    trainer: str | None = None
    folds: list[str] | None = None
    device: str | None = None
    engine: str = "auto"
    precision: str = "auto"
    tta: str | None = None
    overlap: float | None = None
    size_filter: bool = True
    crop: bool = True
    probabilities: bool = False  # maps of them, beside the masks
    series: tuple[str, ...] = ()  # of DICOM, one for each channel
    max_memory_gb: float | None = None  # None: what the machine has left
    rtstruct: bool = False  # beside the SEG of what came as DICOM
    patients: Path | None = None  # the table of clinical rows, for a patient head
    overwrite: bool = False
    report: bool = True  # a page to look at
    quiet: bool = False

    @property
    def head_precision(self) -> str:
        """Of a patient head: eight bits are for the segmentation alone."""
        return "auto" if self.precision == "int8" else self.precision


def holds_images(inputs: Path) -> bool:
    """Whether there is a file that is no DICOM, or nothing at all; else a folder is looked through for DICOM."""
    return not inputs.is_dir() or any(path.name.endswith(READABLE) for path in inputs.iterdir())


def predict(inputs: Path, output: Path, request: Request, series: Mapping[str, Sequence[str]] | None = None) -> list[Node]:
    """Masks of all scans in `inputs` (or of one file), in their own geometry; returns the nodes found.

    Args:
        series: of scans that came as DICOM the UIDs of their series.
    """
    check_places(inputs, output)
    with locked(output):
        return _predict(inputs, output, request, series)


def check_places(inputs: Path, output: Path) -> None:
    """Whether the results go to another folder than the scans are in."""
    if resolved(output) == resolved(inputs.parent if inputs.is_file() else inputs):
        raise InputError.of("the scans and the results are in one folder", output, "give another folder with -o")


def check_images_stay(cases: Sequence[Case], output: Path) -> None:
    """Whether no image would be replaced by what is made of one, whatever may be overwritten: links lead anywhere."""
    images = {resolved(image) for case in cases for image in case.images}
    for case in cases:
        for folder in (output, output / PROBABILITIES, output / ATTENTION):
            if resolved(place := folder / f"{case.name}{ENDING}") in images:
                what = f"the scan would be replaced by what is predicted for case {case.name}"
                raise InputError.of(what, place, "give another folder with -o")


def _predict(inputs: Path, output: Path, request: Request, series: Mapping[str, Sequence[str]] | None) -> list[Node]:
    from lnauto.inference.memory import MemoryLimit
    from lnauto.inference.model import load_model, trained_folds
    from lnauto.inference.predictor import Predictor
    from lnauto.networks.compute import find_device
    from lnauto.workflow.predict_cases import predict_cases

    folder = model_folder(request)
    if not trained_folds(folder) and reads_blocks(folder):
        from lnauto.workflow.predict_given import predict_given

        return predict_given(inputs, None, output, request)
    if not trained_folds(folder):
        what = "this model is a patient head on given masks, and has no network to predict any"
        raise InputError.of(what, folder, "give the masks with --masks, or train the network with lnauto_train")
    model = load_model(folder, request.folds)
    heads = find_heads(model.folder, model.folds, request.trainer if is_head(request.trainer) else None)
    heads = _fitting(heads, request)
    cases, problems = find_scans(inputs, list(model.dataset_json["channel_names"].values()))
    check_images_stay(cases, output)
    table = read_patients(request.patients, cases, output, heads)
    record = Record.read(output, series)
    if not request.overwrite:
        record.check(cases, _what_made(model))
        _check_free(output / PATIENTS, heads is None or bool(record.run))
    waiting = [case for case in cases if request.overwrite or not record.mask(case.name).is_file()]
    predictor = Predictor.of_model(
        model,
        find_device(request.device),
        request.precision,
        request.tta,
        request.overlap,
        request.size_filter,
        request.crop,
        request.engine,
        voxels_of(waiting, model.spacing),
    )
    predictor.memory = MemoryLimit(request.max_memory_gb)
    record.check_settings([case for case in cases if case not in waiting], _wanted(predictor, request), request.probabilities)
    log.info(
        "Model: %s, fold %s, on %s (%s, %s).",
        model.folder.name,
        ", ".join(model.folds),
        predictor.compute.device,
        ENGINE_NAMES[predictor.engine],
        predictor.precision,
    )
    if len(waiting) < len(cases):
        log.info(
            "%d of %d masks are there already and are kept (--overwrite makes them anew).", len(cases) - len(waiting), len(cases)
        )
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    seconds: dict[str, float] = {}
    failed: list[str] = []
    with (
        record.owned(waiting, {**_what_made(model), **_settings(predictor)}),
        tqdm(total=len(waiting), desc="Predicting", bar_format=BAR, disable=request.quiet) as bar,
    ):
        for job in predict_cases(predictor, waiting, record, bar, request.probabilities):
            if job.problem is None:
                seconds[job.case.name] = round(job.seconds, 2)
            else:
                problems.append(job.problem)
                failed.append(job.case.name)
    masks = {case.name: record.mask(case.name) for case in cases if record.accounts_for(case.name)}
    nodes = measure_masks(masks, model.dataset_json, cases)
    told = _judged(heads, model, cases, masks, table, record, request)
    write_nodes(nodes, told, output / "nodes.csv")
    meaning = Meaning.of_description(model.dataset_json)
    channels = list(model.dataset_json["channel_names"].values())
    owner = None if table is None else table.patient_of
    write_sources(output, masks, {case.name: case.images for case in cases}, channels, meaning, owner)
    record.run = _made_by(model, predictor, seconds, time.monotonic() - started, problems)
    record.write()
    record.tell_left_out(masks)
    if request.report and masks:
        problems += try_report(output, request.quiet)
    log.info(
        "Masks of %d of %d cases and nodes.csv (%d nodes in all) are in %s.",
        len(cases) - len(failed),
        len(cases),
        len(nodes),
        output,
    )
    if problems:
        raise CasesFailedError(problems)
    return nodes


def _judged(
    heads: Heads | None,
    model: Model,
    cases: Sequence[Case],
    masks: Mapping[str, Path],
    table: PatientTable | None,
    record: Record,
    request: Request,
) -> dict[tuple[str, int], NodeReading]:
    """What the heads say of each node, and in `patients.csv` of the patients."""
    if heads is None or not masks:
        if request.overwrite:
            record.drop_patients()
        return {}
    known = (Plan(model.plans), model.dataset_json, model.configuration)
    how = (request.device, request.head_precision, request.quiet)
    told = predict_heads(heads, *known, cases, masks, table, record.output, *how)
    record.head = heads.trainer
    return told


def _fitting(heads: Heads | None, request: Request) -> Heads | None:
    """Flags that speak of a patient head need one that fits the masks; without such flags masks are predicted all the same."""
    if heads is None and request.patients is not None:
        raise InputError.of("the model has no patient head that could read it", "--patients", "leave it out")
    if heads is None or heads.masks != "given":
        return heads
    what = f"{heads.trainer} learned from masks that were given, and would meet others here"
    if request.patients is not None or is_head(request.trainer):
        raise InputError.of(what, "--masks", "name the folder of masks for these scans")
    log.info("No probability of metastasis: %s. --masks DIR gives it.", what)
    return None


def _what_made(model: Model) -> dict[str, Any]:
    plan_hash = Plan(model.plans).hash()
    return {"model": str(model.folder), "folds": model.folds, "plan_hash": plan_hash, "weights": model.digests}


def _settings(predictor: Predictor) -> dict[str, Any]:
    return {name: getattr(predictor, name) for name in SETTINGS}


def _wanted(predictor: Predictor, request: Request) -> dict[str, Any]:
    """Which settings the masks must have been made with: which engine and precision are fastest, each machine says anew."""
    left = {name for name in ("engine", "precision") if getattr(request, name) == "auto"}
    return {name: value for name, value in _settings(predictor).items() if name not in left}


def _check_free(path: Path, may_stay: bool) -> None:
    """Without a record nothing there is a prediction's, and would neither be replaced nor pass for one."""
    if path.is_file() and not may_stay:
        what = "there is something of this name already, and nothing says that lnauto_predict made it"
        raise InputError.of(what, path, "give another folder with -o, or add --overwrite to replace it")


def model_folder(request: Request) -> Path:
    """The model named, or the only one there is."""
    from lnauto.inference.model import find_models, trained_folds

    if request.model is not None:
        folder = opened(request.model)
        if not trained_folds(folder) and not any(folder.glob(f"fold_*/*/{DESCRIPTION}")):
            raise InputError.of(
                "there is no finished training in this folder", request.model, "give the folder that holds fold_0 and its like"
            )
        return folder
    paths: Paths = activate()
    models = find_models(paths.results)
    if request.dataset is not None:
        name = find_dataset(request.dataset, paths.results, remedy=TRAIN_IT)
        models = [model for model in models if model.parent.name == name]
    if request.trainer is not None and not is_head(request.trainer):
        models = [model for model in models if model.name.split("__")[0] == request.trainer]
    if request.configuration is not None:
        models = [model for model in models if model.name.split("__")[-1] == request.configuration]
    if len(models) == 1:
        return models[0]
    if not models:
        raise InputError.of(
            "there is no such trained model", paths.results, "train one with lnauto_train, or give its folder (lnauto_predict -m)"
        )
    listed = ", ".join(f"{model.parent.name}/{model.name}" for model in models)
    remedy = "say which with -d, or give its folder (lnauto_predict -m)"
    raise InputError.of(f"there are {len(models)} trained models ({listed})", paths.results, remedy)


def reads_blocks(model: Path) -> bool:
    """Whether a model is a patient head on scans without masks, and nothing else."""
    path = model / "plans.json"
    return path.is_file() and Plan.load(path, "train again").on_blocks


def find_scans(inputs: Path, channels: list[str]) -> tuple[list[Case], list[Problem]]:
    """The cases in a folder (or one file): CASE_0000.nii.gz and so on, or, with one channel, any name."""
    if not inputs.exists():
        raise InputError.of("there is no such file or folder", inputs, "check the path given with -i")
    files = [inputs] if inputs.is_file() else sorted(inputs.iterdir())  # with what only looks like a scan: it is told
    files = [path for path in files if path.name.endswith(READABLE) and not path.name.startswith(".")]
    if not files:
        raise InputError.of(f"there is no image ({', '.join(READABLE)})", inputs, "give a folder of scans, or one scan, with -i")
    stems = {path: path.name[: -len(next(ending for ending in READABLE if path.name.endswith(ending)))] for path in files}
    found: dict[str, dict[int, list[Path]]] = {}
    for path, stem in stems.items():
        match = CHANNEL.search(stem)
        # The name of a scan for one channel may end in a year: that is a channel's number only beside channel 0.
        if match is not None and (len(channels) > 1 or f"{stem[: match.start()]}{FIRST}" in stems.values()):
            found.setdefault(stem[: match.start()], {}).setdefault(int(match[1]), []).append(path)
        elif len(channels) == 1:
            found.setdefault(stem, {}).setdefault(0, []).append(path)
        else:
            raise InputError.of(
                f"the name says no channel, and the model takes {len(channels)} ({', '.join(channels)})",
                path,
                "name the files CASE_0000.nii.gz, CASE_0001.nii.gz and so on",
            )
    cases, problems = [], []
    for name, images in sorted(found.items()):
        if several := next((same for same in images.values() if len(same) > 1), None):
            what = f"several files are one scan by their names ({', '.join(path.name for path in several)})"
            problems.append(Problem(what, f"case {name}", "keep one of them, or give each a name of its own"))
        elif sorted(images) == list(range(len(channels))):
            cases.append(Case(name, tuple(images[channel][0] for channel in range(len(channels)))))
        else:
            there = ", ".join(f"{channel:04d}" for channel in sorted(images))
            problems.append(
                Problem(
                    f"the model takes {len(channels)} channels ({', '.join(channels)}) and there is {there}",
                    f"case {name}",
                    "add or remove files",
                )
            )
    if not cases:
        raise InputError(problems)
    return cases, problems


def voxels_of(cases: list[Case], spacing: Sequence[float]) -> float:
    """Voxels of the images in a spacing, from their headers; what cannot be read does not count."""
    total = 0.0
    for case in cases:
        try:
            reader = header_reader(case.images[0])
        except UnreadableError:
            continue
        total += math.prod(size * side for size, side in zip(reader.GetSize(), reader.GetSpacing(), strict=True))
    return total / math.prod(spacing)


def _made_by(
    model: Model, predictor: Predictor, seconds: dict[str, float], total: float, problems: list[Problem]
) -> dict[str, Any]:
    return {
        "versions": {
            "lnauto": __version__,
            **{package: version(package) for package in ("nnunetv2", "torch", "SimpleITK", "numpy")},
        },
        **_what_made(model),
        "trainer": model.trainer,
        "device": str(predictor.compute.device),
        **_settings(predictor),
        "orientation": predictor.orientation,
        "seconds": {"total": round(total, 2), **seconds},
        "failed": [str(problem) for problem in problems],
    }
