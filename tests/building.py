"""Small data sets that tests are run on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def write_image(path: Path, array: np.ndarray, spacing: tuple[float, float, float] = (2.0, 1.5, 1.5)) -> None:
    """Write a (z, y, x) array with (z, y, x) spacing, away from the origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((-12.0, 7.5, 30.0))
    sitk.WriteImage(image, str(path))


def write_balls(folder: Path, cases: int = 6, side: int = 32, seed: int = 0, test_cases: int = 2) -> None:
    """A raw data set of noisy volumes with three bright balls each: learnt within seconds."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"))
    for number in range(cases + test_cases):
        image = rng.normal(0, 60, (side,) * 3).astype(np.float32)
        label = np.zeros((side,) * 3, np.uint8)
        for _ in range(3):
            centre, radius = rng.uniform(6, side - 6, 3), rng.uniform(2.5, 4.5)
            label[np.linalg.norm(grid - centre[:, None, None, None], axis=0) <= radius] = 1
        image += 200 * label
        part = "Tr" if number < cases else "Ts"
        write_image(folder / f"images{part}" / f"ball_{number:02d}_0000.nii.gz", image)
        write_image(folder / f"labels{part}" / f"ball_{number:02d}.nii.gz", label)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "node": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
