"""Foundation models that were imported: stored by name, plain enough to be loaded as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.files import read_json, replacing_folder, sha256_of, write_json, writing
from lnauto.inference.model import build_network, load_checkpoint
from lnauto.networks.build import Undrawn

FOUNDATIONS = "foundations"  # the folder among the results
DESCRIPTION, PLANS, DATASET, WEIGHTS = "foundation.json", "plans.json", "dataset.json", "weights.pth"
# The name becomes part of a plan's name, and nnU-Net splits a result folder's name at every double underscore.
NAME = re.compile(r"(?!.*__)[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9-])?")
IMPORT_AGAIN = "import the model again with lnauto_import_model --overwrite"
_KEYS = ("name", "trainer", "configuration", "sha256")


@dataclass(frozen=True)
class Foundation:
    """A model to start from. Its plans hold one configuration, complete and in nnU-Net's present form."""

    folder: Path
    name: str
    plans: dict[str, Any]
    configuration: str
    dataset_json: dict[str, Any]
    trainer: str

    @classmethod
    def load(cls, folder: Path) -> Foundation:
        description = read_description(folder)
        return cls(
            folder=folder,
            name=description["name"],
            plans=read_json(folder / PLANS, IMPORT_AGAIN),
            configuration=description["configuration"],
            dataset_json=read_json(folder / DATASET, IMPORT_AGAIN),
            trainer=description["trainer"],
        )

    @property
    def description(self) -> dict[str, Any]:
        """What foundation.json says: source, channels, labels, spacing, patch and the like."""
        return read_description(self.folder)

    def weights(self) -> dict[str, Tensor]:
        """Of the plain network, as they were stored."""
        path = self.folder / WEIGHTS
        content = load_checkpoint(path)
        if sha256_of(path) != self.description["sha256"]:
            raise InputError.of("the weights are not those that were imported", path, IMPORT_AGAIN)
        return dict(content["network_weights"])

    def network(self) -> nn.Module:
        """The plain network, with its weights, ready to predict."""
        from lnauto.compat.plans import read_plans

        with Undrawn():
            network = build_network(read_plans(self.plans), self.configuration, self.dataset_json, deep_supervision=False)
        try:
            network.load_state_dict(self.weights())
        except RuntimeError as error:
            raise InputError.of("the weights do not fit the network of plans.json", self.folder, IMPORT_AGAIN) from error
        return network.eval()


def read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    description = read_json(path, IMPORT_AGAIN)
    missing = [key for key in _KEYS if not isinstance(description, dict) or not isinstance(description.get(key), str)]
    if missing:
        raise InputError.of(f"the description of this foundation model lacks {', '.join(missing)}", path, IMPORT_AGAIN)
    return dict(description)


def foundation_folder(name: str, results: Path) -> Path:
    """Where the model of that name lies, or would."""
    if NAME.fullmatch(name) is None:
        raise InputError.of(
            f"{name!r} cannot be the name of a foundation model",
            "--name",
            "use letters, digits, - and single underscores within, 64 at most",
        )
    return results / FOUNDATIONS / name


def find_foundations(results: Path) -> list[str]:
    """The names of all that were imported."""
    return sorted(path.parent.name for path in (results / FOUNDATIONS).glob(f"[!.]*/{DESCRIPTION}"))


def find_foundation(name: str, results: Path) -> Foundation:
    """The model imported under that name."""
    there = find_foundations(results)
    if name not in there:
        raise InputError.of(
            f"there is no foundation model {name} (there: {', '.join(there) or 'none'})",
            results / FOUNDATIONS,
            "import it with lnauto_import_model, or give one of these",
        )
    return Foundation.load(results / FOUNDATIONS / name)


def store_foundation(
    folder: Path,
    description: dict[str, Any],
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    weights: dict[str, Tensor],
) -> Foundation:
    """Write everything beside the place it belongs to, then move it there; what was there goes then, not before."""
    with replacing_folder(folder) as temporary:
        with writing(folder / WEIGHTS):
            torch.save({"network_weights": weights}, temporary / WEIGHTS)
        write_json(temporary / PLANS, plans)
        write_json(temporary / DATASET, dataset_json)
        write_json(temporary / DESCRIPTION, {**description, "name": folder.name, "sha256": sha256_of(temporary / WEIGHTS)})
    return Foundation.load(folder)
