"""A training that looks at whole held-out cases now and then, keeps the best weights it had, and stops when it gets no better."""

from __future__ import annotations

from typing import Any

from torch import Tensor

PATIENCE = 4  # looks without an improvement; a training takes ten [our choice]


class EarlyStop:
    """The weights at the best look so far."""

    def __init__(self) -> None:
        self.best: float | None = None
        self.looks_since = 0
        self.weights: dict[str, Tensor] = {}

    def look(self, score: float, weights: dict[str, Tensor]) -> bool:
        """Whether it is time to stop."""
        if self.best is None or score > self.best:
            self.best, self.looks_since = score, 0
            self.weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
        else:
            self.looks_since += 1
        return self.looks_since >= PATIENCE

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.looks_since, self.weights = state["best"], state["looks_since"], state["weights"]
