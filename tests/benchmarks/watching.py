"""What a command takes of memory and of a card while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import psutil


class Watch(threading.Thread):
    """Looks at the memory of a process and its children every tenth of a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.ended, self.card = pid, 0, threading.Event(), Card()
        self.start()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.card.look()
            try:
                tree = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
                self.peak = max(self.peak, sum(each.memory_full_info().pss for each in tree))
            except psutil.Error:
                continue


class Card:
    """Memory that is taken on the first NVIDIA card since this was made, by whatever program; nothing where there is no card."""

    def __init__(self) -> None:
        self.peak = 0
        try:
            import pynvml

            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByIndex(0)
            self.taken = lambda: int(pynvml.nvmlDeviceGetMemoryInfo(card).used)
            self.before = self.taken()
        except Exception:  # no such package, no driver or no card, each with an error of its own
            self.taken = None  # type: ignore[assignment]

    def look(self) -> None:
        if self.taken is not None:
            self.peak = max(self.peak, self.taken() - self.before)

    def told(self) -> dict[str, float]:
        return {} if self.taken is None else {"card_gb": self.peak / 2**30}


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own: libraries in this one's memory would be counted half for whatever it watches."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
