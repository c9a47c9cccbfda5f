"""In which arithmetic a network trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lnauto.networks import compute, machine_cache
from lnauto.networks.compute import Compute, choose_compute
from lnauto.trainers.batches import seeded


def two_stages() -> nn.Module:
    halves = nn.Conv3d(1, 4, 3, stride=2, padding=1)
    return nn.Sequential(halves, nn.Conv3d(4, 4, 3, padding=1))


@pytest.mark.parametrize(("slices", "expected"), [(2, "bf16"), (4, "fp32"), (6, "bf16"), (8, "bf16")])
def test_bf16_is_refused_where_its_gradients_are_wrong(slices: int, expected: str) -> None:
    """Four slices are two after the first convolution."""
    chosen = choose_compute(two_stages(), 1, [slices, 8, 8], torch.device("cpu"), "bf16")
    assert chosen.precision == expected


@pytest.mark.parametrize(
    ("seconds", "apart", "expected"),
    [
        ((1.0, 0.9, 0.5), 0.01, ("bf16", True)),  # a CPU that multiplies bf16 twice as fast
        ((1.0, 0.7, 1.1), 0.01, ("fp32", True)),  # one that does not
        ((1.0, 0.7, 0.6), 0.2, ("fp32", True)),  # what disagrees is not used, however fast
        ((1.0, 0.96, 0.85), 0.01, ("fp32", False)),  # too little gained to be told from noise
        ((1.0, 0.9, 0.89), 0.01, ("fp32", True)),  # the same for bf16 alone
    ],
)
def test_the_fastest_arithmetic_that_agrees_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: tuple[float, ...], apart: float, expected: tuple[str, bool]
) -> None:
    def time_step(_: nn.Module, __: torch.Tensor, chosen: Compute) -> tuple[float, torch.Tensor]:
        place = 2 if chosen.precision == "bf16" else int(chosen.channels_last)
        return seconds[place], torch.ones(4) * (1 + apart * (place == 2))

    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path)
    monkeypatch.setattr(compute, "_time_step", time_step)
    monkeypatch.setattr(compute, "_is_slow_in_bf16", lambda: False)
    chosen = choose_compute(two_stages(), 1, [8, 8, 8], torch.device("cpu"))
    assert (chosen.precision, chosen.channels_last) == expected
    monkeypatch.setattr(compute, "_time_step", None)  # asked again, the machine is not timed again
    assert choose_compute(two_stages(), 1, [8, 8, 8], torch.device("cpu")) == chosen


@pytest.mark.parametrize("slower", [30.0, 1.3], ids=["no instructions for it", "some"])
def test_a_processor_that_crawls_in_bf16_is_not_asked_to_run_a_network_in_it(
    slower: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried = []

    def time_step(_: nn.Module, __: torch.Tensor, chosen: Compute) -> tuple[float, torch.Tensor]:
        tried.append(chosen.precision)
        return 1.0, torch.ones(4)

    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path)
    monkeypatch.setattr(compute, "_time_step", time_step)
    monkeypatch.setattr(compute, "_seconds_of_a_convolution", lambda kind: slower if kind == torch.bfloat16 else 1.0)
    compute._is_slow_in_bf16.cache_clear()
    choose_compute(two_stages(), 1, [8, 8, 8], torch.device("cpu"))
    compute._is_slow_in_bf16.cache_clear()
    assert ("bf16" in tried) == (slower < 4)


def test_a_small_convolution_is_timed_for_real() -> None:
    assert 0 < compute._seconds_of_a_convolution(torch.float32) < 1


def test_where_bf16_is_wrong_the_layout_may_still_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times = {True: 0.5, False: 1.0}
    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path)
    monkeypatch.setattr(compute, "_time_step", lambda _, __, chosen: (times[chosen.channels_last], torch.ones(4)))
    chosen = choose_compute(two_stages(), 1, [4, 8, 8], torch.device("cpu"))
    assert (chosen.precision, chosen.channels_last) == ("fp32", True)


@pytest.mark.parametrize(("asked", "expected"), [("auto", "amp"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_a_card_computes_as_it_is_asked_to(asked: str, expected: str) -> None:
    assert choose_compute(two_stages(), 1, [8, 8, 8], torch.device("cuda"), asked) == Compute(torch.device("cuda"), expected)


def test_on_a_card_the_fastest_convolutions_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(nn.Module, "to", lambda network, _: network)
    network = two_stages()
    assert Compute(torch.device("cpu"), "fp32").prepare(network) is network
    assert not torch.backends.cudnn.benchmark
    assert Compute(torch.device("cuda"), "amp").prepare(network) is network
    assert torch.backends.cudnn.benchmark


def test_drawing_a_batch_leaves_a_cards_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout on the card would else be drawn anew by every batch that is made in its process, and by none made in another."""
    seen: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seen.append)
    with seeded(1, 2):
        first = torch.rand(3)
    with seeded(1, 2):
        assert torch.equal(torch.rand(3), first)
    assert seen == []
