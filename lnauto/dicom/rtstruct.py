"""RTSTRUCT: contours, filled on the slices they were drawn on."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from lnauto.dicom.geometry import Array, Grid
from lnauto.dicom.listing import Drawing, Series
from lnauto.dicom.masks import Drawn, wanted
from lnauto.dicom.references import absent, drawn_on
from lnauto.errors import InputError

log = logging.getLogger(__name__)

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
ON_IT = 0.02  # pixels that a corner may lie beside a centre: coordinates are often rounded to 0.01 mm
FEWEST_STRIPES = 3  # slices; two that do not touch may be two nodes
OFF_PLANE = 0.5  # slices; a contour is meant to be flat, and to lie on the slice it refers to
STRIPED = (
    "%s: its contours are %s slices apart, so it becomes stripes; fill the slices between in the program it was drawn with, and "
    "export it again."
)


def read_rtstruct(drawing: Drawing, series: Sequence[Series], pattern: str = "") -> tuple[Series, list[Drawn]]:
    """The series it was drawn on, and its chosen objects on that series' grid."""
    dataset = pydicom.dcmread(drawing.path)
    rois = {int(roi.ROINumber): str(roi.get("ROIName") or roi.ROINumber) for roi in dataset.get("StructureSetROISequence") or []}
    contours: dict[int, list[Dataset]] = {}
    for item in dataset.get("ROIContourSequence") or []:  # an ROI may have several
        contours.setdefault(int(item.ReferencedROINumber), []).extend(item.get("ContourSequence") or [])
    instances = {uid for items in contours.values() for contour in items for uid in _images(contour)}
    found = drawn_on(drawing, series, instances, dataset)
    numbers = list(rois)
    chosen = [numbers[place] for place in wanted(list(rois.values()), pattern, drawing.path)]
    used = {uid for number in chosen for contour in contours.get(number, []) for uid in _images(contour)}
    if missing := used - found.instances:
        raise absent(missing, drawing, found)
    grid, slices = found.lay_out()
    places = {frame.instance: place for place, frame in enumerate(slices)} if len(found.instances) == len(slices) else {}
    return found, [
        Drawn(rois[number], _fill_all(contours.get(number, []), grid, places, f"{rois[number]} of {drawing.path}"))
        for number in chosen
    ]


def _images(contour: Dataset) -> Iterator[str]:
    yield from (str(item.ReferencedSOPInstanceUID) for item in contour.get("ContourImageSequence") or [])


def _fill_all(contours: Sequence[Dataset], grid: Grid, places: dict[str, int], where: str) -> dict[int, Array]:
    """All contours of an object, slice by slice; what lies in two of one slice is a hole, as within the inner of two rings."""
    columns, rows, _ = grid.size
    by_slice: dict[int, dict[bytes, Array]] = {}
    others = 0
    for contour in contours:
        if str(contour.get("ContourGeometricType")) not in CLOSED:
            others += 1
            continue
        points = grid.index_of(np.array(contour.ContourData, float).reshape(-1, 3))
        place = _place(contour, points[:, 2], grid, places, where)
        by_slice.setdefault(place, {})[points.tobytes()] = points[:, :2]  # one that stands there twice would undo itself
    if others:
        log.info("%s: %d points or open lines are left out; only closed contours make a mask.", where, others)
    _tell_stripes(sorted(by_slice), where)
    return {place: fill(list(polygons.values()), (rows, columns)) for place, polygons in by_slice.items()}


def _tell_stripes(slices: Sequence[int], where: str) -> None:
    """Who draws on every second or third slice means those between, too."""
    apart = np.diff(slices)
    if len(slices) >= FEWEST_STRIPES and apart.min() > 1:
        steps = f"{apart.min()}" if apart.min() == apart.max() else f"{apart.min()} to {apart.max()}"
        log.warning(STRIPED, where, steps)


def _place(contour: Dataset, heights: Array, grid: Grid, places: dict[str, int], where: str) -> int:
    referred = next((places[uid] for uid in _images(contour) if uid in places), None)
    middle = float(np.median(heights))
    near = grid.slice_near(middle) if referred is None else referred
    if near is None:
        what = f"a contour lies on no slice of the series (at slice {middle + 1:.2f} of {grid.size[2]})"
        raise InputError.of(what, where, "draw it on the slices of its series")
    if np.abs(heights - near).max() > OFF_PLANE:
        what = f"a contour leaves slice {near + 1} by {np.abs(heights - near).max() * grid.spacing[2]:.1f} mm"
        raise InputError.of(what, where, "draw it on the slices of its series")
    return near


def fill(polygons: Sequence[Array], shape: tuple[int, int]) -> Array:
    """The pixels whose centres lie within an odd number of polygons, each given as corners (column, row).

    Many programs draw from centre to centre of a mask's outermost pixels, and round a hole from centre to centre of those that
    enclose it: where all corners of a polygon are centres, the pixels it passes are part of the mask, on all sides.
    """
    rows, columns = shape
    crossings = np.zeros((rows, columns + 1), np.int32)
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        from_centre_to_centre = bool((np.abs(polygon - np.round(polygon)) <= ON_IT).all())
        if from_centre_to_centre:
            polygon = np.round(polygon)
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if from_centre_to_centre:
                _mark_centres(inside, (int(x0), int(y0)), (int(x1), int(y1)))
            if y0 == y1:
                continue
            low, high = sorted((y0, y1))
            on = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), rows))  # rows at or above low, and below high
            at = x0 + (on - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(crossings, (on, np.clip(np.ceil(at), 0, columns).astype(int)), 1)
    inside |= np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    return inside


def _mark_centres(inside: Array, start: tuple[int, int], end: tuple[int, int]) -> None:
    """The pixels on whose centres a straight line from one pixel's centre to another's lies."""
    across, down = end[0] - start[0], end[1] - start[1]
    steps = max(math.gcd(across, down), 1)
    x, y = (start[axis] + np.arange(steps + 1) * (way // steps) for axis, way in enumerate((across, down)))
    rows, columns = inside.shape
    there = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    inside[y[there], x[there]] = True
