"""DICOM-SEG: frames of segments, laid onto the slices they were drawn on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from lnauto.dicom.frames import Frame, frames_of, functional
from lnauto.dicom.geometry import COSINE, Array, Grid
from lnauto.dicom.listing import Contents, Drawing, Series
from lnauto.dicom.masks import Drawn, wanted
from lnauto.dicom.references import absent, drawn_on
from lnauto.errors import InputError

LYMPH_NODES = {("59441001", "SCT"), ("T-C4000", "SRT"), ("T-C4000", "SNM3")}
PIXELS_OFF = 0.1  # how far a frame may lie beside the image's pixels
HALF = 0.5  # from this share on, a voxel of a fractional segment belongs to it
Reference = tuple[str, int]  # SOP Instance UID, and frame of it, from 0
Source = tuple[str, int | None]  # the same as a SEG names it: None is all frames


@dataclass(frozen=True, eq=False)
class SegFrame:
    """One segment in one plane."""

    segment: int
    pixels: Array  # bool
    plane: Frame  # where it says it lies
    sources: tuple[Source, ...]  # the images it was drawn on


@dataclass(frozen=True, eq=False)
class Seg:
    """A SEG as it is stored; `names` by segment number."""

    header: Dataset
    names: dict[int, str]
    nodes: frozenset[int]  # segments that are coded as lymph nodes
    frames: tuple[SegFrame, ...]  # those with a pixel that is set

    @property
    def sources(self) -> set[str]:
        return {instance for frame in self.frames for instance, _ in frame.sources}


def read_seg(drawing: Drawing, series: Sequence[Series], pattern: str = "") -> tuple[Series, list[Drawn]]:
    """The series it was drawn on, and its chosen segments on that series' grid."""
    seg = load_seg(drawing.path)
    found = drawn_on(drawing, series, seg.sources, seg.header)
    numbers = list(seg.names)
    coded = [place for place, number in enumerate(numbers) if number in seg.nodes]
    chosen = [numbers[place] for place in wanted(list(seg.names.values()), pattern, drawing.path, coded)]
    grid, slices = found.lay_out()
    columns, rows, _ = grid.size
    planes: dict[int, dict[int, Array]] = {number: {} for number in chosen}
    places = _by_source(slices)
    for number, frame in enumerate(seg.frames, start=1):
        if frame.segment in planes:
            place = _place(frame, places, grid, drawing, found)
            plane = planes[frame.segment].setdefault(place, np.zeros((rows, columns), bool))
            _lay(frame, plane, slices[place], grid, f"frame {number} of {drawing.path}")
    return found, [Drawn(seg.names[number], planes[number]) for number in chosen]


def load_seg(path: Path) -> Seg:
    """Every segment, frame by frame, whatever it was drawn on."""
    dataset = pydicom.dcmread(path)
    items = {int(item.SegmentNumber): item for item in dataset.SegmentSequence}
    is_background = dataset.get("SegmentationType") == "LABELMAP"
    names = {number: str(item.get("SegmentLabel") or number) for number, item in items.items() if number or not is_background}
    nodes = frozenset(number for number in names if _is_node(items[number]))
    return Seg(dataset, names, nodes, tuple(_frames(dataset, path, list(items))))


def read_planes(drawing: Drawing, contents: Contents) -> dict[Reference, dict[int, Array]]:
    """Segments by the image they were drawn on, without asking for a volume: of an X-ray, a slide, a single slice.

    Of an image that is cut into tiles each tile stands by itself.
    """
    seg = load_seg(drawing.path)
    drawn_on(drawing, contents.series, seg.sources, seg.header)
    there = {frame.instance for series in contents.series for frame in series.frames}
    planes: dict[Reference, dict[int, Array]] = {}
    for frame in seg.frames:
        source = next((source for source in frame.sources if source[0] in there), None)
        if source is None:
            missing = frame.sources[0][0] if frame.sources else "not named"
            what = f"the image it was drawn on is not there ({missing})"
            raise InputError.of(what, drawing.path, "put the image into the folder")
        segments = planes.setdefault((source[0], source[1] or 0), {})
        segments[frame.segment] = segments.get(frame.segment, False) | frame.pixels
    return planes


def _is_node(item: Dataset) -> bool:
    types = item.get("SegmentedPropertyTypeCodeSequence") or []
    return any((str(code.get("CodeValue")), str(code.get("CodingSchemeDesignator"))) in LYMPH_NODES for code in types)


def _frames(dataset: Dataset, path: Path, segments: list[int]) -> Iterator[SegFrame]:
    stored = np.reshape(dataset.pixel_array, (-1, int(dataset.Rows), int(dataset.Columns)))
    per_segment = max(len(stored) // len(segments), 1)
    is_labelmap = dataset.get("SegmentationType") == "LABELMAP"
    if dataset.get("SegmentationType") == "FRACTIONAL":
        stored = stored >= HALF * float(dataset.MaximumFractionalValue)
    for number, (pixels, plane) in enumerate(zip(stored, frames_of(dataset, path), strict=True)):
        sources = tuple(_sources(dataset, number, number % per_segment))
        if is_labelmap:
            yield from (SegFrame(int(value), pixels == value, plane, sources) for value in np.unique(pixels) if value)
        elif pixels.any():
            said = functional(dataset, number, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
            # where frames say nothing (TILED_FULL), all of one segment come before those of the next
            segment = segments[number // per_segment] if said is None else int(said)
            yield SegFrame(segment, pixels.astype(bool), plane, sources)


def _sources(dataset: Dataset, number: int, tile: int) -> Iterator[Source]:
    """The images a frame was drawn on; those that the whole object names, where its frames name none.

    Where no frame of an image is named, all are meant; tiles that say nothing of themselves (TILED_FULL) follow the image's.
    """
    items = functional(dataset, number, "DerivationImageSequence", "SourceImageSequence") or [
        item
        for series in dataset.get("ReferencedSeriesSequence") or []
        for item in series.get("ReferencedInstanceSequence") or []
    ]
    unsaid = tile if dataset.get("DimensionOrganizationType") == "TILED_FULL" else None
    for item in items:
        instance, frames = str(item.ReferencedSOPInstanceUID), item.get("ReferencedFrameNumber")
        if frames is None:
            yield instance, unsaid
        else:
            yield from ((instance, int(frame) - 1) for frame in ([frames] if isinstance(frames, int) else frames))


def _by_source(slices: Sequence[Frame]) -> dict[Source, list[int]]:
    """Which slices a source is."""
    places: dict[Source, list[int]] = {}
    for place, frame in enumerate(slices):
        places[frame.instance, frame.number] = [place]
        places.setdefault((frame.instance, None), []).append(place)
    return places


def _place(frame: SegFrame, places: dict[Source, list[int]], grid: Grid, drawing: Drawing, series: Series) -> int:
    """The slice a frame belongs to: the one it refers to, else the one at its position."""
    referred = {place for source in frame.sources for place in places.get(source, ())}
    height = None if frame.plane.position is None else float(grid.index_of(np.array(frame.plane.position))[2])
    if len(referred) == 1:
        [place] = referred
        if height is not None and abs(height - place) > HALF:
            what = f"a frame refers to slice {place + 1} but lies {abs(height - place) * grid.spacing[2]:.1f} mm away from it"
            raise InputError.of(what, drawing.path, "correct the references or the positions of its frames")
        return place
    if frame.sources and not referred:
        raise absent({uid for uid, _ in frame.sources}, drawing, series)
    near = None if height is None else grid.slice_near(height)
    if near is None:
        at = "nowhere" if height is None else f"at slice {height + 1:.2f} of {grid.size[2]}"
        what = f"a frame lies on no slice of the series ({at})"
        raise InputError.of(what, drawing.path, "draw or resample it on the slices of its series")
    return near


def _lay(frame: SegFrame, plane: Array, image: Frame, grid: Grid, where: str) -> None:
    """Set a frame's pixels in an image's slice; the frame may be a part of it."""
    row, column = _offset(frame.plane, image, grid, where)
    rows, columns = frame.pixels.shape
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + rows, plane.shape[0]), min(column + columns, plane.shape[1])
    plane[top:bottom, left:right] |= frame.pixels[top - row : bottom - row, left - column : right - column]


def _offset(plane: Frame, image: Frame, grid: Grid, where: str) -> tuple[int, int]:
    """At which row and column of an image a frame begins."""
    remedy = "resample it to the grid of its images, for example by exporting it anew from 3D Slicer"
    if plane.position is None or plane.orientation is None or plane.pixel is None:
        if plane.shape != image.shape:
            sizes = f"{plane.shape[0]}x{plane.shape[1]} pixels but the image {image.shape[0]}x{image.shape[1]}"
            raise InputError.of(f"it is {sizes}, and says not where it lies", where, remedy)
        return 0, 0
    at = grid.index_of(np.array(plane.position))
    # images may lie beside the grid: a frame may start from its image's corner, or from the grid's, as programs resample
    starts = grid.index_of(np.array([image.position, grid.origin]))
    column, row, _ = min(at - starts, key=_off_pixels)
    same_axes = np.allclose(plane.orientation, grid.matrix[:, :2].T.ravel(), rtol=0, atol=COSINE)
    same_pixels = np.allclose(plane.pixel, (grid.spacing[1], grid.spacing[0]), rtol=1e-3, atol=0)
    if not same_axes or not same_pixels or _off_pixels(np.array([column, row])) > PIXELS_OFF:
        raise InputError.of("it was drawn on another grid than its images have", where, remedy)
    return round(row), round(column)


def _off_pixels(index: Array) -> float:
    """How far (column, row, ...) lies from the nearest pixel's centre."""
    return float(np.abs(index[:2] - np.round(index[:2])).max())
