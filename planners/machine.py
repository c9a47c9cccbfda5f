"""The machine the plan has to fit."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from lnauto.allowance import usable_cores

ROOT = Path("/")
# What Linux shows of NVIDIA's cards (on a Jetson the last two), of AMD's, and of any in WSL. NVIDIA's files in /dev may not be
# there before the first use, so its driver is looked for, too.
CARDS = ("dev/nvidia*", "proc/driver/nvidia", "sys/module/nvidia*", "dev/kfd", "dev/dxg", "dev/nvhost*", "dev/nvmap")


@dataclass(frozen=True)
class Machine:
    """What a plan needs to know of the hardware."""

    device: str  # "cuda", "mps" or "cpu"
    name: str
    memory_gb: float  # of the GPU where there is one, else of the machine
    cores: int


def this_machine(device: str | None = None) -> Machine:
    """The machine this runs on, with `device` or the best device it has."""
    cores, kind = usable_cores(), "cpu"
    if device not in (None, "cpu") or (device is None and _may_have_a_card()):
        from lnauto.networks.compute import find_device

        kind = find_device(device).type
    if kind == "cuda":
        import torch

        card = torch.cuda.get_device_properties(0)
        return Machine(kind, card.name, card.total_memory / 2**30, cores)
    return Machine(kind, f"{cores} cores", psutil.virtual_memory().total / 2**30, cores)


def _may_have_a_card() -> bool:
    """Whether it is worth asking PyTorch, which takes longer to import than a small data set takes to plan."""
    return sys.platform != "linux" or any(any(ROOT.glob(name)) for name in CARDS)
