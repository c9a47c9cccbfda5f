"""The part of a CT image that matters: the body, the lungs with the mediastinum between them, or the neck.

Everything is looked for on a coarse grid, which is exact enough for a box and takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import label as number_components

from lnauto.nodes import Array, Box, bounding_box, label_components

REGIONS = ("none", "body", "lungs", "neck")
BODY_ABOVE_HU = -300.0
LUNG_BELOW_HU = -500.0
LOOK_EVERY_MM = 4.0
LEAST_LUNG_ML = 200.0  # air that is less is no lung: bowel, windpipe, a corner of a lung
LUNG_TO_LARGEST = 0.1  # air that is less than this share of the largest piece is no lung
# Round the lungs [our choice]: hilar and mediastinal nodes lie between them, supraclavicular ones some centimetres above.
ABOVE_LUNGS_MM, BELOW_LUNGS_MM, BESIDE_LUNGS_MM = 40.0, 20.0, 20.0
NECK_INTO_LUNGS_MM = 40.0  # the neck's box begins that far below the top of the lungs
LEAST_NECK_MM = 40.0  # above the lungs; what is less is a chest


@dataclass(frozen=True)
class Anatomy:
    """Boxes in voxels round what was found; None: not found."""

    body: Box | None
    lungs: Box | None  # without a margin
    neck: Box | None  # the body from a little below the top of the lungs upwards


def region_of(plans: Mapping[str, Any]) -> str:
    """What a plan crops images to."""
    return str(plans.get("lnauto", {}).get("region", "none"))


def find_region(channel: Array, spacing: Sequence[float], direction: Sequence[float], name: str) -> Box:
    """The box, in voxels, of region `name` in a CT image; where it is not found, that of the next larger one that is."""
    if name == "none":
        return whole(channel.shape)
    return choose_box(find_anatomy(channel, spacing, direction), name, channel.shape, spacing, direction)


def choose_box(anatomy: Anatomy, name: str, shape: Sequence[int], spacing: Sequence[float], direction: Sequence[float]) -> Box:
    """The same, where body, lungs and neck were looked for already."""
    if name == "none" or anatomy.body is None:
        return whole(shape)
    if name == "neck" and anatomy.neck is not None:
        return anatomy.neck
    if name == "lungs" and anatomy.lungs is not None:
        margin = _beyond(direction, BELOW_LUNGS_MM, ABOVE_LUNGS_MM, BESIDE_LUNGS_MM)
        return _within(_widened(anatomy.lungs, margin, spacing), anatomy.body)
    return anatomy.body


def find_anatomy(channel: Array, spacing: Sequence[float], direction: Sequence[float]) -> Anatomy:
    """Body, lungs and neck of a CT image (z, y, x)."""
    steps = [max(1, int(LOOK_EVERY_MM // side)) for side in spacing]
    coarse = channel[tuple(slice(None, None, step) for step in steps)]
    head, upward = head_axis(direction)
    standing = np.moveaxis(coarse if upward else np.flip(coarse, head), head, 0)  # from the feet up, slice by slice
    components, count = label_components(standing > BODY_ABOVE_HU)
    if count == 0:
        return Anatomy(None, None, None)
    body = components == 1
    voxel_ml = float(np.prod([step * side for step, side in zip(steps, spacing, strict=True)])) / 1000
    lungs = _lungs(standing, body, voxel_ml)
    neck = None
    if lungs is not None:
        slice_mm = steps[head] * spacing[head]
        bottom = max(lungs[0].stop - round(NECK_INTO_LUNGS_MM / slice_mm), 0)
        above = bounding_box(body[bottom:])
        if above is not None and (bottom + above[0].stop - lungs[0].stop) * slice_mm >= LEAST_NECK_MM:
            neck = (slice(bottom, bottom + above[0].stop), *above[1:])

    def lying(box: Box | None) -> Box | None:
        """Back to the image's own axes and voxels."""
        if box is None:
            return None
        along, *others = box
        if not upward:
            along = slice(len(standing) - along.stop, len(standing) - along.start)
        others.insert(head, along)
        # A coarse voxel stands for `step` fine ones, of which one was looked at: the border lies up to a step further out.
        return tuple(
            slice(max((part.start - 1) * step + 1, 0), min(part.stop * step, size))
            for part, step, size in zip(others, steps, channel.shape, strict=True)
        )

    return Anatomy(lying(bounding_box(body)), lying(lungs), lying(neck))


def _lungs(standing: Array, body: Array, voxel_ml: float) -> Box | None:
    """The box round large pieces of air that the body encloses, slice by slice: through the mouth lungs are open."""
    air = (standing < LUNG_BELOW_HU) & ~body
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = True
    pieces, _ = number_components(air, flat)
    borders = [pieces[:, 0], pieces[:, -1], pieces[..., 0], pieces[..., -1]]
    outside = np.unique(np.concatenate([border.ravel() for border in borders]))
    enclosed, count = label_components(air & ~np.isin(pieces, outside))
    sizes = np.bincount(enclosed.ravel(), minlength=2)[1:]
    large = 1 + np.flatnonzero(sizes >= max(LUNG_TO_LARGEST * sizes.max(), 1))
    if count == 0 or sizes[large - 1].sum() * voxel_ml < LEAST_LUNG_ML:
        return None
    return bounding_box(np.isin(enclosed, large))


def head_axis(direction: Sequence[float]) -> tuple[int, bool]:
    """The array axis that runs along the body, and whether its voxels count towards the head (SimpleITK's direction, LPS)."""
    cosines = np.asarray(direction, float).reshape(3, 3)[2, ::-1]  # of the axes z, y, x with the way to the head
    axis = int(np.argmax(np.abs(cosines)))
    return axis, bool(cosines[axis] > 0)


def whole(shape: Sequence[int]) -> Box:
    return tuple(slice(0, size) for size in shape)


def extent_mm(box: Box, spacing: Sequence[float]) -> tuple[float, float, float]:
    """How far a box reaches along each axis."""
    z, y, x = (float((part.stop - part.start) * side) for part, side in zip(box, spacing, strict=True))
    return round(z, 1), round(y, 1), round(x, 1)


def _beyond(direction: Sequence[float], below: float, above: float, beside: float) -> list[tuple[float, float]]:
    """Margins in mm at the start and the end of each array axis."""
    head, upward = head_axis(direction)
    margins = [(beside, beside)] * 3
    margins[head] = (below, above) if upward else (above, below)
    return margins


def _widened(box: Box, margins: list[tuple[float, float]], spacing: Sequence[float]) -> Box:
    return tuple(
        slice(part.start - round(before / side), part.stop + round(after / side))
        for part, (before, after), side in zip(box, margins, spacing, strict=True)
    )


def _within(box: Box, limits: Box) -> Box:
    return tuple(slice(max(part.start, limit.start), min(part.stop, limit.stop)) for part, limit in zip(box, limits, strict=True))
