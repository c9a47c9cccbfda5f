"""Pre-training: from images alone, all of them; done once, continued after a kill, and what every fold begins with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from building import write_balls
from torch import nn

from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.inference.model import find_models
from lnauto.networks.multi_decoder import Auxiliary, MultiDecoder
from lnauto.paths import VARIABLES
from lnauto.planners.wishes import Wishes
from lnauto.trainers import pretraining
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.options import Options
from lnauto.trainers.pretraining import PRETRAINED, LNPretraining, cut
from lnauto.trainers.schedule import Length
from lnauto.trainers.warm_start import warm_start
from lnauto.workflow.fold import Request
from lnauto.workflow.plan import Request as Planning
from lnauto.workflow.plan import bring_images_up_to_date, plan_and_preprocess
from lnauto.workflow.pretrain import _length

Command = Callable[..., tuple[int, str, str]]
Weights = dict[str, torch.Tensor]
NAME = "Dataset903_Unlabelled"
UNLABELLED = ["ball_03", "ball_04", "ball_05"]
PREPROCESSED = f"preprocessed/{NAME}/lnautoPlans_3d_fullres"
MODEL = f"results/{NAME}/LNTrainer__lnautoPlans__3d_fullres"
WEIGHTS = f"results/{NAME}/LNPretraining__lnautoPlans__3d_fullres/fold_all/{PRETRAINED}"
TRAIN = ("--iterations", 4, "--pretrain", "--device", "cpu", "--workers", 0)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of balls, three of them without a label, planned, and preprocessed with and without labels; read-only."""
    from lnauto.data.raw import RawDataset
    from lnauto.paths import activate
    from lnauto.planners.plan import Plan

    root = tmp_path_factory.mktemp("unlabelled")
    raw = root / "raw" / NAME
    write_balls(raw, side=24, test_cases=0)
    for case in UNLABELLED:
        (raw / f"labelsTr/{case}.nii.gz").unlink()
    description = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, "unannotated": UNLABELLED}))
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("903", Planning(wishes=Wishes(patch=[16, 16, 16]), device="cpu", quiet=True))
        plan = Plan.load(root / f"preprocessed/{NAME}/lnautoPlans.json", "")
        bring_images_up_to_date(RawDataset.read(raw), plan, "3d_fullres", activate(), quiet=True)
    return root


@pytest.fixture
def own(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for a test to spoil; the test runs beside it."""
    for name, variable in VARIABLES.items():
        if (planned / name).is_dir():
            shutil.copytree(planned / name, tmp_path / name)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(root: Path, kind: type[LNTrainer] = LNPretraining, iterations: int = 4, seed: int = 0, **options: Any) -> Any:
    base = root / "preprocessed" / NAME
    plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
    trainer = kind(plan, "3d_fullres", "all", description, torch.device("cpu"))
    trainer.configure(Options(Length(iterations, None, 2, 1), seed, quiet=True, **options))
    if isinstance(trainer, LNPretraining):
        folder = root / PREPROCESSED
        trainer.images = [folder / f"ball_{number:02d}.b2nd" for number in range(3)]
        trainer.images += [folder.with_name(f"{folder.name}_unannotated") / f"{case}.b2nd" for case in UNLABELLED]
    return trainer


def pretrained(root: Path, **options: Any) -> Weights:
    """The weights after a short pre-training."""
    trainer = make(root, **options)
    trainer.initialize()
    trainer.run_training()
    return loaded(Path(trainer.output_folder) / PRETRAINED)


def loaded(checkpoint: Path) -> Weights:
    return dict(torch.load(checkpoint, weights_only=True)["network_weights"])


def same(first: Weights, second: Weights) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def train(command: Command, *arguments: object) -> str:
    code, out, complaint = command("train", 903, *arguments)
    assert code == 0, complaint
    return out


# ---- images


def test_images_without_a_label_lie_apart_from_the_training_cases(planned: Path) -> None:
    from lnauto.compat.storage import nnUNetDatasetBlosc2

    assert sorted(nnUNetDatasetBlosc2(str(planned / PREPROCESSED)).identifiers) == ["ball_00", "ball_01", "ball_02"]
    assert sorted(path.name for path in (planned / f"{PREPROCESSED}_unannotated").iterdir()) == [
        f"{case}.b2nd" for case in UNLABELLED
    ]


def test_an_image_without_a_label_is_preprocessed_as_one_with_a_label(own: Path) -> None:
    from lnauto.compat.storage import open_image
    from lnauto.data.preprocess import Job, preprocess_case
    from lnauto.data.raw import Case

    plan, raw = read_json(own / f"preprocessed/{NAME}/lnautoPlans.json", ""), own / f"raw/{NAME}"
    job = Job(plan, "3d_fullres", read_json(raw / "dataset.json", ""), own / "again", "")
    assert preprocess_case(Case("ball_00", (raw / "imagesTr/ball_00_0000.nii.gz",)), job) is None
    assert [path.name for path in (own / "again").iterdir()] == ["ball_00.b2nd"]
    again, labelled = (open_image(folder / "ball_00.b2nd")[:] for folder in (own / "again", own / PREPROCESSED))
    np.testing.assert_allclose(again, labelled, atol=1e-5)


def test_every_image_is_learned_from_and_no_label_is_read(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    opened = pretraining.open_image
    monkeypatch.setattr(pretraining, "open_image", lambda path: (read.append(path.name), opened(path))[1])
    before = pretrained(own, iterations=10)
    assert set(read) == {f"ball_{number:02d}.b2nd" for number in range(6)}
    for label in [*(own / PREPROCESSED).glob("*_seg.b2nd"), *(own / PREPROCESSED).glob("*.pkl")]:
        label.unlink()
    shutil.rmtree(own / f"raw/{NAME}/labelsTr")
    assert same(before, pretrained(own, iterations=10))


@pytest.mark.parametrize("side", [9, 16, 24])
def test_a_patch_lies_anywhere_and_small_images_among_zeros(side: int) -> None:
    image = np.arange(1, 2 * side**3 + 1, dtype=np.float32).reshape(2, side, side, side)
    cuts = [cut(image, (16, 16, 16), np.random.default_rng(seed)) for seed in range(60)]
    assert all(patch.shape == (2, 16, 16, 16) for patch in cuts)
    if side < 16:
        inset = (16 - side) // 2
        held = (slice(None), *(slice(inset, inset + side),) * 3)
        np.testing.assert_array_equal(cuts[0][held], image)
        assert (cuts[0] > 0).sum() == image.size
    else:
        starts = {int(patch[0, 0, 0, 0] - 1) // side**2 for patch in cuts}
        assert starts == set(range(side - 16 + 1))
        assert all((patch > 0).all() for patch in cuts)


# ---- training


def test_the_network_restores_every_channel_and_its_loss_falls(own: Path) -> None:
    trainer = make(own, iterations=40)
    trainer.initialize()
    trainer.run_training()
    assert trainer.network.decoder.seg_layers[-1].out_channels == 1
    losses = [record["train_loss"] for record in trainer.history]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_what_the_network_sees_is_spoiled_and_its_target_is_not(own: Path) -> None:
    from lnauto.compat.storage import open_image

    trainer = make(own)
    trainer.initialize()
    batches, _ = trainer.get_dataloaders()
    batch = next(batches)
    values = {value for path in trainer.images for value in np.unique(open_image(path)[:])}
    assert set(np.unique(batch["target"])) <= values
    assert not set(np.unique(batch["data"])) <= values
    assert batch["data"].shape == batch["target"].shape == (trainer.batch_size, 1, 16, 16, 16)


def test_nnunets_augmentation_and_its_dummy_2d_switch_have_no_part(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked for")

    trainer = make(own, iterations=2)
    for name in ("configure_rotation_dummyDA_mirroring_and_inital_patch_size", "get_training_transforms"):
        monkeypatch.setattr(LNTrainer, name, refuse)
    trainer.initialize()
    trainer.run_training()
    assert trainer.clock.iteration == 2


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(own: Path) -> None:
    first, again, other = pretrained(own, seed=3), pretrained(own, seed=3), pretrained(own, seed=4)
    assert same(first, again)
    assert not same(first, other)


def test_after_a_kill_it_goes_on_as_if_nothing_had_happened(own: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    train(command, 0, "--iterations", 8, *TRAIN[2:], "--quiet")
    whole, fold = loaded(Path(WEIGHTS)), loaded(Path(MODEL) / "fold_0/checkpoint_final.pth")
    shutil.rmtree("results")
    step, seen = LNPretraining.train_step, 0

    def killed(self: LNPretraining, batch: dict[str, Any]) -> dict[str, Any]:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LNPretraining, "train_step", killed)
        assert command("train", 903, 0, "--iterations", 8, *TRAIN[2:], "--quiet")[0] == 130
    assert not Path(WEIGHTS).exists()
    assert "Pre-training goes on from iteration 2." in train(command, 0, "--iterations", 8, *TRAIN[2:])
    assert same(whole, loaded(Path(WEIGHTS)))
    assert same(fold, loaded(Path(MODEL) / "fold_0/checkpoint_final.pth"))


# ---- once, for every fold


def test_the_second_fold_uses_what_the_first_began_with(own: Path, command: Command) -> None:
    assert "Pre-training on 6 images" in train(command, 0, *TRAIN)
    before = Path(WEIGHTS).read_bytes()
    out = train(command, 1, *TRAIN)
    assert "The pre-training that is there is used again (2 iterations)." in out
    assert "Starts from LNPretraining__lnautoPlans__3d_fullres: 2 iterations" in out
    assert Path(WEIGHTS).read_bytes() == before
    made = [torch.load(Path(MODEL) / f"fold_{n}/checkpoint_final.pth", weights_only=True)["lnauto"]["pretrained"] for n in (0, 1)]
    assert made[0] == made[1] == torch.load(WEIGHTS, weights_only=True)["lnauto"]["more"]["made_of"]


def test_it_is_no_model_that_predicts(own: Path, command: Command) -> None:
    train(command, 0, *TRAIN, "--quiet")
    assert find_models(own / "results") == [own / MODEL]


@pytest.mark.parametrize("change", ["image", "network", "patch"])
def test_what_it_was_made_of_changed_so_it_is_made_anew(own: Path, command: Command, change: str) -> None:
    train(command, 0, *TRAIN, "--quiet")
    before = loaded(Path(WEIGHTS))
    if change == "image":
        images = own / f"raw/{NAME}/imagesTr"
        shutil.copy(images / "ball_00_0000.nii.gz", images / "ball_05_0000.nii.gz")
    else:
        path = own / f"preprocessed/{NAME}/lnautoPlans.json"
        plan = json.loads(path.read_text())
        chosen = plan["configurations"]["3d_fullres"]
        if change == "network":
            chosen["architecture"]["arch_kwargs"]["features_per_stage"][0] += 4
        else:
            chosen["patch_size"][0] *= 2
        path.write_text(json.dumps(plan))
    out = train(command, 0, "--overwrite", *TRAIN)
    assert "made with other images or another network; it is made anew." in out
    after = loaded(Path(WEIGHTS))
    assert {name: value.shape for name, value in before.items()} != {
        name: value.shape for name, value in after.items()
    } or not same(before, after)


def test_while_it_is_made_anew_the_earlier_one_does_not_hide_it(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(command, 0, *TRAIN, "--quiet")
    images = own / f"raw/{NAME}/imagesTr"
    shutil.copy(images / "ball_00_0000.nii.gz", images / "ball_05_0000.nii.gz")
    step = LNPretraining.train_step

    def stopped(self: LNPretraining, batch: dict[str, Any]) -> dict[str, Any]:
        if self.clock.iteration == 1:
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LNPretraining, "train_step", stopped)
        assert command("train", 903, 0, "--overwrite", *TRAIN, "--quiet")[0] == 130
    out = train(command, 0, "--overwrite", *TRAIN)
    assert "Pre-training goes on from iteration 1." in out
    assert "made with other images" not in out


def test_a_changed_label_does_not_make_it_anew(own: Path, command: Command) -> None:
    train(command, 0, *TRAIN, "--quiet")
    labels = own / f"raw/{NAME}/labelsTr"
    shutil.copy(labels / "ball_00.nii.gz", labels / "ball_01.nii.gz")
    assert "used again" in train(command, 1, *TRAIN)


def test_without_the_flag_nothing_is_pretrained_and_a_plan_may_ask_for_it(own: Path, command: Command) -> None:
    without = tuple(part for part in TRAIN if part != "--pretrain")
    assert "Pre-training" not in train(command, 0, *without)
    assert not Path(WEIGHTS).exists()
    path = own / f"preprocessed/{NAME}/lnautoPlans.json"
    plan = json.loads(path.read_text())
    plan["lnauto"]["pretraining"] = {"share": 1.0}
    path.write_text(json.dumps(plan))
    assert "Pre-trained: 4 iterations" in train(command, 1, *without)


def test_a_plan_does_not_ask_for_it_by_itself_and_one_that_does_says_how_much(own: Path, command: Command) -> None:
    path = own / f"preprocessed/{NAME}/lnautoPlans.json"
    plan = json.loads(path.read_text())
    assert plan["lnauto"]["pretraining"] is None
    assert plan["lnauto"]["reasons"]["pre-training"].endswith("--pretrain does it, on 6 images")
    plan["lnauto"]["pretraining"] = {}
    path.write_text(json.dumps(plan))
    code, _, complaint = command("train", 903, 0, *TRAIN)
    assert (code, "the plan lacks pretraining.share" in complaint) == (2, True)


def test_a_training_that_is_there_is_refused_or_continued_before_anything_is_pretrained(own: Path, command: Command) -> None:
    without = tuple(part for part in TRAIN if part != "--pretrain")
    train(command, 0, *without, "--quiet")
    code, _, complaint = command("train", 903, 0, *TRAIN)
    assert (code, "finished there already" in complaint) == (2, True)
    train(command, 0, "--continue", "--iterations", 6, *TRAIN[2:], "--quiet")
    assert not Path(WEIGHTS).exists()


def test_of_a_budget_it_takes_half_of_what_a_fold_gets(own: Path) -> None:
    plan: Any = SimpleNamespace(
        lnauto={"budget": {"minutes": 30.0, "iterations_per_epoch": 50, "validation_iterations": 5}, "pretraining": None}
    )
    asked = Request(minutes=60.0)
    assert _length(plan, asked, seconds=3000.0, folds=1).seconds == pytest.approx(1000)
    assert _length(plan, asked, seconds=3300.0, folds=5).seconds == pytest.approx(300)
    assert _length(plan, Request(), seconds=None, folds=5).seconds == pytest.approx(900)  # the plan's time is a fold's own
    assert _length(plan, Request(iterations=400), seconds=None, folds=5).iterations == 200
    with pytest.raises(InputError, match="the budget leaves 2 s for pre-training"):
        _length(plan, replace(asked, minutes=0.1), seconds=6.0, folds=1)


# ---- warm start


@pytest.fixture
def weights(own: Path, command: Command) -> Path:
    train(command, 0, *TRAIN, "--quiet")
    return own / WEIGHTS


def is_head(name: str) -> bool:
    return "seg_layers" in name


def test_a_warm_start_takes_everything_but_the_heads(own: Path, weights: Path) -> None:
    cold, warm = make(own, LNTrainer), make(own, LNTrainer, pretrained=weights)
    cold.initialize()
    warm.initialize()
    learned, before, after = loaded(weights), cold.network.state_dict(), warm.network.state_dict()
    assert any(map(is_head, before))
    for name in before:
        torch.testing.assert_close(after[name], before[name] if is_head(name) else learned[name], rtol=0, atol=0)
    assert not torch.equal(
        before["encoder.stages.0.blocks.0.conv1.conv.weight"], learned["encoder.stages.0.blocks.0.conv1.conv.weight"]
    )


def test_further_decoders_start_from_the_pretrained_one(own: Path, weights: Path) -> None:
    def zero(module: nn.Module) -> None:
        if isinstance(module, nn.Conv3d):
            nn.init.zeros_(module.weight)

    trainer = make(own, LNTrainer)
    trainer.initialize()
    network = MultiDecoder(trainer.network, [Auxiliary(), Auxiliary(3, init=zero)], (16, 16, 16))
    heads = [{name: value.clone() for name, value in each.state_dict().items() if is_head(name)} for each in network.auxiliary]
    warm_start(network, weights)
    learned = loaded(weights)
    for decoder, own_heads in zip(network.auxiliary, heads, strict=True):
        for name, value in decoder.state_dict().items():
            torch.testing.assert_close(value, own_heads[name] if is_head(name) else learned[f"decoder.{name}"], rtol=0, atol=0)


def test_weights_of_another_network_are_refused_and_nothing_is_loaded(own: Path, weights: Path) -> None:
    content = torch.load(weights, weights_only=True)
    name = next(name for name in content["network_weights"] if not is_head(name))
    content["network_weights"][name] = content["network_weights"][name][:1]
    torch.save(content, weights)
    trainer = make(own, LNTrainer)
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(InputError, match=f"another network than the plan has now .{name} does not fit"):
        warm_start(trainer.network, weights)
    assert same(before, trainer.network.state_dict())
