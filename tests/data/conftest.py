"""Tiny data sets, made on the fly."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

SIDE = 8


class TinyDataset:
    """Cases `a`, `b`, ...: noise with a drawn cube. Tests spoil it afterwards."""

    def __init__(self, folder, cases=("a", "b"), channels=("CT",), masks=("a", "b"), **description):
        self.folder = folder
        self.description = {
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": {"background": 0, "node": 1},
            "file_ending": ".nii.gz",
            **description,
        }
        folder.mkdir(parents=True)
        for case in cases:
            for number in range(len(channels)):
                self.write(f"imagesTr/{case}_{number:04d}.nii.gz", noise())
        for case in masks:
            self.write(f"labelsTr/{case}.nii.gz", cube())
        self.describe()

    def describe(self, drop=(), **changes):
        self.description.update(changes)
        kept = {key: value for key, value in self.description.items() if key not in drop}
        (self.folder / "dataset.json").write_text(json.dumps(kept))

    def write(self, place, voxels, spacing=None, origin=None, direction=None):
        path = Path(self.folder, place)
        path.parent.mkdir(exist_ok=True)
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing(spacing or [1.0] * voxels.ndim)
        image.SetOrigin(origin or [0.0] * voxels.ndim)
        if direction:
            image.SetDirection(direction)
        SimpleITK.WriteImage(image, str(path))
        return path

    def patients(self, text):
        (self.folder / "patients.csv").write_text(text)


def noise(side=SIDE):
    return np.random.default_rng(0).normal(size=(side, side, side)).astype(np.float32)


def cube(value=1, shape=(SIDE, SIDE, SIDE)):
    mask = np.zeros(shape, np.uint8)
    mask[2:5, 2:5, 2:5] = value
    return mask


@pytest.fixture
def tiny(tmp_path):
    """Makes a data set: `tiny(cases=..., channels=..., masks=..., **dataset_json_keys)`."""

    def make(**options):
        return TinyDataset(tmp_path / "Dataset501_Tiny", **options)

    return make


@pytest.fixture
def voxels():
    """The arrays of which the data sets are made."""

    class Voxels:
        pass

    Voxels.noise, Voxels.cube = staticmethod(noise), staticmethod(cube)
    return Voxels


@pytest.fixture
def lines():
    """The lines a user reads when `action` is refused."""
    from lnauto.errors import InputError

    def of(action, *arguments, **options):
        with pytest.raises(InputError) as refusal:
            action(*arguments, **options)
        return str(refusal.value).splitlines()

    return of
