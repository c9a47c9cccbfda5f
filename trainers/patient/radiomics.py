"""`LNMTrainerRadiomics`: a patient has metastasis if any node is metastatic; a line through its measures says how likely it is.

Every node has a logit: a weighted sum of what is measured of it (form, signs, place). The nodes are joined by a noisy-or, the
chance that at least one of several independent events happens, with a leak for what no node shows:

    1 - p = (1 - leak) * product over nodes of (1 - sigmoid(logit))

The clinical row moves the patient's logit by a line of its own. Twenty weights, and nine for each channel after the first, are
the most likely ones a posteriori: before a patient is seen, each is expected to be about 0, give or take 1 for a standard
deviation of its measure; so tens of patients are enough. No crop is looked at. Noisy-or: Pearl, Probabilistic Reasoning in
Intelligent Systems, 1988; that it joins lines through measures of nodes is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

from lnauto.trainers.patient.abmil import POINT_MM
from lnauto.trainers.patient.bag import Bag, Batch, Output
from lnauto.trainers.patient.bag_trainer import BagTrainer
from lnauto.trainers.patient.decision import Floats, Labels, Places, deviance, sigmoid
from lnauto.trainers.patient.reader import Reader

STRENGTH = 1.0  # of the penalty on a node's weights: 1 / (what they are expected to vary)² [our choice; measured: benchmarks.md]
CLINICAL_STRENGTH = 10.0  # of that on the row's [our choice]
NODE_AT_FIRST, LEAK_AT_FIRST = -2.0, -4.0  # logits
FARTHEST = 5.0  # standard deviations; beyond, a number counts as so many
SMALLEST, LARGEST = 1e-6, 50.0  # of a sum of evidence: beyond, a logit is no number, or the sum itself
PLACES = 5  # towards the tumour's side, away from it, from the middle along x, y and z


class LNMTrainerRadiomics(BagTrainer):
    """A noisy-or of lines through what is measured."""

    name = "LNMTrainerRadiomics"

    def settings(self, bags: Sequence[Bag], reader: Reader) -> dict[str, Any]:
        return {"numbers": bags[0].shapes.shape[1] + bags[0].signs.shape[1] + PLACES, "clinical": reader.numbers}

    @staticmethod
    def build(settings: dict[str, Any]) -> nn.Module:
        return AnyNode(settings["numbers"], settings["clinical"])

    def fit(self, network: nn.Module, reader: Reader, bags: Sequence[Bag], seed: int) -> dict[str, Any]:
        assert isinstance(network, AnyNode)
        batch = reader.batch(bags)
        network.learn_scale(batch)
        material = Material.of(network.standardised(batch), batch)
        weights = fit_line(material)
        network.set(weights)
        return {"deviance": float(deviance(material.truth, material.logits(weights)).mean())}


class AnyNode(nn.Module):
    """Instances to one logit."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, numbers: int, clinical: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("deviation", torch.ones(numbers))
        self.line = nn.Linear(numbers, 1)
        self.leak = nn.Parameter(torch.tensor(LEAK_AT_FIRST))
        self.clinical = nn.Parameter(torch.zeros(clinical))

    def learn_scale(self, batch: Batch) -> None:
        """From these patients' nodes."""
        numbers = _numbers(batch)
        if len(numbers) > 1:
            spread = numbers.std(dim=0)
            self.mean.copy_(numbers.mean(dim=0))
            self.deviation.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def standardised(self, batch: Batch) -> Tensor:
        return ((_numbers(batch) - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)

    def set(self, weights: Floats) -> None:
        """As `fit_line` orders them."""
        numbers = len(self.mean)
        found = torch.tensor(weights, dtype=torch.float32)
        with torch.no_grad():
            self.line.weight.copy_(found[None, :numbers])
            self.line.bias.copy_(found[numbers : numbers + 1])
            self.leak.copy_(found[numbers + 1])
            self.clinical.copy_(found[numbers + 2 :])

    def forward(self, batch: Batch) -> Output:
        logits = self.line(self.standardised(batch))[:, 0]
        evidence = batch.laid_out(functional.softplus(logits))  # minus the logarithm of the chance that a node is not metastatic
        of_nodes = evidence.sum(dim=1)
        total = (of_nodes + functional.softplus(self.leak)).clamp(SMALLEST, LARGEST)
        logit = total + torch.log(-torch.expm1(-total)) + batch.clinical @ self.clinical
        return Output(logit, batch.laid_out(logits), evidence / of_nodes.clamp_min(1e-12)[:, None])


def _numbers(batch: Batch) -> Tensor:
    """Of each instance that is there: form, signs, and place as seen from the tumour's side and from the middle."""
    towards = batch.towards[:, None]
    places = torch.cat([towards.clamp_min(0), (-towards).clamp_min(0), batch.points.abs()], dim=1) / POINT_MM
    return torch.cat([batch.shapes, batch.signs, places], dim=1)


# ---- fitting


@dataclass(frozen=True, eq=False)
class Material:
    """Nodes, whose they are, and what is known of each patient."""

    nodes: Floats
    owners: Places
    clinical: Floats
    truth: Labels

    @classmethod
    def of(cls, nodes: Tensor, batch: Batch) -> Material:
        owners = batch.present.nonzero()[:, 0].numpy()
        return cls(nodes.double().numpy(), owners, batch.clinical.double().numpy(), batch.label.numpy().astype(int))

    def logits(self, weights: Floats) -> Floats:
        return self._parts(weights)[0]

    def _parts(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Of each patient the logit and the summed evidence, of each node its logit."""
        numbers = self.nodes.shape[1]
        nodes = self.nodes @ weights[:numbers] + weights[numbers]
        evidence = np.bincount(self.owners, np.logaddexp(0, nodes), minlength=len(self.truth))
        total = np.clip(evidence + np.logaddexp(0, weights[numbers + 1]), SMALLEST, LARGEST)
        return total + np.log(-np.expm1(-total)) + self.clinical @ weights[numbers + 2 :], total, nodes

    def loss(self, weights: Floats) -> tuple[float, Floats]:
        """Penalised deviance, and how it changes with the weights."""
        numbers = self.nodes.shape[1]
        line, row = weights[:numbers], weights[numbers + 2 :]
        logits, total, nodes = self._parts(weights)
        value = float(deviance(self.truth, logits).sum() + STRENGTH / 2 * line @ line + CLINICAL_STRENGTH / 2 * row @ row)
        of_logit = sigmoid(logits) - self.truth
        of_total = of_logit / -np.expm1(-total)
        of_node = of_total[self.owners] * sigmoid(nodes)
        leak = float(of_total.sum() * sigmoid(weights[numbers + 1 : numbers + 2])[0])
        change = [self.nodes.T @ of_node + STRENGTH * line, [of_node.sum()], [leak]]
        return value, np.concatenate([*change, self.clinical.T @ of_logit + CLINICAL_STRENGTH * row])


def fit_line(material: Material) -> Floats:
    """Weights of a node's numbers, its intercept, the leak, and weights of the row."""
    at_first = [NODE_AT_FIRST, LEAK_AT_FIRST]
    start = np.concatenate([np.zeros(material.nodes.shape[1]), at_first, np.zeros(material.clinical.shape[1])])
    found = minimize(material.loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return np.asarray(found.x)
