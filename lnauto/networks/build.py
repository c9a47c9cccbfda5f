"""A network from what a plan says of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from lnauto.networks.permitted import permitted

# as PyTorch names them to a mode: of some initialisers the whole, of others the filling within
DRAWING = {Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_normal_, init.kaiming_uniform_}


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


class Undrawn(TorchFunctionMode):
    """Within it, weights of new networks stay what their memory held: whoever loads all of them next need not wait for random
    ones, nine tenths of the time that building takes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in DRAWING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
