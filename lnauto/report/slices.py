"""A case as pictures for the page's viewer: slices along three axes, what was marked on them, and where each node is best seen.

Arrays are (z, y, x) and lie as LPS: x grows to the patient's left, y to the back, z to the head. A picture has the patient's
right or front on its left, and the front or the head at its top, as radiologists have it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects

from lnauto.data.scans import shows_pet, upright
from lnauto.nodes import Array
from lnauto.report.outlines import Line, outlines

FEW_CASES = 10  # up to so many the page is generous
SLICES = 200  # of few cases together, along the axis
QUALITY = 70
THUMBNAIL = 320  # pixels of its longer side
AXES = (("axial", 0, "RLAP"), ("coronal", 1, "RLHF"), ("sagittal", 2, "APHF"))  # letters: left, right, top, bottom
NODE_COLOUR = (6, 214, 224)


@dataclass(frozen=True)
class Window:
    """Which intensities are black and which are white; in PET what is hot is black."""

    name: str
    black: float
    white: float

    def applied(self, plane: Array) -> NDArray[np.uint8]:
        scaled = (plane.astype(np.float32) - self.black) * (255 / (self.white - self.black or 1.0))
        return scaled.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Layer:
    """An image seen through a window."""

    image: Array
    window: Window


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a person drew, to be seen beside what was predicted; of both, only nodes of these numbers get slices of their own."""

    instances: Array
    looked_at: frozenset[int]
    predicted: frozenset[int]


SOFT_TISSUE, LUNG, BONE = Window("soft tissue", -160, 240), Window("lung", -1350, 150), Window("bone", -100, 900)


def usual_windows(channel: str) -> list[Window]:
    """Those for images whose intensities mean the same in every scan; none for others."""
    if channel.upper() == "CT":
        return [SOFT_TISSUE, LUNG]
    return [Window("PET, SUV 0 to 10", 10, 0), Window("PET, SUV 0 to 5", 5, 0)] if shows_pet(channel) else []


def windows_for(channel: str, image: Array) -> list[Window]:
    """Those a reader of such an image would use."""
    if known := usual_windows(channel):
        return known
    black, white = np.percentile(image[:: max(len(image) // 32, 1)], [1, 99.5])
    return [Window("whole range", float(black), float(white))]


@dataclass(frozen=True)
class Detail:
    """How much of a case is shown."""

    axial: int  # slices; every node's own is there in any case
    across: int  # coronal ones, and sagittal ones
    longest: int  # pixels of a picture's longer side
    kind: str  # of picture: JPEG is written ten times as fast, WebP is a third smaller

    @classmethod
    def for_cases(cls, cases: int) -> Detail:
        """All slices that matter of one case, a few of each of a hundred, so that the page stays under 30 MB."""
        if cases > FEW_CASES:
            return cls(10, 3, 256, "webp")
        axial = SLICES // max(cases, 1)
        return cls(axial, axial // 3, 320, "jpeg")


def draw_case(
    layers: Sequence[Layer],
    instances: Array,
    spacing: Sequence[float],
    detail: Detail,
    probability: Array | None = None,
    drawn: Drawn | None = None,
) -> dict[str, Any]:
    """What the viewer needs of a case.

    Args:
        layers: what a reader may look at, on one grid.
        instances: 0, or the number of a node, which the viewer tells apart.
        probability: of node, from 0 to 1, to be laid over the slices.
        drawn: what is to be found, which then has outlines and places of its own, under `drawn`.
    """
    boxes = _boxes(instances, None if drawn is None else drawn.predicted)
    of_truth = {} if drawn is None else _boxes(drawn.instances, drawn.looked_at)
    planes: list[dict[str, Any]] = []
    at: dict[int, list[int]] = {number: [] for number in (*boxes, *(-number for number in of_truth))}
    for name, axis, letters in AXES:
        middles = {number: _middle(instances, box, number, axis) for number, box in boxes.items()}
        if drawn is not None:  # by the negative of their numbers, as the two sides number apart
            middles |= {-number: _middle(drawn.instances, box, number, axis) for number, box in of_truth.items()}
        every = [*boxes.values(), *of_truth.values()]
        shown = _shown(instances.shape[axis], every, middles, axis, detail.axial if axis == 0 else detail.across)
        height, width = (side for other, side in enumerate(instances.shape) if other != axis)
        tall, wide = (side * spacing[other] for other, side in enumerate(instances.shape) if other != axis)
        slices = [_slice(layers, instances, number, axis, (wide, tall), detail, probability) for number in shown]
        if drawn is not None:
            for number, one in zip(shown, slices, strict=True):
                one["drawn"] = _outlines(_plane(drawn.instances, number, axis))
        planes.append(
            {
                "name": name,
                "width": width,
                "height": height,
                "aspect": round(wide / tall, 4),
                "letters": letters,
                "count": instances.shape[axis],
                "slices": slices,
            }
        )
        for number, middle in middles.items():
            at[number].append(int(np.argmin([abs(middle - other) for other in shown])))
    nodes = [{"number": number, "slices": places} for number, places in at.items() if number > 0]
    found = {"kind": detail.kind, "windows": [layer.window.name for layer in layers], "planes": planes, "nodes": nodes}
    if drawn is not None:
        found["drawn"] = [{"number": -number, "slices": places} for number, places in at.items() if number < 0]
    return found


def pictures_of(
    images: Sequence[tuple[str, Array]],
    instances: Array,
    spacing: Sequence[float],
    direction: Sequence[float],
    detail: Detail,
    probability: Array | None = None,
    drawn: Drawn | None = None,
) -> tuple[dict[str, Any], bytes]:
    """What the viewer needs of a case however its arrays lie, and its thumbnail.

    Args:
        images: each with its channel's name, which says how it is windowed.
        spacing: (z, y, x), as the arrays lie.
        direction: of the grid, as SimpleITK gives it.
    """
    order, flipped = upright(direction)

    def turned(array: Array) -> Array:
        return np.flip(array.transpose(order), flipped)

    layers = [Layer(turned(image), window) for channel, image in images for window in windows_for(channel, image)]
    nodes, steps = turned(instances), [spacing[axis] for axis in order]
    shade = None if probability is None else turned(probability)
    beside = None if drawn is None else replace(drawn, instances=turned(drawn.instances))
    return draw_case(layers, nodes, steps, detail, shade, beside), thumbnail(layers[0], nodes, steps)


def thumbnail(layer: Layer, instances: Array, spacing: Sequence[float]) -> bytes:
    """The brightest voxel along every line from front to back, as WebP, with the nodes' outlines."""
    window = BONE if layer.window == SOFT_TISSUE else layer.window
    plane = window.applied(layer.image.max(axis=1)[::-1])
    size = _size(plane.shape[1] * spacing[2], plane.shape[0] * spacing[0], plane.shape, THUMBNAIL)
    found = _fitted(Image.fromarray(plane), size).convert("RGB")
    draw = ImageDraw.Draw(found)
    factors = size[0] / plane.shape[1], size[1] / plane.shape[0]
    for lines in outlines(np.any(instances > 0, axis=1)[::-1].astype(np.uint8)).values():
        for line in lines:
            draw.line([(x * factors[0], y * factors[1]) for x, y in line], fill=NODE_COLOUR, width=2)
    return _written(found, "webp")


def _boxes(instances: Array, chosen: frozenset[int] | None) -> dict[int, tuple[slice, ...]]:
    """Where each node lies that is chosen, or each (None)."""
    found = {number: box for number, box in enumerate(find_objects(instances), start=1) if box is not None}
    return found if chosen is None else {number: box for number, box in found.items() if number in chosen}


def _middle(instances: Array, box: tuple[slice, ...], number: int, axis: int) -> int:
    """The slice in which a node is largest."""
    across = tuple(other for other in range(3) if other != axis)
    area = np.sum(instances[box] == number, axis=across)
    return int(box[axis].start + np.argmax(area))


def _shown(count: int, boxes: Sequence[tuple[slice, ...]], middles: dict[int, int], axis: int, most: int) -> list[int]:
    """Every node's own slice, then others that nodes lie in, then others, evenly."""
    chosen = set(middles.values())
    through = {number for box in boxes for number in range(box[axis].start, box[axis].stop)}
    for others in (through, set(range(count))):
        left = sorted(others - chosen)
        wanted = most - len(chosen)
        if wanted > 0 and left:
            chosen |= {left[place] for place in np.linspace(0, len(left) - 1, min(wanted, len(left))).round().astype(int)}
    return sorted(chosen)


def _slice(
    layers: Sequence[Layer],
    instances: Array,
    number: int,
    axis: int,
    extent: tuple[float, float],
    detail: Detail,
    probability: Array | None,
) -> dict[str, Any]:
    marked = _plane(instances, number, axis)
    size = _size(*extent, marked.shape, detail.longest)
    shown = (layer.window.applied(_plane(layer.image, number, axis)) for layer in layers)
    found: dict[str, Any] = {
        "at": number + 1,
        "pictures": [_coded(_fitted(Image.fromarray(plane), size), detail.kind) for plane in shown],
        "outlines": _outlines(marked),
    }
    if probability is not None:
        likely = _plane(probability, number, axis)
        if likely.max() > 0.05:
            found["shade"] = _coded(_fitted(_heat(likely), size), detail.kind)
    return found


def _plane(volume: Array, number: int, axis: int) -> Array:
    plane = np.take(volume, number, axis=axis)
    return plane if axis == 0 else plane[::-1]


def _size(wide: float, tall: float, shape: Sequence[int], longest: int) -> tuple[int, int]:
    """Pixels of a picture of so many millimetres: no more than the image has to show."""
    finest = max(shape[1] / wide, shape[0] / tall)
    scale = min(longest / max(wide, tall), finest)
    return max(round(wide * scale), 1), max(round(tall * scale), 1)


def _outlines(marked: Array) -> list[list[Any]]:
    return [[number, "".join(map(_path, lines))] for number, lines in outlines(marked).items()]


def _path(line: Line) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line) + "Z"


def _heat(likely: Array) -> Image.Image:
    """From black over red to yellow, to be added to a slice."""
    level = likely.clip(0, 1).astype(np.float32)
    red, green = (255 * level).astype(np.uint8), (255 * (2 * level - 1).clip(0)).astype(np.uint8)
    return Image.fromarray(np.stack([red, green, np.zeros_like(red)], axis=-1))


def _fitted(found: Image.Image, size: tuple[int, int]) -> Image.Image:
    return found if found.size == size else found.resize(size, Image.Resampling.BILINEAR)


def _written(found: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    found.save(file, kind.upper(), quality=QUALITY, **({"method": 3} if kind == "webp" else {}))
    return file.getvalue()


def _coded(found: Image.Image, kind: str) -> str:
    return base64.b64encode(_written(found, kind)).decode()
