"""A training that looks at whole held-out cases now and then, keeps the best weights it had, and stops when it gets no better."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PATIENCE = 4  # looks without an improvement; a training takes ten [our choice]


class EarlyStop:
    """The weights at the best look so far."""

    def __init__(self) -> None:
        self.best: float | None = None
        self.iteration = 0  # of the best look
        self.looks_since = 0
        self.weights: dict[str, Tensor] = {}

    def look(self, score: float, network: nn.Module, iteration: int) -> bool:
        """Whether it is time to stop."""
        if self.best is None or score > self.best:
            self.best, self.iteration, self.looks_since = score, iteration, 0
            self.weights = {name: value.detach().cpu().clone() for name, value in network.named_parameters()}
        else:
            self.looks_since += 1
        return self.looks_since >= PATIENCE

    def be_patient_again(self) -> None:
        """A training that was stopped is to go on: it has as many looks as at first."""
        if self.looks_since >= PATIENCE:
            self.looks_since = 0

    @torch.no_grad()
    def bring_back(self, network: nn.Module) -> None:
        """Give the network its best weights."""
        for name, value in network.named_parameters():
            value.copy_(self.weights[name])

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.iteration = state["best"], state["iteration"]
        self.looks_since, self.weights = state["looks_since"], state["weights"]
