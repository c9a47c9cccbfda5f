"""A training of the balls, in process, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lnauto.files import read_json
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.options import Options
from lnauto.trainers.schedule import Length

Command = Callable[..., tuple[int, str, str]]
MODEL = "results/Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres"


def make_trainer(balls: Path, iterations: int = 6, seed: int = 0, workers: int = 0, **options: Any) -> LNTrainer:
    base = balls / "preprocessed" / "Dataset901_Balls"
    plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
    trainer = LNTrainer(plan, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.configure(Options(Length(iterations, None, 3, 1), seed, workers=workers, quiet=True, **options))
    return trainer


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(checkpoint, weights_only=True)["network_weights"])


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)
