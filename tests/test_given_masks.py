"""Masks that are given with scans: which are taken, and which lie elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lnauto.data.raw import Case
from lnauto.workflow.predict_given import _masks_of


def written(array: np.ndarray, path: Path, origin: tuple[float, ...] = (0.0, 0.0, 0.0), side: float = 1.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(origin)
    image.SetSpacing((side, side, side))
    sitk.WriteImage(image, str(path))
    return path


def test_a_mask_of_as_many_voxels_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    scan, mask = np.random.default_rng(0).normal(size=(6, 6, 6)).astype(np.float32), np.ones((6, 6, 6), np.uint8)
    cases = [Case(name, (written(scan, tmp_path / f"scans/{name}.nii.gz"),)) for name in ("fits", "shifted", "wide")]
    masks = tmp_path / "masks"
    written(mask, masks / "fits.nii.gz", origin=(0.01, 0.0, 0.0))
    written(mask, masks / "shifted.nii.gz", origin=(30.0, 0.0, 0.0))
    written(mask, masks / "wide.nii.gz", side=2.0)
    found, problems = _masks_of(cases, masks)
    assert list(found) == ["fits"]
    assert [problem.where for problem in problems] == ["case shifted", "case wide"]
    assert all("another grid" in problem.what for problem in problems)
