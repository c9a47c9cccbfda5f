"""Batches of patches of which number *i* depends only on the seed and on *i*.

So a training that was killed goes on with the very batches it would have seen, and background workers change nothing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lnauto.compat.training import nnUNetDataLoader

TRAINING, VALIDATION = 0, 1  # streams of random numbers that never meet


class Batches(Dataset[dict[str, Any]]):
    """nnU-Net's patches and augmentation, addressed by number."""

    def __init__(self, loader: nnUNetDataLoader, seed: int, stream: int, rank: int = 0) -> None:
        self.loader = loader
        self.key = (seed, stream, rank)

    def __getitem__(self, number: int) -> dict[str, Any]:
        with seeded(*self.key, number):
            batch: dict[str, Any] = self.loader.generate_train_batch()
        return batch


def endless(batches: Batches, start: int, workers: int, pin_memory: bool = False) -> Iterator[dict[str, Any]]:
    """Batches from number `start` on, made in the background where there are workers."""
    numbers = itertools.count(start)
    if workers == 0:
        return (batches[number] for number in numbers)
    return iter(
        DataLoader(batches, batch_size=None, sampler=numbers, num_workers=workers, prefetch_factor=4, pin_memory=pin_memory)
    )


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Random numbers that depend on `key` alone, and leave the generators outside as they were."""
    numpy_seed, torch_seed, python_seed = np.random.SeedSequence(key).generate_state(3)
    before = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(numpy_seed)
        random.seed(int(python_seed))
        torch.default_generator.manual_seed(int(torch_seed))  # a card's generator is no part of it, and is not put back
        try:
            yield
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])
