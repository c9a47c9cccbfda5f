"""In which arithmetic a network trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lnauto.networks.compute import choose_compute


def two_stages() -> nn.Module:
    halves = nn.Conv3d(1, 4, 3, stride=2, padding=1)
    return nn.Sequential(halves, nn.Conv3d(4, 4, 3, padding=1))


@pytest.mark.parametrize(("slices", "expected"), [(2, "bf16"), (4, "fp32"), (6, "bf16"), (8, "bf16")])
def test_bf16_is_refused_where_its_gradients_are_wrong(slices: int, expected: str) -> None:
    """Four slices are two after the first convolution."""
    chosen = choose_compute(two_stages(), 1, [slices, 8, 8], torch.device("cpu"), "bf16")
    assert chosen.precision == expected
