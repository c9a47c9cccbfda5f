"""`LNMTrainerVAE`: an autoencoder of nodes, and perceptrons on what it found; after the VAE-MLP of Keel, Quyn, Jayne, Mohsin and
Relton, Interpretable Lymph Node Metastasis Prediction in Rectal Cancer MRI (arXiv 2507.11638).

Two stages. First the autoencoder learns the training patients' crops, without labels (`node_vae.py`). Then a node's perceptron
says from its mean latents and its form how suspicious it is, the patient's perceptron reads these probabilities in falling
order, the form of the largest node and the clinical row, and the answer is

    0.9 (a p_patient + (1 - a) max_i p_i) + 0.1 att

or, without the attention, the bracket alone. What is published, what is not, and what the released code does that this does
not: documentation/methods/vae.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lnauto.trainers.patient.abmil import masked_softmax
from lnauto.trainers.patient.bag import LONG_AXIS, SHAPES, Bag, Batch, Output
from lnauto.trainers.patient.bag_trainer import BagTrainer, hidden_for, patient_loss
from lnauto.trainers.patient.fitting import Schedule, augmented, fit_network
from lnauto.trainers.patient.node_vae import NodeVAE, VAESchedule, fit_vae
from lnauto.trainers.patient.reader import Reader

PATIENT_SHARE = 0.8  # a: of the patient's perceptron, the rest is the most suspicious node's
ATTENTION_SHARE = 0.1
LEARNING_RATE = 6e-3  # of stage 2, as published; a third of it leaves drawn bags half learned
CROPS_A_LATENT, FEWEST_LATENTS, MOST_LATENTS = 50, 4, 400  # the most is the published model's
WIDTH, LARGE_WIDTH, MANY_CROPS = 8, 16, 2000  # of the first convolution; many crops allow more
CAPACITY = 95  # percentile of instances a patient, which the patient's perceptron has places for
VERSIONS = 8  # of each crop that stage 2 draws from; 25 in the released code
LATENTS = "latents of each version"  # where a bag carries them in stage 2
OFTEN, NOISE, MIX, NEIGHBOURS = 0.2, 0.01, 0.2, 3  # of the changes to latents
EDGE = 1e-6  # of a probability, so that it has a logit


@dataclass(frozen=True)
class LNMTrainerVAE(BagTrainer):
    """The head whose features can be looked at: every latent can be decoded into what it means."""

    schedule: Schedule = field(default_factory=lambda: Schedule(learning_rate=LEARNING_RATE))
    patient_share: float = PATIENT_SHARE
    attention: bool = True
    vae: VAESchedule = field(default_factory=VAESchedule)

    name = "LNMTrainerVAE"

    def settings(self, bags: Sequence[Bag], reader: Reader) -> dict[str, Any]:
        counts = [len(bag) for bag in bags]
        crops = sum(counts)
        return {
            "channels": bags[0].crops.shape[1],
            "size": list(bags[0].crops.shape[2:]),
            "width": WIDTH if crops < MANY_CROPS else LARGE_WIDTH,
            "latent": min(max(crops // CROPS_A_LATENT, FEWEST_LATENTS), MOST_LATENTS),
            "hidden": hidden_for(len(bags)),
            "clinical": reader.numbers,
            "nodes": max(1, math.ceil(np.percentile(counts, CAPACITY))),
            "patient_share": self.patient_share,
            "attention": self.attention,
        }

    @staticmethod
    def build(settings: dict[str, Any]) -> nn.Module:
        return VAEMLP(**settings)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, VAEMLP)
        versions = batch.features[LATENTS].unflatten(1, (VERSIONS, -1))
        drawn = versions[torch.arange(len(versions)), torch.randint(VERSIONS, (len(versions),))]
        return patient_loss(network.answer(batch, changed(drawn)).logit, batch.label)

    def fit(self, network: nn.Module, reader: Reader, bags: Sequence[Bag], seed: int) -> dict[str, Any]:
        assert isinstance(network, VAEMLP)
        network.start_alike()
        told = fit_vae(network.vae, reader.batch(bags), seed, self.vae)
        network.vae.requires_grad_(False)
        losses = fit_network(network, reader, with_latents(network.vae, reader, bags, seed), self.loss, seed, self.schedule)
        return {"loss": float(np.mean(losses[-20:])), **told}


class VAEMLP(nn.Module):
    """Instances to one logit; the arguments are `LNMTrainerVAE.settings`."""

    def __init__(
        self,
        channels: int,
        size: Sequence[int],
        width: int,
        latent: int,
        hidden: int,
        clinical: int,
        nodes: int,
        patient_share: float,
        attention: bool,
    ) -> None:
        super().__init__()
        self.places, self.patient_share = nodes, patient_share
        self.vae = NodeVAE(channels, size, width, latent)
        # LayerNorm where the released code has BatchNorm: no patient is read in the light of those beside it in a batch
        self.node = nn.Sequential(*_layer(latent + len(SHAPES), hidden, 0.3), nn.Linear(hidden, 1))
        self.patient = nn.Sequential(
            *_layer(nodes + len(SHAPES) + clinical, hidden, 0.2),
            *_layer(hidden, hidden // 2, 0.2),
            nn.Linear(hidden // 2, 1, bias=False),
        )
        self.bias = nn.Parameter(torch.zeros(()))
        self.attend = nn.Parameter(torch.ones(())) if attention else None
        self.clinical = nn.Linear(clinical, 1) if attention and clinical else None
        if self.clinical is not None:
            nn.init.zeros_(self.clinical.weight)

    def start_alike(self) -> None:
        """Nodes and the clinical row begin where the patient does: at the share of patients with metastasis."""
        with torch.no_grad():
            for last in (self.node[-1], self.clinical):
                if isinstance(last, nn.Linear):
                    last.bias.copy_(self.bias)

    def forward(self, batch: Batch) -> Output:
        return self.answer(batch, self.vae.latents(batch.crops))

    def answer(self, batch: Batch, latents: Tensor) -> Output:
        """From the mean latents of each crop that is there."""
        of_node = self.node(torch.cat([self.vae.standardised(latents), batch.shapes], dim=1))[:, 0]
        logits = batch.laid_out(of_node)
        probabilities = batch.laid_out(torch.sigmoid(of_node))  # 0 where nothing is
        patient = torch.sigmoid(self.patient_logit(batch, probabilities))
        # a patient without nodes is what the patient's perceptron makes of the clinical row
        highest = torch.where(batch.present.any(dim=1), probabilities.amax(dim=1), patient)
        found = self.patient_share * patient + (1 - self.patient_share) * highest
        attention = _highest_alone(logits, batch.present)
        if self.attend is not None:
            attended, attention = self._attended(batch, probabilities, patient)
            found = (1 - ATTENTION_SHARE) * found + ATTENTION_SHARE * attended
        return Output(torch.logit(found, EDGE), logits, attention)

    def patient_logit(self, batch: Batch, probabilities: Tensor) -> Tensor:
        """Of the highest probabilities in falling order, the form of the largest node, and the clinical row.

        A place without a node holds 0: it adds nothing to the first layer, and no mean or deviation is taken before that.
        """
        highest = probabilities.sort(dim=1, descending=True).values[:, : self.places]
        highest = nn.functional.pad(highest, (0, self.places - highest.shape[1]))
        seen = torch.cat([highest, _form_of_largest(batch), batch.clinical], dim=1)
        found: Tensor = self.patient(seen)[:, 0] + self.bias
        return found

    def _attended(self, batch: Batch, probabilities: Tensor, patient: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities' mean, weighted by a softmax of themselves, and the weights of the nodes."""
        assert self.attend is not None
        entries, there = probabilities, batch.present
        if self.clinical is not None:
            entries = torch.cat([entries, torch.sigmoid(self.clinical(batch.clinical))], dim=1)
            there = torch.cat([there, torch.ones_like(there[:, :1])], dim=1)
        weights = masked_softmax(self.attend * entries, there)
        attended = torch.where(there.any(dim=1), (weights * entries).sum(dim=1), patient)
        return attended, masked_softmax(self.attend * probabilities, batch.present)

    @torch.no_grad()
    def tell(self, batch: Batch) -> list[dict[str, float]]:
        """`strangeness`: the chance that, of as many crops like the training patients', even the worst rebuilt would be rebuilt
        better than this patient's worst: near one, something here was not seen in training; 0 without nodes. It is blind to
        what is simple to rebuild: an empty crop is as strange as it is hard."""
        of_node = batch.laid_out(self.vae.strangeness(batch.crops))
        return [
            {"strangeness": float(worst) ** int(count) if count else 0.0}
            for worst, count in zip(of_node.amax(dim=1), batch.present.sum(dim=1), strict=True)
        ]


def _layer(given: int, wide: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(given, wide), nn.LayerNorm(wide), nn.GELU(), nn.Dropout(dropout)]


def _form_of_largest(batch: Batch) -> Tensor:
    """Of the node with the longest axis; of several, which are often the slices of one, the mean; 0 without nodes."""
    shapes = batch.laid_out(batch.shapes)
    longest = shapes[..., LONG_AXIS].masked_fill(~batch.present, float("-inf"))
    those = (batch.present & (longest == longest.amax(dim=1, keepdim=True))).float()
    return (those[..., None] * shapes).sum(dim=1) / those.sum(dim=1, keepdim=True).clamp_min(1)


def _highest_alone(logits: Tensor, present: Tensor) -> Tensor:
    """1 at the most suspicious node, which is the one that the maximum looks at."""
    found = torch.zeros_like(logits)
    some = present.any(dim=1)
    places = logits.masked_fill(~present, float("-inf")).argmax(dim=1)
    found[some, places[some]] = 1.0
    return found


def with_latents(vae: NodeVAE, reader: Reader, bags: Sequence[Bag], seed: int) -> list[Bag]:
    """The bags with the latents of several augmented versions of each crop, and without the crops: stage 2 needs no more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batch = reader.batch(bags)
        versions = torch.cat([vae.latents(augmented(batch).crops) for _ in range(VERSIONS)], dim=1).numpy()
    ends = np.cumsum([len(bag) for bag in bags])[:-1]
    return [
        replace(bag, crops=bag.crops[:, :, :1, :1, :1], masks=bag.masks[:, :1, :1, :1], view=None, features={LATENTS: own})
        for bag, own in zip(bags, np.split(versions, ends), strict=True)
    ]


def changed(latents: Tensor) -> Tensor:
    """In a fifth of all batches noise, in another fifth each is mixed with a near one; draws from torch's generator.

    A node keeps at least half of itself, so that what it says of its patient's label holds.
    """
    chance = float(torch.rand(()))
    if chance < OFTEN:
        return latents + NOISE * torch.randn_like(latents)
    if chance < 2 * OFTEN and len(latents) > NEIGHBOURS:
        distance = torch.cdist(latents, latents).fill_diagonal_(float("inf"))
        near = distance.topk(NEIGHBOURS, largest=False).indices
        mate = near[torch.arange(len(near)), torch.randint(NEIGHBOURS, (len(near),))]
        kept = torch.distributions.Beta(MIX, MIX).sample((len(latents), 1))
        kept = torch.maximum(kept, 1 - kept)
        return kept * latents + (1 - kept) * latents[mate]
    return latents
