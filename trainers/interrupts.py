"""Ctrl-C, at a moment at which a training can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
