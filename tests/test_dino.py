"""DINOv2 from a file: that it is the published network, frozen, looks at the right slices, and that faults are a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bags import PLAN
from torch import Tensor, nn
from torch.nn import functional
from views import small_vit, spotted_bags

from lnauto.errors import InputError
from lnauto.networks.vit import IMAGENET_DEVIATION, IMAGENET_MEAN, SIDE, file_hash, load_vit
from lnauto.trainers.patient.fitting import Schedule
from lnauto.trainers.patient.head import Head
from lnauto.trainers.patient.tokens import SLICES, ends_of, laid_over, slices_of
from lnauto.trainers.patient.wega import LNMTrainerWeGA
from lnauto.workflow.fold import Request
from lnauto.workflow.train import _check_dino


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dino") / "small.pth"
    torch.save(small_vit().state_dict(), path)
    return path


@pytest.mark.parametrize("registers", [0, 4])
def test_timms_and_metas_weights_are_the_same_network(registers: int, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network = small_vit(registers)
    state = network.state_dict()
    metas = dict(state) | {"mask_token": torch.zeros(1, 64)}
    if registers:  # Meta's class token has a place among the positions
        metas["register_tokens"] = metas.pop("reg_token")
        first = torch.randn(1, 1, 64)
        metas["cls_token"], metas["pos_embed"] = state["cls_token"] - first, torch.cat([first, state["pos_embed"]], dim=1)
    torch.save(metas, tmp_path / "meta.pth")
    torch.save({"model": state, "epoch": 3}, tmp_path / "inside.pth")
    save_file(state, tmp_path / "timm.safetensors")
    pictures = torch.rand(9, 3, SIDE, SIDE)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    with torch.no_grad():
        expected = network.forward_features((pictures - mean) / deviation)[:, 1 + registers :].reshape(9, 16, 16, 64)
    for name in ("meta.pth", "inside.pth", "timm.safetensors"):
        loaded = load_vit(tmp_path / name, file_hash(tmp_path / name))
        torch.testing.assert_close(loaded.tokens(pictures), expected, rtol=1e-4, atol=1e-4)


def test_positions_are_resized_to_the_tokens_of_a_slice(weights: Path) -> None:
    loaded = load_vit(weights, file_hash(weights))
    positions = loaded.network.pos_embed[:, 1:].reshape(1, 4, 4, 64).permute(0, 3, 1, 2)
    resized = functional.interpolate(positions, (16, 16), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    found: list[Tensor] = []
    hook = loaded.network.blocks[0].register_forward_hook(lambda _, given, __: found.append(given[0]))
    loaded.tokens(torch.full((1, 3, SIDE, SIDE), 0.4))  # every patch is alike: what differs is the position
    hook.remove()
    places = found[0][0, 1:].reshape(16, 16, 64)
    torch.testing.assert_close(places - places.mean((0, 1)), resized - resized.mean((0, 1)), rtol=1e-4, atol=1e-4)


def test_it_is_frozen_looks_once_at_a_patient_and_is_not_saved_with_the_head(weights: Path, tmp_path: Path) -> None:
    load_vit.cache_clear()
    bags = spotted_bags(20)
    head = LNMTrainerWeGA(dino_weights=weights, schedule=Schedule(steps=2, patients=4)).train(bags, [], PLAN)
    loaded = load_vit(weights, file_hash(weights))
    assert loaded.looked == SLICES * len(bags)
    assert not loaded.network.training
    original = small_vit().state_dict()
    assert all(torch.equal(value, original[name]) for name, value in loaded.network.state_dict().items())
    assert not any("vit" in name for name in head.members[0].network.state_dict())
    head.save(tmp_path)
    before = head.read(bags)
    load_vit.cache_clear()
    for one, other in zip(before, Head.load(tmp_path).read(bags), strict=True):
        assert one.logit == other.logit
        assert one.told == other.told
    other_weights = weights.with_name("moved.pth")
    weights.rename(other_weights)
    try:
        load_vit.cache_clear()
        with pytest.raises(InputError, match="cannot be read") as gone:
            Head.load(tmp_path)
        torch.save(small_vit(registers=4).state_dict(), weights)
        with pytest.raises(InputError, match="not the weights the head was trained with") as others:
            Head.load(tmp_path)
    finally:
        other_weights.replace(weights)
    assert all(len(str(error.value).splitlines()) == 1 and str(weights) in str(error.value) for error in (gone, others))


def test_slices_span_what_bears_nodes_and_20_mm_beyond(weights: Path) -> None:
    image, nodes, to_mm = torch.arange(24.0).view(1, 24, 1, 1).expand(1, 24, 32, 32), torch.zeros(1, 24, 32, 32), torch.eye(4)
    to_mm[:3, :3] = torch.tensor([[0, 0, 2.0], [0, 2.0, 0], [5.0, 0, 0]])
    assert [float(end) for end in ends_of(torch.cat([image, nodes]), to_mm)] == [0, 23]
    nodes[0, 8:11, 5, 6] = 0.5
    view = torch.cat([image, nodes])
    first, last = ends_of(view, to_mm)
    assert (float(first), float(last)) == (4, 14)
    pictures = slices_of(image[0], first, last)
    black, white = 23 * 0.005, 23 * 0.995
    middle = 4 + 10 * torch.arange(8) / 7
    expected = (torch.stack([middle - 1, middle, middle + 1], dim=1) - black) / (white - black)
    torch.testing.assert_close(pictures.mean((2, 3)), expected, rtol=1e-2, atol=1e-2)
    laid = laid_over(
        view[None], to_mm[None], torch.zeros(1, 512, 1), torch.Size([8, 8, 8]), first[None], (last - first)[None] / 7
    )
    assert laid.points[0, -1].tolist() == pytest.approx([2 * 29.5, 2 * 29.5, 5 * 14])
    assert sorted(set(laid.region[0].nonzero()[:, 0].tolist())) == [3, 4]  # slices 8, 9, 10 lie next to 8.3, 9.7 and 9.7
    assert {tuple(place) for place in laid.region[0].nonzero()[:, 1:].tolist()} == {(1, 1)}
    bearing = laid_over(
        view[None], to_mm[None], torch.zeros(1, 384, 1), torch.Size([6, 8, 8]), torch.tensor([1.5]), torch.tensor([4.0])
    )
    assert bearing.region[0].nonzero().tolist() == [[2, 1, 1]]


class Runs:
    """What runs a command when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        (b"<html>", "no file of weights"),
        (b"PK\x03\x04 torn", "cannot be read"),
        (b"", "cannot be read"),
        ({}, "there is no cls_token"),
        ([torch.zeros(3)], "no weights by name"),
        (nn.Conv2d(3, 4, 3).state_dict(), "there is no cls_token"),
        (small_vit(patch=32).state_dict(), "patches of 32"),
        (small_vit(width=96).state_dict(), "96 wide"),
        ({name: value for name, value in small_vit().state_dict().items() if "norm1" not in name}, "no weights of a ViT"),
        ({name: value for name, value in small_vit().state_dict().items() if "mlp" not in name}, "no weights of a ViT"),
        (Runs, "may run anything"),
    ],
)
def test_a_wrong_file_is_a_line_before_anything_is_trained(content: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content(tmp_path / "ran") if content is Runs else content, path)
    with pytest.raises(InputError, match=told) as error:
        _check_dino(Request(trainer="LNMTrainerWeGA", dino_weights=path), "LNMTrainerABMIL")
    assert len(str(error.value).splitlines()) == 1
    assert str(path) in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_weights_are_only_for_the_head_that_has_a_branch_for_them(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _check_dino(Request(dino_weights=weights), "LNMTrainerWeGA")
    _check_dino(Request(), "LNMTrainerABMIL")
    with pytest.raises(InputError, match="LNMTrainerABMIL has no branch"):
        _check_dino(Request(dino_weights=weights), "LNMTrainerABMIL")
    load_vit.cache_clear()
    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    with pytest.raises(InputError, match="pip install timm"):
        load_vit(weights, file_hash(weights))
