"""How long one training step of a network takes on this machine: timed once, then remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from lnauto.networks import machine_cache
from lnauto.networks.build import build
from lnauto.networks.compute import choose_compute, find_device
from lnauto.networks.memory import keep_freed_memory

CACHE = "steps"
WARM_UP, STEPS = 1, 2
LONG_ENOUGH_SECONDS = 6.0  # a step that takes a third of this is not timed again: what disturbs it is small beside it


def seconds_per_step(
    architecture: dict[str, Any], patch: list[int], batch: int, channels: int, classes: int, device: str | None = None
) -> float:
    """Seconds of forward pass, backward pass and update of the network a plan describes; the best of a few."""
    chosen = find_device(device)
    card = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else ""  # a machine may have several kinds, a cluster has
    key = machine_cache.key_of(architecture, patch, batch, channels, classes, chosen.type, *([card] if card else []))
    known = machine_cache.read(CACHE)
    if key not in known:
        with torch.random.fork_rng(devices=[]):  # the measurement must not move anybody's random numbers
            torch.manual_seed(0)
            known[key] = _time(architecture, patch, batch, channels, classes, chosen)
        machine_cache.write(CACHE, known)
    return float(known[key])


def _time(architecture: dict[str, Any], patch: list[int], batch: int, channels: int, classes: int, device: torch.device) -> float:
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
