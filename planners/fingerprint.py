"""What the images and labels look like: the numbers a plan is made from.

Its keys are those of nnU-Net's own, so `Fingerprint(**json)` takes a `dataset_fingerprint.json` of nnU-Net's, too. Unlike
nnU-Net's, intensities are taken from the foreground only: voxels of an `ignore` label are not foreground.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from lnauto.allowance import usable_cores
from lnauto.data.raw import RawDataset
from lnauto.planners.case_facts import CaseFacts, look_at

MOST_AT_A_TIME = 2  # cases that are looked at, each with masks as large as its image
PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}


@dataclass(frozen=True)
class Fingerprint:
    """The data set, summed up."""

    spacings: list[list[float]]
    shapes_after_crop: list[list[int]]
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]
    median_relative_size_after_cropping: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def look_at_all(dataset: RawDataset, quiet: bool = False) -> list[CaseFacts]:
    """Read every case once, a few at a time."""

    def look(seed: int) -> CaseFacts:
        return look_at(dataset, dataset.cases[seed], seed)

    count = len(dataset.cases)
    pool = ThreadPoolExecutor(min(usable_cores(), MOST_AT_A_TIME))
    try:
        return list(tqdm(pool.map(look, range(count)), "Fingerprint", count, unit="case", disable=quiet, delay=2))
    finally:
        pool.shutdown(cancel_futures=True)  # else an interrupted look would go on to its end


def summarise(cases: Sequence[CaseFacts], region: str = "none") -> Fingerprint:
    """The numbers a plan is made from, of images cropped to `region`."""
    return Fingerprint(
        spacings=[case.spacing for case in cases],
        shapes_after_crop=[case.shape if region == "none" else case.regions[region].shape for case in cases],
        foreground_intensity_properties_per_channel=_intensity_properties([case.intensities for case in cases]),
        median_relative_size_after_cropping=float(np.median([case.kept for case in cases])),
    )


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
