"""Logits of a whole preprocessed image, tile by tile, as nnU-Net lays and weighs its tiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lnauto.networks.compute import Compute

Network = Callable[[Tensor], Tensor]
TTA = ("none", "fast", "full")  # what is averaged: see `mirrorings`
EVERY_CHANNEL = (slice(None),)
SURELY = 20.0  # how far above a node the logit of background is where nobody looked: a probability of 2e-9
AT_ONCE = 8  # slices that are finished: few, for memory, and more than one, for speed


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
    kept: Callable[[Tensor], Tensor] = lambda logits: logits,
    has_regions: bool = False,
    sums_on: torch.device | None = None,
) -> Tensor:
    """Mean logits (classes, z, y, x) of the networks over all tiles and mirrorings; `image` is (channels, z, y, x).

    Args:
        on_tile: is told after each tile how many there are.
        is_empty: tiles that it says yes to are not looked at; where no other tile reaches, the logits are those of background.
        kept: what of the logits is kept for the whole image; all of them are only for as many slices as a tile is deep.
        has_regions: whether each class is judged by itself, so that background is where all logits are negative.
        sums_on: where logits are added up and kept (None: where the networks run).
    """
    from lnauto.compat.inference import compute_gaussian

    padded, inside, tiles = _tiled(image, patch, overlap, is_empty)
    # A card keeps the sums in nnU-Net's half precision, for memory; a processor has no fast half, and twice the memory.
    sums_on = compute.device if sums_on is None else sums_on
    kept_as = torch.float16 if sums_on.type == "cuda" else torch.float32
    weights = compute_gaussian(tuple(patch), sigma_scale=1.0 / 8, value_scaling_factor=10, dtype=kept_as, device=sums_on)
    window: _Window | None = None
    for tile in tiles:
        image_tile = compute.place(padded[EVERY_CHANNEL + tile][None])
        logits = _predict_tile(networks, image_tile, compute, mirrored).to(sums_on, kept_as)
        if window is None:
            window = _Window(logits, padded.shape[1:], kept, has_regions)
        window.add(logits, weights, tile)
        if on_tile is not None:
            on_tile(len(tiles))
    assert window is not None  # an image has at least one tile
    return window.finished()[EVERY_CHANNEL + tuple(inside[1:])]


def some_tiles(
    image: Tensor, patch: Sequence[int], overlap: float, is_empty: Callable[[Tensor], bool] | None, most: int
) -> list[Tensor]:
    """At most so many of the tiles that `predict_logits` would look at, from all over the image."""
    padded, _, tiles = _tiled(image, patch, overlap, is_empty)
    places = torch.linspace(0, len(tiles) - 1, min(most, len(tiles))).round().int().tolist()
    return [padded[EVERY_CHANNEL + tiles[place]][None] for place in places]


def _tiled(
    image: Tensor, patch: Sequence[int], overlap: float, is_empty: Callable[[Tensor], bool] | None
) -> tuple[Tensor, Sequence[slice], list[tuple[slice, ...]]]:
    """The image, at least as large as a patch, where it lies in that, and its tiles but for empty ones; one in any case."""
    from lnauto.compat.inference import pad_nd_image

    padded, inside = pad_nd_image(image, patch, "constant", {"value": 0}, True, None)
    tiles = tile_slices(tuple(padded.shape[1:]), patch, 1 - overlap)
    if is_empty is not None:
        tiles = [tile for tile in tiles if not is_empty(padded[EVERY_CHANNEL + tile])] or tiles[:1]
    return padded, inside, tiles


class _Window:
    """Sums of as many slices as a tile is deep, which moves on with the tiles; what it has passed is finished and kept."""

    def __init__(self, logits: Tensor, shape: Sequence[int], kept: Callable[[Tensor], Tensor], has_regions: bool = False) -> None:
        self.sums = logits.new_zeros(logits.shape[:2] + tuple(shape[1:]))
        self.total = self.sums.new_zeros(self.sums.shape[1:])
        self.start, self.kept = 0, kept
        self.background = logits.new_full((len(logits), 1, 1, 1), -SURELY if has_regions else 0.0)
        if not has_regions:
            self.background[0] = SURELY
        self.found = kept(self.background.clone()).repeat(1, *shape)

    def add(self, logits: Tensor, weights: Tensor, tile: tuple[slice, ...]) -> None:
        if tile[0].start > self.start:
            self._move_to(tile[0].start)
        across = (slice(None), *tile[1:])
        self.sums[EVERY_CHANNEL + across] += logits * weights
        self.total[across] += weights

    def finished(self) -> Tensor:
        self._finish(self.sums.shape[1])
        return self.found

    def _move_to(self, start: int) -> None:
        passed = min(start - self.start, self.sums.shape[1])
        self._finish(passed)
        staying = self.sums.shape[1] - passed
        for place in range(staying):  # slice by slice, which needs no second window
            self.sums[:, place] = self.sums[:, place + passed]
            self.total[place] = self.total[place + passed]
        self.sums[:, staying:] = 0
        self.total[staying:] = 0
        self.start = start

    def _finish(self, slices: int) -> None:
        for first in range(0, slices, AT_ONCE):
            part = slice(first, min(first + AT_ONCE, slices))
            total = self.total[part]
            is_seen = total > 0  # not: at least some small number, as half precision's smallest weights are denormal
            logits = torch.where(is_seen, self.sums[:, part] / torch.where(is_seen, total, 1), self.background)
            self.found[:, self.start + part.start : self.start + part.stop] = self.kept(logits)


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
