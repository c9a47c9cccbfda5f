"""A trained model on disk: nnU-Net's result folder, read as data, never unpickled."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lnauto.data.region import REGIONS, region_of
from lnauto.data.scans import is_orientation
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme
from lnauto.files import ANY, NUMBER, misfit, read_json, sha256_of
from lnauto.inference.sliding_window import TTA
from lnauto.networks.build import Undrawn, build

FINAL = "checkpoint_final.pth"


@dataclass(frozen=True)
class Model:
    """One or several folds, with the plan and labels they were trained under; their weights stay on disk until asked for."""

    folder: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    configuration: str
    folds: list[str]
    checkpoints: list[Path]  # of the folds
    mirror_axes: list[int]
    trainer: str

    @property
    def channels(self) -> int:
        return len(self.dataset_json["channel_names"])

    @property
    def facts(self) -> dict[str, Any]:
        """What says whether weights fit."""
        return {
            "plan": self.plans["configurations"][self.configuration].get("architecture"),
            "labels": self.dataset_json["labels"],
        }

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of the folds' checkpoints, by which weights are known again."""
        return [sha256_of(path) for path in self.checkpoints]

    @property
    def spacing(self) -> list[float]:
        """That images are brought to; a configuration may have its parent's."""
        from lnauto.compat.plans import read_plans

        return [float(side) for side in read_plans(self.plans).get_configuration(self.configuration).spacing]

    def load_network(self, place: int) -> nn.Module:
        """The network of the fold at a place in `folds`, read anew."""
        from lnauto.compat.plans import read_plans

        path = self.checkpoints[place]
        with Undrawn():
            network = build_network(read_plans(self.plans), self.configuration, self.dataset_json, deep_supervision=False)
        weights = _mapped(path)["network_weights"]  # which was looked at when the model was loaded
        if broken := [name for name, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]:
            raise InputError.of(f"the weights hold NaN or infinity (first in {broken[0]})", path, "copy it again, or train again")
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError.of(
                "the weights do not fit the network of plans.json", path, "restore the plans.json it was trained with"
            ) from error
        return network.eval()


def find_models(results: Path) -> list[Path]:
    """Every folder under nnU-Net's results that holds a finished fold, or a patient head that needs no network."""
    networks = {checkpoint.parent.parent for checkpoint in results.glob(f"Dataset*/*__*__*/fold_*/{FINAL}")}
    heads = {description.parents[2] for description in results.glob("Dataset*/*__*__*/fold_*/*/head.json")}
    return sorted(networks | heads)


def trained_folds(folder: Path) -> list[str]:
    return sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{FINAL}"))


def load_model(folder: Path, folds: list[str] | None = None) -> Model:
    """The model in `folder`: the folds asked for, or the one trained on everything, or all numbered folds."""
    if not folder.is_dir():
        raise InputError.of("there is no such folder of a model", folder, "give the folder that holds fold_0 and its like")
    there = trained_folds(folder)
    if folds is None:
        folds = ["all"] if there == ["all"] else [fold for fold in there if fold != "all"]
    missing = [fold for fold in folds if fold not in there]
    if missing or not folds:
        raise InputError.of(
            f"fold {', '.join(missing) or 'any'} is not trained (there: {', '.join(there) or 'none'})",
            folder,
            "train it with lnauto_train, or give -f",
        )
    remedy = "train again, or give the whole result folder with -m"
    plans = read_json(folder / "plans.json", remedy, {"configurations": {ANY: dict}})
    check_wishes(plans, folder / "plans.json")
    dataset_json = read_json(folder / "dataset.json", remedy, {"channel_names": {ANY: str}, "labels": dict})
    LabelScheme.from_dataset_json(folder / "dataset.json")
    paths = [folder / f"fold_{fold}" / FINAL for fold in folds]
    checkpoints = [_load_model_checkpoint(path) for path in paths]
    configuration = checkpoints[0]["init_args"]["configuration"]
    if configuration not in plans["configurations"]:
        what = f"the plans have no configuration {configuration}, in which fold {folds[0]} was trained"
        raise InputError.of(what, folder / "plans.json", remedy)
    if (kind := what_it_lacks(plans["configurations"][configuration])) is not None:
        what = f"configuration {configuration} {kind}, and only volumes are predicted, by one network at a time"
        raise InputError.of(what, folder, "give the model of a 3D configuration")
    return Model(
        folder=folder,
        plans=plans,
        dataset_json=dataset_json,
        configuration=configuration,
        folds=folds,
        checkpoints=paths,
        mirror_axes=list(checkpoints[0].get("inference_allowed_mirroring_axes") or []),
        trainer=str(checkpoints[0]["trainer_name"]),
    )


def what_it_lacks(configuration: Mapping[str, Any]) -> str | None:
    """Why a configuration cannot predict volumes by itself."""
    if len(configuration.get("patch_size", (0, 0, 0))) != 3:  # one that inherits has its parent's
        return "is two-dimensional"
    if configuration.get("previous_stage"):
        return "is the second network of a cascade, which needs the masks of a first"
    return None


def check_wishes(plans: Mapping[str, Any], path: Path) -> None:
    """What lnauto's block of the plans says of prediction, if there is one: a person may have edited it."""
    block = plans.get("lnauto", {})
    wishes = block.get("inference", {}) if isinstance(block, dict) else None
    if not isinstance(wishes, dict):
        raise InputError.of('its "lnauto" block is none of lnauto\'s', path, "restore it, or train again")
    overlap, orientation = wishes.get("overlap", 0), wishes.get("orientation")
    rules = (
        (wishes.get("tta", "none") in TTA, f"tta is {wishes.get('tta')!r}", f"write one of {', '.join(TTA)}"),
        (isinstance(overlap, NUMBER) and 0 <= overlap < 1, f"overlap is {overlap!r}", "write a share from 0 to below 1"),
        (orientation is None or is_orientation(orientation), f"orientation is {orientation!r}", "write three letters like LPS"),
        (region_of(plans) in REGIONS, f"there is no region {region_of(plans)}", f"write one of {', '.join(REGIONS)}"),
    )
    for good, what, remedy in rules:
        if not good:
            raise InputError.of(what, path, remedy)


def load_alone(path: Path) -> Model:
    """The model of one checkpoint, under the plan and labels it was trained with, wherever it lies."""
    checkpoint = _load_model_checkpoint(path)
    made = checkpoint["init_args"]
    return Model(
        folder=path.parent,
        plans=made["plans"],
        dataset_json=made["dataset_json"],
        configuration=made["configuration"],
        folds=[str(made["fold"])],
        checkpoints=[path],
        mirror_axes=list(checkpoint.get("inference_allowed_mirroring_axes") or []),
        trainer=str(checkpoint["trainer_name"]),
    )


def _load_model_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that says what it is the weights of."""
    checkpoint = _mapped(path)
    if (damaged := _damaged_part(path)) is not None:
        raise _damaged(path, damaged)
    form = {"network_weights": {ANY: torch.Tensor}, "init_args": {"configuration": str}, "trainer_name": str}
    if (what := misfit(checkpoint, form)) is not None:
        raise InputError.of(
            f"this checkpoint is of no model: {what}", path, "give the folder that nnU-Net or lnauto trained it in"
        )
    return checkpoint


def _mapped(path: Path) -> dict[str, Any]:
    return load_checkpoint(path, mapped=zipfile.is_zipfile(path))  # PyTorch cannot map its form before 1.6


def load_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """A checkpoint's tensors and plain values; what would have to be unpickled is refused.

    `mapped`: tensors stay in the file until they are looked at.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError.of(
            "this checkpoint was not written by lnauto and would have to be unpickled, which can run any code",
            path,
            "train with lnauto_train",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError.of(
            f"the checkpoint cannot be read ({type(error).__name__})", path, "it may be cut off: copy it again, or train again"
        ) from error
    if not isinstance(content, dict):
        what = f"the checkpoint holds a {type(content).__name__}, and no weights"
        raise InputError.of(what, path, "give the folder that nnU-Net or lnauto trained it in")
    if not mapped and (damaged := _damaged_part(path)) is not None:
        raise _damaged(path, damaged)
    return content


def _damaged(path: Path, part: str) -> InputError:
    return InputError.of(f"the checkpoint is damaged, in its part {part}", path, "copy it again, or train again")


def _damaged_part(path: Path) -> str | None:
    """The first part whose checksum is wrong: torch does not look, and would take other weights for the model's."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip()
    except zipfile.BadZipFile:  # the form before PyTorch 1.6 has no checksums
        return None


def build_network(manager: Any, configuration: str, dataset_json: dict[str, Any], deep_supervision: bool) -> nn.Module:
    """The network a plan describes."""
    from lnauto.compat.plans import determine_num_input_channels

    chosen = manager.get_configuration(configuration)
    channels = determine_num_input_channels(manager, chosen, dataset_json)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    return build(chosen.configuration["architecture"], channels, heads, allow_init=True, deep_supervision=deep_supervision)
