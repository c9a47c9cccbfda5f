"""Planning under a foundation model: its spacing, intensities, patch and network, for the cases and labels at hand.

A network knows images as it was shown them. So what nnU-Net would choose anew for a data set is taken over here, and what does
not fit is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lnauto.data.description import has_regions
from lnauto.data.raw import RawDataset
from lnauto.data.scans import READS_TURNED, way_to_lie
from lnauto.errors import InputError
from lnauto.planners.budget import Probe, length_for
from lnauto.planners.evidence import Evidence
from lnauto.planners.few_shot import few_shot_budget, few_shot_recipe, gentle_recipe
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.frame import READER, Frame, floats, length_told, times
from lnauto.planners.machine import Machine
from lnauto.planners.plan import CONFIGURATION, PLANS_NAME
from lnauto.planners.wishes import Wishes

if TYPE_CHECKING:
    from lnauto.inference.foundation import Foundation

TURNING_READER = "SimpleITKIOWithReorient"  # turns images as Nibabel's does, and knows of formats and directions what ours knows
NODE = "lymph node"
NODE_NAMES = {"lymph node", "lymphnode", "ln", "node", "nodes", "lymph nodes", "lymphnodes", "lns", "gtvn", "gtv n", "gtvln"}
FAR = 1.0  # standard deviations that drawn nodes may lie from those the model was trained on [our choice]
UNLIKE_WIDTH = 2.0  # how many times wider or narrower their intensities may be [our choice]
TUNE = "dgst:1"  # how a foundation model is adapted to few cases unless a person says otherwise
LARGE_BATCH_VOXELS = 2_000_000  # a CPU takes one such patch at a time [our choice]
KEPT = (
    "patch_size",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
    "resampling_fn_probabilities",
    "resampling_fn_probabilities_kwargs",
    "architecture",
    "batch_dice",
    "preprocessor_name",
    "batch_size",
)


@dataclass(frozen=True)
class Step:
    """What a training step works on; enough to time one."""

    architecture: dict[str, Any]
    patch: list[int]
    batch: int


def plans_name(foundation: str | None) -> str:
    """A data set's plan, and its plan under each foundation model, lie side by side."""
    return PLANS_NAME if foundation is None else f"{PLANS_NAME}_{foundation}"


def frame_under(
    foundation: Foundation,
    strategy: str,
    dataset: RawDataset,
    fingerprint: Fingerprint,
    evidence: Evidence,
    machine: Machine,
    wishes: Wishes,
    probe: Probe | None,
) -> Frame:
    """What the foundation model was trained under, and how long it is adapted."""
    check_channels(foundation, dataset)
    if wishes.spacing is not None:
        remedy = "leave --spacing out, or --pretrained"
        raise InputError.of(f"the foundation model {foundation.name} has its own spacing", "--spacing", remedy)
    name = plans_name(foundation.name)
    forward = [int(axis) for axis in foundation.plans["transpose_forward"]]
    step = step_under(foundation, machine.device, wishes.patch)
    theirs = foundation.plans["configurations"][foundation.configuration]
    channels = list(dataset.channel_names.values())
    intensities = intensities_told(foundation, fingerprint.foreground_intensity_properties_per_channel, channels)
    seconds = probe(step) if probe is not None else None
    cases = evidence.annotated_cases
    if strategy == "few_shot":
        budget, length = few_shot_budget(machine, wishes.minutes, cases, seconds)
        recipe = few_shot_recipe(budget, step.batch, cases)
    else:
        budget = length_for(machine, wishes.minutes, seconds)
        recipe, length = gentle_recipe(budget), length_told(budget)
    spacing = np.array(theirs["spacing"], float)
    median = np.array(fingerprint.shapes_after_crop) * np.array(fingerprint.spacings)
    shape = np.median(median, axis=0)[forward] / spacing
    labels = map_labels(foundation.dataset_json["labels"], dataset.labels)
    of = f"as {foundation.name} was trained"
    in_image_order = [step.patch[forward.index(axis)] for axis in range(3)]
    in_mm = [float(spacing[forward.index(axis)]) for axis in range(3)]
    return Frame(
        name=name,
        forward=forward,
        configuration=configuration_under(foundation, step, f"{name}_{CONFIGURATION}", floats(np.round(shape))),
        intensities=foundation.plans["foreground_intensity_properties_per_channel"],
        reader=TURNING_READER if foundation.plans["image_reader_writer"] in READS_TURNED else READER,
        orientation=way_to_lie(foundation.plans),
        budget=budget,
        recipe=recipe,
        reasons={
            "foundation": f"{foundation.name}, by {foundation.trainer}; labels: {labels_told(labels)}",
            "spacing": f"{times(f'{mm:.3g}' for mm in in_mm)} mm (z, y, x): {of}",
            "patch": f"{times(in_image_order)} voxels, {step.batch} at a time: {'given by --patch' if wishes.patch else of}",
            "intensities": intensities,
            "network": f"{theirs['architecture']['network_class_name'].rsplit('.', 1)[-1]}: {of}",
            "training": length,
        },
        other_networks=[],
        foundation={
            "name": foundation.name,
            "folder": str(foundation.folder),
            "sha256": foundation.description["sha256"],
            "labels": labels,
            "tune": TUNE if strategy == "few_shot" else None,
        },
    )


def step_under(foundation: Foundation, device: str, patch: Sequence[int] | None = None) -> Step:
    """The foundation's own patch (or one that was asked for, in its order of axes) and batch; on a CPU one or two at a time."""
    theirs = foundation.plans["configurations"][foundation.configuration]
    sides = [int(side) for side in theirs["patch_size"]]
    if patch is not None:
        forward = foundation.plans["transpose_forward"]
        strides = theirs["architecture"]["arch_kwargs"]["strides"]
        pooled = [math.prod(stride[axis] for stride in strides) for axis in range(len(sides))]
        sides = [math.ceil(patch[axis] / least) * least for axis, least in zip(forward, pooled, strict=True)]
    batch = int(theirs["batch_size"])
    if device == "cpu":
        batch = 1 if math.prod(sides) * batch > LARGE_BATCH_VOXELS else min(batch, 2)
    return Step(theirs["architecture"], sides, batch)


def configuration_under(foundation: Foundation, step: Step, identifier: str, median_shape: list[float]) -> dict[str, Any]:
    """nnU-Net's configuration for the data set, under the foundation's plan."""
    theirs = foundation.plans["configurations"][foundation.configuration]
    return {
        **{key: theirs[key] for key in KEPT if key in theirs},
        "data_identifier": identifier,
        "batch_size": step.batch,
        "patch_size": step.patch,
        "median_image_size_in_voxels": median_shape,
    }


def check_channels(foundation: Foundation, dataset: RawDataset, flag: str = "--pretrained") -> None:
    """Whether the model takes images of these channels, in this order."""
    theirs = [str(name) for name in foundation.dataset_json["channel_names"].values()]
    ours = list(dataset.channel_names.values())
    told = f"the foundation model {foundation.name} takes {_listed(theirs)}, and {dataset.name} has {_listed(ours)}"
    same = [one.lower() == other.lower() for one, other in zip(theirs, ours, strict=False)]
    if len(theirs) != len(ours):
        remedy = "name the files of the channels it takes in a data set of their own, or give a model of these channels"
        raise InputError.of(told, f"{dataset.name}/dataset.json", f"{remedy}, or leave {flag} out")
    if not all(same) and sorted(map(str.lower, theirs)) == sorted(map(str.lower, ours)):
        raise InputError.of(
            f"{told}: the same in another order", f"{dataset.name}/dataset.json", "number the files in the model's order"
        )
    pairs = [pair for pair, alike in zip(zip(theirs, ours, strict=True), same, strict=True) if not alike]
    mixed = [pair for pair in pairs if "ct" in map(str.lower, pair)]
    if mixed:
        remedy = f'call the channel "{mixed[0][0]}" in dataset.json if it is that, or give a model of these channels'
        raise InputError.of(told, f"{dataset.name}/dataset.json", f"{remedy}, or leave {flag} out")


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} channel{'s' if len(names) > 1 else ''} ({', '.join(names)})"


def map_labels(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, str | None]:
    """For each of our labels the foundation's of the same name, or None: what it says of that label has to be learned.

    Ways to write a name, and those to say "lymph node", are one name where nothing is called the same; each of theirs is taken
    once. Where both have a single foreground label, these are taken for the same. Regions and classes have nothing in common:
    regions answer each for itself, classes together.
    """
    found: dict[str, str | None] = {name: None for name in ours if name != "ignore"}
    if has_regions(theirs) != has_regions(ours):
        return found
    for alike in (str, _words, _plain):
        free = {alike(name): name for name in theirs if name != "ignore" and name not in found.values()}
        for name in found:
            found[name] = free.pop(alike(name), None) if found[name] is None else found[name]
    own, other = ([name for name in labels if name not in ("background", "ignore")] for labels in (ours, theirs))
    if len(own) == len(other) == 1:
        found[own[0]] = other[0]
    return found


def _words(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name.strip().lower())


def _plain(name: str) -> str:
    words = _words(name)
    return NODE if words in NODE_NAMES else words


def labels_told(mapping: Mapping[str, str | None]) -> str:
    parts = [
        f"{own} begins anew" if other is None else own if own == other else f"{own} as its {other}"
        for own, other in mapping.items()
        if own != "background"
    ]
    return ", ".join(parts)


def intensities_told(foundation: Foundation, ours: Mapping[str, Mapping[str, float]], channels: Sequence[str]) -> str:
    """How drawn nodes look beside those the foundation was trained on."""
    schemes = foundation.plans["configurations"][foundation.configuration]["normalization_schemes"]
    theirs = foundation.plans["foreground_intensity_properties_per_channel"]
    parts = []
    for number, (channel, scheme) in enumerate(zip(channels, schemes, strict=True)):
        if scheme != "CTNormalization":
            parts.append(f"{channel} by {scheme}, image by image")
            continue
        known, own = theirs[str(number)], ours.get(str(number))
        told = f"{channel} clipped to {known['percentile_00_5']:.0f} to {known['percentile_99_5']:.0f} HU as the model's"
        if own is not None:
            away = (own["median"] - known["median"]) / max(known["std"], 1e-6)
            wider = own["std"] / max(known["std"], 1e-6)
            far = abs(away) > FAR or not 1 / UNLIKE_WIDTH <= wider <= UNLIKE_WIDTH
            told += f"; nodes here have a median of {own['median']:.0f} HU (s.d. {own['std']:.0f}), "
            told += f"there {known['median']:.0f} ({known['std']:.0f})"
            told += ", which is far apart: check the scale and the phase of contrast" if far else ""
        parts.append(told)
    return "; ".join(parts)
