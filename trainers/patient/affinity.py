"""The regional affinity loss: a map of where the evidence is should follow the anatomy. A method of WeGA's idea, see wega.py.

A map says of every place of a coarse grid how much speaks for metastasis there, between 0 and 1; a region says where lymph nodes
are. Two variants, neither of them published in formulas:

- **overlap**: in patients with metastasis the map should lie inside the region (Tversky index), in those without it should be
  low, and in nobody should there be evidence far from the region. Weights of false places as in LNA-Dx, whose map of classes is
  supervised so: evidence outside counts much, a node without evidence little, for not every node of such a patient is metastatic.
- **contrast**: what belongs to one region looks alike (variance within it, which is half the mean squared difference of its
  pairs), and across the region's border evidence falls by a margin, in patients with metastasis.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

OUTSIDE, MISSED = 0.9, 0.1  # weights of false places [LNA-Dx's alpha of 0.1]
MARGIN = 0.5  # [our choice]
CONTRAST = 0.1  # its part beside the overlap


def affinity_loss(cam: Tensor, region: Tensor, label: Tensor, contrast: float = CONTRAST) -> Tensor:
    """Both, for each bag. `cam` and `region` (bool): bags, z, y, x; `label`: 0, 1, or NaN where it is not known."""
    loss = overlap_loss(cam, region, label)
    return loss + contrast * contrast_loss(cam, region, label) if contrast else loss


def overlap_loss(cam: Tensor, region: Tensor, label: Tensor) -> Tensor:
    """Variant A, for each bag."""
    inside = region.to(cam.dtype)
    hit, stray, missed = (_sum(part) for part in (cam * inside, cam * (1 - inside), (1 - cam) * inside))
    tversky = hit / (hit + OUTSIDE * stray + MISSED * missed).clamp_min(1e-6)
    of_positive = torch.where((label == 1) & region.flatten(1).any(dim=1), 1 - tversky, 0.0)  # without a region: nowhere to be
    of_negative = torch.where(label == 0, cam.flatten(1).mean(dim=1), 0.0)
    return of_positive + of_negative + _mean(cam, ~widened(region))


def contrast_loss(cam: Tensor, region: Tensor, label: Tensor) -> Tensor:
    """Variant B, for each bag."""
    within = _variance(cam, region) + _variance(cam, ~region)
    short, pairs = torch.zeros_like(within), torch.zeros_like(within)
    for axis in (1, 2, 3):
        there, here = cam.narrow(axis, 1, cam.shape[axis] - 1), cam.narrow(axis, 0, cam.shape[axis] - 1)
        to, since = region.narrow(axis, 1, cam.shape[axis] - 1), region.narrow(axis, 0, cam.shape[axis] - 1)
        border = (to != since).to(cam.dtype)
        short = short + _sum(border * functional.relu(MARGIN - torch.where(to, there - here, here - there)))
        pairs = pairs + _sum(border)
    return within + torch.where(label == 1, short / pairs.clamp_min(1), 0.0)


def widened(region: Tensor) -> Tensor:
    """With every neighbour, edges and corners included."""
    return functional.max_pool3d(region.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0


def _variance(cam: Tensor, where: Tensor) -> Tensor:
    middle = _mean(cam, where)[:, None, None, None]
    return _mean((cam - middle) ** 2, where)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Of each bag, over the places named; 0 where there are none."""
    return _sum(values * where) / _sum(where).clamp_min(1)


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(dim=1)
