"""Spacing, patch and network, which depend on each other and on how large nodes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lnauto.errors import InputError
from lnauto.planners.evidence import Evidence
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.machine import Machine
from lnauto.planners.spacing import coarser, target_spacing
from lnauto.planners.topology import Preset, Topology, fit, fit_to_patch
from lnauto.planners.wishes import Wishes

FEWEST_STAGES = 3  # of a network: nnU-Net's loss leaves out the coarsest of its outputs, and one has to remain
SHARE_AT_A_TIME, LEAST_BATCH = 0.05, 2  # nnU-Net's: of the voxels of all images, so that a step does not see most of them
CONTEXT_MM = 10.0  # on either side of a node, so that the network sees what it lies in [our choice]


@dataclass(frozen=True)
class Geometry:
    """What the images are resampled to, and what the network sees of them at a time."""

    spacing: NDArray[np.float64]  # in the image's order (z, y, x)
    forward: list[int]  # nnU-Net's order of the axes: the coarsest comes first
    median_shape: NDArray[np.float64]  # of the resampled images, in nnU-Net's order
    topology: Topology
    spacing_reason: str
    patch_reason: str

    def in_image_order(self, values: Sequence[int]) -> list[int]:
        return [values[self.forward.index(axis)] for axis in range(3)]


@dataclass(frozen=True)
class Fitter:
    """Fits networks to a data set resampled to any spacing."""

    fingerprint: Fingerprint
    classes: int
    least_mm: float  # that a patch should hold along each axis; 0: nothing is known of nodes

    def order(self, spacing: NDArray[np.float64]) -> list[int]:
        coarsest = int(np.argmax(spacing))
        return [coarsest, *(axis for axis in range(3) if axis != coarsest)]

    def median_shape(self, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
        shapes = np.array(self.fingerprint.shapes_after_crop) * np.array(self.fingerprint.spacings) / spacing
        median: NDArray[np.float64] = np.median(np.maximum(np.round(shapes), 1), axis=0)
        return median[self.order(spacing)]

    def fit(self, preset: Preset, spacing: NDArray[np.float64]) -> Topology:
        ordered = spacing[self.order(spacing)]
        topology = fit(preset, ordered, self.median_shape(spacing), self.classes, self.least_mm)
        return self._within_share(topology, spacing)

    def fit_to(self, preset: Preset, spacing: NDArray[np.float64], patch: Sequence[int]) -> Topology:
        order = self.order(spacing)
        topology = fit_to_patch(preset, spacing[order], [patch[axis] for axis in order], self.classes)
        return self._within_share(topology, spacing)

    def _within_share(self, topology: Topology, spacing: NDArray[np.float64]) -> Topology:
        """No more patches at a time than nnU-Net allows: where patches are small, a large card would hold a hundred."""
        voxels = float(np.prod(self.median_shape(spacing))) * len(self.fingerprint.shapes_after_crop)
        most = round(SHARE_AT_A_TIME * voxels / float(np.prod(topology.patch)))
        return replace(topology, batch=max(min(topology.batch, most), LEAST_BATCH))

    def holds(self, topology: Topology, spacing: NDArray[np.float64]) -> bool:
        """Whether the patch takes a large node with its context, or the whole image where that is smaller."""
        least = np.minimum(self.least_mm / spacing[self.order(spacing)], self.median_shape(spacing))
        return bool((np.array(topology.patch) >= np.floor(least)).all())

    def tell_what_it_holds(self, topology: Topology, spacing: NDArray[np.float64]) -> str:
        node = f"the 95th percentile node ({self.least_mm - 2 * CONTEXT_MM:.0f} mm) with {CONTEXT_MM:.0f} mm on either side"
        if not self.holds(topology, spacing):
            return f"it does not hold {node}"
        if (np.array(topology.patch) >= np.floor(self.least_mm / spacing[self.order(spacing)])).all():
            return f"it holds {node}"
        return f"along each axis it holds {node}, or is as long as the median image"


def make_fitter(fingerprint: Fingerprint, evidence: Evidence, classes: int) -> Fitter:
    axis = evidence.node_long_axis_mm or evidence.node_short_axis_mm
    return Fitter(fingerprint, classes, axis[2] + 2 * CONTEXT_MM if axis else 0.0)


def choose_geometry(
    fitter: Fitter, evidence: Evidence, preset: Preset, machine: Machine, short_of_time: bool, wishes: Wishes
) -> Geometry:
    """Spacing first, then the patch; without a GPU, or short of time, coarser again until the patch holds large nodes."""
    smallest = evidence.node_short_axis_mm[0] if evidence.node_short_axis_mm else None
    if wishes.spacing is not None:
        spacing, spacing_reason = np.array(wishes.spacing, float), "given by --spacing"
    else:
        found = fitter.fingerprint
        spacing, spacing_reason = target_spacing(found.spacings, found.shapes_after_crop, smallest, short_of_time)
    if wishes.patch is not None:
        topology = fitter.fit_to(preset, spacing, wishes.patch)
        if len(topology.architecture["arch_kwargs"]["strides"]) < FEWEST_STAGES:
            raise InputError.of(
                "the network can pool the patch only once or not at all", "--patch", "give 16 voxels a side or more"
            )
        order = fitter.order(spacing)
        as_given = [topology.patch[order.index(axis)] for axis in range(3)] == list(wishes.patch)
        patch_reason = "given by --patch" + ("" if as_given else ", and enlarged to what the network can pool")
    else:
        topology = fitter.fit(preset, spacing)
        if short_of_time and wishes.spacing is None and not fitter.holds(topology, spacing):
            wider = _where_it_holds(fitter, preset, spacing, smallest)
            if wider is not None:
                spacing, topology = wider
                spacing_reason = "coarser than the median of the images, so that the patch holds large nodes with their context"
        patch_reason = "the largest that fits"
    if fitter.least_mm:
        patch_reason += f"; {fitter.tell_what_it_holds(topology, spacing)}"
    if machine.device == "cuda":
        patch_reason += f"; training takes about {_memory(topology, machine):.0f} GB of the card's {machine.memory_gb:.0f}"
    median_shape = fitter.median_shape(spacing)
    return Geometry(spacing, fitter.order(spacing), median_shape, topology, spacing_reason, patch_reason)


def _where_it_holds(
    fitter: Fitter, preset: Preset, spacing: NDArray[np.float64], smallest: float | None
) -> tuple[NDArray[np.float64], Topology] | None:
    """Coarser in small steps, not so coarse that the small nodes are lost; None where that does not suffice."""
    for wider in coarser(spacing, smallest):
        topology = fitter.fit(preset, wider)
        if fitter.holds(topology, wider):
            return wider, topology
    return None


def _memory(topology: Topology, machine: Machine) -> float:
    needed = topology.gpu_memory_gb
    if needed > machine.memory_gb * 1.05:
        raise InputError.of(
            f"training would take about {needed:.0f} GB of GPU memory, and {machine.name} has {machine.memory_gb:.0f}",
            "--patch",
            "give a smaller patch, or leave it to the planner",
        )
    return needed
