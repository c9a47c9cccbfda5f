"""What is drawn, as one mask of numbered objects on the grid of the images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lnauto.dicom.choosing import compiled
from lnauto.dicom.damage import told_as_damaged
from lnauto.dicom.geometry import Array
from lnauto.dicom.listing import Contents, Drawing, Series
from lnauto.errors import InputError
from lnauto.nodes import names_nodes

log = logging.getLogger(__name__)

MOST_TOLD = 10  # names of objects that are left out; some hold a hundred organs


@dataclass(frozen=True, eq=False)
class Mask:
    """Numbered objects (0 is background) on the grid of `series`; object N is called `names[N - 1]`."""

    instances: sitk.Image
    names: tuple[str, ...]
    series: Series


@dataclass(frozen=True, eq=False)
class Drawn:
    """One object: its name, and its pixels (y, x) in each slice it is drawn in; whole volumes of many would fill the memory."""

    name: str
    planes: dict[int, Array]


def read_mask(drawings: Sequence[Drawing], contents: Contents, pattern: str = "", among: Sequence[Series] | None = None) -> Mask:
    """The objects of one or several SEG and RTSTRUCT objects whose names match `pattern` in full, whatever their capitals.

    Without a pattern: those whose names or codes say lymph node, or the only one there is. Where objects overlap, the smaller one
    keeps the voxels, and a line of the log says so.
    """
    from lnauto.dicom.rtstruct import read_rtstruct
    from lnauto.dicom.seg import read_seg

    drawn: list[Drawn] = []
    found: list[Series] = []
    for drawing in drawings:
        read = read_seg if drawing.kind == "SEG" else read_rtstruct
        with told_as_damaged(f"the {drawing.kind} is cut off or damaged", drawing.path, "fetch or export it again"):
            series, objects = read(drawing, contents.series if among is None else among, pattern)
        found.append(series)
        drawn += objects
    if len({series.uid for series in found}) > 1:
        what = f"the masks were drawn on different series ({', '.join(series.uid for series in found)})"
        raise InputError.of(what, contents.folder, "choose masks of one series")
    grid = found[0].grid
    where = ", ".join(drawing.path.name for drawing in drawings)
    instances = number(drawn, grid.size[::-1], where)
    return Mask(grid.image(instances), tuple(one.name for one in drawn), found[0])


def wanted(names: Sequence[str], pattern: str, path: Path, coded: Collection[int] = ()) -> list[int]:
    """Which of the names (counted from 0) are asked for; `coded` are those coded as lymph nodes."""
    there = ", ".join(names) or "none"
    if pattern:
        expression = compiled(pattern, "--roi")
        chosen = [place for place, name in enumerate(names) if expression.fullmatch(name.strip())]
        if not chosen:
            raise InputError.of(f"no object's name is {pattern} (there: {there})", path, "correct the pattern (--roi)")
        return chosen
    chosen = [place for place, name in enumerate(names) if place in coded or names_nodes(name)]
    if not chosen and len(names) == 1:
        return [0]
    if not chosen:
        what = f"no object's name says lymph node (there: {there})"
        raise InputError.of(what, path, "name those that are meant by a pattern (--roi)")
    _tell_left_out([name for place, name in enumerate(names) if place not in chosen], path)
    return chosen


def _tell_left_out(names: Sequence[str], path: Path) -> None:
    if names:
        more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
        told = ", ".join(names[:MOST_TOLD]) + more
        log.info("%s: left out, as their names do not say lymph node: %s (--roi takes them).", path, told)


def number(drawn: Sequence[Drawn], shape: tuple[int, ...], where: str) -> Array:
    """Objects numbered in their order; the largest is laid down first, so that a smaller one keeps what both claim."""
    sizes = [sum(int(np.count_nonzero(plane)) for plane in one.planes.values()) for one in drawn]
    numbers = np.zeros(shape, np.uint8 if len(drawn) < 256 else np.uint16)
    for place in sorted(range(len(drawn)), key=lambda place: -sizes[place]):
        shared: Counter[int] = Counter()
        for z, plane in drawn[place].planes.items():
            found, counts = np.unique(numbers[z][plane], return_counts=True)
            shared.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
            numbers[z][plane] = place + 1
        for other in sorted(set(shared) - {0}):
            log.info(
                "%s: %s and %s overlap in %d voxels; they are given to %s, the smaller one.",
                where, drawn[other - 1].name, drawn[place].name, shared[other], drawn[place].name,
            )  # fmt: skip
    for place, one in enumerate(drawn):
        if not any((numbers[z] == place + 1).any() for z in one.planes):
            log.warning("%s: %s holds no voxel%s.", where, one.name, " of its own" if sizes[place] else "")
    return numbers
