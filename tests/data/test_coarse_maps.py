"""Maps on a coarser grid come back where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lnauto.data.coarse_maps import read_map, write_map

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def test_a_map_covers_the_voxels_its_blocks_were_made_of_and_goes_on_at_the_edge(tmp_path: Path) -> None:
    image = sitk.Image(11, 9, 13, sitk.sitkFloat32)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((-40.0, 15.0, 300.0))
    image.SetDirection(OBLIQUE)
    sitk.WriteImage(image, str(tmp_path / "image.nii.gz"))
    coarse = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    write_map(coarse, np.array([12.0, 4.0, 3.0]), tmp_path / "image.nii.gz", tmp_path / "map.nii.gz")
    found = read_map(tmp_path / "map.nii.gz", tmp_path / "image.nii.gz")
    blocks = coarse.repeat(4, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    assert found.shape == (13, 9, 11)
    assert np.array_equal(found[:12, :8, :10], blocks)
    assert np.array_equal(found[12, :8, :10], blocks[11])
    assert np.array_equal(found[:12, 8, :10], blocks[:, 7])
