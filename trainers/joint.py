"""`LNTrainerJoint`: masks and the patients' labels are learned from together, by one network.

    L = nnU-Net's segmentation loss + weight * BCE(metastasis)

A patch that holds a drawn node of a patient whose label is known has that label; any other has none, and only its masks teach.
The nodes are read from a shallow feature map of the encoder under the network's own mask, without its gradient: the second loss
reaches the encoder up to there, and neither the decoder nor anything behind the map. What is kept for prediction is the plain
network; the head rides in the checkpoint so that a training goes on (documentation/methods/mask_gate.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from lnauto.data.patient_labels import PatientLabels
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.networks.mask_gate import ENCODER, MaskGate, NodeOutputs, WithMetastasis, middle_stage
from lnauto.paths import activate
from lnauto.trainers.ignore import LNTrainerIgnore
from lnauto.trainers.options import Options

log = logging.getLogger(__name__)

WEIGHT = 0.5  # of the second loss; the paper's is 1, others' 0.5 with a network of nnU-Net's
HEAD_RATE = 1.0  # the head's learning rate, in the network's
FEWEST_VOXELS = 8  # of a node in a patch; what is cut off at its border says nothing


@dataclass(frozen=True)
class JointSettings:
    """`plans["lnauto"]["joint"]`, which a person may edit."""

    stage: str | None = None  # None: a middle one of the encoder
    weight: float = WEIGHT
    head_rate: float = HEAD_RATE

    @classmethod
    def of_plan(cls, plans: Mapping[str, Any]) -> JointSettings:
        given = plans.get("lnauto", {}).get("joint", {})
        where, known = 'the plan\'s "joint"', list(asdict(cls()))
        if unknown := sorted(set(given) - set(known)):
            raise InputError.of(f"there is no setting {unknown[0]}", where, f"give {', '.join(known)}, or leave it out")
        settings = cls(**given)
        for name in ("weight", "head_rate"):
            value = getattr(settings, name)
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise InputError.of(f"{name} is {value!r}", where, "give a number that is not below 0")
        return settings

    def stage_of(self, gate: MaskGate) -> str:
        if self.stage is None:
            return middle_stage(gate)
        stages = [stage for stage in gate.channels if stage.startswith(ENCODER)]
        if self.stage not in stages:  # a decoder's stage would let the second loss into the mask
            remedy = f"give one of {', '.join(stages)}, or leave it out"
            raise InputError.of(f"the encoder has no stage {self.stage}", 'the plan\'s "joint"', remedy)
        return self.stage


class LNTrainerJoint(LNTrainerIgnore):
    """Segmentation and metastasis in one network."""

    def configure(self, options: Options) -> None:
        super().configure(options)
        self.joint = JointSettings.of_plan(self.plans_manager.plans)
        self.epoch_seen: list[float] = []  # loss of every labelled patch since the epoch began
        self.judged: dict[str, list[float]] = {}  # of validation cases, their patches' logits

    # ---- set-up

    def initialize(self) -> None:
        self.labels, self.patients = self.known_labels()
        super().initialize()

    def known_labels(self) -> tuple[dict[str, int], dict[str, str]]:
        """0 or 1 for each case whose patient's label is known, and every case's patient."""
        name = self.plans_manager.dataset_name
        folder = activate().raw / name
        remedy = "put it there, or train with LNTrainer, which needs no label"
        if not (folder / "patients.csv").is_file():
            raise InputError.of("there is no patients.csv with the patients' labels", folder, remedy)
        dataset = RawDataset.read(folder)
        assert dataset.patients is not None
        known, patients = PatientLabels.of(dataset.patients).known, dataset.patient_of
        labels = {case: int(known[patient]) for case, patient in patients.items() if patient in known.index}
        training, _ = self.do_split()
        seen = {labels[case] for case in training if case in labels}
        if len(seen) < 2:
            told = "one label only" if seen else "no label"
            raise InputError.of(
                f"fold {self.fold} trains on patients of whom {told} is known", f"{name}/patients.csv", "train with LNTrainer"
            )
        return labels, patients

    def extend(self, network: nn.Module) -> nn.Module:
        nodes = NodeOutputs.of_description(self.dataset_json)
        joint = WithMetastasis(network, nodes, self.joint.stage_of(MaskGate(network, nodes)))
        training, _ = self.do_split()
        share = float(np.mean([self.labels[case] for case in training if case in self.labels]))
        nn.init.constant_(joint.head.bias, float(np.log(share / (1 - share))))
        return joint.to(self.device)

    def to_train(self, network: nn.Module) -> list[dict[str, Any]]:
        """The head is a group of its own, for its learning rate."""
        assert isinstance(network, WithMetastasis)
        return [
            {"params": list(network.network.parameters()), "times": 1.0},
            {"params": list(network.head.parameters()), "times": self.joint.head_rate},
        ]

    @property
    def bare(self) -> WithMetastasis:
        bare = self.bare_network
        assert isinstance(bare, WithMetastasis)
        return bare

    @property
    def deployed_network(self) -> nn.Module:
        return self.bare.network

    # ---- training

    def _set_learning_rate(self) -> None:
        super()._set_learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] *= group["times"]

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        assert self.compute is not None
        data = self.compute.place(batch["data"])
        target = self._to_device(batch["target"])
        drawn, label = self.labelled(batch["keys"], target)
        self.optimizer.zero_grad(set_to_none=True)
        with self.compute.autocast():
            answer, logit = self.network(data, drawn)
            loss = self.loss(answer, target)
        each = metastasis_loss(logit, label)
        known = (~label.isnan()).sum()
        loss = loss + self.joint.weight * each.sum() / known.clamp_min(1)
        self.take_step(loss)
        self.epoch_seen += each.detach()[~label.isnan()].tolist()
        return {"loss": loss.detach().cpu().numpy()}

    def labelled(self, cases: Any, target: Any) -> tuple[Tensor, Tensor]:
        """Where nodes are drawn in each patch, and the patch's label; NaN: it has none."""
        drawn = self.bare.nodes.drawn(target[0] if isinstance(target, list) else target)
        label = torch.tensor([float(self.labels.get(str(case), "nan")) for case in cases], device=drawn.device)
        return drawn, label.masked_fill(drawn.flatten(1).sum(dim=1) < FEWEST_VOXELS, float("nan"))

    # ---- validation

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As nnU-Net's; of patches with a label the logit as well, which no weight is chosen by."""
        assert self.compute is not None
        found = super().validation_step(batch)
        drawn, label = self.labelled(batch["keys"], self._to_device(batch["target"]))
        if (~label.isnan()).any():
            with torch.no_grad(), self.compute.autocast():
                _, logits = self.bare(self.compute.place(batch["data"]), drawn)
            for case, one, logit in zip(batch["keys"], label.tolist(), logits.tolist(), strict=True):
                if one == one:  # no NaN
                    self.judged.setdefault(str(case), []).append(logit)
        return found

    def more_to_record(self) -> dict[str, Any]:
        told = {
            "metastasis_patches": len(self.epoch_seen),
            "metastasis_loss": float(np.mean(self.epoch_seen)) if self.epoch_seen else None,
            "metastasis_auc": self.auc_of_judged(),
        }
        self.epoch_seen, self.judged = [], {}
        return told

    def auc_of_judged(self) -> float | None:
        """Of the patients in the validation patches, by the mean logit of their nodes' patches; None with one class only."""
        logits: dict[str, list[float]] = {}
        labels: dict[str, int] = {}
        for case, some in self.judged.items():
            logits.setdefault(self.patients[case], []).extend(some)
            labels[self.patients[case]] = self.labels[case]
        if len(set(labels.values())) < 2:
            return None
        return float(roc_auc_score([labels[name] for name in logits], [float(np.mean(some)) for some in logits.values()]))

    # ---- checkpoints

    def more_to_save(self) -> dict[str, Any]:
        return {"joint": asdict(self.joint), "metastasis": self.bare.head.state_dict(), "epoch_seen": self.epoch_seen}

    def before_loading(self, more: dict[str, Any]) -> None:
        """A training goes on as it was begun, whatever the plan says now."""
        self.joint = JointSettings(**more["joint"])

    def load_more(self, more: dict[str, Any]) -> None:
        self.bare.head.load_state_dict(more["metastasis"])
        self.epoch_seen = list(more["epoch_seen"])


def metastasis_loss(logit: Tensor, label: Tensor) -> Tensor:
    """Of each patch; exactly 0, and without a gradient, where the label is not known."""
    known = ~label.isnan()
    each = functional.binary_cross_entropy_with_logits(logit, torch.where(known, label, 0.0), reduction="none")
    return torch.where(known, each, 0.0)
