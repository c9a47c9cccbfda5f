"""`nodes.csv` and `nodes.json`: every node of every mask, where it lies, how large it is, what the scan shows there, and what a
patient head says of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnauto import __version__
from lnauto.data.raw import Case
from lnauto.data.scans import shows_pet
from lnauto.evaluation.labels import LabelScheme
from lnauto.files import csv_text, write_json, write_text
from lnauto.nodes import PERCENTILES, Array, Intensity, Node, Piece, component_pieces, measure_piece, pieces_of

if TYPE_CHECKING:
    from lnauto.workflow.head_predict import NodeReading

log = logging.getLogger(__name__)

PLACE = {
    **{f"centroid_{axis}_voxel": ("voxel", f"mean {axis} index of its voxels in the mask's file, from 0") for axis in "xyz"},
    "centroid_x_mm": ("mm", "mean position of its voxels in the world, LPS: x grows to the patient's left"),
    "centroid_y_mm": ("mm", "the same: y grows to the patient's back"),
    "centroid_z_mm": ("mm", "the same: z grows to the patient's head"),
}
SIZE = {
    "voxels": ("voxel", "number of its voxels"),
    "volume_mm3": ("mm3", "its voxels times the volume of one"),
    "long_axis_mm": (
        "mm",
        "in the axial slice where it is longest: the largest distance between two pixel centres plus one pixel",
    ),
    "short_axis_mm": (
        "mm",
        "in the same slice, its extent at right angles to the long axis, from pixel centre to centre plus one",
    ),
}
STATION = {"station": ("name", "that of the station map with most of its voxels")}
HEAD = {
    "probability": ("1", "of metastasis, of this node alone, by the patient head; not calibrated"),
    "attention": ("1", "its share in the patient head's answer"),
}
STATISTICS = {"mean": "mean", **{f"p{percent}": f"{percent}th percentile" for percent in PERCENTILES}, "max": "highest value"}
CELLS = {"mm": ".2f", "mm3": ".2f", "voxel": ".2f", "1": ".4f"}  # how numbers of a unit are written into the CSV


@dataclass(frozen=True)
class MeasuredCase:
    """A mask's nodes and its grid, x first."""

    case: str
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    nodes: tuple[Node, ...]


class NodeTable(list[Node]):
    """The nodes of all cases, with what is known of each case, one without nodes too."""

    def __init__(self, cases: Sequence[MeasuredCase] = (), channels: Sequence[str] = ()) -> None:
        super().__init__(node for case in cases for node in case.nodes)
        self.cases = tuple(cases)
        self.channels = tuple(channels)  # as columns name them


def measure_masks(
    masks: Mapping[str, Path], description: Mapping[str, Any], images: Sequence[Case] = (), numbered: bool = False
) -> NodeTable:
    """Every node of every mask; with the cases' `images`, which lie on the masks' grids, also what each channel shows there.

    A node is a connected piece, or, in masks that are `numbered`, a value.
    """
    import SimpleITK as sitk

    scheme = LabelScheme.of_description(description)
    values = [value for label in scheme.nodes for value in label.values]
    channels = column_channels(list(description["channel_names"].values())) if images else []
    files = {case.name: case.images for case in images}
    measured = []
    for case, path in masks.items():
        mask = sitk.ReadImage(str(path))
        drawn = sitk.GetArrayViewFromImage(mask)
        pieces = list(pieces_of(drawn)) if numbered else component_pieces(where_any(drawn, values))
        shown = _arrays(dict(zip(channels, files[case], strict=True)), mask.GetSize()) if images else ()
        measured.append(
            measure_pieces(case, pieces, mask.GetSpacing(), mask.GetSize(), mask.GetOrigin(), mask.GetDirection(), shown)
        )
    return NodeTable(measured, channels)


def _arrays(files: Mapping[str, Path], size: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """One after the other, so that only one image is in memory. One that has gone or changed since its mask was made leaves its
    columns empty: the table is the last step of a long prediction, which should not fail for it."""
    import SimpleITK as sitk

    for channel, path in files.items():
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError:
            log.warning("%s cannot be read, so the node table does not say what nodes show there.", path)
            continue
        if image.GetSize() != size:
            log.warning("%s has another size than its mask, so the node table does not say what nodes show there.", path)
            continue
        yield channel, sitk.GetArrayViewFromImage(image)
        del image


def measure_pieces(
    case: str,
    pieces: Sequence[Piece],
    spacing: Sequence[float],
    size: Sequence[int],
    origin: Sequence[float],
    direction: Sequence[float],
    channels: Iterable[tuple[str, Array]] = (),
) -> MeasuredCase:
    """A case's nodes on a grid given as SimpleITK gives it, x first, and what each of its `channels` shows there."""
    grid: dict[str, Any] = {"case": case, "origin": origin, "direction": direction}
    shown: list[tuple[Intensity, ...]] = [()] * len(pieces)
    for channel, image in channels:
        shown = [(*known, piece.intensity(image, channel)) for known, piece in zip(shown, pieces, strict=True)]
    nodes = (
        replace(measure_piece(piece, tuple(spacing)[::-1], **grid), intensities=known)
        for piece, known in zip(pieces, shown, strict=True)
    )
    return MeasuredCase(case, tuple(size), tuple(spacing), tuple(nodes))


def where_any(array: Array, values: Collection[int]) -> NDArray[np.bool_]:
    """Where the array holds one of the values; slab by slab, because NumPy looks many values up with 8 bytes a voxel."""
    found = np.zeros(array.shape, bool)
    for slab, chosen in zip(array, found, strict=True):
        chosen[:] = np.isin(slab, list(values))
    return found


def column_channels(names: Sequence[str]) -> list[str]:
    """What columns call the channels: PET is SUV, and names that stand there twice get their channel's number."""
    words = ["SUV" if shows_pet(name) else re.sub(r"\W+", "_", name).strip("_") or "channel" for name in names]
    return [f"{word}_{number:04d}" if words.count(word) > 1 else word for number, word in enumerate(words)]


def write_nodes(nodes: NodeTable, told: Mapping[tuple[str, int], NodeReading], path: Path) -> None:
    """The table as CSV, and beside it as JSON. `told` is what a patient head says of nodes; without one there are no such
    columns."""
    measures = _measures(nodes, bool(told))
    rows = [(node, _values(node, told.get((node.case, node.number)))) for node in nodes]
    lines = [["case", "node", *measures]]
    for node, values in rows:
        cells = (_cell(values.get(column), unit) for column, (unit, _) in measures.items())
        lines.append([node.case, str(node.number), *cells])
    write_text(path, csv_text(lines))
    by_case: dict[str, list[dict[str, Any]]] = {case.case: [] for case in nodes.cases}
    for node, values in rows:
        by_case[node.case].append({"node": node.number, **{column: _plain(values.get(column)) for column in measures}})
    content = {
        "made_by": {"lnauto": __version__},
        "measures": {column: {"unit": unit, "how": how} for column, (unit, how) in measures.items()},
        "cases": [{**_facts(case), "each_node": by_case[case.case]} for case in nodes.cases],
    }
    write_json(path.with_suffix(".json"), content)


def _measures(nodes: NodeTable, with_head: bool) -> dict[str, tuple[str, str]]:
    """The columns after case and node: unit, and how it is measured."""
    shown = {}
    for channel in nodes.channels:
        unit, taken = ("SUV", ", which is taken for SUV") if channel.startswith("SUV") else ("as in the image", "")
        for short, words in STATISTICS.items():
            shown[f"{short}_{channel}"] = (unit, f"{words} over its voxels, of the image as it is stored{taken}")
    station = STATION if any(node.station for node in nodes) else {}
    return {**PLACE, **SIZE, **station, **shown, **(HEAD if with_head else {})}


def _values(node: Node, said: NodeReading | None) -> dict[str, Any]:
    """What is known of a node, by column."""
    values: dict[str, Any] = {
        "voxels": node.voxels,
        "volume_mm3": node.volume_mm3,
        "long_axis_mm": node.long_axis_mm,
        "short_axis_mm": node.short_axis_mm,
        "station": node.station,
    }
    for unit, point in (("voxel", node.centroid_voxel), ("mm", node.centroid_mm)):
        values |= {f"centroid_{axis}_{unit}": place for axis, place in zip("xyz", point or (), strict=False)}
    for one in node.intensities:
        numbers = (one.mean, *one.percentiles, one.highest)
        values |= {f"{short}_{one.channel}": number for short, number in zip(STATISTICS, numbers, strict=True)}
    return values if said is None else {**values, "probability": said.probability, "attention": said.attention}


def _facts(case: MeasuredCase) -> dict[str, Any]:
    volume = sum(node.volume_mm3 for node in case.nodes)
    return {
        "case": case.case,
        "size_voxel": list(case.size),
        "spacing_mm": [_plain(step) for step in case.spacing_mm],
        "nodes": len(case.nodes),
        "total_volume_mm3": _plain(volume),
    }


def _cell(value: Any, unit: str) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int | str) else format(value, CELLS.get(unit, ".6g"))


def _plain(value: Any) -> Any:
    """Without digits that are rounding errors."""
    return float(f"{value:.9g}") if isinstance(value, float) else value
