"""From logits in the plan's spacing to a mask in the image's own geometry, without resampling what is background anyway.

A voxel of the mask gets the class of the largest logit after linear interpolation. That is background unless some logit less the
background's is positive there, and an interpolated value is positive only where one of the values it lies between is. So the
differences are interpolated alone, and only inside boxes round the coarse voxels in which one is positive. The mask is that of
interpolating everything, but for voxels in which two logits are equal to the last bits of rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects, generate_binary_structure, label
from torch import Tensor

from lnauto.nodes import Array

EVERY_CLASS = (slice(None),)
BLOCK = 8  # voxels a side of what boxes are made of
SLAB_VOXELS = 8_000_000  # of the mask that are interpolated at once
LINEAR = {"resample_torch_fornnunet": "mode", "resample_data_or_seg_to_shape": "order"}  # and where their kwargs say so
KNOWN = {"is_seg", "force_separate_z", "memefficient_seg_resampling", "mode", "order", "order_z"}  # more means something else


@dataclass(frozen=True, eq=False)
class Exported:
    """What belongs to a case's logits, on the grid of the image it was made from."""

    mask: Array
    probability: NDArray[np.float32] | None  # of anything but background, if it was asked for


@dataclass(frozen=True)
class Exporter:
    """nnU-Net's plans, configuration and label manager, which say what the logits are."""

    plans: Any
    configuration: Any
    labels: Any

    @property
    def by_differences(self) -> bool:
        """Whether the export needs no more of the logits than how far each class is above background."""
        return not self.labels.has_regions and _is_linear(self.configuration)

    def kept(self, logits: Tensor) -> Tensor:
        """What the export needs of logits (classes, z, y, x), which are spoiled."""
        return above_background(logits) if self.by_differences else logits

    @torch.inference_mode()
    def export(self, kept: Tensor, properties: dict[str, Any], with_probability: bool = False) -> Exported:
        """From what was kept of the logits of a preprocessed case."""
        if not self.by_differences:
            return self._as_stock(kept, properties, with_probability)
        spacing = [properties["spacing"][axis] for axis in self.plans.transpose_forward]
        nearest = _nearest_axis(self.configuration, spacing)
        shape = properties["shape_after_cropping_and_before_resampling"]
        kind = np.uint8 if len(self.labels.foreground_labels) < 255 else np.uint16
        mask = self._placed(largest_class(kept, shape, nearest).astype(kind, copy=False), properties)
        if not with_probability:
            return Exported(mask, None)
        return Exported(mask, self._placed(foreground_probability(kept, shape, nearest), properties))

    def _as_stock(self, logits: Tensor, properties: dict[str, Any], with_probability: bool) -> Exported:
        from lnauto.compat.inference import convert_predicted_logits_to_segmentation_with_correct_shape

        found = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits.float().cpu(),
            self.plans,
            self.configuration,
            self.labels,
            properties,
            return_probabilities=with_probability,
            num_threads_torch=torch.get_num_threads(),
        )
        if not with_probability:
            return Exported(found, None)
        mask, each = found
        return Exported(mask, np.asarray(each.max(axis=0) if self.labels.has_regions else 1 - each[0], np.float32))

    def _placed(self, inside: Array, properties: dict[str, Any]) -> Array:
        """Where it was cropped from, with the image's own axes."""
        whole = np.zeros(properties["shape_before_cropping"], inside.dtype)
        whole[tuple(slice(start, stop) for start, stop in properties["bbox_used_for_cropping"])] = inside
        return whole.transpose(self.plans.transpose_backward)


def _is_linear(configuration: Any) -> bool:
    """Whether the plan has logits interpolated linearly, by one of the two ways nnU-Net has."""
    content = configuration.configuration
    kwargs = content["resampling_fn_probabilities_kwargs"]
    key = LINEAR.get(content["resampling_fn_probabilities"])
    if not set(kwargs) <= KNOWN or kwargs.get("is_seg", False):
        return False
    if key == "order":  # left out, `force_separate_z` means something else there than to PyTorch's
        return "force_separate_z" in kwargs and kwargs.get("order", 3) == 1 and kwargs.get("order_z", 0) in (0, 1)
    return key is not None and kwargs.get("mode", "linear") == "linear"


def _nearest_axis(configuration: Any, spacing: Sequence[float]) -> int | None:
    """The axis along which the nearest value is taken: that of thick slices, where the plan has them apart."""
    from lnauto.compat.inference import determine_do_sep_z_and_axis

    kwargs = configuration.configuration["resampling_fn_probabilities_kwargs"]
    apart, axis = determine_do_sep_z_and_axis(kwargs.get("force_separate_z"), configuration.spacing, spacing)
    return int(axis) if apart and kwargs.get("order_z", 0) == 0 else None


def above_background(logits: Tensor) -> Tensor:
    """Each foreground logit less the background's, in place."""
    for foreground in logits[1:]:
        foreground -= logits[0]
    return logits[1:]


def largest_class(above: Tensor, shape: Sequence[int], nearest: int | None = None) -> NDArray[np.uint8]:
    """0, or the number of the class that is highest above background, on a grid of `shape` over the same place.

    Args:
        above: classes x z x y x x: logits less the background's.
        nearest: the axis along which the nearest value is taken instead of a linear one.
    """
    found = np.zeros(tuple(int(side) for side in shape), np.uint8)
    axes = _axes(above.shape[1:], found.shape, nearest)
    for box in positive_boxes(above):
        spans = [lines.touching(part) for lines, part in zip(axes, box, strict=True)]
        if all(span.stop > span.start for span in spans):
            _fill(found, above, axes, spans)
    return found


def positive_boxes(above: Tensor) -> list[tuple[slice, ...]]:
    """Boxes, in whole blocks of voxels, outside which nothing is above background; neighbouring blocks share one."""
    blocks = torch.stack([_block_maxima(each) for each in above]).amax(dim=0)
    pieces, _ = label((blocks > 0).cpu().numpy(), generate_binary_structure(3, 3))
    return [
        tuple(slice(part.start * BLOCK, min(part.stop * BLOCK, side)) for part, side in zip(box, above.shape[1:], strict=True))
        for box in find_objects(pieces)
    ]


def _block_maxima(values: Tensor) -> Tensor:
    for axis in range(3):
        values = torch.stack([part.amax(dim=axis) for part in values.split(BLOCK, dim=axis)], dim=axis)
    return values


@dataclass(frozen=True, eq=False)
class Lines:
    """Where the points of a new grid lie along one axis: between which two old ones, and how near to the second."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.float32]  # of the second

    @classmethod
    def of(cls, old: int, new: int, nearest: bool) -> Lines:
        middles = (np.arange(new) + 0.5) * (old / new)
        if nearest:
            at = np.minimum(middles.astype(np.int64), old - 1)
            return cls(at, at, np.zeros(new, np.float32))
        places = np.clip(middles - 0.5, 0, old - 1)
        first = places.astype(np.int64)
        return cls(first, np.minimum(first + 1, old - 1), (places - first).astype(np.float32))

    def touching(self, part: slice) -> slice:
        """The new points that lie between two old ones of which one at least is in `part`."""
        touched = np.flatnonzero((self.second >= part.start) & (self.first < part.stop))
        return slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)

    def between(self, values: Tensor, dim: int, span: slice) -> Tensor:
        """Values at the new points of `span`; `values` begin, along `dim`, where `first` of the span does."""
        start = int(self.first[span.start])
        first, second = (torch.from_numpy(at[span] - start).to(values.device) for at in (self.first, self.second))
        weight = torch.from_numpy(self.weight[span]).to(values.device)
        if not bool(weight.any()):
            return values.index_select(dim, first)
        shape = [-1 if axis == dim else 1 for axis in range(values.dim())]
        return torch.lerp(values.index_select(dim, first), values.index_select(dim, second), weight.reshape(shape))

    def needed(self, span: slice) -> slice:
        """The old points that those of `span` lie between."""
        return slice(int(self.first[span.start]), int(self.second[span.stop - 1]) + 1)


def foreground_probability(above: Tensor, shape: Sequence[int], nearest: int | None = None) -> NDArray[np.float32]:
    """The softmax of everything but background, on a grid of `shape`; arguments as above."""
    found = np.zeros(tuple(int(side) for side in shape), np.float32)
    axes = _axes(above.shape[1:], found.shape, nearest)
    for slab, values in _slabs(above, axes, [slice(0, side) for side in found.shape]):
        found[slab] = torch.sigmoid(torch.logsumexp(values, dim=0)).cpu().numpy()
    return found


def _axes(old: Sequence[int], new: Sequence[int], nearest: int | None) -> list[Lines]:
    return [Lines.of(before, after, axis == nearest) for axis, (before, after) in enumerate(zip(old, new, strict=True))]


def _fill(found: NDArray[np.uint8], above: Tensor, axes: list[Lines], spans: list[slice]) -> None:
    """One box of the mask."""
    for slab, values in _slabs(above, axes, spans):
        height, best = values.max(dim=0)
        found[slab] = torch.where(height > 0, best + 1, 0).to(torch.uint8).cpu().numpy()


def _slabs(above: Tensor, axes: list[Lines], spans: list[slice]) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """A box of the new grid in pieces along z, each with the interpolated values there."""
    z, y, x = spans
    deep = max(1, SLAB_VOXELS // ((y.stop - y.start) * (x.stop - x.start) * len(above)))
    for start in range(z.start, z.stop, deep):
        slab = (slice(start, min(start + deep, z.stop)), y, x)
        needed = tuple(lines.needed(span) for lines, span in zip(axes, slab, strict=True))
        values = above[EVERY_CLASS + needed].float()
        for dim, (lines, span) in enumerate(zip(axes, slab, strict=True), start=1):
            values = lines.between(values, dim, span)
        yield slab, values
