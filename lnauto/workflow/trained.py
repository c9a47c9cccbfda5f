"""A trained model as it is given away: which files make it, and what is left out of them.

Left out are the optimiser's state, the history, and names: those of patients and cases, and folders of this machine.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from lnauto.errors import InputError
from lnauto.files import read_json, write_json, writing
from lnauto.paths import TRAIN_IT, activate, find_dataset
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.workflow.archive import is_model_name, opened, outside
from lnauto.workflow.head_files import DESCRIPTION
from lnauto.workflow.predict import Request as Wanted
from lnauto.workflow.predict import model_folder

FINAL = "checkpoint_final.pth"
WITH_CASES = ("dataset", "unannotated", "training", "test")  # keys of dataset.json that name cases
REMEDY = "train again, or give the whole result folder"
OF_TABLE = "table"


@dataclass(frozen=True)
class Trained:
    """The folds of one model."""

    folder: Path
    folds: tuple[str, ...]
    has_network: bool
    with_heads: bool = True

    @classmethod
    def find(cls, wanted: Wanted, with_heads: bool = True) -> Trained:
        """The model that is meant, and its folds: as a prediction would choose them."""
        if wanted.model is not None:
            wanted = replace(wanted, model=opened(wanted.model))
        folder = _table(wanted) or model_folder(wanted)
        networks = {path.parent.name for path in folder.glob(f"fold_*/{FINAL}")}
        heads = {path.relative_to(folder).parts[0] for path in folder.glob(f"fold_*/**/{DESCRIPTION}")}
        there = sorted(name.removeprefix("fold_") for name in networks or heads)
        folds = tuple(dict.fromkeys(wanted.folds or [fold for fold in there if fold != "all"] or there))
        if missing := [fold for fold in folds if fold not in there]:
            what = f"fold {', '.join(missing)} is not trained (there: {', '.join(there)})"
            raise InputError.of(what, folder, "train it with lnauto_train, or give -f")
        return cls(folder, folds, bool(networks), with_heads)

    @cached_property
    def plans(self) -> dict[str, Any]:
        return dict(_without_folders(Plan.load(self.folder / "plans.json", REMEDY).content))

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """Empty for a table."""
        if not self.plans["configurations"]:
            return {}
        content = read_json(self.folder / "dataset.json", REMEDY)
        return {key: _without_folders(value) for key, value in content.items() if key not in WITH_CASES}

    @property
    def name(self) -> str:
        """Of the model's folder, in the form in which nnU-Net has it."""
        parts = (self.plans["lnauto"]["trainer"], self.plans["plans_name"], CONFIGURATION)
        return self.folder.name if is_model_name(self.folder.name) else "__".join(parts)

    @property
    def configuration(self) -> dict[str, Any]:
        """That of the plan under which the network was trained."""
        name = self.first["init_args"]["configuration"] if self.has_network else CONFIGURATION
        return dict(self.plans["configurations"][name])

    @cached_property
    def first(self) -> dict[str, Any]:
        """The first fold's checkpoint."""
        return self.checkpoint(self.folds[0])

    def checkpoint(self, fold: str) -> dict[str, Any]:
        """What prediction reads of a fold's checkpoint."""
        return lean(self.folder / f"fold_{fold}" / FINAL, self.plans, self.dataset_json)

    @property
    def head_folders(self) -> list[Path]:
        """Of the chosen folds, those with a head in them."""
        found = {path.parent for fold in self.folds for path in self.folder.glob(f"fold_{fold}/*/{DESCRIPTION}")}
        tables = {path.parent for fold in self.folds for path in self.folder.glob(f"fold_{fold}/{DESCRIPTION}")}
        return sorted(found | tables) if self.with_heads else []

    def write(self, target: Path) -> None:
        """The model's folder again, with what prediction needs."""
        import torch

        write_json(target / "plans.json", self.plans)
        if self.dataset_json:
            write_json(target / "dataset.json", self.dataset_json)
        for fold in self.folds if self.has_network else ():
            (target / f"fold_{fold}").mkdir()
            with writing(target / f"fold_{fold}" / FINAL):
                torch.save(self.checkpoint(fold), target / f"fold_{fold}" / FINAL)
        for head in self.head_folders:
            self._write_head(head, target / head.relative_to(self.folder))

    def _write_head(self, head: Path, target: Path) -> None:
        """A head, its parts, and the networks they read features of."""
        import torch

        content = read_json(head / DESCRIPTION, "train again")
        for part in [head, *sorted(head.glob("part_*"))]:
            stored = read_json(part / DESCRIPTION, "train again")
            if outside(stored):
                what = f"the head reads {Path(outside(stored)[0]).name}, which is no part of the model"
                raise InputError.of(what, part, "leave patient heads out with --without-heads, or train another head")
            patients: dict[str, list[str]] = {"patients": []} if "patients" in stored else {}
            write_json(target / part.relative_to(head) / DESCRIPTION, _without_folders({**stored, **patients}))
            if (part / "head.pth").is_file():
                shutil.copyfile(part / "head.pth", target / part.relative_to(head) / "head.pth")
        for network in content.get("networks") or ():
            checkpoint = (target / network).resolve()
            if not checkpoint.is_file():
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                with writing(checkpoint):
                    torch.save(lean((head / network).resolve()), checkpoint)


def lean(path: Path, plans: dict[str, Any] | None = None, dataset_json: dict[str, Any] | None = None) -> dict[str, Any]:
    """A checkpoint's weights and what is needed to build their network; plan and labels are its own unless given."""
    from lnauto.inference.model import load_checkpoint

    content = load_checkpoint(path)
    made = content["init_args"]
    cleaned = {key: value for key, value in made["dataset_json"].items() if key not in WITH_CASES}
    return {
        "network_weights": content["network_weights"],
        "init_args": {
            "plans": plans or _without_folders(made["plans"]),
            "configuration": made["configuration"],
            "fold": made["fold"],
            "dataset_json": dataset_json or _without_folders(cleaned),
        },
        "trainer_name": content["trainer_name"],
        "inference_allowed_mirroring_axes": content.get("inference_allowed_mirroring_axes"),
    }


def _table(wanted: Wanted) -> Path | None:
    """The model of a table alone that is meant, if it is one."""
    if wanted.model is not None:
        folders = [wanted.model]
    elif wanted.dataset is not None:
        results = activate().results
        folders = sorted((results / find_dataset(wanted.dataset, results, remedy=TRAIN_IT)).glob(f"*__*__{OF_TABLE}"))
    else:
        return None
    return next((folder for folder in folders if any(folder.glob(f"fold_*/{DESCRIPTION}"))), None)


def _without_folders(content: Any) -> Any:
    """The same, with paths cut to the last name in them."""
    if isinstance(content, dict):
        return {key: _without_folders(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_folders(value) for value in content]
    if isinstance(content, str):
        kind = next((kind for kind in (PurePosixPath, PureWindowsPath) if kind(content).is_absolute()), None)
        return kind(content).name if kind is not None and "\n" not in content else content
    return content
