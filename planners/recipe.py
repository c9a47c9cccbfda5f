"""How to train for as long as there is time: optimiser, augmentation, mirroring.

nnU-Net's own recipe is made for 250,000 iterations. What is right for a thousand is another one; both were measured
(documentation/benchmarks.md). Where the one should give way to the other was not: `LONG` is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnauto.planners.budget import Budget

LONG = 20_000  # iterations
WARM_UP = 20


@dataclass(frozen=True)
class Recipe:
    """Settings a trainer reads, and a reason for each."""

    short_of_time: bool
    settings: dict[str, Any]
    reasons: dict[str, str]


def choose_recipe(budget: Budget) -> Recipe:
    """nnU-Net's own for a training of something like nnU-Net's own length, else one that is quick at the start."""
    if budget.minutes is None or (budget.expected_iterations or 0) >= LONG:
        return _STOCKS
    return _QUICK


_STOCKS = Recipe(
    False,
    {
        "optimizer": {"name": "SGD", "learning_rate": 1e-2, "weight_decay": 3e-5, "warm_up_iterations": 0},
        "mirroring": "all",
        "augmentation": "full",
    },
    {
        "optimizer": f"SGD with momentum 0.99, as stock nnU-Net: there is time for {LONG:,} iterations or more",
        "mirroring": "along all axes, as stock nnU-Net",
        "augmentation": "rotation, scale, noise, blur, brightness, contrast, low resolution and gamma, as stock nnU-Net",
    },
)
_QUICK = Recipe(
    True,
    {
        "optimizer": {"name": "AdamW", "learning_rate": 1e-2, "weight_decay": 1e-2, "warm_up_iterations": WARM_UP},
        "mirroring": "left_right",
        "augmentation": "geometry",
    },
    {
        "optimizer": "AdamW: in so few iterations nnU-Net's SGD is still at its start (documentation/benchmarks.md)",
        "mirroring": "left to right only: bodies lie the same way up in every scan, which a short training has no time to learn",
        "augmentation": "rotation and scale only: a short training sees each case a few times, and needs intensities as they are",
    },
)
