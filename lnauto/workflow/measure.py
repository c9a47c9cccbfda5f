"""`lnauto_measure`: the node table of masks that are there already, drawn or predicted, and a picture of each case."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from tqdm import tqdm

from lnauto.data.checks import mask_faults, scan_faults
from lnauto.data.scans import upright
from lnauto.errors import InputError, Problem
from lnauto.evaluation.comparators import SHORT_AXIS_MM
from lnauto.evaluation.masks import Mask, grid_of, read_mask
from lnauto.files import read_json
from lnauto.nodes import Array, Piece
from lnauto.workflow.mask_values import REMEDY, Meaning, find_description, meaning_of
from lnauto.workflow.node_table import MeasuredCase, NodeTable, column_channels, measure_pieces, write_nodes
from lnauto.workflow.report import try_report, write_sources
from lnauto.workflow.station_map import StationMaps

log = logging.getLogger(__name__)

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
CHANNEL = re.compile(r"_(\d{4})$")
TABLE = "nodes.csv"
OVERLAYS = "overlays"
WHOLE = "check that it is a whole 3D image"
AIR_HU = -500  # no image but a CT goes below
MOST_CHANNELS = 10  # looked for where nobody says how many there are
BLACK = np.int16(-1000)

Scans = Mapping[str, Path]  # a case's files by channel, as columns name it


@dataclass(frozen=True)
class Request:
    """What the command line asks of a measurement."""

    kind: str = "auto"
    labels: Collection[int] | None = None
    channels: Sequence[str] | None = None
    stations: Path | None = None  # maps of lymph-node stations
    overwrite: bool = False
    report: bool = True
    quiet: bool = False


def measure(masks: Path, images: Path | None, output: Path, request: Request) -> tuple[NodeTable, list[Problem]]:
    """Write `nodes.csv`, `nodes.json` and `overlays/`; returns the nodes, and what went wrong with single cases."""
    found = _files(masks, "-i")
    if images is not None and images.is_dir() and images.resolve() == masks.resolve():
        raise InputError.of("the masks and the scans are in one folder", masks, "give single files, or put them into two folders")
    _check_free(output, found, request.overwrite)
    scans, channels, problems = ({}, [], []) if images is None else _scans(found, images, _names(masks, images, request))
    stations = StationMaps({}, {}) if request.stations is None else _stations(found, request.stations)
    failed = {problem.where for problem in problems}
    waiting = {case: path for case, path in found.items() if _where(case) not in failed}
    if not waiting:
        raise InputError(problems)
    meaning = meaning_of(waiting, find_description(masks), request.kind, request.labels, request.quiet)
    measured = []
    for case, path in tqdm(waiting.items(), desc="Measuring", unit="case", disable=request.quiet):
        try:
            picture = output / OVERLAYS / f"{case}.png"
            measured.append(_measure_case(case, path, scans.get(case, {}), meaning, stations, picture))
        except InputError as error:
            problems += error.problems
        except MemoryError:
            problems.append(Problem("the memory of this machine does not hold it", _where(case), "measure it elsewhere"))
    if not measured:
        raise InputError(problems)
    table = NodeTable(measured, channels)
    try:
        write_nodes(table, {}, output / TABLE)
        shown = {case: list(files.values()) for case, files in scans.items()}
        write_sources(output, {case.case: waiting[case.case] for case in measured}, shown, channels, meaning)
    except OSError as error:
        raise _unwritten(error, output) from error
    if request.report:
        problems += try_report(output, request.quiet)
    log.info("Tables and pictures of %d of %d cases are in %s.", len(measured), len(found), output)
    return table, problems


def summary(table: NodeTable) -> str:
    """The table in four lines."""
    short = [node.short_axis_mm for node in table]
    rows = {
        "cases": f"{len(table.cases)}",
        "nodes": f"{len(short)}",
        "median short axis": f"{median(short):.1f} mm" if short else "-",
        f"short axis from {SHORT_AXIS_MM:g} mm": f"{sum(one >= SHORT_AXIS_MM for one in short)}",
    }
    return "\n".join(f"{title:24}{value:>10}" for title, value in rows.items())


def _files(place: Path, flag: str) -> dict[str, Path]:
    """Images by name without their ending: those directly in a folder, or one file."""
    if not place.exists():
        raise InputError.of("there is no such file or folder", place, f"check the path given with {flag}")
    found: dict[str, Path] = {}
    for path in [place] if place.is_file() else sorted(place.iterdir()):
        ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), None)
        if ending is None or path.name.startswith("."):
            continue
        name = path.name.removesuffix(ending)
        if name in found:
            raise InputError.of(f"there are two files of {name} ({found[name].name}, {path.name})", place, "keep one of them")
        found[name] = path
    if not found:
        raise InputError.of(f"there is no image ({', '.join(ENDINGS)})", place, f"give a folder of images, or one, with {flag}")
    return found


def _check_free(output: Path, cases: Collection[str], overwrite: bool) -> None:
    if output.is_file():
        raise InputError.of("this is a file, no folder", output, "give a folder with -o")
    files = [output / TABLE, (output / TABLE).with_suffix(".json"), *(output / OVERLAYS / f"{case}.png" for case in cases)]
    there = [path for path in files if path.exists()]
    if there and not overwrite:
        raise InputError.of("there are results already", there[0], "give another folder with -o, or add --overwrite")


def _names(masks: Path, images: Path, request: Request) -> list[str]:
    """What channels are called: as said, else as `dataset.json` says; empty: not known."""
    if request.channels is not None:
        return list(request.channels)
    path = find_description(masks, images)
    content = read_json(path, REMEDY) if path is not None else None
    named = content.get("channel_names") if isinstance(content, dict) else None
    return [str(name) for name in named.values()] if isinstance(named, dict) else []


def _scans(cases: Collection[str], images: Path, names: list[str]) -> tuple[dict[str, Scans], list[str], list[Problem]]:
    """Every case's files by channel, all channels, and what is missing."""
    files = _files(images, "--images")
    if images.is_file():
        if len(cases) > 1:
            raise InputError.of(f"this is one scan, of {len(cases)} masks", images, "give the folder of the scans")
        (case,), ((stem, path),) = cases, files.items()
        number = int(match[1]) if (match := CHANNEL.search(stem)) and len(names) > 1 else 0
        columns = column_channels(names[number : number + 1] or ["image"])
        return {case: {columns[0]: path}}, columns, []
    there = {case: _channels_of(case, files, len(names) or MOST_CHANNELS) for case in cases}
    most = max((number + 1 for numbers in there.values() for number in numbers), default=1)
    names = names or (["image"] if most == 1 else [f"channel {number}" for number in range(most)])
    columns, found, problems = column_channels(names), dict[str, Scans](), list[Problem]()
    for case, numbers in there.items():
        if len(numbers) == len(names):
            found[case] = {columns[number]: path for number, path in numbers.items()}
            continue
        missing = ", ".join(f"{number:04d} ({name})" for number, name in enumerate(names) if number not in numbers)
        what = f"there is no file of channel {missing}" if numbers else f"there is no scan of this case in {images}"
        problems.append(Problem(what, _where(case), f"add {case}_0000.nii.gz and so on, or leave the mask out"))
    return found, columns, problems


def _channels_of(case: str, files: Mapping[str, Path], most: int) -> dict[int, Path]:
    numbered = {number: files[name] for number in range(most) if (name := f"{case}_{number:04d}") in files}
    return numbered or ({0: files[case]} if case in files else {})


def _stations(cases: Collection[str], place: Path) -> StationMaps:
    files = _files(place, "--stations")
    if place.is_file():
        if len(cases) > 1:
            raise InputError.of(f"this is one station map, of {len(cases)} masks", place, "give the folder of the maps")
        files = dict(zip(cases, files.values(), strict=True))
    return StationMaps.described(files)


def _where(case: str) -> str:
    return f"case {case}"


def _measure_case(case: str, path: Path, scans: Scans, meaning: Meaning, stations: StationMaps, picture: Path) -> MeasuredCase:
    """One case, and its picture."""
    if faults := mask_faults(path):
        raise InputError.of(faults[0], path, WHOLE)
    mask = read_mask(path)
    _check_scans(case, scans, mask)
    pieces = meaning.pieces(mask)
    places = stations.of_nodes(case, pieces, mask)
    grid = (mask.spacing[::-1], mask.array.shape[::-1], mask.origin, mask.direction)
    shown = _shown(scans, mask, pieces, picture, f"{case}: {len(pieces)} nodes")
    measured = measure_pieces(case, pieces, *grid, shown)
    nodes = (replace(node, station=station) for node, station in zip(measured.nodes, places, strict=True))
    return replace(measured, nodes=tuple(nodes))


def _check_scans(case: str, scans: Scans, mask: Mask) -> None:
    """All that is wrong with a case's scans; only headers stay in memory."""
    problems = []
    for path in scans.values():
        if faults := scan_faults(path):
            problems.append(Problem(faults[0], str(path), WHOLE))
            continue
        scan = grid_of(path)
        if not scan.lies_on(mask):
            what = f"{path.name} has another grid ({scan.grid()}) than the mask ({mask.grid()})"
            problems.append(Problem(what, _where(case), "draw or resample the mask on the scan's grid"))
    if problems:
        raise InputError(problems)


def _shown(scans: Scans, mask: Mask, pieces: Sequence[Piece], picture: Path, title: str) -> Iterator[tuple[str, Array]]:
    """The scans' voxels, one after the other so that only one is in memory; the first of them is drawn."""
    import SimpleITK as sitk

    if not scans:
        _draw(np.broadcast_to(BLACK, mask.array.shape), mask, pieces, picture, title)
    for number, (channel, path) in enumerate(scans.items()):
        image = sitk.ReadImage(str(path))
        voxels = sitk.GetArrayViewFromImage(image)
        if number == 0:
            _draw(voxels, mask, pieces, picture, title)
        yield channel, voxels
        del voxels, image


def _draw(image: Array, mask: Mask, pieces: Sequence[Piece], path: Path, title: str) -> None:
    """As a radiologist looks at it, however the array lies."""
    from lnauto.report.overlay import draw_overlay

    nodes = np.zeros(mask.array.shape, bool)
    for piece in pieces:
        nodes[piece.box] |= piece.mask
    order, flipped = upright(mask.direction)
    spacing = [mask.spacing[axis] for axis in order]
    shown, drawn = (np.flip(array.transpose(order), flipped) for array in (image, nodes))
    is_ct = bool(image.min() <= AIR_HU)
    try:
        draw_overlay(shown, drawn, spacing, path, title.replace("$", r"\$"), is_ct=is_ct, predicted_is="node")
    except OSError as error:
        raise _unwritten(error, path) from error


def _unwritten(error: OSError, place: Path) -> InputError:
    return InputError.of(f"the results cannot be written ({error.strerror or error})", place, "name another folder with -o")
