"""What is round the nodes, as tokens: a grid of features over the view, each with its place in mm.

Two ways to them: nnU-Net's residual encoder, trained with the head, or a frozen DINOv2 on slices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnauto.compat.networks import ResidualEncoder
from lnauto.networks.vit import SIDE, FrozenViT, load_vit
from lnauto.trainers.patient.bag import Batch

STEM, WIDTHS, STRIDES = 8, (16, 16), (2, 1)  # of the encoder, whose stem halves, too [our choice]
BLOCK = 4  # voxels of the view along a token
NOISE = 0.5  # standard deviation, in training [our choice]
SLICES = 8
MARGIN_MM = 20.0  # slices reach so far beyond the nodes
LOW, HIGH = 0.005, 0.995  # quantiles that become black and white: MRI has no units, and a CT is already normalised
LEAST_NODE = 0.05  # voxels of the view: with less node in it a token is not of the region


@dataclass(frozen=True, eq=False)
class Tokens:
    """A grid over each bag's view."""

    values: Tensor  # bags, tokens, numbers
    points: Tensor  # bags, tokens, 3: mm
    region: Tensor  # bags, z, y, x: bool, where lymph nodes are
    to_mm: Tensor  # bags, 4, 4: from a token's (z, y, x) to a point
    there: Tensor  # bags: bool, whether there is a view


class EncodedTokens(nn.Module):
    """From nnU-Net's encoder on the whole view; a token for 4 voxels along each axis."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(channels + 1, STEM, 3, stride=2, padding=1),
            nn.InstanceNorm3d(STEM, affine=True),
            nn.LeakyReLU(inplace=True),
        )
        self.encoder = ResidualEncoder(
            input_channels=STEM,
            n_stages=len(WIDTHS),
            features_per_stage=WIDTHS,
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=STRIDES,
            n_blocks_per_stage=1,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            disable_default_stem=True,  # it works at the full size of the view, and would cost more than all the rest
        )
        self.out = nn.Linear(WIDTHS[-1], hidden)

    def forward(self, batch: Batch) -> Tokens | None:
        if batch.view is None or batch.view_to_mm is None:
            return None
        seen = self.encoder(self.stem(self._augmented(batch.view) if self.training else batch.view))
        first = batch.view.new_full((len(batch.view),), (BLOCK - 1) / 2)
        step = torch.full_like(first, BLOCK)
        return laid_over(batch.view, batch.view_to_mm, self.out(seen.flatten(2).transpose(1, 2)), seen.shape[2:], first, step)

    def _augmented(self, view: Tensor) -> Tensor:
        """Brighter or darker, as crops are, and with noise: some dozen views are otherwise known by heart in a hundred steps."""
        gain, offset = (0.1 * torch.randn(len(view), 1, 1, 1, 1) for _ in range(2))
        image = view[:, :-1] * (1 + gain) + offset + NOISE * torch.randn_like(view[:, :-1])
        return torch.cat([image, view[:, -1:]], dim=1)


class SlicedTokens(nn.Module):
    """From a frozen vision transformer on slices of the part that bears nodes, the mean of 2 x 2 tokens each.

    A view is 32 voxels wide, so that the transformer's own tokens would be finer than what there is to see.
    """

    def __init__(self, weights: Path, sha256: str, hidden: int) -> None:
        super().__init__()
        self.vit: FrozenViT = load_vit(weights, sha256)
        self.out = nn.Sequential(nn.LayerNorm(self.vit.width), nn.Linear(self.vit.width, hidden), nn.Dropout(0.25))

    def forward(self, batch: Batch) -> Tokens | None:
        if batch.view is None or batch.view_to_mm is None:
            return None
        pairs = list(zip(batch.view, batch.view_to_mm, strict=True))
        seen = torch.stack(
            [self.vit.kept(torch.cat([view.flatten(), to_mm.flatten()]), self._of(view, to_mm)) for view, to_mm in pairs]
        )
        first, last = (torch.stack(ends) for ends in zip(*(ends_of(*pair) for pair in pairs), strict=True))
        step = (last - first) / (SLICES - 1)
        return laid_over(batch.view, batch.view_to_mm, self.out(seen.flatten(1, 3)), seen.shape[1:4], first, step)

    def _of(self, view: Tensor, to_mm: Tensor) -> Callable[[], Tensor]:
        def compute() -> Tensor:
            tokens = self.vit.tokens(slices_of(view[0], *ends_of(view, to_mm))).permute(0, 3, 1, 2)
            return functional.avg_pool2d(tokens, 2).permute(0, 2, 3, 1)

        return compute


def ends_of(view: Tensor, to_mm: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last slice to look at: what bears nodes and a margin; everything where there are none."""
    last = view.shape[1] - 1
    bearing = torch.nonzero(view[-1].flatten(1).sum(dim=1) > 0).flatten()
    if not len(bearing):
        return view.new_zeros(()), view.new_tensor(float(last))
    margin = MARGIN_MM / to_mm[:3, 0].norm().clamp_min(1e-3)
    return (bearing[0] - margin).clamp(0, last), (bearing[-1] + margin).clamp(0, last)


def slices_of(image: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Pictures of an image z, y, x: SLICES evenly from the first to the last, each with its neighbours as red and blue."""
    low, high = torch.quantile(image.flatten(), image.new_tensor([LOW, HIGH]))
    grey = ((image - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    middle = first + (last - first) * torch.arange(SLICES) / (SLICES - 1)
    at = (middle[:, None] + torch.tensor([-1.0, 0.0, 1.0])).clamp(0, len(image) - 1)
    below = at.floor().long()
    above, part = (below + 1).clamp_max(len(image) - 1), (at - below)[..., None, None]
    pictures = grey[below] * (1 - part) + grey[above] * part
    return functional.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False).clamp(0, 1)


def laid_over(view: Tensor, view_to_mm: Tensor, values: Tensor, shape: torch.Size, first: Tensor, step: Tensor) -> Tokens:
    """Tokens with their places: along z from `first` in steps of `step` voxels, in the plane side by side over the whole view."""
    scale = torch.zeros_like(view_to_mm)
    scale[:, 0, 0], scale[:, 0, 3], scale[:, 3, 3] = step, first, 1
    for axis in (1, 2):
        wide = view.shape[axis + 2] / shape[axis]
        scale[:, axis, axis], scale[:, axis, 3] = wide, (wide - 1) / 2
    to_mm = view_to_mm @ scale
    places = torch.stack(torch.meshgrid(*(torch.arange(float(side)) for side in shape), torch.ones(1), indexing="ij"), dim=-1)
    points = places.reshape(-1, 4) @ to_mm[:, :3].transpose(1, 2)
    return Tokens(values, points, region_of(view[:, -1], shape, first, step), to_mm, view_to_mm[:, 3, 3] > 0)


def region_of(nodes: Tensor, shape: torch.Size, first: Tensor, step: Tensor) -> Tensor:
    """Which tokens bear node: a slice of the view counts for the token it is nearest to."""
    depth = nodes.shape[1]
    nearest = ((torch.arange(float(depth)) - first[:, None]) / step.clamp_min(1e-6)[:, None]).round().clamp(0, shape[0] - 1)
    belongs = functional.one_hot(nearest.long(), shape[0]).to(nodes.dtype)  # bags, depth, tokens along z
    in_plane = functional.adaptive_avg_pool2d(nodes, (shape[1], shape[2])) * (nodes[0, 0].numel() / (shape[1] * shape[2]))
    return torch.einsum("bdt,bdyx->btyx", belongs, in_plane) >= LEAST_NODE
