"""From a preprocessed image and the nodes in it to a patient's bag.

A crop is cut round the middle of each node, in the plan's spacing, so wide that the largest nodes fit with what is round them.
Where slices lie far apart (more than three times the spacing in the plane), a crop is a slice, and a node gives up to three:
the one in which it is largest, and those in which it is at least half as large [rule of the VAE-MLP's released code]. Without
masks the region is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnauto.nodes import Array, measure_nodes
from lnauto.trainers.patient.bag import NODE, REGION, SHAPES, Bag, Floats, View
from lnauto.trainers.patient.signs import signs_of

ROUND_NODES = 1.45  # an extent of so many large nodes' long axes: 32 pixels for one of 22 in VAE-MLP
LEAST_MM = 18.0
MULTIPLE = 8  # voxels
LARGEST = 32  # voxels: beyond, a crop is read at a coarser step [our choice]
FLAT_FROM = 3.0  # of the largest spacing to the smallest
SLICES, PART_OF_LARGEST = 3, 0.5
VIEW = (24, 32, 32)  # voxels of a view; a multiple of 8 along each axis [our choice]
MOST_BLOCKS = 48  # of a region without masks [our choice]
BLOCK = 16  # voxels that a block is read with at most: with 24, a fold takes four times as long [our choice]


@dataclass(frozen=True, eq=False)
class Scene:
    """One preprocessed case, and what is node in it."""

    case: str
    image: Array  # channels, z, y, x
    instances: Array  # z, y, x: 0, or the number of the node
    spacing: tuple[float, float, float]
    to_mm: NDArray[np.float64]  # 4 x 4, from a voxel (z, y, x) to the world (x, y, z), LPS
    forms: Mapping[int, tuple[float, ...]]  # SHAPES of each node, by its number


@dataclass(frozen=True)
class CropPlan:
    """How crops are cut; the same for every patient of a head."""

    size: tuple[int, int, int]  # voxels
    step: tuple[int, int, int]  # of the image's voxels
    slices: bool  # a crop is one slice

    @classmethod
    def of(cls, long_axes_mm: Sequence[float], spacing: Sequence[float]) -> CropPlan:
        """From the sizes of the nodes at hand; without any, for nodes of the least extent."""
        extent = max(ROUND_NODES * float(np.percentile(long_axes_mm, 95)) if len(long_axes_mm) else 0.0, LEAST_MM)
        slices = max(spacing) / min(spacing) > FLAT_FROM
        size, step = [], []
        for axis, side in enumerate(spacing):
            if slices and axis == int(np.argmax(spacing)):
                size.append(1)
                step.append(1)
                continue
            stride = max(1, int(np.ceil(extent / side / LARGEST)))
            size.append(int(np.ceil(extent / side / stride / MULTIPLE)) * MULTIPLE)
            step.append(stride)
        return cls((size[0], size[1], size[2]), (step[0], step[1], step[2]), slices)


BLOCKS = CropPlan((BLOCK, BLOCK, BLOCK), (1, 1, 1), False)
"""How a region without masks is cut: crops of one slice would blur what lies in thick ones."""


def bag_of(
    patient: str,
    scenes: Sequence[Scene],
    plan: CropPlan,
    row: Mapping[str, Any],
    label: int | None,
    with_view: bool = True,
) -> Bag:
    """A patient's bag, from all his cases; points are from the middle of each case's image."""
    parts = [_nodes_of(scene, plan) for scene in scenes]
    return _bag(patient, scenes, parts, row, label, with_view, plan)


def region_bag(
    patient: str, scenes: Sequence[Scene], plan: CropPlan, row: Mapping[str, Any], label: int | None, with_view: bool = True
) -> Bag:
    """The same of a patient without masks: blocks that cover the region, at a coarser step where they would be too many."""
    parts = [_blocks_of(scene, plan) for scene in scenes]
    return _bag(patient, scenes, parts, row, label, with_view, plan)


@dataclass(frozen=True)
class _Part:
    crop: Floats
    mask: Floats
    shape: tuple[float, ...]
    point: NDArray[np.float64]
    kind: int
    source: tuple[str, int]


def _bag(
    patient: str,
    scenes: Sequence[Scene],
    parts: Sequence[list[_Part]],
    row: Mapping[str, Any],
    label: int | None,
    with_view: bool,
    plan: CropPlan,
) -> Bag:
    found = [part for of_scene in parts for part in of_scene]
    channels = scenes[0].image.shape[0] if scenes else 1
    view = None
    if with_view and scenes:
        view = view_of(max(scenes, key=lambda scene: int((scene.instances > 0).sum())))
    crops = _stack([part.crop for part in found], (channels, *plan.size))
    masks = _stack([part.mask for part in found], plan.size)
    return Bag(
        patient=patient,
        crops=crops,
        masks=masks,
        shapes=_stack([np.array(part.shape) for part in found], (len(SHAPES),)),
        signs=signs_of(crops, masks),
        points=_stack([part.point for part in found], (3,)),
        kinds=np.array([part.kind for part in found], np.int64),
        sources=tuple(part.source for part in found),
        row=dict(row),
        label=label,
        view=view,
    )


def _stack(parts: Sequence[Array], shape: tuple[int, ...]) -> Floats:
    return np.stack(parts).astype(np.float32) if parts else np.zeros((0, *shape), np.float32)


def _nodes_of(scene: Scene, plan: CropPlan) -> list[_Part]:
    found = []
    for number in (int(value) for value in np.unique(scene.instances) if value):
        mask = scene.instances == number
        for middle in _middles(mask, np.argwhere(mask), scene.spacing, plan):
            crop, inside = cut(scene.image, middle, plan), cut(mask[None].astype(np.float32), middle, plan)[0]
            found.append(_Part(crop, inside, scene.forms[number], _point(scene, middle), NODE, (scene.case, number)))
    return found


def forms_of(
    instances: Array, spacing: Sequence[float], direction: Sequence[float] | None = None
) -> dict[int, tuple[float, ...]]:
    """SHAPES of every node, by its number; on the image's own grid, for axes are measured in the axial plane, and the plan may
    have turned them."""
    found: dict[int, tuple[float, ...]] = {}
    for node in measure_nodes(instances, spacing, direction=direction):
        ball, height = np.pi / 6 * node.long_axis_mm**3, node.height_mm or 0.0
        found[node.number] = (
            float(np.log(node.volume_mm3 / 1000)),
            node.long_axis_mm,
            node.short_axis_mm,
            node.short_axis_mm / node.long_axis_mm,
            height / node.long_axis_mm,
            node.volume_mm3 / ball,
        )
    return found


def _middles(mask: Array, places: NDArray[np.int64], spacing: Sequence[float], plan: CropPlan) -> list[NDArray[np.float64]]:
    """Where a node is cut: at its middle, or at that of some slices."""
    if not plan.slices:
        return [places.mean(axis=0)]
    axis = int(np.argmax(spacing))
    others = tuple(other for other in range(3) if other != axis)
    areas = mask.sum(axis=others)
    order = [int(place) for place in np.argsort(-areas, kind="stable") if areas[place] >= PART_OF_LARGEST * areas.max()]
    return [places[places[:, axis] == place].mean(axis=0) for place in order[:SLICES]]


def block_layout(shape: Sequence[int], plan: CropPlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many blocks an image is cut into along each axis, and how many voxels one is wide."""
    size, sides = np.asarray(np.array(plan.size) * plan.step, np.int64), np.array(shape)
    while np.prod(counts := np.maximum(np.ceil(sides / size), 1).astype(int)) > MOST_BLOCKS:
        widest = int(np.argmax(counts))
        size[widest] = int(np.ceil(sides[widest] / (counts[widest] - 1)))
    return counts, size


def _blocks_of(scene: Scene, plan: CropPlan) -> list[_Part]:
    shape = np.array(scene.image.shape[1:])
    counts, size = block_layout(scene.image.shape[1:], plan)
    found = []
    for number, place in enumerate(np.ndindex(*counts), start=1):
        middle = (np.array(place) + 0.5) * shape / counts - 0.5
        step = np.maximum(np.ceil(size / np.array(plan.size)), 1).astype(int)
        wider = CropPlan(plan.size, (int(step[0]), int(step[1]), int(step[2])), plan.slices)
        crop = cut(scene.image, middle, wider)
        form = (0.0,) * len(SHAPES)
        found.append(_Part(crop, np.zeros(plan.size, np.float32), form, _point(scene, middle), REGION, (scene.case, number)))
    return found


def cut(array: Array, middle: Sequence[float] | NDArray[np.float64], plan: CropPlan) -> Floats:
    """A crop of channels x z x y x x round a voxel; beyond the border it is 0, every `step` voxels are averaged."""
    wide = [size * step for size, step in zip(plan.size, plan.step, strict=True)]
    starts = [round(float(at) - (width - 1) / 2) for at, width in zip(middle, wide, strict=True)]
    found = np.zeros((array.shape[0], *wide), np.float32)
    there, here = [slice(None)], [slice(None)]
    for start, width, limit in zip(starts, wide, array.shape[1:], strict=True):
        first, last = max(start, 0), min(start + width, limit)
        if last <= first:
            return np.zeros((array.shape[0], *plan.size), np.float32)
        there.append(slice(first, last))
        here.append(slice(first - start, last - start))
    found[tuple(here)] = array[tuple(there)]
    for axis, step in enumerate(plan.step, start=1):
        if step > 1:
            apart = (*found.shape[:axis], found.shape[axis] // step, step, *found.shape[axis + 1 :])
            found = found.reshape(apart).mean(axis=axis + 1)
    return found


def view_of(scene: Scene) -> View:
    """The whole image on a small grid."""
    shape = np.array(scene.image.shape[1:])
    factors = np.array(VIEW) / shape
    image = np.stack([shrunk(channel) for channel in scene.image])
    nodes = shrunk((scene.instances > 0).astype(np.float32))
    scale = np.eye(4)
    scale[:3, :3] = np.diag(1 / factors)
    scale[:3, 3] = 0.5 / factors - 0.5
    return View(image.astype(np.float32), np.clip(nodes, 0, 1).astype(np.float32), _from_middle(scene) @ scale)


def shrunk(array: Array) -> Floats:
    """On the grid of a view, each voxel the mean of what it covers: a node smaller than a voxel does not fall through."""
    for axis, side in enumerate(VIEW):
        edges = np.linspace(0, array.shape[axis], side + 1)[:, None]
        below = np.clip(edges - np.arange(array.shape[axis]), 0, 1)  # which part of each voxel lies before each edge
        covers = np.diff(below, axis=0) * side / array.shape[axis]
        array = np.moveaxis(np.tensordot(covers.astype(np.float32), array, (1, axis)), 0, axis)
    return np.asarray(array, np.float32)


def _point(scene: Scene, middle: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((_from_middle(scene) @ [*middle, 1.0])[:3])


def _from_middle(scene: Scene) -> NDArray[np.float64]:
    """From a voxel to mm from the middle of the image."""
    moved = scene.to_mm.copy()
    moved[:3, 3] -= (scene.to_mm @ [*((np.array(scene.image.shape[1:]) - 1) / 2), 1.0])[:3]
    return moved
