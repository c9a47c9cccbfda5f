"""What the images and labels look like: the numbers a plan is made from.

The keys nnU-Net's own fingerprint has keep their names. Unlike nnU-Net's, intensities are taken from the foreground only:
voxels of an `ignore` label are not foreground.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from lnauto.data.raw import Case, RawDataset
from lnauto.nodes import label_components, measure_nodes

log = logging.getLogger(__name__)

SAMPLES_PER_CASE = 50_000
PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}


@dataclass(frozen=True)
class CaseFacts:
    """One case: geometry, what cropping to content leaves, sampled foreground intensities, nodes."""

    spacing: list[float]
    shape: list[int]  # after cropping to what is not zero
    kept: float  # share of the image that cropping keeps
    intensities: np.ndarray  # channels x samples
    node_volumes_mm3: list[float]
    node_short_axes_mm: list[float]


@dataclass(frozen=True)
class Fingerprint:
    """The data set, summed up."""

    spacings: list[list[float]]
    shapes_after_crop: list[list[int]]
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]
    median_relative_size_after_cropping: float
    nodes_per_case: list[int]
    node_volume_mm3: list[float]  # 5th, 50th and 95th percentile; empty where no node was drawn
    node_short_axis_mm: list[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def take_fingerprint(dataset: RawDataset, quiet: bool = False) -> Fingerprint:
    """Read every case once, one at a time."""
    cases = [
        _look_at(dataset, case, seed)
        for seed, case in enumerate(tqdm(dataset.cases, desc="Fingerprint", unit="case", disable=quiet, delay=2))
    ]
    volumes = [volume for case in cases for volume in case.node_volumes_mm3]
    axes = [axis for case in cases for axis in case.node_short_axes_mm]
    drawn = [len(facts.node_volumes_mm3) for facts, case in zip(cases, dataset.cases, strict=True) if case.label is not None]
    return Fingerprint(
        spacings=[case.spacing for case in cases],
        shapes_after_crop=[case.shape for case in cases],
        foreground_intensity_properties_per_channel=_intensity_properties([case.intensities for case in cases]),
        median_relative_size_after_cropping=float(np.median([case.kept for case in cases])),
        nodes_per_case=drawn,
        node_volume_mm3=_spread(volumes),
        node_short_axis_mm=_spread(axes),
    )


def _look_at(dataset: RawDataset, case: Case, seed: int) -> CaseFacts:
    from lnauto.compat.images import SimpleITKIO

    reader = SimpleITKIO()
    image, properties = reader.read_images([str(path) for path in case.images])
    spacing = [float(side) for side in properties["spacing"]]
    box = _content_box(image)
    kept = float(np.prod([stop - start for start, stop in box]) / np.prod(image.shape[1:]))
    foreground = None
    volumes: list[float] = []
    axes: list[float] = []
    if case.label is not None:
        label = reader.read_seg(str(case.label))[0][0]
        foreground = label > 0
        if dataset.ignore_label is not None:
            foreground &= label != dataset.ignore_label
        instances = label if dataset.instances else label_components(np.isin(label, dataset.node_labels))[0]
        nodes = measure_nodes(instances, tuple(spacing))
        volumes, axes = [node.volume_mm3 for node in nodes], [node.short_axis_mm for node in nodes]
    return CaseFacts(
        spacing=spacing,
        shape=[int(stop - start) for start, stop in box],
        kept=kept,
        intensities=_sample(image, foreground, seed),
        node_volumes_mm3=volumes,
        node_short_axes_mm=axes,
    )


def _content_box(image: np.ndarray) -> list[tuple[int, int]]:
    """Where any channel is not zero. Holes do not matter to a box, so nothing needs filling as in nnU-Net's crop."""
    content = (image != 0).any(axis=0)
    box = []
    for axis in range(content.ndim):
        filled = np.flatnonzero(content.any(axis=tuple(a for a in range(content.ndim) if a != axis)))
        box.append((int(filled[0]), int(filled[-1]) + 1))
    return box


def _sample(image: np.ndarray, foreground: np.ndarray | None, seed: int) -> np.ndarray:
    """Foreground intensities of every channel; of an un-annotated case none, so that air does not count as node."""
    if foreground is None or not foreground.any():
        return np.empty((len(image), 0), np.float32)
    voxels = image[:, foreground]
    if voxels.shape[1] > SAMPLES_PER_CASE:
        voxels = voxels[:, np.random.default_rng(seed).choice(voxels.shape[1], SAMPLES_PER_CASE, replace=False)]
    return voxels.astype(np.float32)


def _intensity_properties(samples: list[np.ndarray]) -> dict[str, dict[str, float]]:
    pooled = np.concatenate(samples, axis=1)
    if pooled.shape[1] == 0:
        return {}
    properties = {}
    for channel, values in enumerate(pooled):
        percentiles = np.percentile(values, list(PERCENTILES.values()))
        properties[str(channel)] = {
            "mean": float(values.mean(dtype=np.float64)),
            "std": float(values.std(dtype=np.float64)),
            "min": float(values.min()),
            "max": float(values.max()),
            **{name: float(value) for name, value in zip(PERCENTILES, percentiles, strict=True)},
        }
    return properties


def _spread(values: list[float]) -> list[float]:
    return [round(float(value), 2) for value in np.percentile(values, [5, 50, 95])] if values else []
