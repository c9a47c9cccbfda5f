"""`LNMTrainerWeGA`: nodes and what is round them, joined by attention; the map of evidence is kept to where nodes are.

It follows the described idea of WeGA (Gao et al., arXiv 2505.10502), whose formulas are not public: a global branch, a local
branch on the nodes, cross-attention that aligns the two, and a loss that asks the map of classes to agree with the anatomy. The
formulas are ours, see documentation/methods/wega.md.

A node asks the tokens of the view what lies round it; near ones count more. The other way round each token hears from the nodes
what they are, and the same weights that score a node score the token: that is the map.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lnauto.errors import InputError
from lnauto.networks.vit import REMEDY, file_hash, load_vit
from lnauto.trainers.patient.abmil import POINT_MM, GatedPooling, InstanceEncoder, masked_softmax
from lnauto.trainers.patient.affinity import affinity_loss
from lnauto.trainers.patient.bag import Bag, Batch, Floats, Output
from lnauto.trainers.patient.bag_trainer import BagTrainer, hidden_for, patient_loss
from lnauto.trainers.patient.fitting import fit_network
from lnauto.trainers.patient.head import Member
from lnauto.trainers.patient.reader import Reader
from lnauto.trainers.patient.tokens import EncodedTokens, SlicedTokens, Tokens

MAX_NODE = 0.3  # of the loss of the most suspicious node
WARM_UP = 0.5  # of the steps, in which the regional affinity comes to its weight
DROPPED = 0.5  # of the tokens that nodes may ask, in every step of training [our choice]
MOVED_MM = 5.0  # nodes, in training [our choice]
BRANCHES = ("both", "local", "global")


@dataclass(frozen=True)
class LNMTrainerWeGA(BagTrainer):
    """Global and local branch; `dino_weights`: a file, or None for nnU-Net's encoder."""

    dino_weights: Path | None = None
    affinity: float = 0.5  # weight of the regional affinity loss at last; 0: none
    contrast: float = 0.1  # of its second variant beside the first
    branches: str = "both"  # or one of them alone, to see what the other is worth

    name = "LNMTrainerWeGA"
    needs_view = True

    def settings(self, bags: Sequence[Bag], reader: Reader) -> dict[str, Any]:
        if self.branches not in BRANCHES:
            raise ValueError(f"branches: one of {', '.join(BRANCHES)}")
        dino = None
        if self.dino_weights is not None:
            dino = {"path": str(self.dino_weights.absolute()), "sha256": file_hash(self.dino_weights)}
        return {
            "channels": bags[0].crops.shape[1],
            "size": list(bags[0].crops.shape[2:]),
            "hidden": hidden_for(len(bags)),
            "clinical": reader.numbers,
            "branches": self.branches,
            "dino": dino,
        }

    @staticmethod
    def build(settings: dict[str, Any]) -> nn.Module:
        return GlobalLocal(**settings)

    def fit(self, network: nn.Module, reader: Reader, bags: Sequence[Bag], seed: int) -> dict[str, Any]:
        steps = itertools.count()

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            return self.loss_after(next(steps) / self.schedule.steps, network, batch)

        losses = fit_network(network, reader, bags, loss, seed, self.schedule)
        return {"loss": float(np.mean(losses[-20:]))}

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        return self.loss_after(1.0, network, batch)

    def loss_after(self, progress: float, network: nn.Module, batch: Batch) -> Tensor:
        """The regional affinity comes slowly: at first there is no evidence whose place would mean anything."""
        assert isinstance(network, GlobalLocal)
        looked = network.look(batch)
        loss = patient_loss(looked.output.logit, batch.label) + MAX_NODE * highest_loss(looked.output, batch)
        weight = self.affinity * min(1.0, progress / WARM_UP)
        if weight and looked.tokens is not None and looked.cam is not None and looked.tokens.there.any():
            there = looked.tokens.there
            each = affinity_loss(looked.cam, looked.tokens.region, batch.label, self.contrast)
            loss = loss + weight * each[there].mean()
        return loss


def highest_loss(output: Output, batch: Batch) -> Tensor:
    """A patient with metastasis has a suspicious node, one without has none. Bags without nodes say nothing."""
    some = batch.present.any(dim=1)
    if not some.any():
        return output.logit.new_zeros(())
    highest = output.instance_logits.masked_fill(~batch.present, float("-inf")).amax(dim=1)
    return patient_loss(highest[some], batch.label[some])


@dataclass(frozen=True, eq=False)
class Looked:
    """All that comes of a batch."""

    output: Output
    tokens: Tokens | None  # without a view there are none
    attention: Tensor | None  # bags, places, tokens: rows add up to 1
    cam: Tensor | None  # bags, z, y, x


class GlobalLocal(nn.Module):
    """Nodes and view to one logit, and a map of the evidence."""

    def __init__(
        self,
        channels: int,
        size: Sequence[int],
        hidden: int,
        clinical: int,
        branches: str = "both",
        dino: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.branches = branches
        self.instances = InstanceEncoder(channels, size, hidden)
        self.tokens: nn.Module = EncodedTokens(channels, hidden)
        if dino is not None:
            self.tokens = SlicedTokens(Path(dino["path"]), dino["sha256"], hidden)
        self.place = nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.gather, self.spread = CrossAttention(hidden), CrossAttention(hidden)
        self.think = Thought(hidden)
        self.pool = GatedPooling(hidden)
        self.score = nn.Linear(hidden, 1)
        self.clinical = nn.Linear(clinical, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.clinical.weight)

    def forward(self, batch: Batch) -> Output:
        return self.look(batch).output

    def look(self, batch: Batch) -> Looked:
        local = batch.laid_out(self.instances(batch))
        if self.branches == "global":
            local = torch.zeros_like(local)
        points = batch.laid_out(batch.points)
        if self.training:
            points = points + MOVED_MM * torch.randn_like(points)
        tokens = self.tokens(batch) if self.branches != "local" else None
        if tokens is None:
            return Looked(self._answer(self.think(local, torch.zeros_like(local)), batch), None, None, None)
        code, codes = self.place(points / POINT_MM), self.place(tokens.points / POINT_MM)
        apart = ((points[:, :, None] - tokens.points[:, None]) / POINT_MM).square().sum(dim=-1)
        seen = tokens.there[:, None, None].expand(apart.shape)
        if self.training:
            seen = seen & (torch.rand(len(apart), 1, apart.shape[2]) >= DROPPED)
        heard, attention = self.gather(local, code, tokens.values, codes, apart, seen)
        fused = self.think(local, heard)
        present = batch.present[:, None, :].expand(apart.transpose(1, 2).shape)
        told, _ = self.spread(tokens.values, codes, fused, code, apart.transpose(1, 2), present)
        evidence = torch.sigmoid(self.score(self.think(tokens.values, told))[..., 0])
        return Looked(self._answer(fused, batch), tokens, attention, evidence.reshape(tokens.region.shape))

    def _answer(self, fused: Tensor, batch: Batch) -> Output:
        attention = self.pool(fused, batch.present)
        scores = self.score(fused)[..., 0] * batch.present
        logit = self.bias + (attention * scores).sum(dim=1) + self.clinical(batch.clinical)[:, 0]
        return Output(logit, scores, attention)

    def tell(self, batch: Batch) -> list[dict[str, float]]:
        """How far from the nodes they look, in mm, and which part of the map's evidence lies where nodes are."""
        with torch.no_grad():
            looked = self.look(batch)
        if looked.tokens is None or looked.attention is None or looked.cam is None:
            return [{"reach_mm": 0.0, "evidence_at_nodes": 0.0} for _ in batch.present]
        apart = (batch.laid_out(batch.points)[:, :, None] - looked.tokens.points[:, None]).norm(dim=-1)
        reach = (looked.output.attention[..., None] * looked.attention * apart).sum(dim=(1, 2))
        at_nodes = (looked.cam * looked.tokens.region).flatten(1).sum(dim=1) / looked.cam.flatten(1).sum(dim=1).clamp_min(1e-6)
        return [{"reach_mm": float(far), "evidence_at_nodes": float(part)} for far, part in zip(reach, at_nodes, strict=True)]


class CrossAttention(nn.Module):
    """What each asks of those given; near ones count more, by a weight that is learned and cannot be negative."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)
        self.nearness = nn.Parameter(torch.tensor(0.5413))  # softplus: 1 at first, of the squared distance in POINT_MM

    @property
    def gamma(self) -> Tensor:
        return functional.softplus(self.nearness)

    def forward(
        self, asking: Tensor, asking_at: Tensor, given: Tensor, given_at: Tensor, apart: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        """bags, asking, numbers and bags, asking, given: 0 where there is nobody to ask."""
        query, key = self.query(asking) + asking_at, self.key(given) + given_at
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5 - self.gamma * apart
        weights = masked_softmax(scores, there)
        return self.out(weights @ self.value(given)) * there.any(dim=-1, keepdim=True), weights


class Thought(nn.Module):
    """What one is and what one heard, as one: a sum, and a hidden layer, without which the two could not qualify each other."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.more = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))

    def forward(self, own: Tensor, heard: Tensor) -> Tensor:
        joined = self.norm(own + heard)
        thought: Tensor = joined + self.more(joined)
        return thought


def maps_of(member: Member, bag: Bag) -> dict[str, tuple[Floats, NDArray[np.float64]]]:
    """A member's maps of a patient on the grid of tokens, with 4 x 4 from a place (z, y, x) to mm from the image's middle.

    `cam`: evidence, z, y, x. `context`: to what the nodes together attend, z, y, x. `attention`: of each node, nodes, z, y, x.
    Without a view there are none.
    """
    network = member.network
    assert isinstance(network, GlobalLocal)
    with torch.no_grad():
        looked = network.look(member.reader.batch([bag]))
    if looked.tokens is None or looked.attention is None or looked.cam is None or not looked.tokens.there.all():
        return {}
    to_mm = looked.tokens.to_mm[0].double().numpy()
    shape = looked.cam.shape[1:]
    attention = looked.attention[0, : len(bag)].reshape(len(bag), *shape)
    context = (looked.output.attention[0, : len(bag), None, None, None] * attention).sum(dim=0)
    maps = {"cam": looked.cam[0], "context": context, "attention": attention}
    return {name: (values.numpy(), to_mm) for name, values in maps.items()}


def known_weights(path: Path) -> None:
    """A line for a fault in `--dino-weights` before anything long begins: they are read as the heads will read them."""
    if not path.is_file():
        raise InputError.of("there is no such file of weights", path, REMEDY)
    load_vit(path.absolute(), file_hash(path))
