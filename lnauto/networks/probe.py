"""How long one training step of a network takes on this machine: timed once, then remembered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lnauto.allowance import usable_cores
from lnauto.networks import machine_cache

if TYPE_CHECKING:
    import torch

CACHE = "steps"
WARM_UP, STEPS = 1, 2
LONG_ENOUGH_SECONDS = 6.0  # a step that takes a third of this is not timed again: what disturbs it is small beside it


def seconds_per_step(
    architecture: dict[str, Any], patch: list[int], batch: int, channels: int, classes: int, device: str, name: str
) -> float:
    """Seconds of forward pass, backward pass and update of the network a plan describes; the best of a few.

    `name` is the device's: a machine may have several kinds of card, and a cluster has. What is known already is told without
    importing PyTorch.
    """
    threads = usable_cores(), *(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    key = machine_cache.key_of(architecture, patch, batch, channels, classes, device, name, threads)
    known = machine_cache.read(CACHE)
    if key not in known:
        known[key] = _time(architecture, patch, batch, channels, classes, device)
        machine_cache.write(CACHE, known)
    return float(known[key])


def _time(architecture: dict[str, Any], patch: list[int], batch: int, channels: int, classes: int, kind: str) -> float:
    import torch

    with torch.random.fork_rng(devices=[]):  # the measurement must not move anybody's random numbers
        torch.manual_seed(0)
        return _time_on(architecture, patch, batch, channels, classes, torch.device(kind))


def _time_on(
    architecture: dict[str, Any], patch: list[int], batch: int, channels: int, classes: int, device: torch.device
) -> float:
    import torch

    from lnauto.networks.build import build
    from lnauto.networks.compute import choose_compute
    from lnauto.networks.memory import keep_freed_memory

    if device.type == "cpu":
        keep_freed_memory()  # as in training
    network = build(architecture, channels, classes, deep_supervision=True)
    compute = choose_compute(network, channels, patch, device)
    network = compute.prepare(network).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    image = compute.place(torch.randn(batch, channels, *patch))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with compute.autocast():
            outputs = network(image)
        sum(output.float().square().mean() for output in outputs).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    if device.type != "cpu":
        return _best(step, time.perf_counter)
    # Where other work runs, threads wait for each other, and the clock times the waiting. What one thread computes for, it
    # does not: a step on all cores cannot take longer than that.
    threads = torch.get_num_threads()
    together = _best(step, time.perf_counter)
    torch.set_num_threads(1)
    alone = _best(step, time.thread_time)
    torch.set_num_threads(threads)
    return min(together, alone)


def _best(step: Callable[[], None], clock: Callable[[], float]) -> float:
    seconds: list[float] = []
    while len(seconds) < WARM_UP + STEPS and sum(seconds) < LONG_ENOUGH_SECONDS:
        start = clock()
        step()
        seconds.append(clock() - start)
    return min(seconds)
