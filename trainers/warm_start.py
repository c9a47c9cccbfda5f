"""A network starts from weights that were learned elsewhere: everything but its heads, and every decoder it has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.networks.multi_decoder import MultiDecoder

log = logging.getLogger(__name__)

HEADS = "seg_layers"  # nnU-Net's name for what turns features into classes
DECODER = "decoder."


def warm_start(network: nn.Module, checkpoint: Path) -> str:
    """Load what a pre-training holds of this network, say so, and return what it was made of."""
    from lnauto.inference.model import load_checkpoint

    content = load_checkpoint(checkpoint)
    weights = content["network_weights"]
    plain, further = (network.network, network.auxiliary) if isinstance(network, MultiDecoder) else (network, ())
    loaded, kept = _load(plain, weights, checkpoint)
    decoder = {name.removeprefix(DECODER): value for name, value in weights.items() if name.startswith(DECODER)}
    for another in further:
        _load(another, decoder, checkpoint)
    log.info(
        "Starts from %s: %d iterations of pre-training, %d tensors%s; the %d of the heads are new.",
        checkpoint.parent.parent.name,
        content["lnauto"]["iteration"],
        loaded,
        " and further decoders" if further else "",
        kept,
    )
    return str(content["lnauto"]["more"]["made_of"])


def _load(module: nn.Module, weights: Mapping[str, Tensor], where: Path) -> tuple[int, int]:
    """How many tensors were loaded, and how many kept because they are a head's; with any that does not fit, none."""
    own = module.state_dict()
    wanted = [name for name in own if HEADS not in name.split(".")]
    unfit = [name for name in wanted if name not in weights or weights[name].shape != own[name].shape]
    if unfit:
        raise InputError.of(
            f"the pre-trained weights belong to another network than the plan has now ({unfit[0]} does not fit)",
            where,
            "remove that folder, and pre-train again",
        )
    module.load_state_dict({**own, **{name: weights[name] for name in wanted}})
    # Both are counted by parameter: nnU-Net's decoder names its encoder's tensors a second time.
    heads = sum(HEADS in name.split(".") for name, _ in module.named_parameters())
    return len(list(module.parameters())) - heads, heads
