"""Strokes: a training by `LNTrainerScribble` from beginning to end, and what validation counts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from building import random_logits, write_balls
from stock_models import stock_masks

from lnauto.paths import VARIABLES
from lnauto.trainers import scribble, validation
from lnauto.trainers.options import Options
from lnauto.trainers.schedule import Clock, Length
from lnauto.trainers.scribble import LNTrainerScribble, partial_cross_entropy
from lnauto.trainers.yardstick import on_image

Command = Callable[..., tuple[int, str, str]]
DATASET = "Dataset902_Strokes"
MODEL = f"results/{DATASET}/LNTrainerScribble__lnautoPlans__3d_fullres"
IGNORE = 2


def write_strokes(folder: Path) -> None:
    """The balls with a line of each drawn, lines of background, and everything else unknown."""
    write_balls(folder)
    for path in sorted((folder / "labelsTr").iterdir()):
        image = sitk.ReadImage(str(path))
        balls = sitk.GetArrayFromImage(image)
        drawn = np.full(balls.shape, IGNORE, np.uint8)
        drawn[:, 16, :][balls[:, 16, :] == 1] = 1
        drawn[::2, ::3, 16] = balls[::2, ::3, 16]
        drawn[4::8, :, 5] = balls[4::8, :, 5]
        strokes = sitk.GetImageFromArray(drawn)
        strokes.CopyInformation(image)
        sitk.WriteImage(strokes, str(path))
    description = json.loads((folder / "dataset.json").read_text())
    description |= {"labels": {"background": 0, "node": 1, "ignore": IGNORE}, "annotation": "scribble"}
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, plan_and_preprocess

    root = tmp_path_factory.mktemp("strokes")
    write_strokes(root / "raw" / DATASET)
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        wishes = Wishes(patch=(16, 24, 24), minutes=40)  # time for the small network; the tiny one does not learn so soon
        plan_and_preprocess("902", Request(device="cpu", quiet=True, wishes=wishes))
    return root


@pytest.fixture
def strokes(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The strokes, planned and preprocessed; results of the test's own."""
    for name, variable in VARIABLES.items():
        monkeypatch.setenv(variable, str((tmp_path if name == "results" else planned) / name))
    monkeypatch.chdir(tmp_path)
    return planned


def make_trainer(strokes: Path, iterations: int = 8) -> LNTrainerScribble:
    base = strokes / "preprocessed" / DATASET
    plan, description = (json.loads((base / name).read_text()) for name in ("lnautoPlans.json", "dataset.json"))
    assert plan["lnauto"]["trainer"] == "LNTrainerScribble"
    trainer = LNTrainerScribble(plan, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.configure(Options(Length(iterations, None, 4, 1), quiet=True))
    return trainer


def test_the_weights_of_what_decoders_agree_on_rise_with_the_training(strokes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for term, value in (("partial_cross_entropy", 0.0), ("pixel_consistency", 1.0), ("projection_consistency", 1.0)):
        monkeypatch.setattr(scribble, term, lambda *_, value=value: torch.tensor(value))
    trainer, target = make_trainer(strokes, 1000), torch.zeros(2, 4, 5, 6)
    trainer.plans_manager.plans["lnauto"]["trusted_background"] = None
    weights = []
    for iteration in (0, 200, 400, 1000):
        trainer.clock = Clock(trainer.options.length, iteration)
        weights.append([float(trainer.loss_of_branches([random_logits(0, classes)] * 3, target)) for classes in (2, 3)])
    rise = [math.exp(-5), math.exp(-1.25), 1, 1]
    assert weights == [pytest.approx([10.1 * share, 11 * share]) for share in rise]


def test_where_the_background_is_trusted_each_decoder_learns_labels_by_nnunets_loss(strokes: Path) -> None:
    trainer = make_trainer(strokes)
    trainer.initialize()
    target = torch.randint(0, 3, (2, 8, 8, 8), generator=torch.Generator().manual_seed(0))  # 2 is what nobody drew
    branches = [random_logits(seed, 2, (8, 8, 8)) for seed in range(3)]
    log_p = [torch.log_softmax(branch, 1) for branch in branches]
    ours = trainer.loss_of_labels(branches, log_p, target)
    assert float(ours) == pytest.approx(sum(float(trainer.loss(branch, target[:, None])) for branch in branches) / 3)
    assert trainer.plans_manager.plans["lnauto"]["trusted_background"]["reach"] == 1.0
    trainer.plans_manager.plans["lnauto"]["trusted_background"] = None
    assert float(trainer.loss_of_labels(branches, log_p, target)) == pytest.approx(
        float(partial_cross_entropy(log_p, target, IGNORE))
    )


def test_a_batch_without_a_stroke_gives_a_finite_step(strokes: Path) -> None:
    trainer = make_trainer(strokes)
    trainer.on_train_start()
    assert trainer.dataloader_train is not None
    batch = next(trainer.dataloader_train)
    batch["target"] = torch.full_like(batch["target"], IGNORE)
    trainer.clock.iteration = 8
    assert np.isfinite(trainer.train_step(batch)["loss"])
    assert all(bool(torch.isfinite(each).all()) for each in trainer.network.parameters())


def test_all_decoders_learn_and_go_on_from_a_checkpoint(strokes: Path) -> None:
    trainer = make_trainer(strokes)
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run_training()
    after = trainer.network.state_dict()
    unused = [name for name in after if torch.equal(before[name], after[name])]
    assert all("seg_layers" in name for name in unused), unused  # of deep supervision, which is off
    other = make_trainer(strokes)
    other.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    assert all(torch.equal(value, after[name]) for name, value in other.network.state_dict().items())


def test_validation_counts_what_is_drawn_and_not_what_strokes_lead_to(strokes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truths: list[np.ndarray] = []
    monkeypatch.setattr(validation, "evaluate_case", lambda truth, *_, **__: truths.append(truth))
    trainer = make_trainer(strokes)
    trainer.initialize()
    validation.validate_fold(trainer)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, sorted(trainer.do_split()[1]))
    for truth, case in zip(truths, dataset.identifiers, strict=True):
        drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(strokes / "raw" / DATASET / "labelsTr" / f"{case}.nii.gz")))
        _, seg, _, properties = dataset.load_case(case)
        followed = on_image(np.asarray(seg[0]) == 1, properties)
        assert (followed & (drawn == IGNORE)).sum() > (drawn == 1).sum()
        assert not (truth == 0)[followed & (drawn != 0)].any()
        np.testing.assert_array_equal(truth == 1, drawn == 1)


def test_stock_nnunet_runs_a_model_of_strokes_and_agrees(
    strokes: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, complaint = command("train", 902, 0, "--iterations", 80, "--quiet", "--device", "cpu")
    assert code == 0, complaint
    scans = strokes / "raw" / DATASET / "imagesTs"
    same = ("--tta", "full", "--overlap", 0.5, "--filter", "none", "--region", "none", "--precision", "fp32")
    code, _, complaint = command("predict", "-i", scans, "-o", "ours", "--quiet", "--device", "cpu", *same)
    assert code == 0, complaint
    stock_masks(MODEL, scans, "stock", monkeypatch)
    for path in sorted(Path("ours").glob("*.nii.gz")):
        ours, theirs = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / path.name))) for folder in (Path("ours"), Path("stock"))
        )
        assert ours.any()
        # Stock adds logits up in 16 bits: voxels that a training so short leaves undecided may fall to background.
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) >= 0.99
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(strokes / "raw" / DATASET / "labelsTs" / path.name)))
        assert 2 * (ours & truth).sum() / (ours.sum() + truth.sum()) > 0.4
