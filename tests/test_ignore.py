"""Voxels that nobody judged: padding is one of them, unless it cannot be told from what lies outside the body."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lnauto.files import read_json
from lnauto.trainers.ignore import LNTrainerIgnore
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.options import Options
from lnauto.trainers.schedule import Length

IGNORE, PADDING = 2, -1


def make_trainer(balls: Path, kind: type[LNTrainer], masked: bool = False) -> LNTrainer:
    base = balls / "preprocessed" / "Dataset901_Balls"
    plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
    plan["configurations"]["3d_fullres"]["use_mask_for_norm"] = [masked]
    description["labels"] = {"background": 0, "node": 1, "ignore": IGNORE}
    trainer = kind(plan, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.configure(Options(Length(2, None, 2, 1), quiet=True))
    trainer.initialize()
    trainer.get_dataloaders()
    return trainer


def seen(trainer: LNTrainer, transforms: Any) -> set[int]:
    """The labels that come of a patch of node and padding."""
    label = torch.ones(1, 48, 48, 48, dtype=torch.int16)
    label[:, :, :, 24:] = PADDING
    target = transforms(image=torch.zeros(1, 48, 48, 48), segmentation=label)["segmentation"]
    return {int(value) for value in torch.unique(target[0] if isinstance(target, list) else target)}


@pytest.mark.parametrize(
    ("kind", "masked", "padding"), [(LNTrainerIgnore, False, IGNORE), (LNTrainerIgnore, True, 0), (LNTrainer, False, 0)]
)
def test_padding_is_ignored_where_it_can_be_told(balls: Path, kind: type[LNTrainer], masked: bool, padding: int) -> None:
    trainer = make_trainer(balls, kind, masked)
    rotation, dummy_2d, _, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    labels = {"foreground_labels": [1], "ignore_label": IGNORE, "use_mask_for_norm": [masked]}
    augment = trainer.get_training_transforms((48, 48, 48), rotation, None, axes, dummy_2d, **labels)
    assert seen(trainer, augment) == {1, padding}
    assert seen(trainer, trainer.validation_batches.loader.transforms) == {1, padding}


def test_what_is_ignored_has_no_gradient_and_nothing_else_costs_nothing(balls: Path) -> None:
    trainer = make_trainer(balls, LNTrainerIgnore)
    target = [torch.full((2, 1, 16, 16, 16), IGNORE)]
    target[0][:, :, :4], target[0][:, :, 4:8] = 0, 1
    for some in (True, False):
        if not some:
            target[0][:] = IGNORE
        logits = torch.randn(2, 2, 16, 16, 16, requires_grad=True)
        loss = trainer.loss.loss(logits, target[0])
        loss.backward()
        moved = logits.grad.abs().sum(1) > 0
        assert bool(torch.isfinite(loss))
        assert bool(moved[:, :8].all()) == some
        assert not bool(moved[:, 8:].any())
