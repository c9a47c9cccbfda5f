"""Logits of a whole image from tiles: their mean is a mean, whatever is skipped, mirrored, padded or finished on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnauto.compat.inference import compute_gaussian
from lnauto.inference import predictor as predictor_module
from lnauto.inference.export import above_background, foreground_probability
from lnauto.inference.predictor import Predictor
from lnauto.inference.sliding_window import SURELY, _Window, mirrorings, predict_logits, tile_slices
from lnauto.networks.compute import Compute

CPU = Compute(torch.device("cpu"), "fp32")


def test_tiles_cover_the_image_and_their_mean_is_a_mean() -> None:
    seen = np.zeros((20, 33, 16), int)
    for tile in tile_slices(seen.shape, (16, 16, 16), 0.5):
        seen[tile] += 1
    assert seen.min() >= 1

    class Position(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, -x], dim=1)

    image, told = torch.randn(1, 20, 33, 16), []
    logits = predict_logits([Position(), Position()], image, (16, 16, 16), CPU, on_tile=told.append)
    assert told == [8] * 8  # two along z, four along y
    assert torch.allclose(logits[0], image[0], atol=1e-5)
    assert torch.allclose(logits[1], -image[0], atol=1e-5)


@pytest.mark.parametrize("gap", [False, True], ids=["whole", "with a gap"])
def test_slices_that_are_finished_on_the_way_are_those_of_whole_sums(gap: bool) -> None:
    def network(tile: torch.Tensor) -> torch.Tensor:  # what it says depends on where in the tile a voxel lies
        ramp = torch.linspace(1, 2, tile.shape[2])[:, None, None]
        return torch.cat([tile * ramp, 1 - tile * ramp.flip(0)], dim=1)

    image, patch = torch.rand(1, 70, 17, 16) + 0.1, (16, 16, 16)
    if gap:
        image[:, 20:60] = 0
    weights = compute_gaussian(patch, sigma_scale=1.0 / 8, value_scaling_factor=10, dtype=torch.float32, device=CPU.device)
    sums, total = torch.zeros(2, 70, 17, 16), torch.zeros(70, 17, 16)
    for tile in tile_slices(image.shape[1:], patch, 0.5):
        if image[(slice(None), *tile)].any():
            sums[(slice(None), *tile)] += network(image[(slice(None), *tile)][None])[0] * weights
            total[tile] += weights
    background = torch.tensor([SURELY, 0.0])[:, None, None, None]
    expected = torch.where(total > 0, sums / total.clamp_min(1e-30), background)
    found = predict_logits([network], image, patch, CPU, is_empty=lambda tile: not tile.any())
    assert torch.allclose(found, expected, atol=1e-5)
    assert bool((total == 0).any()) == gap
    kept = predict_logits([network], image, patch, CPU, is_empty=lambda tile: not tile.any(), kept=lambda logits: logits[1:] * 2)
    assert torch.equal(kept, found[1:] * 2)


@pytest.mark.parametrize("has_regions", [False, True])
def test_what_no_tile_reached_is_surely_background(has_regions: bool) -> None:
    image = torch.zeros(1, 16, 16, 64)
    image[..., 32:] = -1000
    kept = (lambda logits: logits) if has_regions else above_background

    def network(tile: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.full(tile.shape[2:], 1.0), torch.full(tile.shape[2:], 2.0)])[None]

    found = predict_logits(
        [network], image, (16, 16, 16), CPU, is_empty=lambda tile: bool(tile.max() < 0), kept=kept, has_regions=has_regions
    )
    probability = torch.sigmoid(found).numpy() if has_regions else foreground_probability(found, (16, 16, 64))[None]
    assert probability[..., 48:].max() < 1e-6
    assert probability[..., :32].min() > 0.7


def test_half_precision_does_not_shrink_logits_at_the_edge_of_a_tile() -> None:
    patch = (32, 32, 32)
    weights = compute_gaussian(patch, sigma_scale=1.0 / 8, value_scaling_factor=10, dtype=torch.float16, device=CPU.device)
    assert 0 < weights.min() < torch.finfo(torch.float16).tiny
    window = _Window(torch.zeros(2, *patch).half(), patch, lambda logits: logits)
    window.add(torch.full((2, *patch), 3.0).half(), weights, (slice(0, 32),) * 3)
    assert torch.allclose(window.finished().float(), torch.tensor(3.0), atol=1e-2)


def test_mirrored_copies_are_mirrored_back() -> None:
    class Identity(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.linspace(1, 2, x.shape[-1])

    image = torch.ones(1, 8, 8, 8)
    plain = predict_logits([Identity()], image, (8, 8, 8), CPU)
    mirrored = predict_logits([Identity()], image, (8, 8, 8), CPU, mirrored=mirrorings("full", [0, 1, 2], 2))
    assert not torch.allclose(plain, plain.flip(3))
    assert torch.allclose(mirrored, mirrored.flip(3))
    assert mirrorings("full", [0, 1, 2], 2).__len__() == 8
    assert mirrorings("fast", [0, 1, 2], 2) == [(), (2,)]
    assert mirrorings("none", [0, 1, 2], 2) == [()]


def test_an_image_smaller_than_the_patch_is_predicted() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[2:] == (16, 16, 16)
            return x

    image = torch.randn(1, 5, 16, 9)
    assert torch.allclose(predict_logits([Sum()], image, (16, 16, 16), CPU), image, atol=1e-5)


def test_fast_mirrors_along_the_axis_from_side_to_side(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[Any, ...]] = []
    known = Predictor.from_folder(random_model, [0], "cpu", engine="torch", precision="fp32", tta="fast")
    sagittal = replace(known, orientation="PSL", mirror_axes=[0, 1, 2])
    monkeypatch.setattr(predictor_module, "mirrorings", lambda *given: met.append(given) or [()])
    sagittal.predict_grid(np.zeros((1, 16, 16, 16), np.float32))
    assert met == [("fast", [0, 1, 2], known.plans.transpose_forward.index(0))]
