"""What runs a network: OpenVINO where it is there, agrees and pays, else PyTorch; and which tiles are not run at all."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from engines import Command, model_of_chance, predicted

from lnauto.files import sha256_of
from lnauto.inference import engine, openvino_engine
from lnauto.inference.model import FINAL, Model, load_checkpoint, load_model
from lnauto.inference.predictor import emptiness
from lnauto.inference.sliding_window import predict_logits
from lnauto.networks import machine_cache
from lnauto.networks.compute import Compute

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def model(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return model_of_chance(prepared, tmp_path, monkeypatch)


def test_openvino_finds_what_pytorch_finds_and_is_converted_once(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, by_torch = predicted(command, model, "plain", "--engine", "torch")
    fast, by_openvino = predicted(command, model, "fast", "--engine", "openvino")
    assert (by_torch["engine"], by_openvino["engine"], by_openvino["precision"]) == ("torch", "openvino", "fp32")
    assert 0.01 < plain.astype(bool).mean() < 0.99
    assert (plain == fast).mean() > 0.9999
    beside = sorted(path.name for path in (model / "fold_1/openvino").iterdir())
    assert [Path(name).suffix for name in beside] == [".bin", ".sha256", ".xml"]
    monkeypatch.setattr(openvino_engine, "convert", lambda *_: pytest.fail("converted again"))
    assert predicted(command, model, "again")[1]["engine"] in ("torch", "openvino")  # whichever is faster here


def test_another_checkpoint_is_converted_anew_and_the_old_one_goes(model: Path, command: Command) -> None:
    predicted(command, model, "before", "--engine", "openvino", "-f", 0)
    checkpoint = model / "fold_0" / FINAL
    old = openvino_engine.converted_path(checkpoint, sha256_of(checkpoint))
    assert old.is_file()
    content = load_checkpoint(checkpoint)
    for weights in content["network_weights"].values():
        weights *= 1.5
    torch.save(content, checkpoint)
    after = predicted(command, model, "after", "--engine", "openvino", "-f", 0)[0]
    assert not old.exists()
    expected = predicted(command, model, "expected", "--engine", "torch", "-f", 0)[0]
    assert (after == expected).mean() > 0.9999
    assert (after != predicted_before()).mean() > 0.001


def predicted_before() -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage("before/ball_06.nii.gz")))


@pytest.mark.parametrize("damage", ["cut off", "zeros", "gone"])
def test_a_converted_network_that_was_damaged_is_made_anew(model: Path, command: Command, damage: str) -> None:
    """OpenVINO would compute with zeros for weights, and did: no node was found, and nothing was said."""
    before, _ = predicted(command, model, "before", "--engine", "openvino", "-f", 0)
    weights = next((model / "fold_0/openvino").glob("*.bin"))
    whole = weights.read_bytes()
    broken = {"cut off": whole[: len(whole) // 2], "zeros": bytes(len(whole))}.get(damage)
    weights.unlink()
    if broken is not None:
        weights.write_bytes(broken)
    after, run = predicted(command, model, "after", "--engine", "openvino", "-f", 0)
    assert run["engine"] == "openvino"
    np.testing.assert_array_equal(before, after)
    assert weights.read_bytes() == whole


def test_two_runs_may_convert_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them removed what the other was writing, and ended with a traceback."""
    import openvino as ov

    network, path = torch.nn.Conv3d(1, 2, 3, padding=1), tmp_path / "openvino/small.xml"
    serialize, others = ov.serialize, [path]

    def while_another_does(*arguments: Any) -> None:
        serialize(*arguments)
        if others:
            with monkeypatch.context() as patch:
                patch.setattr("os.getpid", lambda: 1)
                openvino_engine.keep_converted(network, 1, others.pop())

    monkeypatch.setattr(ov, "serialize", while_another_does)
    openvino_engine.keep_converted(network, 1, path)
    assert openvino_engine.is_whole(path)
    assert sorted(part.suffix for part in path.parent.iterdir()) == [".bin", ".sha256", ".xml"]
    tile = torch.randn(1, 1, 4, 4, 4)
    with torch.inference_mode():
        assert torch.allclose(openvino_engine.compile_network(path, tile.shape, "fp32")(tile), network(tile), atol=1e-4)


def test_for_little_work_nothing_is_converted(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predicted(command, model, "little")[1]["engine"] == "torch"
    assert not (model / "fold_0/openvino").exists()
    monkeypatch.setattr(engine, "PAYS_FROM_SECONDS", 0.0)
    predicted(command, model, "much")
    assert (model / "fold_0/openvino").is_dir()


def test_what_computes_something_else_is_not_used(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAYS_FROM_SECONDS", 0.0)
    monkeypatch.setattr(openvino_engine, "WORTH_IT", 1e-9)  # however slow
    assert predicted(command, model, "agrees")[1]["engine"] == "openvino"
    monkeypatch.setattr(machine_cache, "FOLDER", Path("another").absolute())
    run = openvino_engine.OpenVinoNetwork.__call__
    monkeypatch.setattr(openvino_engine.OpenVinoNetwork, "__call__", lambda self, tile: 1.2 * run(self, tile))
    assert predicted(command, model, "differs")[1]["engine"] == "torch"
    code, _, complaint = command(
        "predict", "-i", "scans", "-o", "asked", "-m", model, "--engine", "openvino", "--precision", "fp32"
    )
    assert (code, complaint.count("\n")) == (2, 1)
    assert "what it computes is too far from what PyTorch does" in complaint


def test_without_openvino_pytorch_does_its_work(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "find_spec", lambda _: None)
    monkeypatch.setattr(engine, "PAYS_FROM_SECONDS", 0.0)
    assert predicted(command, model, "without")[1]["engine"] == "torch"
    code, _, complaint = command("predict", "-i", "scans", "-o", "asked", "-m", model, "--engine", "openvino")
    assert (code, complaint) == (
        2,
        "lnauto: OpenVINO cannot be used: it is not installed, in --engine; leave the flag out, or give torch\n",
    )


def test_a_network_that_cannot_be_kept_is_run_by_pytorch(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PAYS_FROM_SECONDS", 0.0)

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openvino_engine, "replacing", full)
    assert predicted(command, model, "kept", "-f", 0)[1]["engine"] == "torch"
    code, _, complaint = command("predict", "-i", "scans", "-o", "asked", "-m", model, "--engine", "openvino", "-f", 0)
    assert code == 2
    assert "the network could not be converted ([Errno 28] No space left on device)" in complaint


def test_what_was_converted_and_checked_is_run_without_reading_the_weights(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = predicted(command, model, "first", "--engine", "openvino")
    read = []
    load = Model.load_network
    monkeypatch.setattr(Model, "load_network", lambda self, place: read.append(place) or load(self, place))
    again, run = predicted(command, model, "again", "--engine", "openvino")
    assert (run["engine"], read) == ("openvino", [])
    np.testing.assert_array_equal(first, again)
    predicted(command, model, "torch", "--engine", "torch")
    assert read == [0, 1]
    description = json.loads((model / "dataset.json").read_text())
    description["labels"]["other"] = 2
    (model / "dataset.json").write_text(json.dumps(description))
    code, _, complaint = command(
        "predict", "-i", "scans", "-o", "more", "-m", model, "--engine", "openvino", "--precision", "fp32"
    )
    assert code == 2
    assert "the weights do not fit the network of plans.json" in complaint


def test_after_each_scan_the_network_gives_its_memory_back(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("scans/ball_06_0000.nii.gz", "scans/ball_07_0000.nii.gz")
    happened: list[str] = []
    call, rest = openvino_engine.OpenVinoNetwork.__call__, openvino_engine.OpenVinoNetwork.rest
    monkeypatch.setattr(
        openvino_engine.OpenVinoNetwork, "__call__", lambda self, tile: happened.append("tile") or call(self, tile)
    )
    monkeypatch.setattr(openvino_engine.OpenVinoNetwork, "rest", lambda self: happened.append("rest") or rest(self))
    first, _ = predicted(command, model, "first", "--engine", "openvino", "-f", 0)
    started = happened.index("rest")  # before it, tiles of the check too
    scans = [kind for kind, _ in itertools.groupby(happened[started - 1 :])]
    assert scans == ["tile", "rest", "tile", "rest"]
    second = sitk.GetArrayFromImage(sitk.ReadImage("first/ball_07.nii.gz"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("lost", ["network_weights", "init_args", "configuration"])
def test_a_checkpoint_of_no_model_is_told(model: Path, command: Command, lost: str) -> None:
    checkpoint = model / "fold_0" / FINAL
    content = load_checkpoint(checkpoint)
    del (content["init_args"] if lost == "configuration" else content)[lost]
    torch.save(content, checkpoint)
    code, _, complaint = command("predict", "-i", "scans", "-o", "out", "-m", model, "-f", 0)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "this checkpoint is of no model: " in complaint


def test_a_configuration_may_inherit_from_another(model: Path, command: Command) -> None:
    """As nnU-Net's plans do, in which a trainer of ours may be used."""
    for path in (model / "plans.json", *model.glob(f"fold_*/{FINAL}")):
        content = json.loads(path.read_text()) if path.suffix == ".json" else load_checkpoint(path)
        plans = content if path.suffix == ".json" else content["init_args"]["plans"]
        plans["configurations"]["3d_small"] = {"inherits_from": "3d_fullres", "batch_size": 1}
        if path.suffix == ".json":
            path.write_text(json.dumps(content))
        else:
            content["init_args"]["configuration"] = "3d_small"
            torch.save(content, path)
    assert predicted(command, model, "out", "-f", 0)[1]["engine"] == "torch"


def test_folds_are_averaged_under_both(model: Path) -> None:
    loaded = load_model(model)
    both = engine.choose_engine(loaded, [16, 16, 16], torch.device("cpu"), "openvino", "fp32", None)
    tile = torch.randn(1, 1, 16, 16, 16)
    for fast, network in zip(both.networks, [loaded.load_network(place) for place in range(2)], strict=True):
        with torch.inference_mode():
            assert torch.allclose(fast(tile), network(tile), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(both.networks[0](tile), both.networks[1](tile), atol=1e-2)


@pytest.mark.parametrize("checked_before", [False, True])
def test_each_fold_is_run_in_the_precision_that_was_found_for_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, checked_before: bool
) -> None:
    """All were run in that of the first fold, with which the others may not agree."""
    compiled = []
    compile_network = openvino_engine.compile_network

    def recorded(path: Path, shape: Any, precision: str) -> Any:
        compiled.append((path.parents[1].name, precision))
        return compile_network(path, shape, "fp32")

    monkeypatch.setattr(openvino_engine, "compile_network", recorded)
    best = {"fold_0": "bf16", "fold_1": "fp32"}
    monkeypatch.setattr(openvino_engine, "_check", lambda *given: (best[given[3].parents[1].name], ""))
    for _ in range(1 + checked_before):
        compiled.clear()
        chosen = engine.choose_engine(load_model(model), [16, 16, 16], torch.device("cpu"), "openvino", "auto", None)
    assert compiled == list(best.items())
    assert chosen.precision == "bf16, fp32"


# ---- tiles that are not run

CT = {"channel_names": {"0": "CT"}}
KNOWN = {"percentile_00_5": -900.0, "percentile_99_5": 300.0, "mean": 50.0, "std": 25.0}


def normalised(hu: float, known: dict[str, float]) -> float:
    return (max(hu, known["percentile_00_5"]) - known["mean"]) / known["std"]


SIGNAL_AFTER_TWO = """
import signal, sys
from pathlib import Path
from lnauto.inference.openvino_engine import compile_network

networks = [compile_network(Path(sys.argv[1]), (1, 1, 16, 16, 16), "fp32") for _ in range(2)]
while networks:
    networks.pop(0)
signal.signal(signal.SIGUSR1, lambda *_: print("caught"))
signal.raise_signal(signal.SIGUSR1)
"""


def test_networks_may_go_in_the_order_they_came_and_signals_are_still_caught(tmp_path: Path) -> None:
    path = tmp_path / "network" / "small.xml"
    openvino_engine.convert(torch.nn.Conv3d(1, 2, 3, padding=1), 1, path)
    run = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_TWO, str(path)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "caught"), run.stderr


@pytest.mark.parametrize("lowest", [-900.0, -100.0])
def test_in_ct_a_tile_is_empty_if_nothing_in_it_is_denser_than_air(lowest: float) -> None:
    known = {**KNOWN, "percentile_00_5": lowest}
    plans = {"foreground_intensity_properties_per_channel": {"0": known}}
    is_empty = emptiness(plans, {"normalization_schemes": ["CTNormalization"]}, CT)
    lung = torch.full((1, 4, 4, 4), normalised(-850.0, known))
    lung[0, 0, 0, 0] = normalised(-1000.0, known)
    assert is_empty(lung)
    lung[0, 1, 1, 1] = normalised(max(-480.0, lowest + 10), known)
    assert not is_empty(lung)


def test_elsewhere_a_tile_is_empty_if_every_channel_is_of_one_value() -> None:
    is_empty = emptiness({}, {"normalization_schemes": ["ZScoreNormalization"] * 2}, {"channel_names": {"0": "T1", "1": "T2"}})
    tile = torch.stack([torch.full((4, 4, 4), 0.3), torch.full((4, 4, 4), -1.0)])
    assert is_empty(tile)
    tile[1, 0, 0, 0] = 0
    assert not is_empty(tile)


def test_empty_tiles_are_not_run_and_are_background() -> None:
    seen = []

    def network(tile: torch.Tensor) -> torch.Tensor:
        seen.append(tile.clone())
        return torch.cat([-tile, tile], dim=1)

    image = torch.zeros(1, 16, 16, 48)
    image[..., :20] = torch.rand(16, 16, 20) + 0.1
    everything = predict_logits([network], image, (16, 16, 16), CPU)
    tiles, found = len(seen), predict_logits([network], image, (16, 16, 16), CPU, is_empty=lambda tile: not tile.any())
    assert len(seen) - tiles == 3  # of 5: those that begin at 0, 8 and 16
    assert torch.allclose(found[..., :20], everything[..., :20], atol=1e-5)
    assert not found[..., 32:].argmax(dim=0).any()
    seen.clear()
    nothing = predict_logits([network], torch.zeros(1, 16, 16, 48), (16, 16, 16), CPU, is_empty=lambda tile: True)
    assert not nothing.argmax(dim=0).any()
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("device", "precision", "patch", "expected"),
    [
        ("cuda", "auto", (8, 8, 8), True),
        ("cuda", "bf16", (8, 8, 8), True),
        ("cuda", "fp32", (8, 8, 8), False),
        ("cuda", "auto", (8, 8), False),
        ("mps", "auto", (8, 8, 8), False),
    ],
)
def test_on_a_card_half_precision_is_laid_out_channels_last(
    device: str, precision: str, patch: tuple[int, ...], expected: bool, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compute, "prepare", lambda compute, network: network)  # there is no card here
    chosen = engine.choose_engine(load_model(model), patch, torch.device(device), "auto", precision, None)
    assert (chosen.name, chosen.compute.channels_last) == ("torch", expected)
