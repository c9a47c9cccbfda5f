"""Training: repeatable, within its budget, and readable as data."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from ball_trainings import MODEL, Command, make_trainer, same, weights

from lnauto.compat.training import nnUNetDataLoader
from lnauto.data.gathered import Gathered
from lnauto.data.scans import left_right
from lnauto.files import read_json
from lnauto.networks.compute import Compute
from lnauto.trainers import validation
from lnauto.trainers.batches import TRAINING, seeded
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.material import Material
from lnauto.trainers.patches import PatchLoader
from lnauto.trainers.schedule import Clock, Length, learning_rate
from lnauto.trainers.validation import NodeCheck


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(balls: Path, command: Command) -> None:
    results = []
    for seed in (3, 3, 4):
        code, _, complaint = command(
            "train", 901, 0, "--iterations", 6, "--seed", seed, "--overwrite", "--quiet", "--device", "cpu"
        )
        assert code == 0, complaint
        results.append(weights(Path(MODEL) / "fold_0/checkpoint_final.pth"))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_a_network_with_a_folder_of_its_own_writes_nothing_beside_the_models(balls: Path, tmp_path: Path) -> None:
    """A try or an inner network may belong to another plan than the model whose name it has, and nobody has locked that."""
    cases = Gathered({"ball_00": balls / "preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres"})
    for output, written in ((tmp_path / "try", False), (None, True)):
        trainer = make_trainer(balls, iterations=1)
        trainer.learn_from(Material(cases, ("ball_01",), output))
        trainer.on_train_start()
        assert [(Path(MODEL) / name).is_file() for name in ("plans.json", "dataset.json")] == [written, written]


def test_batches_are_nnunets_own_and_all_cores_make_them(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(balls, workers=0)
    trainer.on_train_start()
    before, threads = torch.get_num_threads(), []
    grid_sample = torch.nn.functional.grid_sample

    def watched(*given: Any, **more: Any) -> torch.Tensor:
        threads.append(torch.get_num_threads())
        return grid_sample(*given, **more)

    monkeypatch.setattr("batchgeneratorsv2.transforms.spatial.spatial.grid_sample", watched)
    torch.set_num_threads(2)
    try:
        ours = [next(trainer.dataloader_train) for _ in range(6)]
        assert set(threads) == {2}
        threads.clear()
        monkeypatch.setattr(PatchLoader, "generate_train_batch", nnUNetDataLoader.generate_train_batch)
        stock = trainer.get_dataloaders()[0]
        for batch, other in zip(ours, stock, strict=False):
            assert torch.equal(batch["data"], other["data"])
            assert all(torch.equal(one, two) for one, two in zip(batch["target"], other["target"], strict=True))
        assert set(threads) == {1}
    finally:
        torch.set_num_threads(before)


def test_background_workers_change_nothing(balls: Path) -> None:
    batches = []
    for workers in (0, 1):
        trainer = make_trainer(balls, workers=workers)
        trainer.on_train_start()
        assert trainer.dataloader_train is not None
        batches.append([next(trainer.dataloader_train)["data"] for _ in range(3)])
        trainer.dataloader_train = None
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_batch_i_depends_on_the_seed_and_i_alone(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.on_train_start()
    late = make_trainer(balls)
    late.clock = Clock(late.options.length, iteration=2)
    late.on_train_start()
    assert trainer.dataloader_train is not None
    assert late.dataloader_train is not None
    third = [next(trainer.dataloader_train) for _ in range(3)][2]
    assert torch.equal(third["data"], next(late.dataloader_train)["data"])


def test_the_plan_says_which_way_batches_and_predictions_are_mirrored(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.on_train_start()
    left_right = trainer.plans_manager.transpose_forward.index(2)
    assert trainer.inference_allowed_mirroring_axes == (left_right,)
    trainer.plans_manager.plans["lnauto"]["mirroring"] = "all"
    assert trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[3] == (0, 1, 2)


def test_left_to_right_is_along_the_axis_that_images_have_it_along(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.plans_manager.plans["lnauto"]["inference"]["orientation"] = "PSL"  # sagittal slices: z goes from side to side
    axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[3]
    assert axes == (trainer.plans_manager.transpose_forward.index(0),)
    assert [left_right(letters) for letters in ("LPS", "RAS", "PSL", "SRP", None)] == [2, 2, 0, 1, 2]


def test_validation_knows_where_the_patient_is(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nodes are measured in axial slices however an array lies."""
    told: dict[str, tuple[Any, Any]] = {}
    monkeypatch.setattr(validation, "evaluate_case", lambda *_, case, origin, direction: told.update({case: (origin, direction)}))
    trainer = make_trainer(balls)
    trainer.initialize()
    validation.validate_fold(trainer)
    assert sorted(told) == sorted(trainer.do_split()[1])
    for case, place in told.items():
        scan = sitk.ReadImage(str(balls / f"raw/Dataset901_Balls/imagesTr/{case}_0000.nii.gz"))
        assert place == (scan.GetOrigin(), scan.GetDirection())


def test_a_batch_of_one_is_centred_on_foreground_as_often_as_a_batch_of_two(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.on_train_start()
    pair = trainer.validation_batches.loader
    assert [pair.get_do_oversample(place) for place in range(2)] == [False, True]
    trainer.batch_size = 1
    alone = trainer._batches(pair._data, [16, 16, 16], None, TRAINING).loader
    with seeded(0):
        met = [alone.get_do_oversample(0) for _ in range(400)]
    assert 0.4 < np.mean(met) < 0.6


@pytest.mark.parametrize(("augmentation", "changes"), [("geometry", False), ("full", True)])
def test_the_plan_says_whether_batches_keep_their_intensities(balls: Path, augmentation: str, changes: bool) -> None:
    trainer = make_trainer(balls)
    trainer.plans_manager.plans["lnauto"]["augmentation"] = augmentation
    trainer.on_train_start()
    cases = trainer.dataset_class(trainer.preprocessed_dataset_folder, trainer.do_split()[0])
    images = [cases.load_case(name)[0][:] for name in cases.identifiers]
    lowest, highest = min(image.min() for image in images), max(image.max() for image in images)
    batches = [next(trainer.dataloader_train)["data"] for _ in range(12)]
    beyond = any(batch.min() < lowest - 1e-3 or batch.max() > highest + 1e-3 for batch in batches)
    assert beyond == changes


def test_seeding_a_batch_leaves_the_generators_outside_alone() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.random(), torch.rand(1).item()
    np.random.seed(1)
    torch.manual_seed(1)
    with seeded(7, TRAINING, 0, 5):
        inside = np.random.random(), torch.rand(1).item()
    assert (np.random.random(), torch.rand(1).item()) == expected
    assert inside != expected


def test_a_checkpoint_is_plain_data_with_the_keys_stock_reads(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.run_training()
    content = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=True)
    stock = {
        "network_weights",
        "optimizer_state",
        "grad_scaler_state",
        "logging",
        "_best_ema",
        "current_epoch",
        "init_args",
        "trainer_name",
    }
    assert stock | {"inference_allowed_mirroring_axes", "lnauto"} == set(content)
    assert content["trainer_name"] == "LNTrainer"
    assert content["init_args"]["configuration"] == "3d_fullres"
    assert content["lnauto"]["iteration"] == 6
    assert set(content["lnauto"]["random_state"]) == {"python", "numpy", "torch", "cuda"}


@pytest.mark.parametrize(
    ("begun_on", "stored", "used"), [("cuda:0", "amp", "fp32"), ("cuda", "bf16", "fp32"), ("cpu", "bf16", "bf16")]
)
def test_precision_is_chosen_anew_on_another_device(
    balls: Path, monkeypatch: pytest.MonkeyPatch, begun_on: str, stored: str, used: str
) -> None:
    monkeypatch.setattr("lnauto.trainers.lntrainer.choose_compute", lambda *given: Compute(given[3], "fp32"))
    trainer = make_trainer(balls)
    trainer.initialize()
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    content = torch.load(path, weights_only=True)
    content["init_args"]["device"], content["lnauto"]["precision"] = begun_on, stored
    again = make_trainer(balls)
    again.load_checkpoint(content)
    assert again.compute is not None
    assert (again.compute.device.type, again.compute.precision) == ("cpu", used)


def test_random_numbers_go_on_where_the_checkpoint_left_them(balls: Path) -> None:
    trainer = make_trainer(balls)
    trainer.initialize()
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    expected = np.random.random(), torch.rand(1).item()
    again = make_trainer(balls)
    again.load_checkpoint(torch.load(path, weights_only=True))
    assert (np.random.random(), torch.rand(1).item()) == expected


@pytest.fixture
def _slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training step takes half a minute longer by the clock, so that minutes pass within seconds; test_demo.py keeps a
    budget by the real clock."""
    clock, step, steps = time.monotonic, LNTrainer.train_step, list[None]()

    def slow(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        steps.append(None)
        return step(self, batch)

    monkeypatch.setattr(LNTrainer, "train_step", slow)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 30 * len(steps))


@pytest.mark.usefixtures("_slow_steps")
def test_a_budget_is_kept_and_the_learning_rate_ends_low(balls: Path, command: Command) -> None:
    started = time.monotonic()
    code, out, complaint = command("train", 901, 0, "--budget", "15min", "--device", "cpu", "--workers", 0)
    took = time.monotonic() - started
    assert code == 0, complaint
    assert re.search(r"^Budget of (14\.\d|15\.0) min: training", out, re.MULTILINE)
    assert 13 * 60 < took < 17 * 60
    history = json.loads((Path(MODEL) / "fold_0/history.json").read_text())
    plan = read_json(balls / "preprocessed/Dataset901_Balls/lnautoPlans.json", "")
    assert history[-1]["learning_rate"] < 0.1 * plan["lnauto"]["optimizer"]["learning_rate"]


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(1.0, iteration / 100, iteration, 10) for iteration in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9]
    assert rates[50] == pytest.approx(0.5**0.9)
    assert rates[-1] == pytest.approx(0.01**0.9)


@pytest.mark.pictures
def test_training_learns_and_tells_nodes_beside_dice(balls: Path, command: Command) -> None:
    code, out, complaint = command("train", 901, 0, "--iterations", 60, "--device", "cpu", "--workers", 0)
    assert code == 0, complaint
    assert "Validation of fold 0" in out
    fold = Path(MODEL) / "fold_0"
    evaluation = json.loads((fold / "validation/evaluation.json").read_text())
    assert evaluation["labels"]["node"]["dice"]["mean"] > 0.5
    history = json.loads((fold / "history.json").read_text())
    assert 0 <= history[-1]["nodes"]["recall"] <= 1
    assert history[-1]["nodes"]["false_per_case"] >= 0
    assert (fold / "progress.png").read_bytes().startswith(b"\x89PNG")
    validated = {path.name for path in (fold / "validation").glob("*.nii.gz")}
    splits = read_json(balls / "preprocessed/Dataset901_Balls/splits_final.json", "")
    assert validated == {f"{name}.nii.gz" for name in splits[0]["val"]}


def test_whole_cases_are_looked_at_ten_times_even_if_no_node_is_in_them(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[int]()
    monkeypatch.setattr(NodeCheck, "run", lambda check: looks.append(check.trainer.clock.iteration))
    length, train_step = Length(20, None, 1, 1), LNTrainer.train_step

    def interrupted(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if self.clock.iteration == 9:
            raise KeyboardInterrupt
        return train_step(self, batch)

    trainer = make_trainer(balls)
    trainer.configure(replace(trainer.options, length=length))
    with monkeypatch.context() as patch:
        patch.setattr(LNTrainer, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.run_training()
    again = make_trainer(balls)
    again.configure(replace(again.options, length=length))
    again.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    again.run_training()
    assert looks == list(range(2, 21, 2))


def test_what_is_added_to_a_finished_training_is_looked_at_too(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[int]()
    monkeypatch.setattr(NodeCheck, "run", lambda check: looks.append(check.trainer.clock.iteration))
    trainer, again = make_trainer(balls), make_trainer(balls)
    for one, iterations in ((trainer, 5), (again, 20)):
        one.configure(replace(one.options, length=Length(iterations, None, 1, 1)))
    trainer.run_training()
    looks.clear()
    again.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    again.run_training()
    assert looks == list(range(6, 21, 2))


def test_an_epoch_is_ended_though_the_time_was_over_only_while_it_was_saved(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, clock, late = LNTrainer.save_checkpoint, time.monotonic, 0.0

    def slow(self: LNTrainer, filename: str) -> None:
        nonlocal late
        save(self, filename)
        late += 3600

    monkeypatch.setattr(LNTrainer, "save_checkpoint", slow)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + late)
    trainer = make_trainer(balls, save_every_seconds=0)
    trainer.configure(replace(trainer.options, length=Length(None, 3600, 1000, 1)))
    trainer.run_training()
    assert [record["iteration"] for record in trainer.history] == [1]
    assert trainer.epoch_losses == []


def test_a_training_is_neither_overwritten_nor_continued_unasked(balls: Path, command: Command) -> None:
    assert command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")[0] == 0
    before = (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes()
    code, _, complaint = command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")
    assert code == 2
    folder = Path.cwd() / MODEL / "fold_0"
    told = f"lnauto: a training of fold 0 is finished there already, in {folder}; "
    assert complaint == told + "add --continue to go on, or --overwrite to start anew\n"
    assert (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["901", "9"], "there is no fold 9 (there: 0, 1, 2, 3, 4)"),
        (["902", "0"], "there is no data set 902 (there: Dataset901_Balls)"),
        (["901", "0", "-c", "2d"], "the plan has no configuration 2d (it has 3d_fullres)"),
        (["901", "0", "-tr", "LNTrainerMagic"], "there is no trainer LNTrainerMagic (there: LNTrainer,"),
        (["901", "0", "--budget", "1s"], "the budget leaves 1 s for fold 0"),
        (["901", "0", "--device", "cuda"], "there is no device cuda on this machine"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(balls: Path, command: Command, arguments: list[str], line: str) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, _, complaint = command("train", *arguments)
    assert code == 2
    assert line in complaint
    assert complaint.startswith("lnauto: ")
    assert complaint.count("\n") == 1


def test_a_budget_too_small_leaves_a_finished_training_alone(balls: Path, command: Command) -> None:
    assert command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")[0] == 0
    before = (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes()
    assert command("train", 901, 0, "--budget", "1s", "--overwrite", "--quiet", "--device", "cpu")[0] == 2
    assert (Path(MODEL) / "fold_0/checkpoint_final.pth").read_bytes() == before


@pytest.mark.usefixtures("_slow_steps")
def test_a_finished_training_is_extended_by_iterations_or_by_time(balls: Path, command: Command) -> None:
    def iterations() -> int:
        return int(torch.load(Path(MODEL) / "fold_0/checkpoint_final.pth", weights_only=True)["lnauto"]["iteration"])

    assert command("train", 901, 0, "--iterations", 2, "--quiet", "--device", "cpu")[0] == 0
    _, out, _ = command("train", 901, 0, "--continue", "--device", "cpu")
    assert "Fold 0 is trained already (2 iterations)." in out
    assert command("train", 901, 0, "--continue", "--iterations", 4, "--quiet", "--device", "cpu")[0] == 0
    assert iterations() == 4
    code, _, complaint = command("train", 901, 0, "--continue", "--budget", "2min", "--quiet", "--device", "cpu", "--workers", 0)
    assert code == 0, complaint
    assert iterations() > 4
