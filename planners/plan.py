"""The plan file: nnU-Net's plans with one key of our own, `"lnauto"`."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnauto.compat.names import check_names
from lnauto.data.region import REGIONS, region_of
from lnauto.data.scans import way_to_lie
from lnauto.errors import InputError
from lnauto.files import ANY, NUMBER, misfit, read_json, write_json

PLANS_NAME = "lnautoPlans"
CONFIGURATION = "3d_fullres"

# What preprocessing depends on; anything else in the plan may be edited without making the data anew.
_GLOBAL_KEYS = ("transpose_forward", "foreground_intensity_properties_per_channel", "image_reader_writer")
_CONFIGURATION_KEYS = (
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)
# What any plan is, and what a network is trained by.
_FORM = {"plans_name": str, "dataset_name": str, "configurations": {ANY: dict}, "lnauto": dict}
_OR_NONE = (dict, type(None))
_BUDGET_FORM = {  # of minutes and epochs the other may be none
    "minutes": (*NUMBER, type(None)),
    "epochs": (*NUMBER, type(None)),
    "iterations_per_epoch": NUMBER,
    "validation_iterations": NUMBER,
}
_BLOCK_FORM = {  # of what is there
    "strategy": str,
    "trainer": (str, type(None)),
    "patient_head": _OR_NONE,
    "trusted_background": _OR_NONE,
    "pretraining": _OR_NONE,
    "foundation": _OR_NONE,
    "budget": _OR_NONE,
    "region": str,
}
_CONFIGURATION_FORM = {
    "data_identifier": str,
    "patch_size": [int],
    "spacing": [NUMBER],
    "batch_size": int,
    "normalization_schemes": [str],
    "architecture": {"network_class_name": str, "arch_kwargs": {"strides": [[int]]}, "_kw_requires_import": [str]},
}


def hash_of(content: object) -> str:
    """A short hash of what JSON can say."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Plan:
    """A plan as it stands in the file."""

    content: dict[str, Any]

    @classmethod
    def load(cls, path: Path, remedy: str) -> Plan:
        content = read_json(path, remedy)
        if not isinstance(content, dict) or "lnauto" not in content:
            raise InputError.of('this plan has no "lnauto" block, so lnauto did not make it', path, remedy)
        what = misfit(content, _FORM)
        if what is None:
            there = {key: form for key, form in _BLOCK_FORM.items() if key in content["lnauto"]}
            what = misfit(content["lnauto"], there, "lnauto")
        if what is not None:
            raise InputError.of(what, path, remedy)
        return cls(content)

    def save(self, path: Path) -> None:
        write_json(path, self.content)

    @property
    def lnauto(self) -> dict[str, Any]:
        return self.content["lnauto"]

    @property
    def is_table(self) -> bool:
        """Whether it plans for a table alone: there are no images, so nothing is preprocessed."""
        return self.content.get("configurations") == {}

    @property
    def on_blocks(self) -> bool:
        """Whether it plans a patient head on blocks of scans alone: there are no masks, so no network is trained."""
        return (self.lnauto.get("patient_head") or {}).get("masks") == "none"

    def configuration(self, name: str) -> dict[str, Any]:
        configurations = self.content["configurations"]
        if name not in configurations:
            there = ", ".join(configurations)
            raise InputError.of(
                f"the plan has no configuration {name} (it has {there or 'none'})",
                f"{self.content['plans_name']}.json of {self.content['dataset_name']}",
                f"leave -c out, or give -c {next(iter(configurations))}" if there else "plan again",
            )
        return configurations[name]

    def check(self, configuration: str, path: Path) -> None:
        """Whether a plan that was edited by hand can be trained; what is wrong is told."""
        check_names(self.content)
        chosen = self.configuration(configuration)
        missing = [key for key in ("strategy", "trainer", "budget") if key not in self.lnauto]
        missing += [f"budget.{key}" for key in _BUDGET_FORM if key not in (self.lnauto.get("budget") or {})]
        trusted = self.lnauto.get("trusted_background") or {}
        missing += [f"trusted_background.{key}" for key in ("low", "high", "region") if trusted and key not in trusted]
        pretraining = self.lnauto.get("pretraining")
        missing += ["pretraining.share"] if pretraining is not None and "share" not in pretraining else []
        missing += [key for key in ("patch_size", "batch_size", "spacing", "architecture") if key not in chosen]
        if missing:
            raise InputError.of(f"the plan lacks {', '.join(missing)}", path, "put it back, or plan again")
        for place, block, form in (
            ("lnauto.budget", self.lnauto["budget"], _BUDGET_FORM),
            (configuration, chosen, _CONFIGURATION_FORM),
        ):
            if (what := misfit(block, form, place)) is not None:
                raise InputError.of(what, path, "correct it, or plan again")
        _check_budget(self.lnauto["budget"], path)
        architecture = chosen["architecture"]["arch_kwargs"]
        sides = {"patch_size": chosen["patch_size"], "spacing": chosen["spacing"], "batch_size": [chosen["batch_size"]] * 3}
        for key, values in sides.items():
            if len(values) != 3 or not all(0 < value < math.inf for value in values):
                remedy = f"write a number above 0{' for each of three axes' if key != 'batch_size' else ''}"
                raise InputError.of(f"{key} is {json.dumps(chosen[key])}", path, remedy)
        if not architecture["strides"] or any(len(one) != 3 or min(one) < 1 for one in architecture["strides"]):
            what = f"the network's strides are {json.dumps(architecture['strides'])}"
            raise InputError.of(what, path, "write three whole numbers from 1 for each of its stages")
        regions = {region_of(self.content), trusted.get("region", "none")}
        if unknown := sorted(regions - set(REGIONS)):
            raise InputError.of(f"there is no region {unknown[0]} (there: {', '.join(REGIONS)})", path, "write one of them")
        strides = architecture["strides"]
        divisors = [math.prod(stride[axis] for stride in strides) for axis in range(len(chosen["patch_size"]))]
        if any(side % divisor for side, divisor in zip(chosen["patch_size"], divisors, strict=True)):
            raise InputError.of(
                f"the network cannot pool a patch of {chosen['patch_size']}: its sides must be multiples of {divisors}",
                path,
                "change patch_size, or the network's strides",
            )

    def data_hash(self, configuration: str, labels: dict[str, Any]) -> str:
        """What preprocessed data depend on, as a short hash."""
        trusted = self.lnauto.get("trusted_background")
        return hash_of({**self._image_made_of(configuration), "labels": labels, "trusted_background": trusted})

    def image_hash(self, configuration: str) -> str:
        """The same for images alone."""
        return hash_of(self._image_made_of(configuration))

    def _image_made_of(self, configuration: str) -> dict[str, Any]:
        chosen = self.configuration(configuration)
        orientation = way_to_lie(self.content)
        turned = orientation != self.lnauto.get("evidence", {}).get("orientation", {}).get("value")
        return {
            "plan": {key: self.content[key] for key in _GLOBAL_KEYS},
            "configuration": {key: chosen[key] for key in _CONFIGURATION_KEYS},
            "region": region_of(self.content),
            **({"orientation": orientation} if turned else {}),
        }

    def hash(self) -> str:
        return hash_of(self.content)

    def explain(self) -> str:
        """The decisions and their reasons, for a person."""
        block = self.lnauto
        lines = [f"Plan for {self.content['dataset_name']} (lnauto {block['version']})"]
        for name, reason in block["reasons"].items():
            lines.append(f"  {name + ':':14s}{reason}")
        return "\n".join(lines)


def _check_budget(budget: dict[str, Any], path: Path) -> None:
    """Whether there is a length, in epochs that train and validate."""
    for key in ("epochs", "iterations_per_epoch", "validation_iterations"):
        value = budget[key]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError.of(f"lnauto.budget.{key} is {value}", path, "write a whole number from 1")
    if budget["minutes"] is None and budget["epochs"] is None:
        what = "lnauto.budget says neither minutes nor epochs"
        raise InputError.of(what, path, "write one of them, or plan again")
