"""`LNMTrainerMaskGate`: a head on what the segmentation network sees where it sees nodes.

Each node is a vector, the mean of a feature map of the network under its own mask (lnauto/networks/mask_gate.py). Which of the
network's stages it is taken from is tried inside the training patients of every fit, by a linear probe. The vectors of a patient,
in no order, then go to a head whose size follows from the number of patients.

All bags of a head, in training and in prediction, carry features of one network, and that network must not have been trained on
the head's training patients. One call of `train` fits one head; several networks have a head each (documentation/methods/
mask_gate.md says how the two are paired).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from lnauto.data.folds import make_folds
from lnauto.errors import InputError
from lnauto.networks.mask_gate import ENCODER, MIDDLE
from lnauto.trainers.patient.abmil import POINT_MM, GatedPooling
from lnauto.trainers.patient.bag import SHAPES, Bag, Batch, Floats, Output
from lnauto.trainers.patient.bag_trainer import LARGE, SMALL, BagTrainer, hidden_for
from lnauto.trainers.patient.head import Member
from lnauto.trainers.patient.reader import Reader

PROBE_FOLDS, PROBE_REPEATS = 3, 3
LAYERS, HIDDEN, HEADS = 6, 256, 4  # of the published transformer
LARGE_RATE = 3e-4  # its learning rate at most: between ours and the published 6e-5 [our choice, not measured]
WIDER = 3  # a layer's inner width, in widths
KINDS = 2
FARTHEST = 5.0  # standard deviations; beyond, a number counts as so many
REMEDY = "give bags the features of one segmentation network, or use LNMTrainerABMIL"


class LNMTrainerMaskGate(BagTrainer):
    """A head on mask-gated features."""

    name = "LNMTrainerMaskGate"
    needs_features = True

    def settings(self, bags: Sequence[Bag], reader: Reader) -> dict[str, Any]:
        widths = common_stages(bags)
        tried = probe(bags, widths, self.seed)
        stage = chosen_stage(tried)
        layers, hidden = size_for(len(bags))
        return {
            "stage": stage,
            "channels": widths[stage],
            "hidden": hidden,
            "layers": layers,
            "clinical": reader.numbers,
            "probe": tried,
        }

    @staticmethod
    def build(settings: dict[str, Any]) -> nn.Module:
        return GatedVectors(*(settings[key] for key in ("stage", "channels", "hidden", "layers", "clinical")))

    def fit(self, network: nn.Module, reader: Reader, bags: Sequence[Bag], seed: int) -> dict[str, Any]:
        assert isinstance(network, GatedVectors)
        network.instances.learn_scale(bags)
        schedule = self.schedule
        if network.layers >= LAYERS:
            schedule = replace(schedule, learning_rate=min(schedule.learning_rate, LARGE_RATE))
        return BagTrainer.fit(replace(self, schedule=schedule), network, reader, [without_images(bag) for bag in bags], seed)

    def fit_member(self, bags: Sequence[Bag], columns: Sequence[str], seed: int) -> tuple[Member, dict[str, Any]]:
        member, told = super().fit_member(bags, columns, seed)
        return member, {**told, "stage": member.settings["stage"], "probe": member.settings["probe"]}


def size_for(patients: int) -> tuple[int, int]:
    """Layers of a transformer (0: gated attention instead) and width of the head."""
    if patients < SMALL:
        return 0, hidden_for(patients)
    return (2, hidden_for(patients)) if patients < LARGE else (LAYERS, HIDDEN)


def with_features(bag: Bag, seen: Mapping[str, tuple[Sequence[int], Mapping[str, Floats]]]) -> Bag:
    """The bag with what a network saw of its nodes: for each case their numbers, and a row for each at every stage.

    A node that gives several instances, slices, gives each the same row.
    """
    rows = {(case, number): row for case, (numbers, _) in seen.items() for row, number in enumerate(numbers)}
    stages = sorted(set.intersection(*(set(seen[case][1]) for case, _ in bag.sources))) if len(bag) else []
    features = {stage: np.stack([seen[case][1][stage][rows[case, number]] for case, number in bag.sources]) for stage in stages}
    return replace(bag, features=features)


def without_images(bag: Bag) -> Bag:
    """What this head looks at: turning crops over that nobody looks at would be most of the work."""
    shape = (len(bag), bag.crops.shape[1] if bag.crops.ndim > 1 else 1, 1, 1, 1)
    return replace(bag, crops=np.zeros(shape, np.float32), masks=np.zeros((len(bag), 1, 1, 1), np.float32), view=None)


# ---- which stage


def common_stages(bags: Sequence[Bag]) -> dict[str, int]:
    """The stages of which every bag with instances has features, and how many numbers each gives."""
    filled = [bag for bag in bags if len(bag)]
    if not filled:
        raise InputError.of("no patient has a node", LNMTrainerMaskGate.name, "use LNMTrainerClinical")
    stages = [stage for stage in filled[0].features if all(stage in bag.features for bag in filled)]
    if not stages:
        patient = next((bag.patient for bag in filled if not bag.features), filled[0].patient)
        raise InputError.of(f"patient {patient} has no features of a network", LNMTrainerMaskGate.name, REMEDY)
    for stage in stages:
        if len({bag.features[stage].shape[1] for bag in filled}) > 1:
            what = f"the features of {stage} are of networks of different widths"
            raise InputError.of(what, LNMTrainerMaskGate.name, REMEDY)
    return {stage: filled[0].features[stage].shape[1] for stage in stages}


def probe(bags: Sequence[Bag], stages: Sequence[str] | Mapping[str, int], seed: int) -> dict[str, float | None]:
    """How well each stage's features, averaged over a patient's nodes, part these patients: the mean AUC of held-out folds among
    them of a linear discriminant with shrinkage; None where no fold has both classes."""
    filled = sorted((bag for bag in bags if len(bag)), key=lambda bag: bag.patient)
    names, truth = [bag.patient for bag in filled], np.array([bag.label for bag in filled], int)
    place = {name: number for number, name in enumerate(names)}
    strata = {name: int(label) for name, label in zip(names, truth, strict=True)}
    folds = []
    for repeat in range(PROBE_REPEATS):
        for fold in make_folds(names, {}, strata, PROBE_FOLDS, seed + repeat):
            train, kept = (np.array([place[name] for name in fold[side]]) for side in ("train", "val"))
            if len(set(truth[train])) == len(set(truth[kept])) == 2 and not set(train) & set(kept):
                folds.append((train, kept))
    told: dict[str, float | None] = {}
    for stage in stages:
        pooled = np.stack([bag.features[stage].mean(axis=0, dtype=float) for bag in filled])
        found = [_auc_of_probe(pooled, truth, train, kept) for train, kept in folds]
        told[stage] = float(np.mean(found)) if found else None
    return told


def _auc_of_probe(pooled: np.ndarray, truth: np.ndarray, train: np.ndarray, kept: np.ndarray) -> float:
    deviation = pooled[train].std(axis=0)
    scaled = (pooled - pooled[train].mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # of columns that are constant
        warnings.filterwarnings("ignore", message="Only one sample")  # of a class: it has no spread, and the other's counts
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(scaled[train], truth[train])
    return float(roc_auc_score(truth[kept], model.decision_function(scaled[kept])))


def chosen_stage(tried: Mapping[str, float | None]) -> str:
    """The best; of equals the first; where nothing could be tried, a middle one of the encoder, never the bottleneck."""
    measured = {stage: worth for stage, worth in tried.items() if worth is not None}
    if measured:
        return max(measured, key=lambda stage: measured[stage])
    return f"{ENCODER}{MIDDLE}" if f"{ENCODER}{MIDDLE}" in tried else next(iter(tried))


# ---- the network


class GatedVectors(nn.Module):
    """Vectors to one logit: by gated attention, or by a transformer of so many layers."""

    def __init__(self, stage: str, channels: int, hidden: int, layers: int, clinical: int) -> None:
        super().__init__()
        self.layers = layers
        self.instances = VectorEncoder(stage, channels, hidden)
        self.whole: AttendedScores | BagTransformer
        self.whole = BagTransformer(hidden, layers) if layers else AttendedScores(hidden)
        self.clinical = nn.Linear(clinical, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.clinical.weight)

    def forward(self, batch: Batch) -> Output:
        score, instance_logits, attention = self.whole(batch, self.instances(batch))
        return Output(self.bias + score + self.clinical(batch.clinical)[:, 0], instance_logits, attention)


class VectorEncoder(nn.Module):
    """Vector, form, place and kind of each instance that is there to `hidden` numbers."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, stage: str, channels: int, hidden: int) -> None:
        super().__init__()
        self.stage, self.channels = stage, channels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.vector = nn.Linear(channels, hidden)
        self.form = nn.Linear(len(SHAPES) + 3, hidden)
        self.kind = nn.Embedding(KINDS, hidden)
        self.join = nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(0.25))

    def learn_scale(self, bags: Sequence[Bag]) -> None:
        """From the training patients' instances."""
        vectors = np.concatenate([bag.features[self.stage] for bag in bags if len(bag)]).astype(float)
        deviation = vectors.std(axis=0)
        self.mean.copy_(torch.from_numpy(vectors.mean(axis=0)))
        self.deviation.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1)))

    def forward(self, batch: Batch) -> Tensor:
        assert batch.kinds is not None
        vectors = ((self._of(batch) - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)
        form = torch.cat([batch.shapes, batch.points / POINT_MM], dim=1)
        joined: Tensor = self.join(self.vector(vectors) + self.form(form) + self.kind(batch.kinds))
        return joined

    def _of(self, batch: Batch) -> Tensor:
        vectors = batch.features.get(self.stage)
        if vectors is None and not len(batch.points):
            return self.mean.new_zeros((0, self.channels))  # nobody in the batch has a node
        if vectors is None:
            raise InputError.of(f"the nodes have no features of {self.stage}", LNMTrainerMaskGate.name, REMEDY)
        if vectors.shape[1] != self.channels:
            what = f"the nodes have {vectors.shape[1]} features of {self.stage}, the head learned from {self.channels}"
            raise InputError.of(what, LNMTrainerMaskGate.name, "give it features of the network it belongs to")
        return vectors


class AttendedScores(nn.Module):
    """As LNMTrainerABMIL has it: the attended mean of the instances' scores."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.pool = GatedPooling(hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, batch: Batch, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.pool(batch.laid_out(vectors), batch.present)
        scores = batch.laid_out(self.score(vectors)[:, 0])
        return (attention * scores).sum(dim=1), scores, attention


class BagTransformer(nn.Module):
    """A token reads the instances, which have no order. An instance's own logit is that of a bag of it alone, so it needs no
    label of its own and means the same; its attention is how much the token looks at it in the last layer."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(hidden))
        self.layers = nn.ModuleList(Layer(hidden) for _ in range(layers))
        self.score = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 1))

    def forward(self, batch: Batch, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, attention = self._read(batch.laid_out(vectors), batch.present)
        alone, _ = self._read(vectors[:, None], batch.present.new_ones((len(vectors), 1)))
        return score, batch.laid_out(alone), attention

    def _read(self, vectors: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Bags x places x hidden to a score and an attention for each bag."""
        tokens = torch.cat([self.token.expand(len(vectors), 1, -1), vectors], dim=1)
        absent = functional.pad(~present, (1, 0), value=False)
        weights = tokens.new_zeros((len(tokens), tokens.shape[1]))
        for layer in self.layers:
            tokens, weights = layer(tokens, absent)
        looked = weights[:, 1:] * present
        return self.score(tokens[:, 0])[:, 0], looked / looked.sum(dim=1, keepdim=True).clamp_min(1e-12)


class Layer(nn.Module):
    """Everybody looks at everybody who is there, then thinks."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.before_looking, self.before_thinking = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.look = nn.MultiheadAttention(hidden, HEADS, dropout=0.1, bias=False, batch_first=True)
        self.think = nn.Sequential(
            nn.Linear(hidden, WIDER * hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(WIDER * hidden, hidden), nn.Dropout(0.1)
        )

    def forward(self, tokens: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens after, and how much the first looked at each."""
        given = self.before_looking(tokens)
        looked, weights = self.look(given, given, given, key_padding_mask=absent)
        tokens = tokens + looked
        return tokens + self.think(self.before_thinking(tokens)), weights[:, 0]
