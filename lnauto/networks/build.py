"""A network from what a plan says of it."""

from __future__ import annotations

from typing import Any

from torch import nn

from lnauto.networks.permitted import permitted


def build(architecture: dict[str, Any], channels: int, classes: int, **more: Any) -> nn.Module:
    """`architecture` as in nnU-Net's plans; `more` is what nnU-Net's builder takes, too."""
    from lnauto.compat.networks import get_network_from_plans

    architecture = permitted(architecture)
    network: nn.Module = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        channels,
        classes,
        **more,
    )
    return network
