"""Networks in eight bits: learned from one scan, kept, and close to fp32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engines import Command, model_of_chance, predicted
from torch import nn

from lnauto.errors import InputError
from lnauto.inference import eight_bits, openvino_engine, quantization
from lnauto.inference.eight_bits import EightBitNetwork
from lnauto.inference.model import FINAL, load_checkpoint

EIGHT = ("--precision", "int8")
SHAPE = (1, 1, 8, 16, 16)


@pytest.fixture
def model(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return model_of_chance(prepared, tmp_path, monkeypatch)


def overflows() -> bool:
    """Whether this processor adds products of eight bits in sixteen, which they may not fit: one without VNNI. Such a network is
    refused where its logits differ by too much, and of random weights they may."""
    facts = Path("/proc/cpuinfo")
    return facts.is_file() and " avx2 " in facts.read_text() and "vnni" not in facts.read_text()


@pytest.mark.skipif(overflows(), reason="this processor has no VNNI, so sums of eight-bit products overflow")
def test_eight_bits_find_nearly_what_fp32_finds_and_the_same_again(
    model: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, _ = predicted(command, model, "plain", "--engine", "openvino")
    first, told = predicted(command, model, "first", *EIGHT)
    assert (told["engine"], told["precision"]) == ("openvino", "int8")
    assert 0.9 < (plain == first).mean() < 1  # weights are random, so half of all voxels lie near the edge
    assert [path.suffix for path in sorted((model / "fold_1/openvino").iterdir())] == [".bin", ".sha256", ".xml", ".json"]
    monkeypatch.setattr(EightBitNetwork, "get_ready", lambda *_: pytest.fail("looked again"))
    assert (predicted(command, model, "again", *EIGHT)[0] == first).all()


def test_another_checkpoint_is_looked_at_anew(model: Path, command: Command) -> None:
    predicted(command, model, "before", *EIGHT, "-f", 0)
    old = next((model / "fold_0/openvino").glob("*_int8.json"))
    content = load_checkpoint(model / "fold_0" / FINAL)
    for weights in content["network_weights"].values():
        weights *= 1.5
    torch.save(content, model / "fold_0" / FINAL)
    predicted(command, model, "after", *EIGHT, "-f", 0)
    assert not old.exists()
    assert len(list((model / "fold_0/openvino").glob("*_int8.json"))) == 1


def test_what_eight_bits_do_not_hold_is_told(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "LEVELS", 3)
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", model, "--device", "cpu", *EIGHT)
    assert code == 3
    assert "in eight bits this network's logits differ by" in complaint
    assert not list(Path("out").glob("*.nii.gz"))
    assert not list((model / "fold_0/openvino").glob("*_int8.json"))


def test_eight_bits_that_give_no_numbers_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were kept for every later scan: NaN is not as large as the largest difference allowed."""
    from lnauto.inference.predictor import Predictor

    predictor = Predictor.from_folder(model, folds=[0], device="cpu", precision="int8")
    (network,) = predictor.networks
    assert isinstance(network, EightBitNetwork)
    run = eight_bits._run
    monkeypatch.setattr(eight_bits, "_run", lambda *given: (np.nan * run(*given)[0], 1.0))
    with pytest.raises(InputError, match="in eight bits this network's logits differ by nan %"):
        network.get_ready([torch.randn(1, 1, *predictor.configuration.patch_size)])
    assert not network.kept.exists()


@pytest.mark.parametrize("without", ["the package", "the engine"])
def test_only_openvino_computes_in_eight_bits(
    model: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    without: str,
) -> None:
    flags = ["--engine", "torch"] if without == "the engine" else []
    if not flags:
        monkeypatch.setattr(openvino_engine, "find_spec", lambda _: None)
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", model, *EIGHT, *flags)
    assert (code, complaint.count("\n")) == (2, 1)
    assert ("PyTorch does not compute in eight bits" if flags else "OpenVINO cannot be used: it is not installed") in complaint
    assert "in --precision int8; leave " in complaint


@pytest.mark.parametrize("left", ["{", '{"another": [[0.0], [1.0]]}', '{"another": "text"}'])
def test_what_was_kept_of_something_else_is_told(model: Path, command: Command, left: str) -> None:
    predicted(command, model, "before", *EIGHT, "-f", 0)
    kept = next((model / "fold_0/openvino").glob("*_int8.json"))
    kept.write_text(left)
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", model, "-f", 0, "--device", "cpu", *EIGHT)
    assert (code, complaint.count("\n")) == (2, 1)
    assert complaint.endswith(f"in {kept}; remove the file: it is made anew\n")


# ---- the network


class TwoPaths(nn.Module):
    """What a U-Net is made of; channels differ in loudness a hundredfold."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deeper = nn.Conv3d(1, 16, 3, padding=1), nn.Conv3d(16, 16, 3, 2, 1)
        self.norms = nn.ModuleList([nn.InstanceNorm3d(16, affine=True) for _ in range(2)])
        self.up, self.joined, self.logits = nn.ConvTranspose3d(16, 16, 2, 2), nn.Conv3d(32, 16, 3, padding=1), nn.Conv3d(16, 2, 1)
        for norm in self.norms:
            norm.weight.data = torch.logspace(-2, 0, 16)
        self.joined.weight.data[:, 16:] /= torch.logspace(-2, 0, 16).reshape(1, -1, 1, 1, 1)  # the quiet ones count as much
        self.deeper.weight.data /= torch.logspace(-2, 0, 16).reshape(1, -1, 1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = nn.functional.leaky_relu(self.norms[0](self.first(x)))
        below = nn.functional.leaky_relu(self.norms[1](self.deeper(skip)))
        return self.logits(nn.functional.leaky_relu(self.joined(torch.cat([self.up(below), skip], 1))))


@pytest.fixture
def network(tmp_path: Path) -> tuple[nn.Module, EightBitNetwork]:
    torch.manual_seed(0)
    plain = TwoPaths().eval()
    openvino_engine.convert(plain, 1, tmp_path / "openvino/network.xml")
    return plain, EightBitNetwork(tmp_path / "openvino/network.xml", SHAPE)


def tiles(count: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


def apart(plain: nn.Module, eight: EightBitNetwork) -> float:
    shown = tiles(3, 1)
    with torch.no_grad():
        expected, got = torch.cat([plain(tile) for tile in shown]), torch.cat([eight(tile) for tile in shown])
    return float((got - expected).norm() / expected.norm())


def test_quiet_channels_keep_their_steps(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, eight = network
    monkeypatch.setattr(eight_bits, "LARGEST_DISAGREEMENT", 1.0)
    eight.get_ready(tiles(4, 0))
    evened = apart(plain, eight)
    assert evened < 0.03
    eight.kept.unlink()
    monkeypatch.setattr(quantization, "EVENED", 0.0)
    uneven = EightBitNetwork(eight.path, SHAPE)
    uneven.get_ready(tiles(4, 0))
    assert apart(plain, uneven) > 2 * evened


def test_convolutions_multiply_whole_numbers(network: Any) -> None:
    """All but the first and the last, and the transposed one, which OpenVINO keeps as it is."""
    _, eight = network
    eight.get_ready(tiles(4, 0))
    facts = [node.get_rt_info() for node in eight.compiled.compiled.get_runtime_model().get_ordered_ops()]
    kinds = [fact["runtimePrecision"].astype(str) for fact in facts if fact["layerType"].astype(str) == "Convolution"]
    assert sorted(kind in ("u8", "i8") for kind in kinds) == [False, False, True, True]


def test_what_is_kept_gives_the_same_bits(network: Any) -> None:
    _, eight = network
    eight.get_ready(tiles(4, 0))
    again = EightBitNetwork(eight.path, SHAPE)
    assert again.is_ready
    assert torch.equal(again(tiles(1, 5)[0]), eight(tiles(1, 5)[0]))
    content = json.loads(eight.kept.read_text())
    assert np.shape(next(iter(content.values()))) == (2, 16)
