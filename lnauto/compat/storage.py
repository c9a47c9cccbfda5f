"""nnU-Net's preprocessed cases on disk, and their images by themselves."""

import os
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

__all__ = ["FILTERS", "comp_blosc2_params", "load_pickle", "nnUNetDatasetBlosc2", "open_image", "save_image", "write_pickle"]

# nnU-Net tries two on each image and each label, which takes longer than compressing them. None of them makes images that are not
# resampled a third smaller than bytes shuffled do, and resampled ones at most a tenth larger; labels are next to nothing.
FILTERS = [blosc2.Filter.NOFILTER]


def save_image(data: np.ndarray, path: Path, patch: list[int]) -> None:
    """The first of the three files of nnU-Net's for a case, for cases that have no label."""
    blocks, chunks = comp_blosc2_params(data.shape, tuple(patch), data.itemsize)
    settings = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "filters": FILTERS}  # nnU-Net's
    blosc2.asarray(np.ascontiguousarray(data), urlpath=str(path), chunks=chunks, blocks=blocks, cparams=settings)


def open_image(path: Path) -> Any:
    """The image of a preprocessed case; slices are read when asked for."""
    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}  # as nnU-Net does
    return blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mapped)
