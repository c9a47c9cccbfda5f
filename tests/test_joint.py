"""Masks and patients' labels learned together: who has a label, what the second loss reaches, and what is kept."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gates import small_network
from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.networks.build import build
from lnauto.networks.mask_gate import NodeOutputs, WithMetastasis
from lnauto.trainers import find_trainer
from lnauto.trainers.ignore import LNTrainerIgnore
from lnauto.trainers.joint import FEWEST_VOXELS, WEIGHT, JointSettings, LNTrainerJoint, metastasis_loss
from lnauto.trainers.options import Options
from lnauto.trainers.parameter_groups import decoder_of
from lnauto.trainers.schedule import Length

DATASET = "Dataset901_Balls"
Make = Callable[..., LNTrainerJoint]
Command = Callable[..., tuple[int, str, str]]
NAN = float("nan")
TILT = -0.03  # of a head's weights, where the test wants a gradient


def write_table(folder: Path, labels: dict[str, str]) -> None:
    """A patient a case, of the case's own name."""
    with (folder / "patients.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("patient", "lnm"), *labels.items()])


@pytest.fixture
def labelled(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The balls, with a table beside their images: every second case is of a patient with metastasis, one label is not known."""
    raw = tmp_path / "raw"
    shutil.copytree(balls / "raw", raw)
    monkeypatch.setenv("nnUNet_raw", str(raw))
    names = sorted(path.name.removesuffix(".nii.gz") for path in (raw / DATASET / "labelsTr").iterdir())
    write_table(raw / DATASET, {name: str(place % 2) for place, name in enumerate(names)} | {training_cases(balls)[0]: ""})
    return raw / DATASET


def training_cases(balls: Path) -> list[str]:
    return list(json.loads((balls / "preprocessed" / DATASET / "splits_final.json").read_text())[0]["train"])


@pytest.fixture
def make(labelled: Path, balls: Path) -> Make:
    """A trainer of fold 0."""

    def make(like: type[Any] = LNTrainerJoint, iterations: int = 6, labels: Any = None, **joint: Any) -> Any:
        base = balls / "preprocessed" / DATASET
        plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
        if joint:
            plan["lnauto"]["joint"] = joint
        trainer = like(plan, "3d_fullres", 0, description | ({"labels": labels} if labels else {}), torch.device("cpu"))
        trainer.configure(Options(Length(iterations, None, 3, 1), precision="fp32", quiet=True))
        return trainer

    return make


def step(trainer: Any, times: int = 1) -> list[float]:
    """Take so many iterations."""
    losses = []
    trainer.on_train_start()
    for _ in range(times):
        trainer._set_learning_rate()
        losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
        trainer.clock.iteration += 1
    return losses


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def batch_of(trainer: LNTrainerJoint, cases: list[str], voxels: list[int]) -> dict[str, Any]:
    """Noise, with so many drawn voxels in each patch."""
    patch = trainer.configuration_manager.patch_size
    torch.manual_seed(0)
    target = torch.zeros(len(cases), 1, *patch)
    for row, count in enumerate(voxels):
        target[row, 0].view(-1)[1000 : 1000 + count] = 1
    scales = trainer._get_deep_supervision_scales()
    targets = [nn.functional.interpolate(target, scale_factor=scale, mode="nearest") for scale in scales]
    return {"data": torch.randn(len(cases), 1, *patch), "target": targets, "keys": cases}


# ---- the loss


def test_a_patch_without_a_label_has_no_loss_and_no_gradient() -> None:
    logit = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    each = metastasis_loss(logit, torch.tensor([1.0, NAN, 0.0]))
    each.sum().backward()
    assert each.tolist() == pytest.approx([np.log1p(np.exp(-1)), 0.0, np.log1p(np.exp(3))], abs=1e-6)
    assert each[1] == 0
    assert logit.grad.tolist() == pytest.approx([1 / (1 + np.exp(-1)) - 1, 0, 1 / (1 + np.exp(-3))], abs=1e-6)
    assert logit.grad[1] == 0


def test_who_has_a_label(make: Make, balls: Path) -> None:
    trainer = make()
    trainer.initialize()
    unknown, *known = training_cases(balls)
    cases = [known[0], known[1], known[0], unknown, "somebody else"]
    voxels = [FEWEST_VOXELS, 500, FEWEST_VOXELS - 1, 500, 500]
    drawn, label = trainer.labelled(cases, batch_of(trainer, cases, voxels)["target"])
    assert drawn.sum((1, 2, 3, 4)).tolist() == voxels
    assert label[:2].tolist() == [float(trainer.labels[case]) for case in known[:2]]
    assert label[2:].isnan().all()
    assert {trainer.labels[case] for case in known} == {0, 1}


def moves(trainer: LNTrainerJoint, batch: dict[str, Any], weight: float) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step and the gradients it leaves, clipping aside."""
    trainer.joint = JointSettings(weight=weight)
    trainer.take_step = lambda loss: loss.backward()  # type: ignore[method-assign]
    loss = float(trainer.train_step(batch)["loss"])
    bare = trainer.bare
    nn.init.constant_(bare.head.weight, TILT)
    return loss, {name: parameter.grad.clone() for name, parameter in bare.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("kind", ["no node", "no label"])
def test_without_a_labelled_patch_the_second_loss_is_nothing(make: Make, balls: Path, kind: str) -> None:
    unknown, *known = training_cases(balls)
    trainer = make()
    trainer.on_train_start()
    nn.init.constant_(trainer.bare.head.weight, TILT)
    cases, voxels = (known[:2], [0, 0]) if kind == "no node" else ([unknown, unknown], [300, 300])
    batch = batch_of(trainer, cases, voxels)
    loss, gradients = moves(trainer, batch, 10.0)
    alone, expected = moves(trainer, batch, 0.0)
    assert np.isfinite(loss)
    assert loss == alone
    assert same(gradients, expected)
    assert not gradients["head.weight"].any()
    assert trainer.epoch_seen == []


def test_one_labelled_patch_teaches_as_much_alone_as_in_company(make: Make, balls: Path) -> None:
    unknown, first, *_ = training_cases(balls)
    trainer = make()
    trainer.on_train_start()
    nn.init.constant_(trainer.bare.head.weight, TILT)
    batch = batch_of(trainer, [first, unknown], [300, 300])
    with_label, gradients = moves(trainer, batch, 2.0)
    without, expected = moves(trainer, batch, 0.0)
    assert len(trainer.epoch_seen) == 2
    assert trainer.epoch_seen[0] > 0.1
    assert with_label - without == pytest.approx(2 * trainer.epoch_seen[0], rel=1e-3)
    assert gradients["head.weight"].any()
    decoder = {id(parameter) for parameter in decoder_of(trainer.bare.network)}
    named = {name for name, parameter in trainer.bare.named_parameters() if id(parameter) in decoder}
    assert named
    assert all(torch.equal(gradients[name], expected[name]) for name in named if name in gradients)
    assert any(not torch.equal(gradients[name], expected[name]) for name in gradients if name not in named and "head" not in name)


def test_the_head_learns_what_nodes_of_patients_with_metastasis_look_like() -> None:
    """A head on an encoder that learns with it, and a mask that is not touched."""
    torch.manual_seed(0)
    joint = WithMetastasis(small_network(), NodeOutputs((1,), True), "encoder_1")
    mask = [parameter.detach().clone() for parameter in decoder_of(joint.network)]
    drawn = torch.zeros(8, 1, 8, 8, 8)
    drawn[:, :, 2:6, 2:6, 2:6] = 1
    label = torch.arange(8) % 2
    optimizer = torch.optim.SGD(joint.parameters(), 0.05, momentum=0.9)
    for _ in range(40):
        image = torch.randn(8, 1, 8, 8, 8) + 2 * drawn * (2 * label - 1).view(-1, 1, 1, 1, 1)
        loss = metastasis_loss(joint(image, drawn)[1], label.float()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3
    assert all(torch.equal(one, other) for one, other in zip(mask, decoder_of(joint.network), strict=True))


# ---- the network


def plain_network(trainer: LNTrainerJoint, supervised: bool = False) -> nn.Module:
    """As stock nnU-Net builds it."""
    architecture = trainer.plans_manager.plans["configurations"]["3d_fullres"]["architecture"]
    return build(architecture, 1, 2, deep_supervision=supervised, allow_init=True)


def test_forward_is_one_tensor_and_that_of_the_plain_network(make: Make) -> None:
    trainer = make()
    step(trainer, 1)
    trainer.set_deep_supervision_enabled(False)
    plain = plain_network(trainer).eval()
    plain.load_state_dict(trainer.deployed_weights())
    image = torch.randn(1, 1, *trainer.configuration_manager.patch_size)
    network = trainer.network.eval()
    assert isinstance(network(image), Tensor)
    assert torch.equal(network(image), plain(image))
    answer, logit = network(image, torch.ones_like(image))
    assert torch.equal(answer, plain(image))
    assert logit.shape == (1,)


def test_with_no_weight_masks_are_learned_as_without_labels_bit_for_bit(make: Make) -> None:
    joint, alone = make(weight=0.0), make(like=LNTrainerIgnore)
    losses = step(joint, 2), step(alone, 2)
    assert losses[0] == losses[1]
    assert same(copied(joint.deployed_network), copied(alone.deployed_network))
    weighted = make()
    step(weighted, 2)
    assert not same(copied(weighted.deployed_network), copied(alone.deployed_network))


def test_a_checkpoint_holds_the_plain_network_and_a_killed_training_goes_on_as_it_was(make: Make) -> None:
    undisturbed = make(stage="encoder_0", head_rate=2.0)
    step(undisturbed, 6)
    path = Path(undisturbed.output_folder) / "checkpoint_latest.pth"
    undisturbed.save_checkpoint(str(path))
    expected = torch.load(path, weights_only=True)
    plain_network(undisturbed, supervised=True).load_state_dict(expected["network_weights"])
    assert expected["lnauto"]["more"]["metastasis"]["weight"].any()

    killed = make(stage="encoder_0", head_rate=2.0)
    step(killed, 3)
    killed.save_checkpoint(str(path))
    going_on = make()  # the plan was edited meanwhile
    going_on.load_checkpoint(str(path))
    assert going_on.joint == JointSettings("encoder_0", WEIGHT, 2.0)
    assert going_on.epoch_seen == killed.epoch_seen
    step(going_on, 3)
    assert same(expected["network_weights"], copied(going_on.deployed_network))
    assert same(expected["lnauto"]["more"]["metastasis"], copied(going_on.bare.head))
    assert going_on.epoch_seen == expected["lnauto"]["more"]["epoch_seen"]


def test_the_head_has_its_own_learning_rate_and_starts_at_the_share_of_metastases(make: Make) -> None:
    trainer = make(head_rate=0.5)
    trainer.on_train_start()
    labels = [trainer.labels[case] for case in trainer.do_split()[0] if case in trainer.labels]
    assert torch.sigmoid(trainer.bare.head.bias).item() == pytest.approx(np.mean(labels))
    trainer._set_learning_rate()
    network, head = trainer.optimizer.param_groups
    assert head["lr"] == pytest.approx(0.5 * network["lr"])
    assert sum(len(group["params"]) for group in (network, head)) == len(list(trainer.network.parameters()))


def test_an_epoch_says_how_well_patients_are_told_apart(make: Make, balls: Path) -> None:
    trainer = make()
    step(trainer, 3)
    first, second = (next(case for case in training_cases(balls) if trainer.labels.get(case) == label) for label in (0, 1))
    trainer.judged = {first: [0.2, 0.4], second: [-1.0, 2.0]}
    assert trainer.auc_of_judged() == 1.0
    trainer.judged = {first: [0.2, 0.9], second: [-1.0, 2.0]}
    assert trainer.auc_of_judged() == 0.0
    known, trainer.patients = trainer.patients, {first: "one", second: "one"}
    assert trainer.auc_of_judged() is None
    trainer.patients = known
    trainer.judged, seen = {}, len(trainer.epoch_seen)
    trainer.epoch_losses = [1.0]
    record = trainer._end_epoch()
    assert record["metastasis_patches"] == seen
    assert (record["metastasis_loss"] is None) == (seen == 0)
    assert trainer.epoch_seen == []
    assert trainer.judged == {}


# ---- the settings and the table


@pytest.mark.parametrize(
    ("joint", "told"),
    [
        ({"stage": "encoder_9"}, "no stage encoder_9"),
        ({"stage": "decoder_0"}, "no stage decoder_0"),
        ({"wait": 1}, "no setting wait"),
        ({"weight": -1}, "weight is -1"),
        ({"head_rate": "fast"}, "head_rate is 'fast'"),
    ],
)
def test_a_setting_that_cannot_be_is_told_in_a_line(make: Make, joint: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        make(**joint).initialize()
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(("values", "told"), [("", "no label"), ("1", "one label only"), (None, "no patients.csv")])
def test_a_table_that_teaches_nothing_is_told_in_a_line(make: Make, labelled: Path, values: str | None, told: str) -> None:
    names = [path.name.removesuffix(".nii.gz") for path in (labelled / "labelsTr").iterdir()]
    if values is None:
        (labelled / "patients.csv").unlink()
    else:
        write_table(labelled, dict.fromkeys(names, values))
    with pytest.raises(InputError, match=told):
        make().initialize()


def test_joint_training_goes_by_command_from_beginning_to_end(labelled: Path, command: Command) -> None:
    assert find_trainer("LNTrainerJoint") is LNTrainerJoint
    code, _, complaint = command(
        "train", 901, 0, "-tr", "LNTrainerJoint", "--iterations", 4, "--quiet", "--device", "cpu", "--precision", "fp32"
    )
    assert code == 0, complaint
    fold = Path("results") / DATASET / "LNTrainerJoint__lnautoPlans__3d_fullres" / "fold_0"
    assert (fold / "validation").is_dir()
    history = json.loads((fold / "history.json").read_text())
    assert "metastasis_auc" in history[-1]
    scans = Path("scans")
    scans.mkdir()
    shutil.copy(next((labelled / "imagesTs").iterdir()), scans)
    code, _, complaint = command("predict", "-i", scans, "-o", "out", "--quiet", "--device", "cpu")
    assert code == 0, complaint
