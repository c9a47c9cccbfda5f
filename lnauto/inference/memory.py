"""How much memory a case takes, from above, so that what does not fit is said before hours have gone into it.

The figures are bytes a voxel in each step, as the arrays that are alive there have them; what a tile takes inside a network was
measured (documentation/benchmarks.md, "Memory").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lnauto.allowance import memory_left, usable_cores
from lnauto.data.resample import MOST_BYTES
from lnauto.errors import InputError
from lnauto.image_files import UnreadableError, bytes_promised, header_reader

FLOAT, DOUBLE = 4, 8
TILE_MAPS, TILE_BYTES = 8, 150e6  # what a network takes for one tile: so many maps like its first layer's, and buffers
USUAL_FEATURES = 32  # nnU-Net's, for networks that do not say
PIECE_BYTES = 400e6  # of the mask, interpolated and looked at at once
SPLINE_EDGE = 24  # voxels by which scipy pads an image before it fits splines
# Bytes for each voxel that skimage makes: doubles; with thick slices also where the voxel lies, for this map and the one before.
SKIMAGE_OUT = {False: 16, True: 80}
SKIMAGE = "resample_data_or_seg_to_shape"


@dataclass(frozen=True)
class Need:
    """What a case will take beyond what is taken already, step by step, in bytes."""

    preparing: float
    predicting: float
    exporting: float

    @property
    def most(self) -> float:
        return max(self.preparing, self.predicting, self.exporting)

    @classmethod
    def of(
        cls,
        scan: Sequence[int],
        inside: Sequence[int],
        resampled: Sequence[int],
        spacing: Sequence[float],
        configuration: Any,
        channels: int,
        classes: int,
        kept: int,
        with_probability: bool,
    ) -> Need:
        """Of a scan that was read.

        Args:
            scan, inside, resampled: the image's size; that of its region; that of the region in the plan's spacing.
            spacing: of the image.
            classes: of the network; `kept` of their logits are held for the whole region: all, where nnU-Net's own export has to
                do, which brings them all to the image's spacing.
        """
        whole, before, after = (math.prod(int(side) for side in shape) for shape in (scan, inside, resampled))
        patch = configuration.patch_size
        content = configuration.configuration
        pieces = min(usable_cores() * MOST_BYTES, 3 * FLOAT * max(before, after))
        interpolating = FLOAT * channels * (before + after) + pieces
        if list(inside) == list(resampled):
            interpolating = FLOAT * channels * before
        elif content["resampling_fn_data"] == SKIMAGE:
            kwargs = content["resampling_fn_data_kwargs"]
            interpolating = _by_skimage(inside, resampled, spacing, configuration.spacing, kwargs, channels)
        sides = [max(int(side), least) for side, least in zip(resampled, patch, strict=True)]
        padded, deep = math.prod(sides), math.prod([patch[0], *sides[1:]])
        window = FLOAT * deep * (classes + 1) * 2
        features = content["architecture"]["arch_kwargs"].get("features_per_stage", USUAL_FEATURES)
        widest = features if isinstance(features, int) else features[0]
        tile = TILE_MAPS * FLOAT * widest * math.prod(patch) + TILE_BYTES
        held = FLOAT * kept * padded
        # Of the mask there are the region's, the whole, the one turned and the one in the file's form; and where its nodes
        # are, and their numbers.
        masks = before + 5 * whole + FLOAT * whole + (FLOAT * (before + 3 * whole) if with_probability else 0)
        pieces_of_mask = PIECE_BYTES
        if kept == classes:
            # All logits, what is made of them, and numbers of classes; probabilities are put into the whole image.
            pieces_of_mask = FLOAT * classes * (before + (whole if with_probability else before)) + DOUBLE * before
            if content["resampling_fn_probabilities"] == SKIMAGE and list(inside) != list(resampled):
                kwargs = content["resampling_fn_probabilities_kwargs"]
                interpolated = _by_skimage(resampled, inside, configuration.spacing, spacing, kwargs, classes)
                pieces_of_mask = max(pieces_of_mask, interpolated)
        return cls(
            preparing=(FLOAT * channels + 2) * before + interpolating,
            predicting=2 * FLOAT * channels * padded + held + window + tile,
            exporting=FLOAT * channels * after + held + pieces_of_mask + masks,
        )


def _by_skimage(
    old: Sequence[int],
    new: Sequence[int],
    spacing: Sequence[float],
    wanted: Sequence[float],
    kwargs: Mapping[str, Any],
    maps: int,
) -> int:
    """What nnU-Net's interpolation of so many maps in double precision takes, with what it makes."""
    from lnauto.compat.inference import determine_do_sep_z_and_axis

    before, after = (math.prod(int(side) for side in shape) for shape in (old, new))
    apart, axis = determine_do_sep_z_and_axis(kwargs.get("force_separate_z"), spacing, wanted)
    curved = kwargs.get("order", 3) > 1 and not apart
    splines = 2 * math.prod(int(side) + SPLINE_EDGE for side in old) if curved else 0
    resized = after // int(new[axis]) * int(old[axis]) if apart else 0  # slices of their new size, as many as there were
    return DOUBLE * (maps * before + splines + resized) + (FLOAT * maps + SKIMAGE_OUT[bool(apart)]) * after


def bytes_of(path: Path) -> int:
    """What the voxels of an image file take in memory, from its header; 0 of what is none."""
    try:
        return bytes_promised(header_reader(path))
    except UnreadableError:
        return 0


@dataclass(frozen=True)
class MemoryLimit:
    """What this process may take: so much, or what the machine has left."""

    gigabytes: float | None = None

    def check(self, needed: float, name: str) -> None:
        """Refuse a case that would take more, beyond what is taken now."""
        taken = psutil.Process().memory_info().rss
        if self.gigabytes is not None:
            allowed, who = self.gigabytes * 1e9, f"--max-memory allows {self.gigabytes:g} GB"
            remedy = f"give --max-memory {math.ceil((taken + needed) / 1e8) / 10:g}GB, or predict it on a larger machine"
        else:
            free = memory_left()
            allowed, who = taken + free, f"this machine has {free / 1e9:.1f} GB left"
            remedy = "close other programs, or predict it on a larger machine"
        if taken + needed > allowed:
            raise InputError.of(f"the case takes up to {(taken + needed) / 1e9:.1f} GB and {who}", name, remedy)
