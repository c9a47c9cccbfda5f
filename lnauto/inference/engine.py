"""What runs the networks of a model: PyTorch, or on a CPU OpenVINO where that pays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.inference import openvino_engine
from lnauto.inference.eight_bits import EightBitNetwork
from lnauto.inference.model import Model
from lnauto.networks.compute import Compute, choose_compute, probe_shape

log = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino")
# What leaves no choice but OpenVINO: the flag, and what to do where it cannot be had.
DEMANDS = {
    "openvino": ("--engine", "leave the flag out, or give torch"),
    "int8": ("--precision int8", "leave the flag out, or predict on a CPU with OpenVINO (--device cpu)"),
}
PAYS_FROM_SECONDS = 30.0  # that PyTorch would take: a conversion and its check take about five [our choice]

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Engine:
    """Networks ready to run, and how tiles are to be placed for them."""

    name: str
    networks: Sequence[Network]
    compute: Compute
    precision: str


def choose_engine(
    model: Model, patch: Sequence[int], device: torch.device, asked: str, precision: str, voxels: float | None
) -> Engine:
    """What was asked for, or the faster of what agrees.

    Args:
        voxels: that the networks will see, all tiles, mirrorings and folds together; None: not known, so that nothing is
            converted for their sake.
    """
    shape = (1, model.channels, *(int(side) for side in patch))
    if precision == "int8":
        return _in_eight_bits(model, shape, device, asked, voxels)
    converts = asked != "torch" and _can_convert(device, shape, asked)
    if converts and (paths := converted_paths(model)) and all(map(openvino_engine.is_whole, paths)):
        found = [openvino_engine.checked(path, model.facts, shape, precision, faster=asked == "auto") for path in paths]
        if None not in found:
            return _by_openvino(paths, shape, device, list(map(str, found)))  # PyTorch's networks are not even read
    networks = [model.load_network(place) for place in range(len(model.folds))]
    compute = _laid_out(choose_compute(networks[0], model.channels, list(shape[2:]), device, precision), shape)
    converted = _converted(model, shape, asked, voxels, networks.__getitem__) if converts else []
    networks = [compute.prepare(network) for network in networks]
    if converted:
        found = [
            openvino_engine.check(network, compute, shape, path, model.facts, precision, faster=asked == "auto")
            for network, path in zip(networks, converted, strict=True)
        ]
        if None not in found:
            networks.clear()  # their memory is needed for what takes their place
            return _by_openvino(converted, shape, device, list(map(str, found)))
        if asked == "openvino":
            raise _refused("what it computes is too far from what PyTorch does", asked)
    return Engine("torch", networks, compute, compute.precision)


def _by_openvino(paths: Sequence[Path], shape: Sequence[int], device: torch.device, precisions: Sequence[str]) -> Engine:
    """Each fold's network in the precision that was found for it."""
    found = zip(paths, precisions, strict=True)
    networks = [openvino_engine.compile_network(path, shape, precision) for path, precision in found]
    return Engine("openvino", networks, Compute(device, "fp32"), ", ".join(dict.fromkeys(precisions)))


def _in_eight_bits(model: Model, shape: Sequence[int], device: torch.device, asked: str, voxels: float | None) -> Engine:
    """Only when asked for: the masks are not quite those of fp32 (documentation/benchmarks.md, "Eight bits")."""
    if asked == "torch":
        raise InputError.of("PyTorch does not compute in eight bits", "--precision int8", "leave --engine out, or the precision")
    _can_convert(device, shape, "int8")
    paths = _converted(model, shape, "int8", voxels, model.load_network)
    return Engine("openvino", [EightBitNetwork(path, shape) for path in paths], Compute(device, "fp32"), "int8")


def _laid_out(compute: Compute, shape: Sequence[int]) -> Compute:
    """On a card half precision wants channels last, with norms that keep it so: 1.9 times as fast there as stock's layout, and
    as close to fp32 (documentation/benchmarks.md). On a CPU a check decides."""
    on_card = compute.device.type == "cuda" and compute.precision != "fp32" and len(shape) == 5
    return replace(compute, channels_last=True) if on_card else compute


def _can_convert(device: torch.device, shape: Sequence[int], asked: str) -> bool:
    reasons = {
        "it is not installed": openvino_engine.available(),
        f"it is used on a CPU, not on {device.type}": device.type == "cpu",
        "it is used for networks of three dimensions": len(shape) == 5,
    }
    reason = next((reason for reason, fine in reasons.items() if not fine), None)
    if reason is not None and asked in DEMANDS:
        raise _refused(reason, asked)
    return reason is None


def converted_paths(model: Model) -> list[Path]:
    return list(map(openvino_engine.converted_path, model.checkpoints, model.digests))


def _converted(
    model: Model, shape: Sequence[int], asked: str, voxels: float | None, load: Callable[[int], nn.Module]
) -> list[Path]:
    """The converted networks, made now if need be and if it pays; none where there are none."""
    paths = converted_paths(model)
    missing = [place for place, path in enumerate(paths) if not openvino_engine.is_whole(path)]
    if missing and asked == "auto" and not _pays(load(0), shape, voxels):
        return []
    return paths if all(_convert(load(place), model, place, paths[place], asked) for place in missing) else []


def _convert(network: nn.Module, model: Model, place: int, path: Path, asked: str) -> bool:
    """Convert one network; whether that went well."""
    start = time.monotonic()
    try:
        openvino_engine.keep_converted(network, model.channels, path)
    except (OSError, RuntimeError) as error:  # a folder that cannot be written to; an operation that it does not know
        if asked in DEMANDS:
            raise _refused(f"the network could not be converted ({str(error).strip().splitlines()[-1]})", asked) from error
        log.info("OpenVINO is not used: the network could not be converted (%s).", str(error).strip().splitlines()[-1])
        return False
    log.info("Converted fold %s for OpenVINO in %.0f s, to %s.", model.folds[place], time.monotonic() - start, path.parent)
    return True


def _pays(network: nn.Module, shape: Sequence[int], voxels: float | None) -> bool:
    """Whether PyTorch would take so long that a conversion is worth it."""
    if voxels is None:
        return False
    probe = (*shape[:2], *probe_shape(network, list(shape[2:])))
    image = torch.zeros(probe)
    start = time.perf_counter()
    with torch.inference_mode():
        network(image)
    return (time.perf_counter() - start) / torch.Size(probe[2:]).numel() * voxels > PAYS_FROM_SECONDS


def _refused(reason: str, asked: str) -> InputError:
    return InputError.of(f"OpenVINO cannot be used: {reason}", *DEMANDS[asked])
