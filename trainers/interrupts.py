"""What ends a training before its end: Ctrl-C, at a moment at which it can be saved, and memory that does not suffice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from lnauto.errors import InputError

DEAD_WORKER = "DataLoader worker"  # what PyTorch's error begins with


@contextmanager
def held_back() -> Iterator[None]:
    """What is begun within is done to its end: a Ctrl-C comes after it.

    Python hands signals to the main thread alone, and one that is ignored, or ends the process at once, stays so.
    """
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield
        return
    came: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if came:
        former(signal.SIGINT, came[0])


def out_of_memory(error: RuntimeError, folder: str) -> InputError | None:
    """What to tell of a training that memory did not suffice for; None: it was something else that went wrong."""
    goes_on = "what is saved goes on with --continue"
    if isinstance(error, torch.OutOfMemoryError):
        what = "the card's memory does not hold a step of this training"
        remedy = "close what else uses the card, plan smaller patches (--patch), or train with --device cpu"
        return InputError.of(what, folder, f"{remedy}; {goes_on}")
    if str(error).startswith(DEAD_WORKER):
        what = "a process that makes batches died, most likely for want of memory"
        return InputError.of(what, folder, f"have fewer of them (--workers, 0 for none); {goes_on}")
    return None
