"""A card whose memory is full: the logits go to main memory, and what still does not fit is told as what it is.

There is no card here: the error is PyTorch's own, raised where a card would raise it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lnauto.inference import predictor as module
from lnauto.inference import sliding_window
from lnauto.inference.export import Exporter
from lnauto.inference.predictor import Predictor
from lnauto.inference.sliding_window import predict_logits
from lnauto.networks.compute import Compute
from lnauto.trainers.lntrainer import LNTrainer

Command = Callable[..., tuple[int, str, str]]


class Card:
    """A network on a card that is full when these of its calls are made."""

    def __init__(self, network: Any, full_at: tuple[int, ...]) -> None:
        self.network, self.full_at, self.calls = network, full_at, 0

    def __call__(self, tile: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls in self.full_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.network(tile)


@pytest.fixture
def scan(prepared: Path) -> sitk.Image:
    """One of several tiles."""
    image = sitk.ReadImage(str(prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz"))
    larger = sitk.GetImageFromArray(np.tile(sitk.GetArrayFromImage(image), (2, 2, 2)))
    larger.SetSpacing(image.GetSpacing())
    return larger


@pytest.fixture
def predictor(random_model: Path) -> Predictor:
    return Predictor.from_folder(random_model, ["0"], "cpu", tta="none", crop=False, engine="torch")


def test_a_full_card_leaves_the_logits_to_main_memory(
    predictor: Predictor, scan: sitk.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    expected, _ = predictor.predict_channels([scan], "scan", told.append)
    tiles, places = len(told), []
    assert tiles > 2

    def placed(*arguments: Any, sums_on: Any = None) -> torch.Tensor:
        places.append(sums_on)
        return predict_logits(*arguments, sums_on=sums_on)

    monkeypatch.setattr(module, "predict_logits", placed)
    predictor.networks = [Card(predictor.networks[0], full_at=(3,))]
    told.clear()
    found, _ = predictor.predict_channels([scan], "scan", told.append)
    assert places == [None, torch.device("cpu")]
    assert told == [tiles] * tiles  # each tile is told of once
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))


def test_sums_may_be_kept_elsewhere_than_networks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    card, moved = Compute(torch.device("meta"), "fp32"), []

    class Logits:
        def to(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
            moved.append((device.type, dtype))
            return torch.ones(2, 16, 16, 16, dtype=dtype)

    def predicted(_: Any, tile: torch.Tensor, *__: Any) -> Logits:
        assert tile.device == card.device
        return Logits()

    monkeypatch.setattr(sliding_window, "_predict_tile", predicted)
    found = predict_logits([], torch.rand(1, 16, 16, 24), (16, 16, 16), card, sums_on=torch.device("cpu"))
    assert moved == [("cpu", torch.float32)] * 2
    assert torch.allclose(found, torch.ones(2, 16, 16, 24))


def test_what_a_card_cannot_resample_is_resampled_in_main_memory(
    predictor: Predictor, scan: sitk.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = predictor.prepare([scan], "scan")
    kept = predictor.infer(prepared).half()  # as a card keeps it
    expected, _ = predictor.finish(kept.float(), prepared)
    export, calls = Exporter.export, []

    def full_once(self: Exporter, *arguments: Any) -> Any:
        calls.append(arguments[0])
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return export(self, *arguments)

    monkeypatch.setattr(Exporter, "export", full_once)
    found, _ = predictor.finish(kept, prepared)
    assert [each.dtype for each in calls] == [torch.float16, torch.float32]
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))


def test_a_case_that_still_does_not_fit_is_named_and_the_others_go_on(
    random_model: Path, prepared: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_model = Predictor.of_model

    def on_a_full_card(*arguments: Any) -> Predictor:
        made = of_model(*arguments)
        return replace(made, networks=[Card(made.networks[0], full_at=(1, 2))])

    monkeypatch.setattr(Predictor, "of_model", on_a_full_card)
    scans, out = prepared / "raw/Dataset901_Balls/imagesTs", tmp_path / "out"
    flags = ("-m", random_model, "--device", "cpu", "--engine", "torch", "--quiet")
    code, _, complaint = command("predict", "-i", scans, "-o", out, *flags)
    assert code == 3
    assert (
        "lnauto: the card's memory does not hold the networks and one tile, in ball_06; "
        "close what else uses the card, or add --device cpu\n"
    ) in complaint
    assert not (out / "ball_06.nii.gz").exists()
    assert (out / "ball_07.nii.gz").is_file()


def test_a_training_step_that_does_not_fit_is_told(balls: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LNTrainer, "train_step", full)
    code, _, complaint = command("train", 901, 0, "--iterations", 2, "--device", "cpu", "--workers", 0, "--quiet")
    assert code == 2
    assert complaint.startswith("lnauto: the card's memory does not hold a step of this training, in ")
    assert "plan smaller patches (--patch), or train with --device cpu; what is saved goes on with --continue" in complaint


def test_a_network_that_does_not_fit_is_told(balls: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Compute, network: torch.nn.Module) -> torch.nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Compute, "prepare", full)
    flags = ("--iterations", 2, "--device", "cpu", "--precision", "fp32", "--workers", 0, "--quiet")
    code, _, complaint = command("train", 901, 0, *flags)
    assert code == 2
    assert complaint.startswith("lnauto: the card's memory does not hold the network, in ")
    assert complaint.endswith("; close what else uses the card, or train with --device cpu\n")
