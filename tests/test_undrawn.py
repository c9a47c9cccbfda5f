"""Networks whose weights are loaded next are built without drawing random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foundations import make_foundation
from stock_models import architecture

from lnauto.inference.model import load_model
from lnauto.networks.build import Undrawn, build


def test_the_weights_of_a_model_are_all_loaded_and_none_is_drawn(random_model: Path) -> None:
    before = torch.get_rng_state()
    network = load_model(random_model).load_network(0)
    assert torch.equal(torch.get_rng_state(), before)
    stored = torch.load(random_model / "fold_0/checkpoint_final.pth", weights_only=True)["network_weights"]
    loaded = network.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], value) for name, value in stored.items())


def test_so_are_those_of_a_foundation_model(tmp_path: Path, balls_plans: dict[str, Any]) -> None:
    foundation = make_foundation(tmp_path, balls_plans, {"background": 0, "LN": 1})
    before = torch.get_rng_state()
    network = foundation.network()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in foundation.weights().items())


@pytest.mark.parametrize("residual", [True, False])
def test_what_is_built_to_be_trained_is_drawn(residual: bool) -> None:
    with Undrawn():
        left = build(architecture(residual), 1, 2, deep_supervision=False, allow_init=True).state_dict()
    torch.manual_seed(0)
    drawn, again = (build(architecture(residual), 1, 2, deep_supervision=False, allow_init=True).state_dict() for _ in range(2))
    assert {name: value.shape for name, value in left.items()} == {name: value.shape for name, value in drawn.items()}
    kernels = [name for name in drawn if drawn[name].ndim == 5]
    assert all(0.05 < drawn[name].std() < 1 and not torch.equal(drawn[name], again[name]) for name in kernels)


def test_a_transformer_computes_the_same_with_the_same_weights() -> None:
    """Its rotations of positions are no weights, and must not be left out."""
    from dynamic_network_architectures.architectures.primus import Primus

    sizes: dict[str, Any] = {"embed_dim": 96, "patch_embed_size": (8, 8, 8), "eva_depth": 2, "eva_numheads": 4}
    drawn = Primus(1, num_classes=2, input_shape=(32, 32, 32), **sizes).eval()
    with Undrawn():
        left = Primus(1, num_classes=2, input_shape=(32, 32, 32), **sizes).eval()
    left.load_state_dict(drawn.state_dict())
    tile = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(drawn(tile), left(tile))
