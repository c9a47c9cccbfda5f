"""`Bag`: one patient as every head on images sees it, and several of them as one batch.

A bag holds instances: lymph nodes, as a crop of the image each, or, where there is no mask, blocks of the region. How many
there are differs from patient to patient, so a batch says of each place whether there is an instance (`Batch.present`), and
what is computed of crops is computed of those that are there alone: padding cannot leak into anything.

Points are (x, y, z) in mm, LPS, from the middle of the image that the plan looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NODE, REGION = 0, 1  # kinds of instances
SIDES = {"L": 1.0, "R": -1.0}  # where x grows
SHAPES = ("log volume in ml", "long axis in mm", "short axis in mm", "short to long axis", "height to long axis", "compactness")
"""What is measured of an instance's form; compactness is the volume as a share of the ball round the long axis."""

SHORT_AXIS, LONG_AXIS = (SHAPES.index(f"{which} axis in mm") for which in ("short", "long"))

SIGNS = (
    "mean",
    "spread",
    "5th percentile",
    "25th percentile",
    "median",
    "75th percentile",
    "95th percentile",
    "core less rim",
    "round it",
)
"""What is measured of an instance's intensities, in every channel (signs.py)."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class View:
    """The whole region at low resolution: what is round the nodes."""

    image: Floats  # channels, z, y, x
    nodes: Floats  # z, y, x: the part of each voxel that is node
    to_mm: NDArray[np.float64]  # 4 x 4, from a voxel (z, y, x) to a point


@dataclass(frozen=True, eq=False)
class Bag:
    """One patient."""

    patient: str
    crops: Floats  # instances, channels, z, y, x: intensities as the plan normalises them
    masks: Floats  # instances, z, y, x: which voxels are the instance
    shapes: Floats  # instances, SHAPES
    signs: Floats  # instances, SIGNS of every channel
    points: Floats  # instances, 3: the middle of each
    kinds: NDArray[np.int64]
    sources: tuple[tuple[str, int], ...]  # of each instance, the case and the number of the node there
    row: Mapping[str, Any] = field(default_factory=dict)  # clinical columns; NaN or None is missing
    label: int | None = None
    view: View | None = None
    features: Mapping[str, Floats] = field(default_factory=dict)  # of a network's stage: instances, channels

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def towards(self) -> Floats:
        """How far each instance lies on the tumour's side, in mm; below 0: on the other one; 0 where the side is not known."""
        side = SIDES.get(str(self.row.get("tumour_side")), 0.0)
        return np.asarray(side * self.points[:, 0], np.float32)

    def take(self, chosen: Sequence[int] | NDArray[np.int64]) -> Bag:
        """Some of the instances, in the order given."""
        at = np.asarray(chosen, np.int64)
        arrays = {name: getattr(self, name)[at] for name in ("crops", "masks", "shapes", "signs", "points", "kinds")}
        features = {stage: values[at] for stage, values in self.features.items()}
        return replace(self, **arrays, features=features, sources=tuple(self.sources[place] for place in at))


@dataclass(frozen=True, eq=False)
class Batch:
    """Several bags; instances lie at (bag, place), those that are there one after the other in `crops` and the like."""

    crops: Tensor  # there, channels, z, y, x
    masks: Tensor  # there, 1, z, y, x
    shapes: Tensor  # there, SHAPES, standardised
    signs: Tensor  # there, SIGNS of every channel, standardised
    points: Tensor  # there, 3
    towards: Tensor  # there: mm on the tumour's side
    present: Tensor  # bags, places: bool
    clinical: Tensor  # bags, numbers: encoded; missing is neutral, with an indicator beside it
    label: Tensor  # bags, 0 or 1; NaN: not known
    view: Tensor | None = None  # bags, channels + 1 (the nodes), z, y, x; None if no bag has one
    view_to_mm: Tensor | None = None  # bags, 4, 4; all 0, as the view is, for a bag without one
    features: Mapping[str, Tensor] = field(default_factory=dict)  # there, channels
    kinds: Tensor | None = None  # there

    def laid_out(self, values: Tensor) -> Tensor:
        """What was computed of each instance that is there, at its place; 0 elsewhere."""
        laid = values.new_zeros((*self.present.shape, *values.shape[1:]))
        laid[self.present] = values
        return laid


@dataclass(frozen=True)
class Output:
    """What a head says of a batch."""

    logit: Tensor  # bags
    instance_logits: Tensor  # bags, places
    attention: Tensor  # bags, places: 0 where nothing is; the rest adds up to 1, or to 0 in an empty bag


def collate(bags: Sequence[Bag], shapes: Sequence[Floats], signs: Sequence[Floats], clinical: Floats) -> Batch:
    """One batch of bags with their standardised shapes and signs and encoded clinical rows; an empty bag is allowed."""
    places = max(1, max(len(bag) for bag in bags))
    present = torch.zeros((len(bags), places), dtype=torch.bool)
    for row, bag in enumerate(bags):
        present[row, : len(bag)] = True
    filled = [bag for bag in bags if len(bag)]  # a bag without instances lacks no features
    seen = filled or bags
    stages = set.intersection(*(set(bag.features) for bag in seen))
    views = [bag.view for bag in bags]
    some = next((view for view in views if view is not None), None)
    return Batch(
        crops=_joined([bag.crops for bag in bags]),
        masks=_joined([bag.masks for bag in bags])[:, None],
        shapes=_joined(shapes),
        signs=_joined(signs),
        points=_joined([bag.points for bag in bags]),
        towards=_joined([bag.towards for bag in bags]),
        present=present,
        clinical=torch.from_numpy(np.asarray(clinical, np.float32)),
        label=torch.tensor([float("nan") if bag.label is None else float(bag.label) for bag in bags]),
        view=None if some is None else torch.stack([_with_nodes(view, some) for view in views]),
        view_to_mm=None if some is None else torch.stack([_affine(view) for view in views]),
        features={stage: _joined([bag.features[stage] for bag in seen]) for stage in sorted(stages)},
        kinds=torch.from_numpy(np.concatenate([bag.kinds for bag in bags])),
    )


def _joined(parts: Sequence[Floats]) -> Tensor:
    return torch.from_numpy(np.concatenate([np.asarray(part, np.float32) for part in parts]))


def _with_nodes(view: View | None, like: View) -> Tensor:
    if view is None:
        return torch.zeros((len(like.image) + 1, *like.nodes.shape))
    return torch.from_numpy(np.concatenate([view.image, view.nodes[None]]).astype(np.float32))


def _affine(view: View | None) -> Tensor:
    return torch.zeros((4, 4)) if view is None else torch.from_numpy(view.to_mm.astype(np.float32))
