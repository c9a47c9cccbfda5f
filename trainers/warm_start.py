"""A network starts from weights that were learned elsewhere: a pre-training's, or a foundation model's.

Nothing is skipped in silence: what is loaded, adapted or begins anew is told, and what does not fit is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lnauto.data.description import has_regions, outputs_of
from lnauto.errors import InputError
from lnauto.inference.foundation import Foundation
from lnauto.networks.mask_gate import MaskGate
from lnauto.networks.multi_decoder import MultiDecoder

if TYPE_CHECKING:
    from lnauto.trainers.lntrainer import LNTrainer

log = logging.getLogger(__name__)

HEADS = "seg_layers"  # nnU-Net's name for what turns features into classes
DECODER = "decoder."


def first_weights(trainer: LNTrainer) -> str | None:
    """Give a trainer's network the weights it is to start from, if any; returns what they were made of."""
    options, plans = trainer.options, trainer.plans_manager.plans
    made_of = None
    if options.pretrained is not None:
        made_of = warm_start(trainer.network, options.pretrained)
    if options.foundation is not None:
        planned, foundation = plans["lnauto"]["foundation"], Foundation.load(options.foundation)
        check_planned(foundation, planned["sha256"])
        made_of = start_from_foundation(trainer.network, foundation, planned["labels"], trainer.dataset_json["labels"])
    return made_of


def warm_start(network: nn.Module, checkpoint: Path) -> str:
    """Load what a pre-training holds of this network, every decoder but no head, say so, and return what it was made of."""
    from lnauto.inference.model import load_checkpoint

    content = load_checkpoint(checkpoint)
    weights = content["network_weights"]
    remedy = "remove that folder, and pre-train again"
    plain, further = _parts(network)
    loaded, kept = _load(plain, weights, checkpoint, remedy)
    for another in further:
        _load(another, _of_decoder(weights), checkpoint, remedy)
    log.info(
        "Starts from %s: %d iterations of pre-training, %d tensors%s; the %d of the heads are new.",
        checkpoint.parent.parent.name,
        content["lnauto"]["iteration"],
        loaded,
        " and further decoders" if further else "",
        kept,
    )
    return str(content["lnauto"]["more"]["made_of"])


def check_planned(foundation: Foundation, sha256: str) -> None:
    """Another model of that name may have been imported since, during an earlier fold even."""
    if foundation.description["sha256"] != sha256:
        what = f"the foundation model {foundation.name} is another one than that of the plan"
        raise InputError.of(what, foundation.folder, f"plan again under {foundation.name}")


def start_from_foundation(
    network: nn.Module, foundation: Foundation, mapping: Mapping[str, str | None], labels: Mapping[str, Any]
) -> str:
    """Load a foundation model; of the heads what the label mapping says. Returns the hash of what was loaded."""
    weights = foundation.weights()
    theirs, ours = outputs_of(foundation.dataset_json["labels"]), outputs_of(labels)
    # Regions answer each for itself, classes together: their outputs mean different things.
    alike = has_regions(foundation.dataset_json["labels"]) == has_regions(labels)
    rows = [theirs.index(other) if alike and (other := mapping.get(name)) in theirs else None for name in ours]
    remedy = f"plan again under {foundation.name}, or import the model again"
    plain, further = _parts(network)
    loaded, heads = _load(plain, weights, foundation.folder, remedy, rows)
    for another in further:
        _load(another, _of_decoder(weights), foundation.folder, remedy, rows)
    anew = [name for name, row in zip(ours, rows, strict=True) if row is None]
    unused = [name for number, name in enumerate(theirs) if number not in rows]
    log.info(
        "Starts from the foundation model %s: %d tensors loaded%s; of the %d of the heads: %s%s%s.",
        foundation.name,
        loaded,
        " into each decoder" if further else "",
        heads,
        "all loaded" if not anew and not unused else f"{len(ours) - len(anew)} of {len(ours)} outputs loaded",
        f"; new: {', '.join(anew)}" if anew else "",
        f"; not used: {', '.join(unused)}" if unused else "",
    )
    return str(foundation.description["sha256"])


def _parts(network: nn.Module) -> tuple[nn.Module, Sequence[nn.Module]]:
    """The plan's own network, and the decoders a method added."""
    if isinstance(network, MultiDecoder):
        return network.network, list(network.auxiliary)
    return (network.network if isinstance(network, MaskGate) else network), ()


def _of_decoder(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(DECODER): value for name, value in weights.items() if name.startswith(DECODER)}


def _load(
    module: nn.Module, weights: Mapping[str, Tensor], where: Path, remedy: str, rows: Sequence[int | None] = ()
) -> tuple[int, int]:
    """How many tensors were loaded, and how many are a head's, of which `rows` says which output is loaded from which.

    With any tensor that does not fit, none is loaded.
    """
    own = module.state_dict()
    heads = [name for name in own if HEADS in name.split(".")]
    wanted = [name for name in own if name not in heads]
    unfit = [name for name in wanted if name not in weights or weights[name].shape != own[name].shape]
    if any(row is not None for row in rows):
        unfit += [name for name in heads if name not in weights or weights[name].shape[1:] != own[name].shape[1:]]
    if unfit:
        raise InputError.of(
            f"the pre-trained weights belong to another network than the plan has now ({unfit[0]} does not fit)", where, remedy
        )
    taken = {name: weights[name] for name in wanted}
    for name in heads:
        head = own[name].clone()
        for output, row in enumerate(rows):
            if row is not None:
                head[output] = weights[name][row].to(head)
        taken[name] = head
    module.load_state_dict(taken)
    # Both are counted by parameter: nnU-Net's decoder names its encoder's tensors a second time.
    count = sum(HEADS in name.split(".") for name, _ in module.named_parameters())
    return len(list(module.parameters())) - count, count
