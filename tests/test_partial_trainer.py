"""Nodes drawn in part: DBDMP's terms against figures by hand, its pseudo labels, and a training from beginning to end."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from building import write_pictures
from stock_models import stock_masks
from torch import Tensor

from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.networks.multi_decoder import MultiDecoder
from lnauto.paths import VARIABLES, activate
from lnauto.trainers import partial
from lnauto.trainers.losses import divergence, entropy, known_classes, ramp, reverse_cross_entropy, soft_cross_entropy, tversky
from lnauto.trainers.options import Options
from lnauto.trainers.partial import (
    TEMPERATURE,
    LNTrainerPartial,
    cross_supervision,
    label_loss,
    pseudo_label,
    with_likely,
)
from lnauto.trainers.schedule import Clock, Length

Command = Callable[..., tuple[int, str, str]]
IGNORE = 2
DATASET = "Dataset903_Part"


def voxels(*foreground: float) -> Tensor:
    """Logits of two classes with these probabilities of foreground, one voxel beside the other."""
    p = torch.tensor(foreground).view(1, 1, 1, 1, -1)
    return torch.cat([torch.log(1 - p), torch.log(p)], dim=1)


def labels(*values: int) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def known(*values: int) -> Tensor:
    return known_classes(labels(*values), 2)


# ---- terms


def test_reverse_cross_entropy_of_a_voxel_is_bounded_and_as_by_hand() -> None:
    p = torch.softmax(voxels(0.3), 1)
    assert float(reverse_cross_entropy(p, known(1))) == pytest.approx(-math.log(1e-4) * 0.7 / 2)
    assert float(reverse_cross_entropy(p, known(0))) == pytest.approx(-math.log(1e-4) * 0.3 / 2)
    assert float(reverse_cross_entropy(torch.softmax(voxels(0.3, 0.9), 1), known(1, IGNORE))) == pytest.approx(
        -math.log(1e-4) * 0.7 / 2
    )


def test_tversky_with_halves_is_dice_and_leans_towards_missed_nodes_otherwise() -> None:
    p, target = torch.softmax(voxels(0.9, 0.2, 0.6, 0.1), 1), known(1, 1, 0, 0)
    dice = 2 * (0.9 + 0.2) / (0.9 + 0.2 + 0.6 + 0.1 + 2)
    assert float(tversky(p, target, 0.5, 0.5)) == pytest.approx(1 - dice, abs=1e-5)
    by_hand = 1.1 / (1.1 + 0.4 * 0.7 + 0.6 * 0.9)
    assert float(tversky(p, target)) == pytest.approx(1 - by_hand, abs=1e-5)


def test_what_is_unknown_takes_no_part_in_any_loss_on_labels() -> None:
    logits = torch.randn(1, 2, 1, 1, 4).requires_grad_()
    label_loss(torch.log_softmax(logits, 1), known(1, IGNORE, 0, IGNORE)).backward()
    moved = logits.grad.abs().sum(1).flatten() > 0
    assert moved.tolist() == [True, False, True, False]


def test_drawn_nodes_count_once_more_by_themselves() -> None:
    """Tversky, 0.8 CE + RCE over what is known, and CE over nodes alone."""
    log_p, target = torch.log_softmax(voxels(0.6, 0.2), 1), known(1, 0)
    found = 0.6 / (0.6 + 0.4 * 0.2 + 0.6 * 0.4)
    ce = -(math.log(0.6) + math.log(0.8)) / 2
    rce = -math.log(1e-4) * (0.4 + 0.2) / 2 / 2
    assert float(label_loss(log_p, target)) == pytest.approx(1 - found + 0.8 * ce + rce - math.log(0.6), abs=1e-4)


def test_divergence_and_entropy_are_as_by_hand() -> None:
    p, q = torch.log_softmax(voxels(0.9), 1), torch.log_softmax(voxels(0.4), 1)
    assert float(divergence(p, q)) == pytest.approx(0.9 * math.log(0.9 / 0.4) + 0.1 * math.log(0.1 / 0.6), abs=1e-6)
    assert float(entropy(torch.softmax(voxels(0.5), 1))) == pytest.approx(math.log(2))
    assert float(entropy(known(1))) == 0.0


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.0067), (25, 0.0612), (50, 0.2938), (75, 0.7454), (99, 1.0), (250, 1.0)])
def test_the_ramp_is_the_published_one(epoch: int, weight: float) -> None:
    assert ramp(epoch / 99) == pytest.approx(weight, abs=1e-4)
    assert ramp(epoch / 99) <= ramp((epoch + 1) / 99)


# ---- pseudo labels


def test_the_pseudo_label_mixes_both_decoders_where_nothing_is_known() -> None:
    nothing = known(IGNORE, IGNORE)
    first, second = torch.softmax(voxels(0.9, 0.2), 1), torch.softmax(voxels(0.3, 0.4), 1)
    found = pseudo_label(first, second, 0.25, nothing)
    mixed = 0.25 * first + 0.75 * second
    expected = torch.sigmoid((2 * mixed[:, 1] - 1) / TEMPERATURE)
    assert torch.allclose(found[:, 1], expected)
    assert torch.allclose(found.sum(1), torch.ones(1, 1, 1, 2))
    assert torch.equal(pseudo_label(first, second, 1.0, nothing), pseudo_label(first, first, 0.5, nothing))
    assert not torch.equal(found, pseudo_label(first, first, 0.25, nothing))
    assert not torch.equal(found, pseudo_label(second, second, 0.25, nothing))


def test_the_pseudo_label_sharpens() -> None:
    p = torch.softmax(voxels(0.8, 0.3), 1)
    found = pseudo_label(p, p, 0.5, known(IGNORE, IGNORE))[0, 1].flatten()
    assert found[0] > 0.85
    assert found[1] < 0.25


def test_what_is_likely_is_a_node_only_where_nothing_is_known() -> None:
    target = torch.stack([labels(1, 0, IGNORE, IGNORE)[0], labels(0, 1, 1, 0)[0]])[None]
    assert with_likely(target, IGNORE).flatten().tolist() == [1, 0, 1, IGNORE]
    assert with_likely(target[:, :1], IGNORE).flatten().tolist() == [1, 0, IGNORE, IGNORE]


def test_what_is_known_is_pinned_whatever_the_decoders_say() -> None:
    wrong = torch.softmax(voxels(0.01, 0.99), 1)
    found = pseudo_label(wrong, wrong, 0.5, known(1, 0))[0, 1].flatten()
    assert found[0] >= 0.999
    assert found[1] <= 0.001


def test_the_pseudo_label_passes_no_gradient() -> None:
    p = torch.softmax(voxels(0.7), 1).requires_grad_()
    assert not pseudo_label(p, p, 0.5, known(IGNORE)).requires_grad


def test_cross_supervision_of_equal_decoders_is_soft_cross_entropy() -> None:
    log_p = torch.log_softmax(torch.randn(1, 2, 3, 3, 3), 1)
    pseudo = torch.softmax(torch.randn(1, 2, 3, 3, 3), 1)
    assert float(cross_supervision(log_p, log_p, pseudo, torch.ones(1, 3, 3, 3))) == pytest.approx(
        float(soft_cross_entropy(log_p, pseudo).mean())
    )


def test_voxels_on_which_the_decoders_disagree_count_less_and_the_disagreement_counts() -> None:
    log_p, other = torch.log_softmax(voxels(0.9, 0.9), 1), torch.log_softmax(voxels(0.9, 0.2), 1)
    apart = 0.2 * math.log(0.2 / 0.9) + 0.8 * math.log(0.8 / 0.1)
    weight = math.exp(-apart)
    pseudo = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(1, 2, 1, 1, 2)
    # three of the first and two of the second, because less than one voxel's weight counts as one
    by_hand = (-3 * math.log(0.9) - 2 * math.log(0.1) * weight) / (3 + 2 * weight) + 2 * apart / 5
    spread = [torch.cat([part[..., [0]].expand(*part.shape[:-1], 3), part[..., [1]].expand(*part.shape[:-1], 2)], -1)
              for part in (log_p, other, pseudo)]  # fmt: skip
    assert float(cross_supervision(*spread, torch.ones(1, 1, 1, 5))) == pytest.approx(by_hand, abs=1e-5)
    alone = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 5)
    assert float(cross_supervision(*spread, alone)) == pytest.approx(-math.log(0.9) + 2 * apart / 5, abs=1e-5)


@pytest.mark.parametrize(
    ("foreground", "label", "upwards"),
    [(0.7, IGNORE, True), (0.94, IGNORE, True), (0.3, IGNORE, False), (0.1, 1, True), (0.9, 0, False)],
)
def test_pseudo_labels_push_where_they_point(foreground: float, label: int, upwards: bool) -> None:
    """With equal decoders. An all-background target, which the released code has, pushes down everywhere."""
    logits = voxels(foreground).requires_grad_()
    log_p = torch.log_softmax(logits, 1)
    p = log_p.detach().exp()
    pseudo = pseudo_label(p, p, 0.5, known(label))
    cross_supervision(log_p, log_p.detach(), pseudo, torch.ones(1, 1, 1, 1)).backward()
    slope = float(logits.grad[0, 1])
    assert slope < 0 if upwards else slope > 0


# ---- the trainer


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in which two of five balls are drawn, planned and preprocessed; read-only for tests."""
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, bring_up_to_date, plan_and_preprocess

    root = tmp_path_factory.mktemp("part")
    folder = root / "raw" / DATASET
    write_pictures(folder, 0.4, cases=10)
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(description | {"annotation": "partial"}))
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan = plan_and_preprocess(
            "903", Request(device="cpu", quiet=True, wishes=Wishes(patch=(24, 24, 24)), do_preprocess=False)
        )
        plan.lnauto["trusted_background"]["likely_from"] = 30.0  # of so few balls none is likely enough by itself
        plan.save(root / "preprocessed" / DATASET / "lnautoPlans.json")
        bring_up_to_date(RawDataset.read(folder), plan, "3d_fullres", activate(), quiet=True)
    return root


@pytest.fixture
def part(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with results of the test's own."""
    for name, variable in VARIABLES.items():
        monkeypatch.setenv(variable, str((tmp_path if name == "results" else planned) / name))
    monkeypatch.chdir(tmp_path)
    return planned


def make_trainer(part: Path, iterations: int = 8, **changes: Any) -> LNTrainerPartial:
    base = part / "preprocessed" / DATASET
    plan, description = (read_json(base / name, "") for name in ("lnautoPlans.json", "dataset.json"))
    assert plan["lnauto"]["trainer"] == "LNTrainerPartial"
    trainer = LNTrainerPartial(plan, "3d_fullres", 0, description | changes, torch.device("cpu"))
    trainer.configure(Options(Length(iterations, None, 4, 1), quiet=True))
    return trainer


def test_patches_carry_what_is_likely_where_nothing_is_known(part: Path) -> None:
    trainer = make_trainer(part)
    trainer.on_train_start()
    assert trainer.dataloader_train is not None
    labels_and_likely = [next(trainer.dataloader_train)["target"][0] for _ in range(12)]
    both = torch.cat(labels_and_likely)
    assert both.shape[1] == 2
    likely = both[:, 1] == 1
    assert int(likely.sum()) > 100
    assert float((both[:, 0][likely] == IGNORE).float().mean()) > 0.9  # rotated apart by a voxel here and there
    assert next(iter(trainer.dataloader_val))["target"][0].shape[1] == 1


def test_a_plan_that_takes_nothing_for_a_node_leaves_none_of_an_earlier_one(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnauto.planners.plan import Plan
    from lnauto.workflow.plan import bring_up_to_date

    for name, variable in VARIABLES.items():
        monkeypatch.setenv(variable, str(tmp_path / name))
    for name in ("raw", "preprocessed"):
        shutil.copytree(planned / name, tmp_path / name)
    base = tmp_path / "preprocessed" / DATASET
    likely = base / "lnautoPlans_3d_fullres_likely"
    assert len(list(likely.glob("*.b2nd"))) == 10
    plan = Plan.load(base / "lnautoPlans.json", "")
    plan.lnauto["trusted_background"]["likely_from"] = None
    bring_up_to_date(RawDataset.read(tmp_path / "raw" / DATASET), plan, "3d_fullres", activate(), quiet=True)
    assert not list(likely.glob("*.b2nd"))


def test_what_is_likely_is_learned_as_a_node(part: Path) -> None:
    trainer = make_trainer(part)
    trainer.initialize()
    slopes = []
    for likely in (0, 1):
        target = [torch.full((1, 2, *shape), IGNORE) for shape in ((8, 8, 8), (4, 4, 4))]
        for each in target:
            each[:, 0, :2], each[:, 0, 2] = 0, 1
            each[:, 1] = likely
        scales = [torch.zeros(1, 2, *each.shape[2:]) for each in target]
        scales[0].requires_grad_()
        trainer.loss = trainer._build_loss() if likely == 0 else trainer.loss
        torch.manual_seed(0)
        trainer.loss_of_outputs([[scales[0], scales[1]], torch.zeros(1, 2, 8, 8, 8)], target).backward()
        slopes.append(float(scales[0].grad[0, 1, 6, 4, 4]))
    assert slopes[1] < 0 <= slopes[0]


def test_where_the_background_is_trusted_both_decoders_learn_by_nnunets_own_loss(part: Path) -> None:
    trainer = make_trainer(part)
    trainer.initialize()
    target = [torch.zeros(1, 1, *shape) for shape in ((8, 8, 8), (4, 4, 4))]
    for each in target:
        each[:, :, :2], each[:, :, 3:5] = 1, IGNORE
    slopes: list[Any] = []
    given: list[Tensor] = []
    for of_labels_alone in (False, True):
        torch.manual_seed(1)
        first, coarse, second = (torch.randn(1, 2, *([side] * 3)).requires_grad_() for side in (8, 4, 8))
        if of_labels_alone:
            loss = trainer.loss([first, coarse], target) + trainer.loss.loss(second, target[0])
        else:
            trainer.loss_of_the_unknown = lambda first, *rest: given.extend(rest) or 0 * first.sum()  # type: ignore[method-assign]
            loss = trainer.loss_of_outputs([[first, coarse], second], target)
        loss.backward()
        slopes.append([first.grad, second.grad])  # the coarsest scale has no weight
    assert all(torch.allclose(ours, nnunets) for ours, nnunets in zip(*slopes, strict=True))
    assert all(bool(slope.abs().sum() > 0) for slope in slopes[0])
    _, pinned, doubtful = given
    assert torch.equal(doubtful, (target[0][:, 0] == IGNORE).float())
    assert torch.equal(pinned.sum(dim=1), 1 - doubtful)


def test_pseudo_labels_count_only_where_nothing_is_known(part: Path) -> None:
    trainer = make_trainer(part)
    trainer.clock = Clock(trainer.options.length, trainer.options.length.iterations or 0)
    sure, label = voxels(0.8, 0.8, 0.8), known(0, 1, IGNORE)
    slopes = []
    for doubtful in (1 - label.sum(dim=1), torch.ones(1, 1, 1, 3)):
        logits = sure.clone().requires_grad_()
        trainer.loss_of_the_unknown(logits, logits.detach(), label, doubtful).backward()
        slopes.append(logits.grad[0, 1].flatten())
    assert slopes[0].abs().gt(1e-6).tolist() == [False, False, True]
    assert slopes[1].abs().gt(1e-6).tolist() == [True, True, True]


def test_a_batch_without_a_drawn_voxel_gives_a_finite_step(part: Path) -> None:
    trainer = make_trainer(part)
    trainer.on_train_start()
    assert trainer.dataloader_train is not None
    batch = next(trainer.dataloader_train)
    batch["target"] = [torch.full_like(each, IGNORE) for each in batch["target"]]
    for iteration in (0, 8):
        trainer.clock.iteration = iteration
        assert np.isfinite(trainer.train_step(batch)["loss"])
    assert all(bool(torch.isfinite(each).all()) for each in trainer.network.parameters())


def test_pseudo_labels_rise_over_a_third_of_the_training(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "label_loss", lambda *_: torch.tensor(0.0))
    monkeypatch.setattr(partial, "cross_supervision", lambda *_: torch.tensor(1.0))
    trainer, logits = make_trainer(part, 900), torch.zeros(1, 2, 2, 2, 2)
    weights = []
    for iteration in (0, 150, 300, 900):
        trainer.clock = Clock(trainer.options.length, iteration)
        weights.append(float(trainer.loss_of_branches([logits, logits], torch.zeros(1, 2, 2, 2))))
    assert weights == pytest.approx([math.exp(-5), math.exp(-1.25), 1, 1])


def test_without_an_ignore_label_what_is_not_drawn_is_unknown_to_the_pseudo_label(part: Path) -> None:
    """As published: such a voxel that both decoders take for node is pulled up by the one loss, down by the other."""
    declared = make_trainer(part, labels={"background": 0, "node": 1})
    declared.clock = Clock(declared.options.length, declared.options.length.iterations or 0)
    slopes = []
    for foreground in (0.9, 0.99):
        logits = voxels(*[foreground] * 8).requires_grad_()
        labels_only = voxels(*[foreground] * 8).requires_grad_()
        torch.manual_seed(0)
        declared.loss_of_branches([logits, logits], labels(*[0] * 8)).backward()
        (0.5 * label_loss(torch.log_softmax(labels_only, 1), known(*[0] * 8))).backward()
        slopes.append(float((logits.grad - labels_only.grad)[0, 1, 0, 0, 0]))
    assert slopes[0] < 0 < slopes[1]  # up to where the sharpened label stands, and back


def test_both_decoders_learn_and_go_on_from_a_checkpoint(part: Path) -> None:
    trainer = make_trainer(part)
    trainer.initialize()
    assert isinstance(trainer.network, MultiDecoder)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run_training()
    after = trainer.network.state_dict()
    unused = [name for name in after if torch.equal(before[name], after[name])]
    assert all("seg_layers" in name for name in unused), unused  # of the coarsest scale, and the second decoder's
    other = make_trainer(part)
    other.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    assert all(torch.equal(value, after[name]) for name, value in other.network.state_dict().items())


def test_the_encoder_is_shared_and_the_second_decoder_stays_away_from_prediction(part: Path) -> None:
    trainer = make_trainer(part)
    trainer.initialize()
    network = trainer.network
    assert isinstance(network, MultiDecoder)
    own = {id(weight) for weight in network.encoder.parameters()}
    further = {id(weight) for decoder in network.auxiliary for weight in decoder.parameters()}
    assert not own & further
    assert own | further <= {id(weight) for weight in network.parameters()}
    image = torch.randn(1, 1, 24, 24, 24)
    trainer.set_deep_supervision_enabled(False)
    network.train()
    first, second = network(image)
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.equal(second, network(image)[1])  # other features dropped
    network.eval()
    assert torch.equal(network(image), network(image))
    assert torch.equal(network(image), trainer.deployed_network(image))


def test_regions_are_refused_in_a_line(part: Path) -> None:
    trainer = make_trainer(part, labels={"background": 0, "all": [1, 2], "core": [2]}, regions_class_order=[1, 2])
    with pytest.raises(InputError, match="some labels are regions"):
        trainer.initialize()


def test_stock_nnunet_runs_a_model_of_nodes_drawn_in_part_and_agrees(
    part: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, complaint = command("train", 903, 0, "--iterations", 40, "--quiet", "--device", "cpu")
    assert code == 0, complaint
    scans = Path("scans")
    scans.mkdir()
    scan = sitk.ReadImage(str(part / "raw" / DATASET / "imagesTr" / "case_0_0000.nii.gz"))
    sitk.WriteImage(scan[:, :, :24], str(scans / "case_0_0000.nii.gz"))  # as many slices as a patch has: fewer tiles
    same = ("--tta", "full", "--overlap", 0.5, "--filter", "none", "--region", "none", "--precision", "fp32")
    code, _, complaint = command("predict", "-i", scans, "-o", "ours", "--quiet", "--device", "cpu", *same)
    assert code == 0, complaint
    stock_masks(f"results/{DATASET}/LNTrainerPartial__lnautoPlans__3d_fullres", scans, "stock", monkeypatch)
    ours, theirs = (sitk.GetArrayFromImage(sitk.ReadImage(f"{folder}/case_0.nii.gz")) for folder in ("ours", "stock"))
    assert ours.any()
    assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) >= 0.999
