"""Logits of a whole preprocessed image, tile by tile, as nnU-Net lays and weighs its tiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lnauto.networks.compute import Compute

Network = Callable[[Tensor], Tensor]


def mirrorings(tta: str, axes: Sequence[int] | None, left_right: int) -> list[tuple[int, ...]]:
    """The sets of spatial axes to mirror: `none`, `fast` (left to right only) or `full` (all the training allowed)."""
    allowed = list(axes or ())
    if tta == "fast":
        allowed = [axis for axis in allowed if axis == left_right]
    elif tta == "none":
        allowed = []
    return [chosen for count in range(len(allowed) + 1) for chosen in itertools.combinations(allowed, count)]


@torch.inference_mode()
def predict_logits(
    networks: Sequence[Network],
    image: Tensor,
    patch: Sequence[int],
    compute: Compute,
    overlap: float = 0.5,
    mirrored: Sequence[tuple[int, ...]] = ((),),
    on_tile: Callable[[int], None] | None = None,
    is_empty: Callable[[Tensor], bool] | None = None,
) -> Tensor:
    """Mean logits (classes, z, y, x) of the networks over all tiles and mirrorings; `image` is (channels, z, y, x).

    `on_tile` is told after each tile how many there are. Tiles that `is_empty` says yes to are not looked at; where no other tile
    reaches, all logits are 0, which is background.
    """
    from lnauto.compat.inference import compute_gaussian, pad_nd_image

    padded, inside = pad_nd_image(image, patch, "constant", {"value": 0}, True, None)
    tiles = tile_slices(tuple(padded.shape[1:]), patch, 1 - overlap)
    # A card keeps the sums in nnU-Net's half precision, for memory; a processor has no fast half, and twice the memory.
    kept_as = torch.float16 if compute.device.type == "cuda" else torch.float32
    weights = compute_gaussian(tuple(patch), sigma_scale=1.0 / 8, value_scaling_factor=10, dtype=kept_as, device=compute.device)
    sums: Tensor | None = None
    every_channel = (slice(None),)
    total = torch.zeros(padded.shape[1:], dtype=kept_as, device=compute.device)
    if is_empty is not None:
        tiles = [tile for tile in tiles if not is_empty(padded[every_channel + tile])] or tiles[:1]
    for tile in tiles:
        logits = _predict_tile(networks, compute.place(padded[every_channel + tile][None]), compute, mirrored).to(kept_as)
        if sums is None:
            sums = torch.zeros((len(logits), *padded.shape[1:]), dtype=kept_as, device=compute.device)
        sums[every_channel + tile] += logits * weights
        total[tile] += weights
        if on_tile is not None:
            on_tile(len(tiles))
    assert sums is not None  # an image has at least one tile
    sums /= total if is_empty is None else total.clamp_min(torch.finfo(kept_as).tiny)
    return sums[every_channel + tuple(inside[1:])]


def tile_slices(shape: Sequence[int], patch: Sequence[int], step: float) -> list[tuple[slice, ...]]:
    """Where the tiles lie: `step` is the share of a patch from one tile to the next."""
    from lnauto.compat.inference import compute_steps_for_sliding_window

    starts = compute_steps_for_sliding_window(tuple(shape), tuple(patch), step)
    return [
        tuple(slice(start, start + side) for start, side in zip(corner, patch, strict=True))
        for corner in itertools.product(*starts)
    ]


def _predict_tile(networks: Sequence[Network], tile: Tensor, compute: Compute, mirrored: Sequence[tuple[int, ...]]) -> Tensor:
    total: Tensor | None = None
    with compute.autocast():
        for axes in mirrored:
            dims = [axis + 2 for axis in axes]
            for network in networks:
                logits = network(tile.flip(dims) if dims else tile)
                logits = (logits.flip(dims) if dims else logits)[0].float()
                total = logits if total is None else total + logits
    assert total is not None  # there is at least one network and one mirroring
    return total / (len(networks) * len(mirrored))
