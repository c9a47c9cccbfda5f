"""Fitting one head's network to its training patients: few of them, so few weights, and no crop is seen twice alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lnauto.trainers.patient.bag import Bag, Batch
from lnauto.trainers.patient.reader import Reader

Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Schedule:
    """All our choice, for tens to hundreds of patients."""

    steps: int = 300
    patients: int = 8  # in a batch
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.05  # of the steps
    clip: float = 1.0
    drop: float = 0.1  # of a bag's instances in every step; one stays


def fit_network(
    network: nn.Module, reader: Reader, bags: Sequence[Bag], loss: Loss, seed: int, schedule: Schedule
) -> list[float]:
    """Train in place; returns the loss of every step. It depends on its arguments and the seed alone."""
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, schedule.learning_rate, weight_decay=schedule.weight_decay)
        network.train()
        for step, chosen in zip(range(schedule.steps), _drawn(len(bags), schedule.patients, rng), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * _share(step / schedule.steps, schedule.warm_up)
            batch = augmented(reader.batch([thinned(bags[place], schedule.drop, rng) for place in chosen]))
            optimizer.zero_grad(set_to_none=True)
            value = loss(network, batch)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, schedule.clip)
            optimizer.step()
            losses.append(float(value.detach()))
        network.eval()
    return losses


def _drawn(bags: int, at_once: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Every patient once before any comes again."""
    waiting: list[int] = []
    while True:
        while len(waiting) < min(at_once, bags):
            waiting += [place for place in rng.permutation(bags).tolist() if place not in waiting]
        yield waiting[:at_once]
        waiting = waiting[at_once:]


def _share(progress: float, warm_up: float) -> float:
    """Of the learning rate: a line up, then half a cosine down."""
    if progress < warm_up:
        return (progress + 1e-3) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def thinned(bag: Bag, drop: float, rng: np.random.Generator) -> Bag:
    """Without some of its instances: no single one may carry the answer alone."""
    if len(bag) < 2 or drop <= 0:
        return bag
    kept = np.flatnonzero(rng.random(len(bag)) >= drop)
    return bag.take(kept if len(kept) else [int(rng.integers(len(bag)))])


def augmented(batch: Batch) -> Batch:
    """Crops turned over at random, a voxel aside, brighter or darker; draws from torch's generator."""
    if not len(batch.crops):
        return batch
    both = torch.cat([batch.crops, batch.masks], dim=1)
    for axis in (2, 3, 4):
        over = torch.rand(len(both)) < 0.5
        both = torch.where(over[:, None, None, None, None], both.flip(axis), both)
        if both.shape[axis] > 1:
            both = both.roll(int(torch.randint(-1, 2, ())), dims=axis)
    crops, masks = both[:, :-1], both[:, -1:]
    gain = 1 + 0.1 * torch.randn(len(crops), 1, 1, 1, 1)
    offset = 0.1 * torch.randn(len(crops), 1, 1, 1, 1)
    return replace(batch, crops=crops * gain + offset, masks=masks)
