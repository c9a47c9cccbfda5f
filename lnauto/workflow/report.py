"""`report.html` and `report.json` of a folder of predicted or measured masks."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from lnauto.data.patients import read_cells
from lnauto.errors import InputError, Problem
from lnauto.evaluation.masks import Mask, read_mask
from lnauto.files import ANY, NUMBER, misfit, read_json, write_json
from lnauto.nodes import Array
from lnauto.workflow.evaluate import plain
from lnauto.workflow.mask_values import Meaning
from lnauto.workflow.page_files import write_page

if TYPE_CHECKING:
    from lnauto.report.prediction_page import CasePart
    from lnauto.report.slices import Detail

PAGE, SOURCES, NODES, PATIENTS, RUN = "report.html", "sources.json", "nodes.json", "patients.csv", "run.json"
PROBABILITIES = "probabilities"
NODE_FORM = {"node": int, **{f"centroid_{axis}_mm": NUMBER for axis in "xyz"}, "volume_mm3": NUMBER, "short_axis_mm": NUMBER}
HOW_FORM = {"each value is a node": bool, "values": (list, type(None)), "left out": list}
FORMS = {  # what the page needs of each
    NODES: {"cases": [{"case": str, "nodes": int, "total_volume_mm3": NUMBER, "each_node": [NODE_FORM]}]},
    SOURCES: {"channels": [str], "nodes": HOW_FORM, "cases": {ANY: {"mask": str, "images": [str]}}},
}
CASE_FORM = {"model": str, "folds": [str], "images": [{"bytes": int, "sha256": str}]}  # what a mask was made with, and from
RUN_FORM = {  # of these, those that are there
    "model": str,
    "folds": [str],
    "failed": [str],
    "versions": dict,
    "engine": str,
    "cases": {ANY: CASE_FORM},
}
AGAIN = "make it again with lnauto_predict or lnauto_measure"


def write_sources(
    folder: Path,
    masks: Mapping[str, Path],
    images: Mapping[str, Sequence[Path]],
    channels: Sequence[str],
    meaning: Meaning,
    patient_of: Mapping[str, str] | None = None,
) -> None:
    """What the page is made from, beside the tables: where each case's mask and scan lie, whose they are, and which values are
    nodes."""
    owner = patient_of or {}
    cases = {
        name: {
            "patient": owner.get(name, name),
            "mask": _told(mask, folder),
            "images": [str(path.resolve()) for path in images.get(name, ())],
        }
        for name, mask in masks.items()
    }
    values = None if meaning.values is None else sorted(meaning.values)
    how = {"each value is a node": meaning.instances, "values": values, "left out": sorted(meaning.left_out)}
    write_json(folder / SOURCES, {"channels": list(channels), "nodes": how, "cases": cases})


def _told(path: Path, folder: Path) -> str:
    """Relative where it lies in the folder, which may be moved."""
    whole = path.resolve()
    return str(whole.relative_to(folder.resolve())) if whole.is_relative_to(folder.resolve()) else str(whole)


def report(folder: Path, anonymous: bool = False, quiet: bool = False, paper: bool = False) -> Path:
    """Write the page of a folder; returns where it is.

    Args:
        anonymous: cases are numbered instead of named, and no path is told.
        paper: also its tables and figures, in `paper/`.
    """
    from lnauto.report.prediction_page import Story, prediction_figures, prediction_page

    table, sources = read_tables(folder)
    run = read_run(folder / RUN, AGAIN) if (folder / RUN).is_file() else {}
    failed = run.get("failed", [])
    if anonymous:
        failed = [f"{len(failed)} of the scans"] if failed else []
    story = Story(folder.resolve().name if not anonymous else "Lymph nodes", _made_by(run, table, anonymous), failed)
    parts = _parts(folder, table["cases"], sources, anonymous)
    drawn = _with_pictures(parts, folder, [case["case"] for case in table["cases"]], sources, anonymous)
    with tqdm(drawn, total=len(parts), desc="Drawing", unit="case", disable=quiet, delay=2) as bar:
        page = prediction_page(story, bar)
    return write_page(page, plain(prediction_figures(story, parts)), folder / PAGE, paper)


def read_tables(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `nodes.json` and `sources.json` hold, in a folder of predicted or measured masks."""
    if not folder.is_dir():
        raise InputError.of("there is no such folder", folder, "give the folder that lnauto_predict or lnauto_measure wrote")
    for name in FORMS:
        if not (folder / name).is_file():
            what = f"there is no {name}, so that this is no folder of predicted or measured masks"
            raise InputError.of(what, folder, "give the folder that lnauto_predict or lnauto_measure wrote")
    table, sources = (read_json(folder / name, AGAIN, form) for name, form in FORMS.items())
    for name, known in sources["cases"].items():
        if known["images"] and len(known["images"]) != len(sources["channels"]):
            what = f"case {name} has {len(known['images'])} images, of {len(sources['channels'])} channels"
            raise InputError.of(what, folder / SOURCES, AGAIN)
    return table, sources


def read_run(path: Path, remedy: str) -> dict[str, Any]:
    """What a command said of its own run."""
    content: dict[str, Any] = read_json(path, remedy, dict)
    if (what := misfit(content, {key: form for key, form in RUN_FORM.items() if key in content})) is not None:
        raise InputError.of(what, path, remedy)
    return content


def try_report(folder: Path, quiet: bool) -> list[Problem]:
    """The page at the end of other work, of which what it lacks takes nothing away: a problem beside the others."""
    try:
        report(folder, quiet=quiet)
    except InputError as error:
        return error.problems
    return []


def _made_by(run: Mapping[str, Any], table: Mapping[str, Any], anonymous: bool) -> dict[str, object]:
    """What made the masks, in words."""
    versions = run.get("versions", table.get("made_by", {}))
    told: dict[str, object] = {
        "model": Path(run["model"]).parent.name + ", " + Path(run["model"]).name if "model" in run else None,
        "folds": ", ".join(map(str, run.get("folds", []))) or None,
        "patient head": run.get("head"),
        "device": run.get("device"),
        "engine": f"{run['engine']}, {run.get('precision')}" if "engine" in run else None,
        "mirrored copies": run.get("tta"),
        "overlap of tiles": run.get("overlap"),
        "smallest node kept, mm³": run.get("smallest_node_mm3") or None,
        "looked at": {"none": "the whole scan"}.get(run.get("region", ""), run.get("region")),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()) or None,
    }
    hidden = {"model"} if anonymous else set()
    return {key: value for key, value in told.items() if value is not None and key not in hidden}


def _parts(folder: Path, cases: Sequence[Mapping[str, Any]], sources: Mapping[str, Any], anonymous: bool) -> list[CasePart]:
    """What the tables say of each case."""
    from lnauto.report.prediction_page import CasePart

    patients = _patients(folder / PATIENTS)
    return [
        CasePart(
            f"case {number}" if anonymous else case["case"],
            case["each_node"],
            patients.get(_patient(case["case"], sources), {}),
        )
        for number, case in enumerate(cases, start=1)
    ]


def _with_pictures(
    parts: Sequence[CasePart], folder: Path, names: Sequence[str], sources: Mapping[str, Any], anonymous: bool
) -> Iterator[CasePart]:
    """The same with pictures, one after the other; `names` are those of the files."""
    from lnauto.report.slices import Detail

    detail = Detail.for_cases(len(parts))
    for part, name in zip(parts, names, strict=True):
        try:
            yield replace(part, **_pictures(folder, name, sources, detail))
        except InputError as error:
            missing = "Its scan or mask is no longer where it was." if anonymous else f"No pictures: {error.problems[0].what}."
            yield replace(part, missing=missing)


def _patients(path: Path) -> dict[str, dict[str, str]]:
    """The rows of `patients.csv` by patient, where there are any."""
    if not path.is_file():
        return {}
    try:
        cells, _ = read_cells(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError.of(f"the table cannot be read ({error})", path, AGAIN) from error
    rows = cells.to_dict("records")
    return {str(row.get("patient", "")): row for row in rows}


def _patient(case: str, sources: Mapping[str, Any]) -> str:
    return str(sources["cases"].get(case, {}).get("patient", case))


def _pictures(folder: Path, name: str, sources: Mapping[str, Any], detail: Detail) -> dict[str, Any]:
    from lnauto.report.slices import pictures_of

    known = sources["cases"].get(name)
    if known is None:
        raise InputError.of("its files are not named", folder / SOURCES, AGAIN)
    mask = read_mask(folder / known["mask"])  # a path that is whole stays as it is
    instances = nodes_in(mask, sources)
    if not known["images"]:
        raise InputError.of("there is no scan beside the mask", name, "give --images")
    arrays = (read_image(Path(path), mask.array.shape) for path in known["images"])
    images = list(zip(sources["channels"], arrays, strict=True))
    likely = folder / PROBABILITIES / f"{name}.nii.gz"
    probability = read_image(likely, mask.array.shape) if likely.is_file() else None
    viewer, thumbnail = pictures_of(images, instances, mask.spacing, mask.direction, detail, probability)
    return {"viewer": viewer, "thumbnail": thumbnail}


def nodes_in(mask: Mask, sources: Mapping[str, Any]) -> Array:
    """The nodes of a mask by their numbers, as the table has them."""
    how = sources["nodes"]
    values = None if how["values"] is None else frozenset(how["values"])
    meaning = Meaning(values, how["each value is a node"], frozenset(how["left out"]))
    instances = np.zeros(mask.array.shape, np.int32)
    for piece in meaning.pieces(mask):
        instances[piece.box][piece.mask] = piece.number
    return instances


def read_image(path: Path, shape: Sequence[int]) -> Array:
    """One channel of a scan, which has to be as large as its mask."""
    import SimpleITK as sitk

    if not path.is_file():
        raise InputError.of(f"{path} is no longer there", path, "put it back")
    try:
        array: Array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise InputError.of(f"{path.name} cannot be read", path, "check that it is a whole 3D image") from error
    if array.shape != tuple(shape):
        raise InputError.of(f"{path.name} has another size than the mask", path, "make the masks again")
    return array
