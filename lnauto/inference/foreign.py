"""Checkpoints that others wrote: read as data, and their weights found under whatever they are called.

A checkpoint is a pickle, and a pickle may call any function when it is loaded. PyTorch's reader for weights alone
(`weights_only=True`) calls only what is on its list. Stock nnU-Net's checkpoints hold NumPy numbers besides (the losses it
logged), so that NumPy's numbers are allowed here, too: `NUMBERS`.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packaging.version import Version
from torch import Tensor, nn

from lnauto.errors import InputError

log = logging.getLogger(__name__)

SAFE_SINCE = Version("2.10")  # of PyTorch: before, a made-up file could corrupt memory even so (CVE-2026-24747)
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # in PyTorch's message

_number = np.float64(0).__reduce__()[0]  # what makes a NumPy number of a type and bytes
NUMBERS: list[Any] = [
    (_number, "numpy._core.multiarray.scalar"),
    (_number, "numpy.core.multiarray.scalar"),  # as NumPy 1 calls it
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
]

# Where weights lie in a checkpoint, nnU-Net's place first; then averaged ones, which their makers predict with.
PLACES = ("network_weights", "ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model", "network", "net")
# What wrappers put before a tensor's name, averaging first.
PREFIXES = ("ema_model.", "model_ema.", "ema.", "module.", "_orig_mod.", "network.", "model.", "net.")
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel


def read_foreign(path: Path, trust: bool) -> tuple[Mapping[str, Any], bool]:
    """What a checkpoint holds, and whether it had to be unpickled, which is done only if it is trusted."""
    if Version(torch.__version__).release < SAFE_SINCE.release:
        log.warning(
            "PyTorch %s can be harmed by a made-up checkpoint; for one of a stranger's, update to %s first.",
            torch.__version__,
            SAFE_SINCE,
        )
    try:
        with torch.serialization.safe_globals(NUMBERS):
            return _mapping(torch.load(path, map_location="cpu", weights_only=True), path), False
    except pickle.UnpicklingError as error:
        if not trust:
            raise _needs_trust(path, str(error)) from error
    except InputError:
        raise
    except Exception as error:  # whatever a torn or made-up file leads to
        raise _unreadable(path, error) from error
    try:
        return _mapping(torch.load(path, map_location="cpu", weights_only=False), path), True
    except InputError:
        raise
    except Exception as error:  # whatever was pickled runs here
        raise _unreadable(path, error) from error


def _mapping(content: Any, path: Path) -> Mapping[str, Any]:
    if isinstance(content, nn.Module):
        return {"state_dict": content.state_dict()}
    if not isinstance(content, Mapping):
        raise InputError.of(f"this holds no weights, but a {type(content).__name__}", path, "give a checkpoint")
    return content


def _needs_trust(path: Path, message: str) -> InputError:
    named = GLOBAL.search(message)
    if named is None:
        reason = message.partition("WeightsUnpickler error:")[2].strip().splitlines()
        what = f"this is no checkpoint that could be read as data ({reason[0] if reason else 'it is pickled in another way'})"
        remedy = "copy it again if it may be cut off; if you trust whoever made it as you trust a program, add --trust-checkpoint"
        return InputError.of(what, path, remedy)
    what = f"to load this file is to run {named[1]}, which no weights need and which can do anything; it was not run"
    return InputError.of(what, path, "if you trust whoever made it as you trust a program, add --trust-checkpoint")


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).strip().splitlines() or ["no reason given"]
    what = f"the checkpoint cannot be read ({type(error).__name__}: {reason[0][:120]})"
    return InputError.of(what, path, "it may be cut off: copy it again")


def find_weights(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in a checkpoint, and where they lay, in words, if that is not nnU-Net's place."""
    there = {place: found for place in PLACES if (found := _weights_at(content, place)) is not None}
    if there:
        place, *others = there
        told = [f"the weights lay under {place!r}"] if place != PLACES[0] else []
        told += [f"those under {', '.join(others)} were left out"] if others else []
        return _tensors(there[place], path), told
    if any(isinstance(value, Tensor) for value in content.values()):
        return _tensors(content, path), ["the file is nothing but weights"]
    raise InputError.of(
        f"this checkpoint holds no weights (it holds {', '.join(map(str, content)) or 'nothing'})",
        path,
        f"give one that has {PLACES[0]}, as nnU-Net's have, or is a state dict",
    )


def _weights_at(content: Mapping[str, Any], place: str) -> Mapping[str, Any] | None:
    found = content.get(place)
    found = found.state_dict() if isinstance(found, nn.Module) else found
    return found if isinstance(found, Mapping) and any(isinstance(value, Tensor) for value in found.values()) else None


def _tensors(found: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    strange = [name for name, value in found.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if strange:
        raise InputError.of(f"among the weights {strange[0]} is no tensor", path, "give a checkpoint with plain weights")
    return dict(found)


def unwrap(weights: dict[str, Tensor], network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The weights under the network's own names, and what was done to get there, in words."""
    expected = network.state_dict().keys()
    told = []
    while expected.isdisjoint(weights):
        prefix = next((one for one in PREFIXES if any(name.startswith(one) for name in weights)), None)
        if prefix is None:
            break
        taken = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        others = [name for name in weights if not name.startswith(prefix)]
        told.append(f"{prefix!r} was taken off the tensors' names")
        for name in others:
            if name != COUNTER and not name.startswith(PREFIXES):
                taken[name] = weights[name]  # not of a further copy: to be told as unexpected
        if left := sum(name.startswith(PREFIXES) for name in others):
            told.append(f"{left} tensors of a further copy of the network were left out")
        weights = taken
    return weights, told


def load_strictly(network: nn.Module, weights: dict[str, Tensor], path: Path, trainer: str) -> None:
    """Give the network these weights, all of them and no others."""
    own = network.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [
        f"{name} is {_shape(weights[name])} and not {_shape(own[name])}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    faults += [f"{name} is not of this network" for name in weights if name not in own]
    if faults:
        more = f", and {len(faults) - 1} more tensors do not fit" if len(faults) > 1 else ""
        raise InputError.of(
            f"the weights are not of the network that the plans describe: {faults[0]}{more}",
            path,
            f"give the plans it was trained with (--plans); a trainer that builds another network ({trainer}?) is not supported",
        )
    if broken := [name for name, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]:
        raise InputError.of(f"the weights hold NaN or infinity (first in {broken[0]})", path, "give another checkpoint")
    network.load_state_dict(weights)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
