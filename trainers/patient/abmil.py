"""`LNMTrainerABMIL`: gated attention over a patient's nodes.

Each node is read from its crop by a small convolutional network, together with its form, its signs and where it lies. An
attention says how much each node counts, and a score how suspicious it is; the patient's logit is the attended mean of the
scores plus a line through the clinical row. Attention: Ilse, Tomczak, Welling, Attention-based Deep Multiple Instance Learning,
ICML 2018, gated form. That the mean is taken of scores instead of features is our choice: every node then has a logit of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lnauto.trainers.patient.bag import SHAPES, SIGNS, Bag, Batch, Output
from lnauto.trainers.patient.bag_trainer import BagTrainer, hidden_for
from lnauto.trainers.patient.reader import Reader

CROP_FEATURES = 8  # of the first convolution
POINT_MM = 50.0  # so that places are numbers near one


class LNMTrainerABMIL(BagTrainer):
    """The head that the plan takes where there are nodes."""

    name = "LNMTrainerABMIL"
    reads_blocks = True

    def settings(self, bags: Sequence[Bag], reader: Reader) -> dict[str, Any]:
        size = list(bags[0].crops.shape[2:])
        return {"channels": bags[0].crops.shape[1], "size": size, "hidden": hidden_for(len(bags)), "clinical": reader.numbers}

    @staticmethod
    def build(settings: dict[str, Any]) -> nn.Module:
        return GatedAttention(settings["channels"], settings["size"], settings["hidden"], settings["clinical"])


class GatedAttention(nn.Module):
    """Instances to one logit."""

    def __init__(self, channels: int, size: Sequence[int], hidden: int, clinical: int) -> None:
        super().__init__()
        self.instances = InstanceEncoder(channels, size, hidden, with_signs=True)
        self.pool = GatedPooling(hidden)
        self.score = nn.Linear(hidden, 1)
        self.clinical = nn.Parameter(torch.zeros(clinical))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Output:
        features = self.instances(batch)
        attention = self.pool(batch.laid_out(features), batch.present)
        scores = batch.laid_out(self.score(features)[:, 0])
        logit = self.bias + (attention * scores).sum(dim=1) + batch.clinical @ self.clinical
        return Output(logit, scores, attention)


class InstanceEncoder(nn.Module):
    """Crop, form, signs (if wanted) and place of each instance that is there to `hidden` numbers."""

    def __init__(self, channels: int, size: Sequence[int], hidden: int, with_signs: bool = False) -> None:
        super().__init__()
        self.with_signs = with_signs
        self.crop = crop_encoder(channels + 1, size, hidden)
        self.form = nn.Linear(len(SHAPES) + with_signs * channels * len(SIGNS) + 4, hidden)
        self.join = nn.Sequential(nn.LayerNorm(2 * hidden), nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Dropout(0.25))

    def forward(self, batch: Batch) -> Tensor:
        seen = self.crop(torch.cat([batch.crops, batch.masks], dim=1))
        places = torch.cat([batch.points, batch.towards[:, None]], dim=1) / POINT_MM
        signs = [batch.signs] if self.with_signs else []
        form = self.form(torch.cat([batch.shapes, *signs, places], dim=1))
        joined: Tensor = self.join(torch.cat([seen, form], dim=1))
        return joined


def crop_encoder(channels: int, size: Sequence[int], hidden: int) -> nn.Sequential:
    """Three halvings of a crop (of the axes that are more than one voxel), then the mean over what is left."""
    layers: list[nn.Module] = []
    given, width, sides = channels, CROP_FEATURES, list(size)
    for _ in range(3):
        stride = triple(2 if side >= 4 else 1 for side in sides)
        kernel = triple(3 if side > 1 else 1 for side in sides)
        layers += [
            nn.Conv3d(given, width, kernel, stride, triple(k // 2 for k in kernel)),
            nn.GroupNorm(4, width),
            nn.GELU(),
        ]
        sides = [(side + s - 1) // s for side, s in zip(sides, stride, strict=True)]
        given, width = width, min(2 * width, 2 * hidden)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(given, hidden))


def triple(values: Iterable[int]) -> tuple[int, int, int]:
    z, y, x = values
    return z, y, x


class GatedPooling(nn.Module):
    """How much each instance counts: positive, adding up to one over those that are there."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.look, self.gate, self.weigh = nn.Linear(features, features), nn.Linear(features, features), nn.Linear(features, 1)

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """`features`: bags, places, numbers; returns bags, places."""
        scores = self.weigh(torch.tanh(self.look(features)) * torch.sigmoid(self.gate(features)))[..., 0]
        return masked_softmax(scores, present)


def masked_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over the last axis where something is present; all 0 where nothing is."""
    scores = scores.masked_fill(~present, float("-inf"))
    highest = scores.amax(dim=-1, keepdim=True)
    weights = torch.exp(scores - torch.where(highest.isfinite(), highest, 0.0)) * present
    return weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
