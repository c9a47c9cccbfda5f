"""An image, and a label with it, as a network takes it: cropped, normalised, in the plan's spacing.

The steps are those of nnU-Net's preprocessor, without PyTorch where the plan is one of ours, so that planning need not import it.
Plans and configuration are nnU-Net's dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_fill_holes

from lnauto.data.region import find_region
from lnauto.data.resample import resample_image, resample_label, resampled_shape
from lnauto.nodes import Array, Box

OUTSIDE = -1  # of the body; nnU-Net's, which marks padding so, too
Content = Mapping[str, Any]


def read_images(images: Sequence[Path]) -> tuple[Array, dict[str, Any]]:
    """The channels of a case, and where they lie."""
    from lnauto.compat.images import SimpleITKIO

    image, properties = SimpleITKIO().read_images([str(path) for path in images])
    return image, properties


def read_label(label: Path) -> Array:
    """1 x z x y x x"""
    from lnauto.compat.images import SimpleITKIO

    return np.asarray(SimpleITKIO().read_seg(str(label))[0])


def prepare(
    image: Array,
    properties: dict[str, Any],
    plans: Content,
    configuration: Content,
    region: str,
    check: Callable[[Sequence[int], Sequence[int]], None] = lambda *_: None,
) -> Array:
    """An image that was read, cropped to `region`; what is needed to find back to its own geometry is put into `properties`.

    Args:
        check: is told the size of the region and its size in the plan's spacing, before memory is taken for either.
    """
    box = region_box(image, properties, region)
    return _prepare(image, None, properties, plans, configuration, box, check)[0]


def prepare_labelled(
    image: Array, label: Array, properties: dict[str, Any], plans: Content, configuration: Content, box: Box
) -> tuple[Array, Array]:
    """The same of an image and labels on its grid, channels of both first.

    Where intensities are normalised inside the body alone, what lies outside it has the label -1 afterwards: augmentation needs
    to know.
    """
    prepared, label = _prepare(image, label, properties, plans, configuration, box)
    return prepared, label


def _prepare(
    image: Array,
    label: Any,
    properties: dict[str, Any],
    plans: Content,
    configuration: Content,
    box: Box,
    check: Callable[[Sequence[int], Sequence[int]], None] = lambda *_: None,
) -> tuple[Array, Any]:
    forward = plans["transpose_forward"]
    shape, axes = image.shape[1:], [0, *(axis + 1 for axis in forward)]
    within = (slice(None), *box)
    image = image[within].transpose(axes)
    spacing = [properties["spacing"][axis] for axis in forward]
    check(image.shape[1:], resampled_shape(image.shape[1:], spacing, configuration["spacing"]))
    sides = box_of_nonzero(image)
    filled = (slice(None), *(slice(*side) for side in sides))
    image = image[filled]
    inside = binary_fill_holes((image != 0).any(axis=0)) if any(configuration["use_mask_for_norm"]) else None
    # The properties are those of the whole image: nnU-Net's export then puts the mask where it belongs.
    starts = [box[axis].start for axis in forward]
    properties["shape_before_cropping"] = tuple(shape[axis] for axis in forward)
    properties["bbox_used_for_cropping"] = [
        [start + first, start + last] for start, (first, last) in zip(starts, sides, strict=True)
    ]
    properties["shape_after_cropping_and_before_resampling"] = image.shape[1:]
    image = _normalised(image.astype(np.float32, copy=False), inside, plans, configuration)
    wanted = resampled_shape(image.shape[1:], spacing, configuration["spacing"])
    image = resample_image(image, wanted, spacing, configuration)
    if label is not None:
        label = label[within].transpose(axes)[filled]
        if inside is not None:
            label = np.where((label == 0) & ~inside, OUTSIDE, label)
        label = resample_label(label, wanted, spacing, configuration)
    return image, label


def region_box(image: Array, properties: Mapping[str, Any], name: str) -> Box:
    """The plan's region of an image that was read."""
    return find_region(image[0], properties["spacing"], properties["sitk_stuff"]["direction"], name)


def _normalised(image: Array, inside: Array | None, plans: Content, configuration: Content) -> Array:
    """In place."""
    from lnauto.compat.normalization import normalization_class

    where = None if inside is None else np.where(inside, 0, OUTSIDE)
    intensities = plans["foreground_intensity_properties_per_channel"]
    for channel, name in enumerate(configuration["normalization_schemes"]):
        masked = configuration["use_mask_for_norm"][channel]
        scheme = normalization_class(name)(use_mask_for_norm=masked, intensityproperties=intensities[str(channel)])
        image[channel] = scheme.run(image[channel], where)
    return image


def box_of_nonzero(image: Array) -> list[list[int]]:
    """First and last plus one along each axis, as nnU-Net crops; an image of nothing but 0 stays as it is."""
    taken = (image != 0).any(axis=0)
    along = [np.flatnonzero(taken.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    if not len(along[0]):
        return [[0, side] for side in taken.shape]
    return [[int(places[0]), int(places[-1]) + 1] for places in along]
