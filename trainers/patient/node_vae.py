"""`NodeVAE`: a variational autoencoder of lymph nodes' crops, learned without labels.

Halvings until an axis is at most four voxels long, then one convolution as large as what is left; the decoder goes the same way
back. A crop may be flat (one slice): the axis of one voxel is left alone throughout. Losses as in the VAE-MLP's released code
(L1, 1 - SSIM, KL, in its proportions), but for a mean voxel, so that they hold for crops of any size.

Everything it needs to read a crop later is learned from the crops it was fitted to and lies in its buffers: the range of
intensities, where latents lie, and how large reconstruction errors are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from lnauto.trainers.patient.abmil import triple
from lnauto.trainers.patient.bag import Batch
from lnauto.trainers.patient.fitting import augmented

L1, SSIM, KL = 1.0, 2765 / 1800, 156 / 1800
"""Weights of the losses; the KL is that of a mean latent."""
WINDOW, SIGMA = 5, 1.5  # voxels, of SSIM
SHORT = 4  # voxels: an axis is halved until it is no longer
PERCENTILES = 0.5, 99.5  # of intensities: mapped to 0 and 1
VOXELS = 4_000_000  # are enough to learn percentiles of
ACTIVE = 0.01  # variance of a latent's mean over crops, from which on the latent says something
AT_ONCE = 64  # crops


@dataclass(frozen=True)
class VAESchedule:
    """All our choice, for some hundred crops and seconds on one core."""

    steps: int = 150
    crops: int = 16  # in a batch
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    warm_up: float = 0.05  # of the steps
    clip: float = 1.0


class NodeVAE(nn.Module):
    """Crops to latents and back."""

    low: Tensor
    high: Tensor
    latent_mean: Tensor
    latent_deviation: Tensor
    log_error: Tensor

    def __init__(self, channels: int, size: Sequence[int], width: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        sizes = halvings(size)
        widths = [channels, *(min(2**stage, 4) * width for stage in range(len(sizes) - 1))]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for (given, wide), (large, small) in zip(pairwise(widths), pairwise(sizes), strict=True):
            down += [_down(given, wide, large, small), nn.BatchNorm3d(wide), nn.GELU()]
            after = [nn.BatchNorm3d(given), nn.GELU()] if up else [nn.Sigmoid()]
            up = [_Up(wide, given, large, small), *after, *up]
        last, neck = widths[-1], 8 * width
        self.encoder = nn.Sequential(
            *down, nn.Conv3d(last, neck, sizes[-1]), nn.Flatten(), nn.GELU(), nn.Linear(neck, 2 * latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, neck),
            nn.GELU(),
            nn.Unflatten(1, (neck, 1, 1, 1)),
            nn.ConvTranspose3d(neck, last, sizes[-1]),
            nn.BatchNorm3d(last),
            nn.GELU(),
            *up,
        )
        self.register_buffer("low", torch.zeros(channels))
        self.register_buffer("high", torch.ones(channels))
        self.register_buffer("latent_mean", torch.zeros(latent))
        self.register_buffer("latent_deviation", torch.ones(latent))
        self.register_buffer("log_error", torch.tensor([0.0, 1.0]))  # mean and deviation over training crops

    def scaled(self, crops: Tensor) -> Tensor:
        """Intensities between 0 and 1 for the range that training crops have."""
        low, high = (edge[:, None, None, None] for edge in (self.low, self.high))
        return ((crops - low) / (high - low)).clamp(0, 1)

    def encode(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of each crop's latents."""
        if not len(scaled):
            return scaled.new_zeros((0, self.latent)), scaled.new_zeros((0, self.latent))
        mean, log_variance = self.encoder(scaled).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def decode(self, latents: Tensor) -> Tensor:
        found: Tensor = self.decoder(latents)
        return found

    def latents(self, crops: Tensor) -> Tensor:
        """The mean latents of crops as they come; it neither learns nor draws."""
        with torch.no_grad():
            return torch.cat([self.encode(self.scaled(some))[0] for some in crops.split(AT_ONCE)] or [self.encode(crops)[0]])

    def standardised(self, latents: Tensor) -> Tensor:
        return (latents - self.latent_mean) / self.latent_deviation

    def errors(self, crops: Tensor) -> Tensor:
        """How badly each crop is rebuilt from its mean latents, by the loss that was learned by."""
        with torch.no_grad():
            found = [torch.zeros(0)]
            for some in crops.split(AT_ONCE) if len(crops) else ():
                scaled = self.scaled(some)
                found.append(reconstruction_loss(scaled, self.decode(self.encode(scaled)[0])))
            return torch.cat(found)

    def strangeness(self, crops: Tensor) -> Tensor:
        """Of each crop, the share of training crops that are rebuilt better: logarithms of errors are taken as normal."""
        mean, deviation = self.log_error.double()
        return torch.special.ndtr((self.errors(crops).double().clamp_min(1e-9).log() - mean) / deviation)


def halvings(size: Sequence[int]) -> list[tuple[int, int, int]]:
    """The sizes a crop goes through: even axes of more than SHORT voxels are halved; at least one step."""
    sizes = [triple(size)]
    while True:
        smaller = triple(side // 2 if side > SHORT and side % 2 == 0 else side for side in sizes[-1])
        if smaller == sizes[-1] and len(sizes) > 1:
            return sizes
        sizes.append(smaller)


def _down(given: int, wide: int, large: Sequence[int], small: Sequence[int]) -> nn.Conv3d:
    kernel = triple(3 if side > 1 else 1 for side in large)
    stride = triple(a // b for a, b in zip(large, small, strict=True))
    return nn.Conv3d(given, wide, kernel, stride, triple(k // 2 for k in kernel))


class _Up(nn.Module):
    """A convolution at the small size that says every part of each voxel: a tenth of what one at the large size costs."""

    def __init__(self, given: int, wide: int, large: Sequence[int], small: Sequence[int]) -> None:
        super().__init__()
        self.parts = triple(a // b for a, b in zip(large, small, strict=True))
        kernel = triple(3 if side > 1 else 1 for side in small)
        self.convolution = nn.Conv3d(given, wide * math.prod(self.parts), kernel, padding=triple(k // 2 for k in kernel))

    def forward(self, seen: Tensor) -> Tensor:
        found = self.convolution(seen)
        z, y, x = found.shape[2:]
        a, b, c = self.parts
        apart = found.reshape(len(found), -1, a, b, c, z, y, x)
        return apart.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(len(found), -1, z * a, y * b, x * c)


def reconstruction_loss(crops: Tensor, rebuilt: Tensor) -> Tensor:
    """Of each crop: L1 and 1 - SSIM in the published proportion."""
    return L1 * (crops - rebuilt).abs().flatten(1).mean(dim=1) + SSIM * (1 - ssim(crops, rebuilt))


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Structural similarity of each pair of crops with values in [0, 1], over windows that lie inside; flat axes are left out."""
    maps = torch.stack([one, other, one * one, other * other, one * other])
    for axis in (-1, -2, -3):
        if maps.shape[axis] > 1:
            # a product with a band matrix: several times as fast on a CPU as a convolution of one channel
            maps = (maps.movedim(axis, -1) @ _windows(maps.shape[axis])).movedim(-1, axis)
    mean, other_mean, square, other_square, product = maps
    variances = square - mean**2, other_square - other_mean**2
    found = (2 * mean * other_mean + 0.01**2) * (2 * (product - mean * other_mean) + 0.03**2)
    found = found / ((mean**2 + other_mean**2 + 0.01**2) * (variances[0] + variances[1] + 0.03**2))
    return found.flatten(1).mean(dim=1)


def _windows(side: int) -> Tensor:
    """Side x windows: a Gaussian in every column."""
    distance = torch.arange(WINDOW) - (WINDOW - 1) / 2
    bell = torch.exp(-(distance**2) / (2 * SIGMA**2))
    columns = torch.zeros((side, side - WINDOW + 1))
    for column in range(columns.shape[1]):
        columns[column : column + WINDOW, column] = bell / bell.sum()
    return columns


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL from a standard normal, of a mean crop and a mean latent."""
    return (-0.5 * (1 + log_variance - mean**2 - log_variance.exp())).mean()


def vae_loss(crops: Tensor, rebuilt: Tensor, mean: Tensor, log_variance: Tensor, progress: float) -> Tensor:
    """Of a mean crop; `progress`: the part of the training that is done."""
    return reconstruction_loss(crops, rebuilt).mean() + KL * kl_weight(progress) * divergence(mean, log_variance)


def kl_weight(progress: float) -> float:
    """From 0.25 up to 1.24: first what is seen, then in order."""
    return 1.25 - math.exp(-5 * progress)


def learn_range(vae: NodeVAE, crops: Tensor) -> None:
    """Which intensities become 0 and 1."""
    for channel in range(crops.shape[1]):
        values = crops[:, channel].numpy().ravel()
        low, high = np.percentile(values[:: max(1, len(values) // VOXELS)], PERCENTILES)
        vae.low[channel], vae.high[channel] = float(low), float(max(high, low + 1e-3))


def fit_vae(vae: NodeVAE, batch: Batch, seed: int, schedule: VAESchedule) -> dict[str, float]:
    """Learn from all crops of a batch, and then where they lie; returns what is worth telling."""
    if not len(batch.crops):
        return {"active": 0.0, "ssim": 0.0}
    learn_range(vae, batch.crops)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        _descend(vae, batch, rng, schedule)
    vae.eval()
    means = vae.latents(batch.crops)
    vae.latent_mean.copy_(means.mean(dim=0))
    # a latent that says nothing stays small: were it stretched to a deviation of one, it would be noise
    vae.latent_deviation.copy_(means.std(dim=0, unbiased=False).clamp_min(math.sqrt(ACTIVE)))
    errors = vae.errors(batch.crops).clamp_min(1e-9).log()
    vae.log_error.copy_(torch.stack([errors.mean(), errors.std(unbiased=False).clamp_min(0.05)]))
    scaled = vae.scaled(batch.crops[:AT_ONCE])
    with torch.no_grad():
        alike = float(ssim(scaled, vae.decode(vae.encode(scaled)[0])).mean())
    return {"active": float((means.var(dim=0, unbiased=False) > ACTIVE).sum()), "ssim": alike}


def _descend(vae: NodeVAE, batch: Batch, rng: np.random.Generator, schedule: VAESchedule) -> None:
    optimizer = torch.optim.AdamW(vae.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, schedule.steps, pct_start=schedule.warm_up, cycle_momentum=False
    )
    vae.train()
    for step in range(schedule.steps):
        chosen = torch.from_numpy(rng.permutation(len(batch.crops))[: schedule.crops])
        seen = augmented(replace(batch, crops=batch.crops[chosen], masks=batch.masks[chosen]))
        crops = vae.scaled(seen.crops)
        mean, log_variance = vae.encode(crops)
        rebuilt = vae.decode(mean + torch.randn_like(mean) * (0.5 * log_variance).exp())
        loss = vae_loss(crops, rebuilt, mean, log_variance, step / schedule.steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), schedule.clip)
        optimizer.step()
        rate.step()
