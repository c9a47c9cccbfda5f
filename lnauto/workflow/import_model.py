"""`lnauto_import_model`: look at a model from elsewhere, say what it is, and store a safe copy under a name."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto import __version__
from lnauto.errors import InputError
from lnauto.inference.model import what_it_lacks
from lnauto.locks import locked_beside
from lnauto.paths import activate
from lnauto.workflow.archive import SUFFIX, opened
from lnauto.workflow.import_source import LABELS_REMEDY, PLANS_REMEDY, USUAL, Source, find_source

if TYPE_CHECKING:
    from lnauto.inference.foundation import Foundation

log = logging.getLogger(__name__)

LABEL_MANAGER = "LabelManager"  # nnU-Net looks for a class of the name that stands in the plans
INTENSITIES = "foreground_intensity_properties_per_channel"
EARLIER_INTENSITIES = "foreground_intensity_properties_by_modality"
NEEDED = ("spacing", "patch_size", "normalization_schemes")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Request:
    """What the command line asks; None: as the model's files say."""

    name: str
    configuration: str | None = None
    fold: str | None = None
    plans: Path | None = None
    dataset_json: Path | None = None
    trust: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Origin:
    """All that is known of a model besides its weights."""

    plans: dict[str, Any]  # in present form, with one configuration
    configuration: str
    dataset_json: dict[str, Any]
    trainer: str
    fold: str | None
    trained: dict[str, int] | None  # epochs or iterations
    mirror_axes: list[int] | None  # None: not known


def import_model(path: Path, request: Request) -> Foundation:
    """Check everything, then store it; nothing of a model that was refused is left."""
    folder = _place(request)
    with locked_beside(folder):
        return _import_model(path, folder, request)


def _import_model(path: Path, folder: Path, request: Request) -> Foundation:
    from lnauto.inference.foreign import find_weights, load_strictly, read_foreign, unwrap
    from lnauto.inference.foundation import store_foundation

    path = opened(path) if path.suffix == SUFFIX else path
    source = find_source(path, request.configuration, request.fold, request.plans, request.dataset_json)
    log.info("Reading %s (%.0f MB).", source.checkpoint, source.checkpoint.stat().st_size / 1e6)
    content, unpickled = read_foreign(source.checkpoint, request.trust)
    told = [*source.told]
    if unpickled:
        told.append("the checkpoint was unpickled, as --trust-checkpoint allows; what is stored needs no unpickling")
    origin = _origin(source, content, request.configuration, told)
    network = _build(origin)
    weights, where_found = find_weights(content, source.checkpoint)
    weights, unwrapped = unwrap(weights, network)
    told += where_found + unwrapped
    load_strictly(network, weights, source.checkpoint, origin.trainer)
    description = {**_describe(origin, source), "parameters": sum(each.numel() for each in network.parameters())}
    description |= {"unpickled": unpickled, "lnauto": __version__}
    foundation = store_foundation(folder, description, origin.plans, origin.dataset_json, network.state_dict())
    log.info("%s", tell(description))
    for line in told:
        log.info("  note:          %s", line)
    log.info("Stored as %s, in %s.", foundation.name, foundation.folder)
    return foundation


def _place(request: Request) -> Path:
    from lnauto.inference.foundation import foundation_folder

    folder = foundation_folder(request.name, activate().results)
    if folder.exists() and not request.overwrite:
        raise InputError.of(
            f"there is a foundation model {request.name} already", folder, "give another --name, or add --overwrite to replace it"
        )
    return folder


# ---- what the files and the checkpoint say


def _origin(source: Source, content: Mapping[str, Any], wanted: str | None, told: list[str]) -> Origin:
    made = content.get("init_args")
    made = made if isinstance(made, Mapping) else {}
    plans = source.plans if source.plans is not None else _plain(made.get("plans"), "plans", source, PLANS_REMEDY)
    labels = source.dataset_json
    labels = labels if labels is not None else _plain(made.get("dataset_json"), "dataset.json", source, LABELS_REMEDY)
    configuration = _configuration(plans, made.get("configuration") or source.configuration, wanted, source)
    ours = content.get("lnauto")
    trained = None
    if isinstance(ours, Mapping) and isinstance(ours.get("iteration"), int):
        trained = {"iterations": ours["iteration"]}
    elif isinstance(content.get("current_epoch"), int):
        trained = {"epochs": content["current_epoch"]}
    axes = content.get("inference_allowed_mirroring_axes")
    fold = made.get("fold", source.fold)
    return Origin(
        plans=_present_form(plans, configuration, source, told),
        configuration=configuration,
        dataset_json=_labels(labels, source),
        trainer=str(content.get("trainer_name") or source.trainer or UNKNOWN),
        fold=None if fold is None else str(fold),
        trained=trained,
        mirror_axes=[int(axis) for axis in axes] if isinstance(axes, (list, tuple)) else None,
    )


def _plain(content: Any, noun: str, source: Source, remedy: str) -> dict[str, Any]:
    """What a checkpoint carries, as JSON would have it."""
    if not isinstance(content, Mapping):
        raise InputError.of(f"there is no {noun} beside the checkpoint, nor in it", source.checkpoint, remedy)
    try:
        return dict(json.loads(json.dumps(content, default=lambda number: number.item())))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError.of(f"the {noun} in the checkpoint cannot be read ({error})", source.checkpoint, remedy) from error


def _configuration(plans: dict[str, Any], own: Any, wanted: str | None, source: Source) -> str:
    there = plans.get("configurations")
    if not isinstance(there, dict) or not there:
        what = "these plans have no configurations, so they are not of nnU-Net v2"
        raise InputError.of(what, source.checkpoint.parent, PLANS_REMEDY)
    if own is not None and wanted not in (None, own):
        raise InputError.of(f"the model was trained in configuration {own}, not {wanted}", source.checkpoint, "leave -c out")
    chosen = own or wanted or (USUAL if USUAL in there or len(there) > 1 else next(iter(there)))
    if not isinstance(chosen, str) or chosen not in there:
        what = f"the plans have no configuration {chosen} (they have {', '.join(there)})"
        raise InputError.of(what, source.checkpoint, "give one of these with -c")
    return chosen


def _present_form(plans: dict[str, Any], configuration: str, source: Source, told: list[str]) -> dict[str, Any]:
    """The plans with this configuration alone, complete, and as nnU-Net writes them today."""
    from lnauto.compat.plans import read_plans
    from lnauto.networks.permitted import permitted

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is told below
            chosen = dict(read_plans(plans).get_configuration(configuration).configuration)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        what = f"nnU-Net cannot read configuration {configuration} of these plans ({type(error).__name__}: {error})"
        remedy = "plan again with a present nnU-Net, and give that with --plans"
        raise InputError.of(what, source.checkpoint.parent, remedy) from error
    chosen.pop("inherits_from", None)
    if missing := [key for key in NEEDED if not isinstance(chosen.get(key), list)]:
        raise InputError.of(f"configuration {configuration} lacks {', '.join(missing)}", source.checkpoint.parent, PLANS_REMEDY)
    _check_kind(configuration, chosen, source)
    if not any("architecture" in each for each in plans["configurations"].values()):
        told.append("the plans are of an older nnU-Net; the network is described in today's form")
    chosen["architecture"] = permitted(chosen["architecture"])
    present = {**plans, "configurations": {configuration: chosen}, "label_manager": LABEL_MANAGER}
    if EARLIER_INTENSITIES in present:
        present.setdefault(INTENSITIES, present.pop(EARLIER_INTENSITIES))
    return present


def _check_kind(configuration: str, chosen: dict[str, Any], source: Source) -> None:
    """Only what looks at whole-resolution volumes by itself can be adapted."""
    kind = what_it_lacks(chosen)
    if kind is None and chosen.get("next_stage"):
        kind = "is the first network of a cascade, at low resolution"
    if kind is not None:
        raise InputError.of(
            f"configuration {configuration} {kind}, and only 3D full-resolution models can be adapted",
            source.checkpoint,
            f"give the model of {USUAL} or the like, if there is one",
        )


def _labels(content: dict[str, Any], source: Source) -> dict[str, Any]:
    content = dict(content)
    if "channel_names" not in content and "modality" in content:
        content["channel_names"] = content.pop("modality")  # nnU-Net v1's word, which v2 still reads
    missing = [key for key in ("channel_names", "labels") if not isinstance(content.get(key), dict) or not content[key]]
    if missing:
        raise InputError.of(f"dataset.json of the model has no {' and no '.join(missing)}", source.checkpoint, LABELS_REMEDY)
    return content


def _build(origin: Origin) -> Any:
    from lnauto.compat.plans import read_plans
    from lnauto.inference.model import build_network

    try:
        return build_network(read_plans(origin.plans), origin.configuration, origin.dataset_json, deep_supervision=False)
    except InputError:
        raise
    except Exception as error:  # whatever a stranger's arguments lead to in a constructor
        name = _configuration_of(origin)["architecture"]["network_class_name"]
        what = f"{name} cannot be built from these plans and labels ({type(error).__name__}: {error})"
        raise InputError.of(what, "the plan's architecture", PLANS_REMEDY) from error


# ---- what it is, for a person and for foundation.json


def _configuration_of(origin: Origin) -> dict[str, Any]:
    return dict(origin.plans["configurations"][origin.configuration])


def _describe(origin: Origin, source: Source) -> dict[str, Any]:
    chosen = _configuration_of(origin)
    return {
        "source": str(source.checkpoint.resolve()),
        "trainer": origin.trainer,
        "configuration": origin.configuration,
        "fold": origin.fold,
        "trained": origin.trained,
        "channels": list(origin.dataset_json["channel_names"].values()),
        "labels": origin.dataset_json["labels"],
        "spacing": chosen["spacing"],
        "patch": chosen["patch_size"],
        "normalisation": chosen["normalization_schemes"],
        "architecture": chosen["architecture"]["network_class_name"],
        "mirror_axes": origin.mirror_axes,
    }


def tell(description: dict[str, Any]) -> str:
    """What a model is, in lines."""
    trained = description["trained"] or {}
    length = ", ".join(f"{number} {noun}" for noun, number in trained.items()) or UNKNOWN
    rows = {
        "network": f"{description['architecture']}, {description['parameters']:,} parameters",
        "channels": ", ".join(
            f"{name} ({scheme})" for name, scheme in zip(description["channels"], description["normalisation"], strict=False)
        ),
        "labels": ", ".join(f"{name} {value}" for name, value in description["labels"].items()),
        "spacing": f"{' x '.join(map(str, description['spacing']))} mm",
        "patch": f"{' x '.join(map(str, description['patch']))} voxels",
        "trainer": description["trainer"],
        "configuration": description["configuration"],
        "fold": description["fold"] or UNKNOWN,
        "trained for": length,
    }
    lines = [f"Model of {description['source']}"]
    return "\n".join([*lines, *(f"  {name + ':':15s}{value}" for name, value in rows.items())])
