"""Channels of one scan lie on one grid, or are refused before anything is done with them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lnauto.data.scans import READS_TURNED, Grid, lies, mask_on, read_channels, turn
from lnauto.errors import InputError

TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def channel(
    origin: tuple[float, ...] = (0.0, 0.0, 0.0),
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    spacing: tuple[float, ...] = (1.0, 1.0, 2.0),
) -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros((6, 6, 6), np.float32))
    image.SetOrigin(origin)
    image.SetDirection(direction)
    image.SetSpacing(spacing)
    return image


@pytest.mark.parametrize("orientation", [None, "LPS"])
@pytest.mark.parametrize(
    ("second", "said"),
    [
        (channel(origin=(40.0, 0.0, 0.0)), "channel 0 has its origin at (0, 0, 0) mm but channel 1 at (40, 0, 0)"),
        (channel(direction=TURNED), "channel 0 has the direction (1 0 0; 0 1 0; 0 0 1) but channel 1 (0 -1 0; 1 0 0; 0 0 1)"),
        (channel(spacing=(1.0, 1.0, 3.0)), "channel 0 has a spacing of 1x1x2 mm but channel 1 1x1x3"),
    ],
)
def test_channels_that_lie_elsewhere_are_refused(second: sitk.Image, said: str, orientation: str | None) -> None:
    with pytest.raises(InputError) as caught:
        read_channels([channel(), second], orientation, "case 1")
    assert said in str(caught.value)


@pytest.mark.parametrize("reader", sorted(READS_TURNED))
def test_readers_of_nnunets_that_turn_images_turn_them_so(reader: str, tmp_path: Path) -> None:
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetDirection((0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    theirs, properties = recursive_find_reader_writer_by_name(reader)().read_images([str(tmp_path / "a.nii.gz")])
    ours, where = read_channels([sitk.ReadImage(tmp_path / "a.nii.gz")], READS_TURNED[reader], "a")
    assert np.array_equal(theirs, ours)
    assert np.allclose(properties["spacing"], where["spacing"])
    assert theirs.shape[1:] != values.shape


def test_what_is_turned_lies_where_it_lay() -> None:
    image = channel()
    array, properties = read_channels([image], None, "a")
    there, where = turn(array, properties, "RAI")
    assert not lies(properties, "RAI")
    assert lies(where, "RAI")
    back = mask_on(there[0], where, Grid.of(image))
    assert np.array_equal(sitk.GetArrayFromImage(back), array[0])
    assert back.GetOrigin() == image.GetOrigin()


def rotation(*degrees: int) -> np.ndarray:
    """About x, y and z."""
    found = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn, (a, b) = np.eye(3), [other for other in range(3) if other != axis]
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        found = turn @ found
    return found


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SAL"])
def test_scans_that_lie_between_orientations_are_turned_back_too(orientation: str) -> None:
    """At 45 degrees an axis is as close to one side of the patient as to another."""
    values = np.random.default_rng(0).integers(0, 9, (3, 4, 5)).astype(np.uint8)
    for degrees in product(range(180, 360, 45), repeat=3):
        for mirrored in (1, -1):
            image = sitk.GetImageFromArray(values)
            image.SetDirection((rotation(*degrees) @ np.diag([1, 1, mirrored])).ravel())
            array, properties = read_channels([image], orientation, "a")
            back = mask_on(array[0], properties, Grid.of(image))
            assert np.array_equal(sitk.GetArrayFromImage(back), values), (degrees, mirrored)


def test_rounding_in_a_header_moves_no_channel() -> None:
    image, _ = read_channels([channel(), channel(origin=(0.05, 0.0, 0.0), spacing=(1.0, 1.0, 2.0001))], None, "case 1")
    assert image.shape == (2, 6, 6, 6)
