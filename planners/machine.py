"""The machine the plan has to fit."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from lnauto.cores import usable_cores


@dataclass(frozen=True)
class Machine:
    """What a plan needs to know of the hardware."""

    device: str  # "cuda", "mps" or "cpu"
    name: str
    memory_gb: float  # of the GPU where there is one, else of the machine
    cores: int


def this_machine(device: str | None = None) -> Machine:
    """The machine this runs on, with `device` or the best device it has."""
    from lnauto.networks.compute import find_device  # imports torch, which costs seconds

    kind = find_device(device).type
    cores = usable_cores()
    if kind == "cuda":
        import torch

        card = torch.cuda.get_device_properties(0)
        return Machine(kind, card.name, card.total_memory / 2**30, cores)
    return Machine(kind, f"{cores} cores", psutil.virtual_memory().total / 2**30, cores)
