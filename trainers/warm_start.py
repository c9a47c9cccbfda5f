"""A network starts from weights that were learned elsewhere: everything but its heads."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lnauto.errors import InputError

log = logging.getLogger(__name__)

HEADS = ".seg_layers."  # nnU-Net's name for what turns features into classes


def warm_start(network: nn.Module, weights: Mapping[str, Tensor], where: Path) -> int:
    """Load every tensor but those of the heads, and return their number; what does not fit is told and nothing is loaded."""
    own = network.state_dict()
    wanted = [name for name in own if HEADS not in name]
    unfit = [name for name in wanted if name not in weights or weights[name].shape != own[name].shape]
    if unfit:
        raise InputError.of(
            f"the weights belong to another network than the plan has now ({unfit[0]} and {len(unfit) - 1} more do not fit)",
            where,
            "remove that folder, so that they are made anew",
        )
    network.load_state_dict({**own, **{name: weights[name] for name in wanted}})
    return len({own[name].data_ptr() for name in wanted})  # nnU-Net's decoder names its encoder's tensors a second time
