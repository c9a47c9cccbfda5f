"""Tuning a trained network: what moves, what must not, and checkpoints that hold a plain network whatever the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.networks.build import build
from lnauto.trainers import find_trainer
from lnauto.trainers.dgst import LNTrainerDGST
from lnauto.trainers.early_stop import EarlyStop
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.lora import ALPHA, RANK, LowRank
from lnauto.trainers.options import MASKED, PARTS, Options, Tune
from lnauto.trainers.parameter_groups import parameter_groups
from lnauto.trainers.schedule import Length
from lnauto.trainers.sparsity import as_mask
from lnauto.trainers.tuning import LNTrainerTune, trainer_for

NNUNETS = {"name": "SGD", "learning_rate": 1e-2, "weight_decay": 3e-5}  # momentum .99, Nesterov
ADAMW = {"name": "AdamW", "learning_rate": 1e-2, "weight_decay": 1e-2}
HUGE = 10**6

Trainer = LNTrainerTune
Make = Callable[..., LNTrainerTune]


@pytest.fixture
def make(balls: Path) -> Make:
    """A trainer of the balls by its method."""

    def make(method: str, k: float | None = None, *, like: type[Trainer] | None = None, **settings: Any) -> LNTrainerTune:
        base = balls / "preprocessed" / "Dataset901_Balls"
        plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
        plan["configurations"]["3d_fullres"]["patch_size"] = [24, 24, 24]  # a batch costs less, and teaches as well what moves
        plan["lnauto"]["optimizer"] = settings.get("optimizer", NNUNETS)
        trainer_class: Any = like or find_trainer(trainer_for(method))
        trainer = trainer_class(plan, "3d_fullres", 0, description, torch.device("cpu"))
        length = Length(settings.get("iterations", 6), None, 3, 1)
        tune = Tune(method, k) if settings.get("named", True) else None
        trainer.configure(Options(length, settings.get("seed", 0), settings.get("precision", "fp32"), quiet=True, tune=tune))
        return trainer  # type: ignore[no-any-return]

    return make


def step(trainer: LNTrainerTune, times: int = 1) -> None:
    """Real steps on real batches."""
    if trainer.dataloader_train is None:
        trainer.on_train_start()
    assert trainer.dataloader_train is not None
    for _ in range(times):
        trainer._set_learning_rate()
        trainer.train_step(next(trainer.dataloader_train))
        trainer.clock.iteration += 1


def copied(trainer: LNTrainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.deployed_weights().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return set(first) == set(second) and not moved(first, second)


# ---- masked updates


class GradientsOnly(LNTrainerDGST):
    """What the paper's figure seems to say, and what must not pass: gradients are masked, and the optimiser does the rest."""

    def update(self) -> None:
        for module, positions in zip(self.neurons, self.choose(), strict=True):
            module.weight.grad *= as_mask(positions, module.weight.shape)
        LNTrainerTune.update(self)


def remember(trainer: LNTrainerDGST) -> list[list[Tensor]]:
    """What the trainer will choose, step by step."""
    chosen: list[list[Tensor]] = []
    choose = trainer.choose

    def remembering() -> list[Tensor]:
        chosen.append(choose())
        return chosen[-1]

    trainer.choose = remembering  # type: ignore[method-assign]
    return chosen


def numbers_moved(trainer: LNTrainerDGST, steps: int = 4) -> tuple[int, int]:
    """Of the weights of convolutions, how many moved inside and outside the masks, step by step."""
    step_masks = remember(trainer)
    inside = outside = 0
    trainer.on_train_start()
    for _ in range(steps):
        before = [module.weight.detach().clone() for module in trainer.neurons]
        step(trainer)
        for module, old, positions in zip(trainer.neurons, before, step_masks[-1], strict=True):
            different = module.weight != old
            mask = as_mask(positions, module.weight.shape)
            inside += int((different & mask).sum())
            outside += int((different & ~mask).sum())
    assert len(step_masks) == steps
    return inside, outside


@pytest.mark.parametrize("optimizer", [NNUNETS, ADAMW], ids=["SGD", "AdamW"])
@pytest.mark.parametrize(("method", "k"), [("dgst", 1), ("dgst", 0.1), ("static", 2), ("random", 1)])
def test_weights_outside_the_mask_stay_bit_for_bit(make: Make, method: str, k: float, optimizer: dict[str, Any]) -> None:
    inside, outside = numbers_moved(make(method, k, optimizer=optimizer))
    assert inside > 100
    assert outside == 0


@pytest.mark.parametrize("optimizer", [NNUNETS, ADAMW], ids=["SGD", "AdamW"])
def test_masking_gradients_alone_is_found_out(make: Make, optimizer: dict[str, Any]) -> None:
    trainer = make("dgst", 1, like=GradientsOnly, optimizer=optimizer)
    inside, outside = numbers_moved(trainer)
    assert outside > 10 * inside


def test_weights_outside_the_mask_stay_in_bf16_and_channels_last(make: Make) -> None:
    trainer = make("dgst", 1, precision="bf16")
    inside, outside = numbers_moved(trainer)
    assert trainer.compute is not None
    assert trainer.compute.channels_last
    assert inside > 100
    assert outside == 0


def test_norms_biases_and_heads_always_move(make: Make) -> None:
    trainer = make("dgst", 1)
    trainer.initialize()
    groups = parameter_groups(trainer.network)
    always = [*groups.scales, *groups.shifts, *trainer.network.decoder.seg_layers[-1].parameters()]
    before = [parameter.detach().clone() for parameter in always]
    step(trainer, 2)
    assert not any(torch.equal(old, parameter) for old, parameter in zip(before, always, strict=True))
    assert sum(len(group["params"]) for group in trainer.optimizer.param_groups) == len(list(trainer.network.parameters()))


def masks(trainer: LNTrainerDGST, steps: int = 3) -> list[list[int]]:
    """The positions chosen in every step."""
    chosen = remember(trainer)
    step(trainer, steps)
    return [torch.cat(each).tolist() for each in chosen]


def test_the_mask_is_chosen_anew_each_time_unless_it_is_static(make: Make) -> None:
    for method, changes in (("dgst", True), ("random", True), ("static", False)):
        first, second, third = masks(make(method))
        assert (first != second) == (second != third) == changes
    assert masks(make("static"))[0] == masks(make("dgst"))[0]


def test_random_masks_depend_on_the_seed_and_the_iteration_alone(make: Make) -> None:
    found = []
    for seed, disturbance in ((1, 0), (1, 7), (2, 0)):
        trainer = make("random", 2, seed=seed)
        trainer.on_train_start()
        torch.manual_seed(disturbance)
        found.append(masks(trainer))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_with_all_weights_of_a_row_it_is_full_tuning_bit_for_bit(make: Make) -> None:
    results = []
    for method, k in (("full", None), ("dgst", HUGE), ("dgst", 1)):
        trainer = make(method, k)
        step(trainer, 5)
        results.append(copied(trainer))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_a_mask_that_lets_nothing_move_is_a_fault(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The released code's mask is always empty, and nobody is told."""
    trainer = make("dgst")
    monkeypatch.setattr(LNTrainerDGST, "choose_of", lambda *_: torch.empty(0, dtype=torch.long))
    with pytest.raises(InputError, match="may move"):
        step(trainer)


@pytest.mark.parametrize("method", MASKED)
def test_a_gradient_scaler_masks_too_and_nothing_moves_when_it_overflows(make: Make, method: str) -> None:
    trainer = make(method)
    trainer.on_train_start()
    assert isinstance(trainer, LNTrainerDGST)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    trainer.optimizer.param_groups[0]["fused"] = False  # as on a card, where there are gradient scalers
    trainer.optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    assert trainer.dataloader_train is not None
    batch = next(trainer.dataloader_train)
    before = copied(trainer)
    trainer.train_step({**batch, "data": batch["data"] * torch.inf})
    assert trainer.grad_scaler.get_scale() == 2.0**3
    assert same(before, copied(trainer))
    assert trainer.touched.count() == 0
    assert trainer.fixed is None
    inside, outside = numbers_moved(trainer, 2)
    assert inside > 100
    assert outside == 0
    assert trainer.touched.count() > 0


@pytest.mark.parametrize("method", MASKED)
def test_the_record_tells_what_may_move_and_what_has(make: Make, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EarlyStop, "look", lambda *_: False)  # which would bring earlier weights back
    trainer = make(method, 2)
    trainer.initialize()
    assert isinstance(trainer, LNTrainerDGST)
    before = [module.weight.detach().clone() for module in trainer.neurons]
    chosen = remember(trainer)
    trainer.run_training()
    numbers = sum(parameter.numel() for parameter in trainer.network.parameters())
    dense = sum(parameter.numel() for parameter in parameter_groups(trainer.network).dense)
    ever = sum(len(set(torch.cat(times).tolist())) for times in zip(*chosen, strict=True))
    different = sum(int((module.weight != old).sum()) for module, old in zip(trainer.neurons, before, strict=True))
    record = read_json(Path(trainer.output_folder) / "history.json", "")[-1]
    assert record["may_move"] == pytest.approx((sum(2 * module.out_channels for module in trainer.neurons) + dense) / numbers)
    assert record["may_have_moved"] == pytest.approx((ever + dense) / numbers)
    assert 0.8 * ever < different <= ever
    assert (record["may_have_moved"] > record["may_move"]) == (method != "static")


# ---- parts


def expected_to_move(method: str, name: str) -> bool:
    """By the names nnU-Net gives: another way than the trainer's own."""
    if "seg_layers" in name:
        return True
    if method == "decoder":
        return name.startswith("decoder.") and ".encoder." not in name
    if method == "bitfit":
        return name.endswith("bias")
    return {"full": True, "head": False, "norm": ".norm." in name, "lora": ".norm.weight" not in name}[method]


@pytest.mark.parametrize("optimizer", [NNUNETS, ADAMW], ids=["SGD", "AdamW"])
@pytest.mark.parametrize("method", PARTS)
def test_a_part_moves_and_the_rest_is_frozen(make: Make, method: str, optimizer: dict[str, Any]) -> None:
    trainer = make(method, optimizer=optimizer)
    trainer.initialize()
    for scale in parameter_groups(trainer.network).scales:
        nn.init.ones_(scale)  # a new residual network has zeros there, and nothing to learn behind them
    before = copied(trainer)
    step(trainer, 3)
    unique = [name for name in before if not name.startswith("decoder.encoder.") and "all_modules" not in name]
    found = moved({name: before[name] for name in unique}, copied(trainer))
    expected = {name for name in unique if expected_to_move(method, name)}
    assert found <= expected
    # A bias before a norm has no effect and may stay; so may heads of scales that do not count.
    assert {name for name in expected - found if not name.endswith("bias") and "seg_layers" not in name} == set()
    numbers = sum(before[name].numel() for name in unique)
    assert trainer.more_to_record()["may_move"] == pytest.approx(sum(before[name].numel() for name in expected) / numbers)


@pytest.mark.parametrize(("method", "backward"), [("head", False), ("decoder", False), ("bitfit", True), ("full", True)])
def test_frozen_weights_cost_no_backward(make: Make, method: str, backward: bool) -> None:
    """Head and decoder: nothing below them is passed through."""
    trainer = make(method)
    trainer.initialize()
    skips = trainer.network.encoder(torch.zeros(1, 1, *trainer.configuration_manager.patch_size))
    assert skips[-1].requires_grad == backward
    step(trainer)
    weight = trainer.network.encoder.stages[1].blocks[0].conv1.conv.weight
    assert (weight.grad is not None) == (method == "full")


def test_rates_are_the_released_ones_with_nnunets_optimiser(make: Make) -> None:
    rates = {}
    for method in (*PARTS, *MASKED):
        trainer = make(method)
        trainer.initialize()
        trainer._set_learning_rate()
        rates[method] = trainer.optimizer.param_groups[0]["lr"]
    released = {"dgst": 1e-3, "random": 1e-3, "static": 1e-3, "lora": 1e-3, "norm": 1e-3, "bitfit": 1e-2, "full": 1e-3}
    assert {method: rates[method] for method in released} == pytest.approx(released)


def test_each_trainer_has_its_own_methods(make: Make) -> None:
    assert {method: trainer_for(method) for method in ("full", "lora", "dgst", "static")} == {
        "full": "LNTrainerTune",
        "lora": "LNTrainerTune",
        "dgst": "LNTrainerDGST",
        "static": "LNTrainerDGST",
    }
    with pytest.raises(InputError, match=r"does not tune by dgst.*LNTrainerDGST"):
        make("dgst", like=LNTrainerTune)


# ---- low rank


def test_low_rank_begins_with_the_network_as_it_is(make: Make) -> None:
    plain, tuned = make("full"), make("lora")
    plain.initialize()
    tuned.initialize()
    assert same(plain.deployed_weights(), tuned.deployed_weights())
    assert sum(isinstance(module, LowRank) for module in tuned.network.modules()) == len(parameter_groups(plain.network).neurons)


def neurons(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_what_is_merged_is_what_was_trained(make: Make, precision: str) -> None:
    trainer = make("lora", precision=precision, iterations=3)
    trainer.run_training()
    compute = trainer.compute
    assert compute is not None
    trainer.network.eval()
    plain = plain_network(trainer)
    plain.load_state_dict(trainer.deployed_weights())
    plain = compute.prepare(plain).eval()
    image = compute.place(torch.randn(1, 1, *trainer.configuration_manager.patch_size))
    weights = [(m.weight.stride(), o.weight.stride()) for m, o in zip(neurons(trainer.network), neurons(plain), strict=True)]
    assert all(ours == theirs for ours, theirs in weights)  # or convolutions take the slow way
    with torch.no_grad(), compute.autocast():
        assert torch.equal(trainer.network(image)[0], plain(image)[0])


@pytest.mark.parametrize(
    ("module", "rank"), [(nn.Conv3d(1, 32, 3), 14), (nn.Conv3d(64, 128, 3), RANK), (nn.ConvTranspose3d(2, 12, 2), 6)]
)
def test_rank_is_limited_by_the_layer(module: nn.Conv3d | nn.ConvTranspose3d, rank: int) -> None:
    weight = module.weight.detach()
    axis = 1 if isinstance(module, nn.ConvTranspose3d) else 0
    change = LowRank(weight, axis)
    assert change.up.shape == (module.out_channels, rank)
    assert change.up.numel() + change.down.numel() <= weight.numel()
    nn.init.normal_(change.up)
    difference = ((change(weight) - weight) * RANK / ALPHA).movedim(axis, 0).flatten(1)
    assert torch.allclose(difference, change.up @ change.down, atol=1e-4)


# ---- checkpoints


def plain_network(trainer: LNTrainer) -> nn.Module:
    """As stock nnU-Net builds it."""
    architecture = trainer.plans_manager.plans["configurations"]["3d_fullres"]["architecture"]
    return build(architecture, 1, 2, deep_supervision=True, allow_init=True)


@pytest.mark.parametrize("method", [*PARTS, *MASKED])
def test_a_checkpoint_holds_a_plain_network_and_a_killed_training_goes_on_as_it_was(make: Make, method: str) -> None:
    undisturbed = make(method)
    step(undisturbed, 6)
    path = Path(undisturbed.output_folder) / "checkpoint_latest.pth"
    undisturbed.save_checkpoint(str(path))
    expected = torch.load(path, weights_only=True)
    plain_network(undisturbed).load_state_dict(expected["network_weights"])

    killed = make(method)
    step(killed, 3)
    killed.save_checkpoint(str(path))
    going_on = make(method, named=False)
    going_on.load_checkpoint(str(path))
    assert going_on.tune == Tune(method)
    assert going_on.more_to_record() == killed.more_to_record()  # if it was stopped at the end of an epoch, its record comes next
    step(going_on, 3)
    assert same(expected["network_weights"], copied(going_on))
    assert alike(expected["lnauto"]["more"], going_on.more_to_save())


def test_a_training_goes_on_with_the_method_it_was_begun_with(make: Make) -> None:
    trainer = make("dgst", 2)
    trainer.initialize()
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    for method, k in (("dgst", 1), ("random", 2)):
        with pytest.raises(InputError, match="begun with dgst:2"):
            make(method, k).load_checkpoint(str(path))
    again = make("dgst", 2)
    again.load_checkpoint(str(path))
    assert again.tune == Tune("dgst", 2)


def alike(first: Any, second: Any) -> bool:
    """Bit for bit, whatever is nested in what."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return set(first) == set(second) and all(alike(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(alike, first, second))
    return bool(first == second)
