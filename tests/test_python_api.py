"""`lnauto.Predictor`: images or arrays in, a mask on the same grid and its nodes out, however the image lies."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import lnauto
from lnauto.errors import InputError

QUICK = {"device": "cpu", "precision": "fp32", "tta": "none", "overlap": 0.0, "engine": "torch"}
ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "PA", "SI"))
    for letters in itertools.product(*axes)
]  # fmt: skip


@pytest.fixture(scope="module")
def predictor(model: Path) -> lnauto.Predictor:
    return lnauto.Predictor.from_folder(model, [0], **QUICK)


@pytest.fixture(scope="module")
def scan(prepared: Path) -> sitk.Image:
    """A part of a ball's scan that lies obliquely somewhere in the world."""
    whole = sitk.ReadImage(prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz")
    part = whole[:29, :26, :23]
    part.SetOrigin((12.5, -40.0, 7.25))
    part.SetDirection((0.98, -0.199, 0.0, 0.199, 0.98, 0.0, 0.0, 0.0, 1.0))
    return part


@pytest.fixture(scope="module")
def found(predictor: lnauto.Predictor, scan: sitk.Image) -> lnauto.Prediction:
    return predictor.predict(scan)


def test_the_mask_lies_on_the_scan_and_its_nodes_in_the_world(found: lnauto.Prediction, scan: sitk.Image) -> None:
    assert found.mask.GetSize() == scan.GetSize()
    assert found.mask.GetOrigin() == scan.GetOrigin()
    assert found.mask.GetDirection() == scan.GetDirection()
    assert found.array.any()
    assert np.array_equal(found.instances > 0, found.array > 0)
    assert [node.number for node in found.nodes] == list(range(1, found.instances.max() + 1))
    largest = found.nodes[0]
    middle = np.argwhere(found.instances == 1).mean(axis=0)[::-1]
    assert largest.centroid_mm == pytest.approx(scan.TransformContinuousIndexToPhysicalPoint(middle.tolist()), abs=1e-3)
    assert largest.case == "scan"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_scan_may_lie_in_any_of_48_ways(
    predictor: lnauto.Predictor, scan: sitk.Image, found: lnauto.Prediction, orientation: str
) -> None:
    turned = sitk.DICOMOrient(scan, orientation)
    mask = predictor.predict(turned).mask
    assert mask.GetDirection() == turned.GetDirection()
    assert mask.GetOrigin() == turned.GetOrigin()
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS"))
    assert np.array_equal(back, found.array)


def test_the_probability_lies_on_the_scan_and_is_that_of_the_mask(
    predictor: lnauto.Predictor, scan: sitk.Image, found: lnauto.Prediction
) -> None:
    turned = sitk.DICOMOrient(scan, "SAR")
    more = predictor.predict(turned, with_probability=True)
    assert found.probability is None
    assert more.probability is not None
    assert more.probability.GetDirection() == turned.GetDirection()
    assert more.probability.GetSize() == turned.GetSize()
    assert np.array_equal(sitk.GetArrayFromImage(more.probability) > 0.5, more.array > 0)
    inside = sitk.GetArrayFromImage(more.probability)[more.instances == 1]
    assert more.nodes[0].probability == pytest.approx(inside.mean(), abs=1e-5)


def test_there_are_48_ways() -> None:
    assert len(set(ORIENTATIONS)) == 48


def test_an_array_with_its_place_is_as_good_as_an_image(
    predictor: lnauto.Predictor, scan: sitk.Image, found: lnauto.Prediction
) -> None:
    place = (scan.GetSpacing(), scan.GetOrigin(), scan.GetDirection())
    array = sitk.GetArrayFromImage(scan)
    for given in (array, array[None]):
        again = predictor.predict(given, *place, name="an array")
        assert np.array_equal(again.array, found.array)
        assert again.nodes[0].centroid_mm == pytest.approx(found.nodes[0].centroid_mm)
        assert again.nodes[0].case == "an array"
    assert np.array_equal(predictor.predict([scan]).array, found.array)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda scan: [scan, scan], "the model takes 1 channels (CT) and was given 2, in scan; give one image for each"),
        (lambda scan: sitk.GetArrayFromImage(scan), "an array of 3 dimensions without a spacing"),
        (lambda scan: scan[:, :, 3], "channel 0 is no 3D image of single numbers"),
        (lambda scan: sitk.Compose(scan, scan), "channel 0 is no 3D image of single numbers"),
    ],
    ids=["channels", "spacing", "slice", "colour"],
)
def test_what_is_no_scan_is_told(predictor: lnauto.Predictor, scan: sitk.Image, wrong, told: str) -> None:
    with pytest.raises(InputError) as raised:
        predictor.predict(wrong(scan))
    assert told in str(raised.value)


@pytest.mark.parametrize("kind", [np.float16, ">f4", ">i2", np.int64, np.uint8, bool])
def test_an_array_may_be_of_any_numbers(predictor: lnauto.Predictor, kind: Any) -> None:
    array = np.zeros((20, 20, 20), np.float32)
    array[6:12, 6:12, 6:12] = 1
    masks = [predictor.predict(one, spacing=(1.5, 1.5, 2)).array for one in (array, array.astype(kind))]
    assert np.array_equal(*masks)


@pytest.mark.parametrize(
    ("array", "spacing", "told"),
    [
        (np.zeros((8, 8, 8), complex), (1, 1, 1), "an array of complex128 is no scan, in scan; give numbers"),
        (np.zeros((8, 8, 8)), (1, 0, 1), "the spacing is (1, 0, 1), in scan; give three sides"),
        (np.zeros((8, 8, 8)), (1, 1), "the spacing is (1, 1), in scan; give three sides"),
    ],
    ids=["complex", "zero", "two"],
)
def test_what_is_no_array_of_a_scan_is_told(predictor: lnauto.Predictor, array: Any, spacing: Any, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        predictor.predict(array, spacing=spacing)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_scan_with_a_voxel_that_is_no_number_is_refused(predictor: lnauto.Predictor, value: float) -> None:
    """Not answered with "no nodes": one such voxel spoils every tile that it lies in."""
    array = np.zeros((24, 24, 24), np.float32)
    array[3, 4, 5] = value
    with pytest.raises(InputError, match="the image holds 1 NaN or infinite voxels, in scan; replace them"):
        predictor.predict(array, spacing=(1, 1, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_a_network_answers_has_to_be_a_number(random_model: Path, scan: sitk.Image, value: float) -> None:
    """A mask without nodes was what became of it: half precision overflows on a card."""
    predictor = lnauto.Predictor.from_folder(random_model, [0], **QUICK)
    (network,) = predictor.networks

    def overflowing(tile: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = network(tile)
        logits[:, 1, 8:10] = value
        return logits

    predictor.networks = [overflowing]
    with pytest.raises(InputError, match="the network answers with NaN or infinity, in a scan; add --precision fp32"):
        predictor.predict(scan, name="a scan")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tta": "x"}, "tta is 'x', in Predictor.from_folder; give one of none, fast, full"),
        ({"engine": "foo"}, "engine is 'foo', in Predictor.from_folder; give one of auto, torch, openvino"),
        ({"precision": "fp64"}, "precision is 'fp64', in Predictor.from_folder; give one of auto, fp32, bf16, int8"),
        ({"overlap": 3}, "overlap is 3, in Predictor.from_folder; give a share from 0 to below 1"),
    ],
)
def test_what_is_no_choice_is_told(model: Path, wrong: dict, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        lnauto.Predictor.from_folder(model, [0], **QUICK | wrong)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder of a model"):
        lnauto.Predictor.from_folder(tmp_path / "nowhere")


def test_importing_lnauto_brings_no_torch() -> None:
    code = "import lnauto, sys; assert 'torch' not in sys.modules; lnauto.Predictor; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="has no attribute 'Predicter'"):
        lnauto.Predicter  # noqa: B018
