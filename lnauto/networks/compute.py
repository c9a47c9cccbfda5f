"""How a network is computed on this machine: precision and memory layout, chosen by a one-off check on a CPU."""

from __future__ import annotations

import copy
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from lnauto.errors import InputError
from lnauto.networks import machine_cache
from lnauto.networks.channels_last import use_channels_last

log = logging.getLogger(__name__)

CACHE = "compute"
WORTH_IT = {"bf16": 1.2, "fp32": 1.05}  # times faster than fp32 as stock has it: fewer bits have to pay more than another layout
LARGEST_DISAGREEMENT = 0.05  # relative distance of the logits; bf16's eight bits give 0.5 to 2 % on U-Nets
HOPELESS = 4.0  # times slower than fp32: not worth a step of the whole network
SMALL_IMAGE, SMALL_KERNEL = (1, 16, 16, 16, 16), (16, 16, 3, 3, 3)
PROBE_VOXELS = 32**3
REPEATS = 5


@dataclass(frozen=True)
class Compute:
    """Device, precision and layout of one network's arithmetic."""

    device: torch.device
    precision: str  # "fp32", "bf16" (autocast) or "amp" (nnU-Net's own autocast on a GPU: fp16)
    channels_last: bool = False

    @property
    def told(self) -> str:
        return f"{self.precision}, channels-last" if self.channels_last else self.precision

    def prepare(self, network: nn.Module) -> nn.Module:
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # as stock's commands do: every tile and patch has the same size
        network = network.to(self.device)
        return use_channels_last(network) if self.channels_last else network

    def autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16 if self.precision == "bf16" else None)

    def place(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.device, non_blocking=True)
        return tensor.contiguous(memory_format=torch.channels_last_3d) if self.channels_last else tensor


def find_device(name: str | None) -> torch.device:
    """The device asked for, or the best there is."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name, False):
        raise InputError.of(
            f"there is no device {name} on this machine",
            "--device",
            f"use one of {', '.join(k for k, there in available.items() if there)}",
        )
    return torch.device(name)


def choose_compute(network: nn.Module, channels: int, patch: list[int], device: torch.device, precision: str = "auto") -> Compute:
    """What was asked for, or what a check on this machine shows to be fastest and in agreement."""
    if device.type == "cuda":
        return Compute(device, "amp" if precision == "auto" else precision)
    stock = Compute(device, "fp32")
    if device.type != "cpu" or precision == "fp32" or len(patch) != 3:
        return stock
    bf16 = Compute(device, "bf16", channels_last=True)
    if precision == "bf16":
        return bf16 if _may_use_bf16(network, channels, patch) else stock
    key = _fingerprint_of(network, channels, patch)
    known = machine_cache.read(CACHE)
    if not isinstance(known.get(key), dict):
        tried = not _is_slow_in_bf16() and _may_use_bf16(network, channels, patch)
        faster = [Compute(device, "fp32", channels_last=True), *([bf16] if tried else [])]
        chosen = _fastest(network, channels, patch, stock, faster)
        known[key] = {"precision": chosen.precision, "channels_last": chosen.channels_last}
        machine_cache.write(CACHE, known)
    return Compute(device, **known[key])


@cache
def _is_slow_in_bf16() -> bool:
    """Whether one small convolution says so already. Processors without instructions for bf16 (AVX2 alone) take 30 times as long,
    and a network's five steps would take minutes."""
    return _seconds_of_a_convolution(torch.bfloat16) > HOPELESS * _seconds_of_a_convolution(torch.float32)


def _seconds_of_a_convolution(kind: torch.dtype) -> float:
    image, kernel = torch.ones(SMALL_IMAGE, dtype=kind), torch.ones(SMALL_KERNEL, dtype=kind)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(REPEATS):
            start = time.perf_counter()
            functional.conv3d(image, kernel, padding=1)
            best = min(best, time.perf_counter() - start)
    return best


def _may_use_bf16(network: nn.Module, channels: int, patch: list[int]) -> bool:
    wrong = _meets_two_slices(network, channels, patch)
    if wrong:
        log.info("fp32 is used: a feature map of this network has two slices, of which PyTorch's bf16 gradients are wrong.")
    return not wrong


def _meets_two_slices(network: nn.Module, channels: int, patch: list[int]) -> bool:
    """Whether a convolution of stride 1 and three slices works on exactly two: oneDNN's bf16 gradient of its weights is then far
    off or infinite (seen with torch 2.15; with one slice, three or more it is right)."""
    met = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Conv3d) and module.kernel_size[0] == 3 and module.stride[0] == 1:
            met.append(inputs[0].shape[2] == 2)

    shapes = copy.deepcopy(network).to("meta")
    for module in shapes.modules():
        module.register_forward_pre_hook(look)
    shapes(torch.empty((1, channels, *patch), device="meta"))
    return any(met)


def _fastest(network: nn.Module, channels: int, patch: list[int], stock: Compute, faster: list[Compute]) -> Compute:
    """The one of `faster` that takes the least time, if it agrees with `stock` and is worth it; else `stock`."""
    shape = probe_shape(network, patch)
    with torch.random.fork_rng(devices=[]):  # the check must not move the training's own random numbers
        torch.manual_seed(0)
        image = torch.randn(2, channels, *shape)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads wait for each other, and on a busy machine that is all the check would time
    stock_seconds, expected = _time_step(copy.deepcopy(network), image, stock)
    best, best_seconds, told = stock, stock_seconds, []
    for compute in faster:
        seconds, got = _time_step(copy.deepcopy(network), image, compute)
        disagreement = float((got - expected).norm() / expected.norm().clamp_min(1e-12))
        told.append(
            f"{compute.told} takes {seconds / stock_seconds:.2f} of the time, logits differ by {100 * disagreement:.1f} %"
        )
        pays = seconds < min(best_seconds, stock_seconds / WORTH_IT[compute.precision])
        if pays and disagreement < LARGEST_DISAGREEMENT:
            best, best_seconds = compute, seconds
    torch.set_num_threads(threads)
    log.info("Checked this CPU once, against fp32 as stock computes it: %s; %s is used.", "; ".join(told), best.told)
    return best


def probe_shape(network: nn.Module, patch: list[int]) -> list[int]:
    """The patch, halved along its longest axis while it is larger than the check needs and the network can still pool it."""
    shape = list(patch)
    strides = [list(module.stride) for module in network.modules() if isinstance(module, nn.Conv3d)]
    deepest = [max(2 ** sum(s[axis] > 1 for s in strides), 1) for axis in range(3)]
    while torch.Size(shape).numel() > PROBE_VOXELS:
        axis = max(
            range(3), key=lambda a: shape[a] if shape[a] % (2 * deepest[a]) == 0 and shape[a] // 2 >= 2 * deepest[a] else 0
        )
        if shape[axis] % (2 * deepest[axis]) or shape[axis] // 2 < 2 * deepest[axis]:
            break
        shape[axis] //= 2
    return shape


def _time_step(network: nn.Module, image: Tensor, compute: Compute) -> tuple[float, Tensor]:
    """Seconds of the best of several forward and backward passes, and the logits."""
    network = compute.prepare(network).train()
    image = compute.place(image)
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        with compute.autocast():
            output = network(image)
            logits = output[0] if isinstance(output, list | tuple) else output
        logits.float().square().mean().backward()
        best = min(best, time.perf_counter() - start)
    return best, logits.detach().float()


def _fingerprint_of(network: nn.Module, channels: int, patch: list[int]) -> str:
    shapes = [(name, list(value.shape)) for name, value in network.state_dict().items()]
    return machine_cache.key_of(shapes, channels, [int(side) for side in patch], torch.get_num_threads())
