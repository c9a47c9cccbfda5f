"""`report.html`: the page of a folder of predicted or measured masks."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lnauto.errors import InputError
from lnauto.evaluation.masks import read_mask
from lnauto.files import read_json, write_json, write_text
from lnauto.nodes import Array
from lnauto.workflow.mask_values import Meaning
from lnauto.workflow.upright import upright

log = logging.getLogger(__name__)

PAGE, SOURCES, NODES, PATIENTS, RUN = "report.html", "sources.json", "nodes.json", "patients.csv", "run.json"
PROBABILITIES = "probabilities"
AGAIN = "make it again with lnauto_predict or lnauto_measure"


def write_sources(
    folder: Path, masks: Mapping[str, Path], images: Mapping[str, Sequence[Path]], channels: Sequence[str], meaning: Meaning
) -> None:
    """What the page is made from, beside the tables: where each case's mask and scan lie, and which values are nodes."""
    cases = {
        name: {"mask": _told(mask, folder), "images": [str(path.resolve()) for path in images.get(name, ())]}
        for name, mask in masks.items()
    }
    values = None if meaning.values is None else sorted(meaning.values)
    how = {"each value is a node": meaning.instances, "values": values, "left out": sorted(meaning.left_out)}
    write_json(folder / SOURCES, {"channels": list(channels), "nodes": how, "cases": cases})


def _told(path: Path, folder: Path) -> str:
    """Relative where it lies in the folder, which may be moved."""
    whole = path.resolve()
    return str(whole.relative_to(folder.resolve())) if whole.is_relative_to(folder.resolve()) else str(whole)


def report(folder: Path, anonymous: bool = False, quiet: bool = False) -> Path:
    """Write the page of a folder; returns where it is.

    Args:
        anonymous: cases are numbered instead of named, and no path is told.
    """
    from lnauto.report.prediction_page import Story, prediction_page

    for name in (NODES, SOURCES):
        if not (folder / name).is_file():
            what = f"there is no {name}, so that this is no folder of predicted or measured masks"
            raise InputError.of(what, folder, "give the folder that lnauto_predict or lnauto_measure wrote")
    table, sources = read_json(folder / NODES, AGAIN), read_json(folder / SOURCES, AGAIN)
    run = read_json(folder / RUN, AGAIN) if (folder / RUN).is_file() else {}
    failed = run.get("failed", [])
    if anonymous:
        failed = [f"{len(failed)} of the scans"] if failed else []
    story = Story(folder.resolve().name if not anonymous else "Lymph nodes", _made_by(run, table, anonymous), failed)
    parts = _parts(folder, table["cases"], sources, anonymous)
    with tqdm(parts, total=len(table["cases"]), desc="Drawing", unit="case", disable=quiet, delay=2) as bar:
        text = prediction_page(story, bar)
    try:
        write_text(folder / PAGE, text)
    except OSError as error:
        raise InputError.of(f"the page cannot be written ({error.strerror or error})", folder / PAGE, "check the disk") from error
    log.info("A page to look at: %s", folder / PAGE)
    return folder / PAGE


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


def _parts(folder: Path, cases: Sequence[Mapping[str, Any]], sources: Mapping[str, Any], anonymous: bool) -> Iterator[Any]:
    from lnauto.report.prediction_page import CasePart
    from lnauto.report.slices import slices_allowed

    patients = _patients(folder / PATIENTS)
    most = slices_allowed(len(cases))
    for number, case in enumerate(cases, start=1):
        name = case["case"]
        shown = f"case {number}" if anonymous else name
        part = {"name": shown, "nodes": case["each_node"], "patient": patients.get(name, {})}
        try:
            yield CasePart(**part, **_pictures(folder, name, sources, most))
        except InputError as error:
            missing = "Its scan or mask is no longer where it was." if anonymous else f"No pictures: {error.problems[0].what}."
            yield CasePart(**part, missing=missing)


def _patients(path: Path) -> dict[str, dict[str, str]]:
    """The rows of `patients.csv` by case, where there are any."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row.get("case") or row.get("patient") or "": row for row in rows}


def _pictures(folder: Path, name: str, sources: Mapping[str, Any], most: int) -> dict[str, Any]:
    from lnauto.report.slices import Layer, draw_case, thumbnail, windows_for

    known = sources["cases"].get(name)
    if known is None:
        raise InputError.of("its files are not named", folder / SOURCES, AGAIN)
    mask = read_mask(folder / known["mask"])  # a path that is whole stays as it is
    how = sources["nodes"]
    values = None if how["values"] is None else frozenset(how["values"])
    meaning = Meaning(values, how["each value is a node"], frozenset(how["left out"]))
    instances = np.zeros(mask.array.shape, np.int32)
    for piece in meaning.pieces(mask):
        instances[piece.box][piece.mask] = piece.number
    order, flipped = upright(mask.direction)
    spacing = [mask.spacing[axis] for axis in order]

    def turned(array: Array) -> Array:
        return np.flip(array.transpose(order), flipped)

    images = [read_image(Path(path), mask.array.shape) for path in known["images"]]
    if not images:
        raise InputError.of("there is no scan beside the mask", name, "give --images")
    layers = [
        Layer(turned(image), window)
        for channel, image in zip(sources["channels"], images, strict=True)
        for window in windows_for(channel, image)
    ]
    likely = folder / PROBABILITIES / f"{name}.nii.gz"
    probability = turned(read_image(likely, mask.array.shape)) if likely.is_file() else None
    instances = turned(instances)
    return {
        "viewer": draw_case(layers, instances, spacing, most, probability),
        "thumbnail": thumbnail(layers[0], instances, spacing),
    }


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
