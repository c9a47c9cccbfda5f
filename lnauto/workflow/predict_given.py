"""`lnauto_predict -i scans --masks DIR -o out`: patients whose nodes are marked already, by a head that learned so; and the same
without masks, by a head on blocks of scans."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnauto import __version__
from lnauto.data.checks import mask_faults, scan_faults
from lnauto.data.raw import Case
from lnauto.data.trusted_background import numbers_nodes
from lnauto.errors import CasesFailedError, InputError, Problem
from lnauto.evaluation.masks import grid_of
from lnauto.files import ANY, read_json, write_json
from lnauto.locks import locked
from lnauto.nodes import Node
from lnauto.planners.patient_level import is_head
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.workflow.head_predict import find_heads, predict_heads, read_patients
from lnauto.workflow.mask_values import Meaning, hold_numbers
from lnauto.workflow.node_table import NodeTable, measure_masks, write_nodes
from lnauto.workflow.predict import READABLE, Request, check_images_stay, find_scans, model_folder
from lnauto.workflow.report import PATIENTS, try_report, write_sources

log = logging.getLogger(__name__)


def predict_given(inputs: Path, masks: Path | None, output: Path, request: Request) -> list[Node]:
    """`patients.csv` and `nodes.csv` of scans with masks; returns the nodes. Without masks no node is known, and there is no
    `nodes.csv`."""
    with locked(output):
        return _predict_given(inputs, masks, output, request)


def _predict_given(inputs: Path, masks: Path | None, output: Path, request: Request) -> list[Node]:
    folder = model_folder(request)
    remedy = "train again, or give the whole result folder with -m"
    plan = Plan.load(folder / "plans.json", remedy)
    description: dict[str, Any] = read_json(folder / "dataset.json", remedy, {"channel_names": {ANY: str}})
    there = sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*"))
    folds = request.folds or [fold for fold in there if fold != "all"] or there
    heads = find_heads(folder, folds, request.trainer if is_head(request.trainer) else None)
    if masks is None and (heads is None or heads.masks != "none"):
        what = f"fold {', '.join(folds)} has no patient head on scans without masks"
        raise InputError.of(what, folder, "train it with lnauto_train, or give -f")
    if heads is None or (masks is not None and heads.masks != "given"):
        what = "the model has no patient head that learned from given masks"
        raise InputError.of(what, "--masks", "leave it out, or plan with --masks given and train")
    if not request.overwrite and (output / PATIENTS).is_file():
        raise InputError.of("there are predictions already", output, "give another folder with -o, or add --overwrite")
    cases, problems = find_scans(inputs, list(description["channel_names"].values()))
    check_images_stay(cases, output)
    table = read_patients(request.patients, cases, output, heads)
    found, more = _masks_of(cases, masks) if masks is not None else ({}, _unreadable(cases))
    problems += more
    failed = {problem.where for problem in more}
    cases = [case for case in cases if (case.name in found if masks is not None else f"case {case.name}" not in failed)]
    if not cases:
        raise InputError(problems)
    numbered = numbers_nodes(description) and hold_numbers(found)
    nodes = measure_masks(found, description, cases, numbered) if masks is not None else NodeTable()
    configuration = request.configuration or CONFIGURATION
    how = (request.device, request.head_precision, request.quiet)
    told = predict_heads(heads, plan, description, configuration, cases, found, table, output, *how, numbered)
    if masks is not None:
        write_nodes(nodes, told, output / "nodes.csv")
        channels, owner = list(description["channel_names"].values()), None if table is None else table.patient_of
        images = {case.name: case.images for case in cases}
        write_sources(output, found, images, channels, Meaning.of_description(description, numbered), owner)
    made_by = {"versions": {"lnauto": __version__}, "model": str(folder), "head": heads.trainer, "folds": list(heads.folds)}
    more_of_it = {
        "masks": None if masks is None else str(masks),
        "plan_hash": plan.hash(),
        "failed": [str(problem) for problem in problems],
    }
    write_json(output / "run.json", {**made_by, **more_of_it})
    if request.report and masks is not None:
        problems += try_report(output, request.quiet)
    if problems:
        raise CasesFailedError(problems)
    return nodes


def _masks_of(cases: Sequence[Case], folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """The mask of each case, and what is wrong with those that are missing or do not fit."""
    if not folder.is_dir():
        raise InputError.of("there is no such folder", folder, "give --masks a folder with a mask of the name of each case")
    found, problems = dict[str, Path](), list[Problem]()
    for case in cases:
        path = next((folder / f"{case.name}{end}" for end in READABLE if (folder / f"{case.name}{end}").is_file()), None)
        if path is None:
            problems.append(
                Problem("there is no mask of this case", f"{folder.name}, case {case.name}", "add it, or remove the scan")
            )
            continue
        faults = [(fault, image.name) for image in case.images for fault in scan_faults(image)]
        if faults := [*faults, *((fault, path.name) for fault in mask_faults(path))]:
            problems.append(Problem(*faults[0], "check that it is a whole 3D image"))
            continue
        scan, mask = grid_of(case.images[0]), grid_of(path)
        if not mask.lies_on(scan):
            what = f"the mask has another grid ({mask.grid()}) than the scan ({scan.grid()})"
            problems.append(Problem(what, f"case {case.name}", "give a mask on the grid of the scan"))
            continue
        found[case.name] = path
    return found, problems


def _unreadable(cases: Sequence[Case]) -> list[Problem]:
    """What is wrong with scans: one line a case."""
    faults = {case.name: [fault for image in case.images for fault in scan_faults(image)] for case in cases}
    return [Problem(found[0], f"case {name}", "check that it is a whole 3D image") for name, found in faults.items() if found]
