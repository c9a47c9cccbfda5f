"""Maps of a case on a coarser grid than its image: how they are stored, and read on the image's own grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lnauto.files import replacing
from lnauto.nodes import Array


def write_map(values: Array, spacing: Array, image: Path, path: Path) -> None:
    """Store a map (z, y, x) with `spacing` in mm, whose first voxel begins where the image's does."""
    import SimpleITK as sitk

    grid = _grid(image)
    coarse = sitk.GetImageFromArray(values)
    own = np.array(grid.GetSpacing())
    coarse.SetSpacing([float(side) for side in spacing[::-1]])
    coarse.SetDirection(grid.GetDirection())
    middle = (np.array(spacing[::-1]) - own) / 2 / own  # of the first coarse voxel, in voxels of the image
    turned = np.array(grid.GetDirection()).reshape(3, 3) @ (middle * own)
    coarse.SetOrigin([float(at) for at in np.array(grid.GetOrigin()) + turned])
    with replacing(path) as temporary:
        sitk.WriteImage(coarse, str(temporary), useCompression=True)


def read_map(path: Path, image: Path) -> Array:
    """A map on the grid of an image, nearest neighbour by nearest neighbour; beyond its edge it goes on as at its edge."""
    import SimpleITK as sitk

    grid = _grid(image)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.UseNearestNeighborExtrapolatorOn()
    resampler.SetSize(grid.GetSize())
    resampler.SetOutputSpacing(grid.GetSpacing())
    resampler.SetOutputOrigin(grid.GetOrigin())
    resampler.SetOutputDirection(grid.GetDirection())
    values: Array = sitk.GetArrayFromImage(resampler.Execute(sitk.ReadImage(str(path))))
    return values


def _grid(image: Path):  # type: ignore[no-untyped-def]
    """Size, spacing, origin and direction, without reading a voxel."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(image))
    reader.ReadImageInformation()
    return reader
