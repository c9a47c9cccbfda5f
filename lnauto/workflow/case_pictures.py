"""Pictures of validated cases: the scan, what a person drew, and what the fold predicted that had not seen it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import as_drawn
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme
from lnauto.evaluation.masks import Mask, read_mask
from lnauto.evaluation.matching import MIN_VOLUME_MM3, without_small
from lnauto.evaluation.pair import ALL_NODES
from lnauto.files import read_json
from lnauto.nodes import Array, Point, label_components, pieces_of, world_point
from lnauto.paths import activate
from lnauto.workflow.evaluate import JSON_NAME
from lnauto.workflow.report import read_image

if TYPE_CHECKING:
    from lnauto.report.training_page import Look

DETAIL = (24, 12, 320, "jpeg")  # slices along the axis, along each of the others, pixels, and how pictures are written
MOST_NODES = 12  # missed and false ones of a case with slices of their own, the largest
SAME = 0.01  # part by which a node's volume in the mask may differ from that in the figures
SAME_PLACE_MM = 0.5  # and by how much its middle
SHOWN = ("missed", "false", "found")

Pieces = Mapping[int, tuple[float, Point]]  # of each node's number its volume and its place


@dataclass(frozen=True)
class Wanted:
    """A case, by its name on disk and on the page."""

    case: str
    shown: str
    fold: str
    why: str


def raw_of(name: str) -> tuple[RawDataset | None, str]:
    """The raw data set, or why there are no pictures."""
    folder = activate().raw / name
    if not folder.is_dir():
        return None, "There are no pictures: the raw data set is not among the raw data."
    try:
        return RawDataset.read(folder), ""
    except InputError:
        return None, "There are no pictures: the raw data set cannot be read."


def looks_of(wanted: Sequence[Wanted], model: Path, dataset: RawDataset) -> Iterator[Look]:
    """One case after the other."""
    from lnauto.report.training_page import Look

    description = read_json(model / "dataset.json", "train again")
    scheme = LabelScheme.of_description(as_drawn(description))
    for one in wanted:
        folder = model / f"fold_{one.fold}" / "validation"
        try:
            nodes, viewer = _drawn(one.case, folder, dataset, scheme)
            yield Look(one.shown, one.why, nodes, viewer)
        except InputError as error:
            hidden = one.shown != one.case
            told = "its files are not there any more, or cannot be read" if hidden else error.problems[0].what
            yield Look(one.shown, one.why, missing=f"No pictures: {told}.")


def _drawn(case: str, folder: Path, dataset: RawDataset, scheme: LabelScheme) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The nodes that are missed or false, and what the viewer needs."""
    from lnauto.report.slices import Detail, Drawn, pictures_of

    known = {one.name: one for one in dataset.annotated_cases}.get(case)
    if known is None or known.label is None:
        raise InputError.of("the case is not in the raw data set", case, "put it back")
    path = folder / f"{case}{dataset.file_ending}"
    if not path.is_file():
        raise InputError.of("its predicted mask is not there", path, "validate again")
    predicted, truth = read_mask(path), read_mask(known.label)
    if not predicted.lies_on(truth):
        raise InputError.of("its mask lies on another grid than what was drawn", path, "validate again")
    fewest = MIN_VOLUME_MM3 / float(np.prod(truth.spacing))
    sides = {"drawn": _numbered(truth, scheme), "node": without_small(_numbered(predicted, scheme), fewest)[0]}
    nodes = _fates(folder, case, {kind: _pieces(side, truth) for kind, side in sides.items()})
    images = [
        (channel, read_image(path, truth.array.shape))
        for channel, path in zip(dataset.channel_names.values(), known.images, strict=True)
    ]
    kept = {kind: frozenset(node["number"] for node in nodes if node["kind"] == kind and node["shown"]) for kind in sides}
    beside = Drawn(sides["drawn"], kept["drawn"], kept["node"])
    return nodes, pictures_of(images, sides["node"], truth.spacing, truth.direction, Detail(*DETAIL), drawn=beside)[0]


def _numbered(mask: Mask, scheme: LabelScheme) -> Array:
    """The nodes of a mask, numbered as evaluation numbers them."""
    if scheme.instances:
        where = (mask.array > 0) & (mask.array != scheme.ignore) if scheme.ignore is not None else mask.array > 0
    else:
        where = np.logical_or.reduce([label.mask(mask.array) for label in scheme.nodes])
    return label_components(where)[0]


def _pieces(side: Array, grid: Mask) -> Pieces:
    voxel, found = float(np.prod(grid.spacing)), {}
    for piece in pieces_of(side):
        count, centroid = piece.voxels_and_centroid()
        found[piece.number] = count * voxel, world_point(centroid, grid.spacing, grid.origin, grid.direction)
    return found


def _fates(folder: Path, case: str, sides: Mapping[str, Pieces]) -> list[dict[str, Any]]:
    """What the figures say of each node; only those that are found again in the masks can be shown."""
    content = read_json(folder / JSON_NAME, "validate again")
    told: Mapping[str, Any] = next((one["nodes"].get(ALL_NODES, {}) for one in content["each_case"] if one["case"] == case), {})
    nodes = [("drawn", "found" if node["found"] else "missed", node) for node in told.get("true_nodes", ())]
    nodes += [("node", "false", node) for node in told.get("false_nodes", ())]
    rows: list[dict[str, Any]] = []
    for kind, fate, node in nodes:
        number = _number_in(sides[kind], node)
        known = {"number": int(node["number"]) if number is None else number, "shown": number is not None}
        rows.append({"kind": kind, "is": fate, **known, **_measures(node)})
    rows.sort(key=lambda row: (SHOWN.index(row["is"]), -row["volume_mm3"]))
    for place, row in enumerate(rows):
        row["shown"] = row["shown"] and place < MOST_NODES
    return rows


def _number_in(pieces: Pieces, node: Mapping[str, Any]) -> int | None:
    """The piece that a node of the figures is: they were taken of masks that were turned, and of judged voxels alone, where equal
    volumes may be numbered in another order."""
    place, volume = node["centroid_mm"], float(node["volume_mm3"])
    for number, (own, centroid) in pieces.items():
        here = number == node["number"] if place is None else math.dist(centroid, place) <= SAME_PLACE_MM
        if here and abs(own - volume) <= SAME * volume:
            return number
    return None


def _measures(node: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(node[key]) for key in ("short_axis_mm", "volume_mm3")}
