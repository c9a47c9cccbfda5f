"""`Head`: a trained patient head on images, as a prediction needs it and as it lies on disk.

It is several networks (members), each of which was kept from a part of the training patients; their mean answer counts. On disk
it is `head.json`, which can be read, and `head.pth`, tensors that load as data.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lnauto.errors import InputError
from lnauto.files import read_json, replacing, write_json
from lnauto.trainers.patient.bag import Bag
from lnauto.trainers.patient.crops import CropPlan
from lnauto.trainers.patient.decision import Calibrator, Floats, Threshold
from lnauto.trainers.patient.reader import Reader

DESCRIPTION, WEIGHTS = "head.json", "head.pth"
AT_ONCE = 8  # patients


@dataclass(frozen=True, eq=False)
class Reading:
    """What is said of one patient."""

    logit: float
    instance_logits: Floats
    attention: Floats
    told: dict[str, Any] = field(default_factory=dict)  # what a method says besides, such as how strange the crops are


@dataclass(frozen=True, eq=False)
class Member:
    """One network, and how it reads."""

    reader: Reader
    settings: dict[str, Any]  # from which the network is built again
    network: nn.Module

    def read(self, bags: Sequence[Bag]) -> list[Reading]:
        found: list[Reading] = []
        for start in range(0, len(bags), AT_ONCE):
            some = bags[start : start + AT_ONCE]
            with torch.no_grad():
                batch = self.reader.batch(some)
                output = self.network(batch)
            said = getattr(self.network, "tell", None)
            more = said(batch) if said is not None else [{} for _ in some]
            found += [
                Reading(
                    float(output.logit[row]),
                    output.instance_logits[row, : len(bag)].double().numpy(),
                    output.attention[row, : len(bag)].double().numpy(),
                    more[row],
                )
                for row, bag in enumerate(some)
            ]
        return found


@dataclass(frozen=True, eq=False)
class Head:
    """Members, and what turns their logit into what a clinic reads."""

    trainer: str
    members: tuple[Member, ...]
    crops: CropPlan
    calibrator: Calibrator
    threshold: Threshold
    patients: tuple[str, ...]  # it was trained on
    inner: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def dropped(self) -> dict[str, str]:
        """Clinical columns that no member learns from, and why."""
        learned = {column.name for member in self.members for column in member.reader.columns}
        return {name: why for member in self.members for name, why in member.reader.dropped.items() if name not in learned}

    def read(self, bags: Sequence[Bag]) -> list[Reading]:
        """The members' mean answer for each patient."""
        return [_mean(each) for each in zip(*(member.read(bags) for member in self.members), strict=True)]

    def logit(self, bags: Sequence[Bag]) -> Floats:
        return np.array([reading.logit for reading in self.read(bags)])

    def probability(self, bags: Sequence[Bag]) -> Floats:
        """Calibrated."""
        return self.calibrator.probability(self.logit(bags))

    def save(self, folder: Path) -> None:
        weights = {
            f"{place}.{name}": tensor.detach().cpu().clone()
            for place, member in enumerate(self.members)
            for name, tensor in member.network.state_dict().items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as temporary:
            torch.save(weights, temporary)
            (folder / DESCRIPTION).unlink(missing_ok=True)  # after a kill, new weights are not read as an earlier head says
        write_json(folder / DESCRIPTION, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> Head:
        from lnauto.trainers.patient import find_bag_trainer

        path = folder / DESCRIPTION
        stored = read_json(path, "train again")
        try:
            trainer = find_bag_trainer(stored["trainer"])
            weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
            members = []
            for place, member in enumerate(stored["members"]):
                network = trainer.build(member["settings"])
                own = f"{place}."
                network.load_state_dict({name.removeprefix(own): t for name, t in weights.items() if name.startswith(own)})
                members.append(Member(Reader.from_json(member["reader"]), member["settings"], network.eval()))
            size, step, slices = (stored["crops"][key] for key in ("size", "step", "slices"))
            return cls(
                trainer=stored["trainer"],
                members=tuple(members),
                crops=CropPlan(tuple(size), tuple(step), slices),
                calibrator=Calibrator(**stored["calibrator"]),
                threshold=Threshold(**stored["threshold"]),
                patients=tuple(stored["patients"]),
                inner=stored["inner"],
                provenance=stored["provenance"],
            )
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            told = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
            raise InputError.of(f"this is no head that can be read ({told})", path, "train again") from error

    def to_json(self) -> dict[str, Any]:
        return {
            "trainer": self.trainer,
            "members": [{"reader": member.reader.to_json(), "settings": member.settings} for member in self.members],
            "crops": {"size": list(self.crops.size), "step": list(self.crops.step), "slices": self.crops.slices},
            "calibrator": self.calibrator.to_json(),
            "threshold": self.threshold.to_json(),
            "patients": list(self.patients),
            "inner": self.inner,
            "provenance": self.provenance,
        }


def _mean(readings: Sequence[Reading]) -> Reading:
    told: dict[str, Any] = {}
    for name in readings[0].told:
        told[name] = float(np.mean([reading.told[name] for reading in readings]))
    return Reading(
        float(np.mean([reading.logit for reading in readings])),
        np.mean([reading.instance_logits for reading in readings], axis=0),
        np.mean([reading.attention for reading in readings], axis=0),
        told,
    )
