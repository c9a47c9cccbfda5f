"""Images and labels in the plan's spacing: nnU-Net's results, without PyTorch; and what it did before a network saw them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from test_region import plan_for

from lnauto.data import resample
from lnauto.data.prepare import prepare_labelled, read_images, read_label, region_box
from lnauto.data.resample import linear, resample_image, resample_label, resampled_shape

PLAIN = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
SHAPES = [(20, 24, 28), (9, 31, 14), (40, 7, 28), (20, 24, 29), (1, 1, 1), (50, 60, 70)]


def asked(name: str = "resample_torch_fornnunet", **given: Any) -> dict[str, Any]:
    kwargs = {**PLAIN, **given}
    return {
        "spacing": [1.0, 1.0, 1.0],
        "resampling_fn_data": name,
        "resampling_fn_data_kwargs": kwargs,
        "resampling_fn_seg": name,
        "resampling_fn_seg_kwargs": {**kwargs, "is_seg": True},
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("voxels", [300, 2**21], ids=["plane by plane", "at once"])
def test_values_lie_where_pytorch_has_them(shape: tuple[int, ...], voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(resample, "VOXELS_AT_A_TIME", voxels)
    volume = np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(volume)[None, None], shape, mode="trilinear")[0, 0].numpy()
    assert np.allclose(linear(volume, shape), theirs, atol=2e-5)


def test_one_slice_and_whole_numbers_are_taken_as_they_are() -> None:
    flat = np.arange(12, dtype=np.int16).reshape(1, 3, 4)
    assert np.array_equal(linear(flat, (2, 3, 4)), np.concatenate([flat, flat]).astype(np.float32))


def test_what_is_thinner_than_half_a_voxel_fills_one() -> None:
    assert resampled_shape((1, 20, 30), (0.4, 1.0, 2.0), (2.0, 1.0, 1.0)) == (1, 20, 60)


def test_nnunets_resampling_in_pytorch_is_done_for_one_case_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sets the number of PyTorch's threads and puts back what it found, which two at a time do in each other's way."""
    from lnauto.compat import resampling

    alone = []

    def made(values: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        alone.append(resample.ONE_AT_A_TIME.locked())
        return values

    monkeypatch.setattr(resampling, "resampling_function", lambda _: made)
    image = np.zeros((1, 4, 4, 4), np.float32)
    resample_image(image, (2, 2, 2), (1, 1, 1), asked(force_separate_z=None))
    resample_image(image, (2, 2, 2), (1, 1, 1), asked("resample_data_or_seg_to_shape"))
    assert alone == [True, False]


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_are_those_of_nnunet(shape: tuple[int, ...]) -> None:
    from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

    rng = np.random.default_rng(1)
    label = rng.choice([-1, 0, 1, 2], (2, 20, 24, 28), p=[0.05, 0.6, 0.25, 0.1]).astype(np.int16)
    label[0, 4:12, 6:14, 8:16] = 2
    ones = (1.0, 1.0, 1.0)
    theirs = resample_torch_fornnunet(label, shape, ones, ones, **{**PLAIN, "is_seg": True})
    ours = resample_label(label, shape, ones, asked())
    assert ours.dtype == label.dtype
    assert (ours != theirs).mean() < 1e-3  # rounding decides where two labels share a voxel alike
    assert (ours > 0).any() == (theirs > 0).any()


def test_of_labels_that_share_a_voxel_alike_the_lowest_is_taken() -> None:
    label = np.array([1, 2, 2, 0], np.int16).reshape(1, 1, 1, 4)
    assert resample_label(label, (1, 1, 2), (1.0, 1.0, 1.0), asked()).ravel().tolist() == [1, 0]


@pytest.mark.parametrize(
    "configuration",
    [
        asked("resample_data_or_seg_to_shape", order=1, order_z=0) | {"x": None},
        asked(force_separate_z=True),
        asked(mode="nearest"),
        asked(memefficient_seg_resampling=True),
    ],
    ids=["scipy's", "slices apart", "nearest", "a label at a time"],
)
def test_what_other_plans_ask_for_is_what_nnunet_makes(configuration: dict[str, Any]) -> None:
    from nnunetv2.preprocessing.resampling import default_resampling, resample_torch

    name = configuration["resampling_fn_data"]
    if name == "resample_data_or_seg_to_shape":
        for what in ("data", "seg"):
            configuration[f"resampling_fn_{what}_kwargs"].pop("memefficient_seg_resampling")
    function = getattr(default_resampling, name, None) or getattr(resample_torch, name)
    image = np.random.default_rng(2).normal(size=(1, 8, 20, 22)).astype(np.float32)
    label = (image > 0.5).astype(np.int16)
    shape, spacing = (12, 15, 16), (4.0, 1.0, 1.0)
    for ours, values, what in ((resample_image, image, "data"), (resample_label, label, "seg")):
        kwargs = configuration[f"resampling_fn_{what}_kwargs"]
        theirs = function(values.copy(), list(shape), list(spacing), configuration["spacing"], **kwargs)
        assert np.allclose(ours(values.copy(), shape, spacing, configuration), theirs, atol=2e-5)


def test_the_size_is_rounded_as_nnunet_rounds_it() -> None:
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    for shape, old, new in (((40, 51, 33), (2.5, 0.7, 0.7), (1.0, 1.0, 1.0)), ((5, 7, 9), (0.5, 1.5, 2.5), (1.0, 1.0, 1.0))):
        assert resampled_shape(shape, old, new) == tuple(compute_new_shape(shape, old, new))


@pytest.mark.parametrize("masked", [False, True], ids=["everywhere", "inside the body"])
@pytest.mark.parametrize("forward", [[0, 1, 2], [2, 0, 1]], ids=["z first", "x first"])
def test_a_case_becomes_what_nnunet_makes_of_it(masked: bool, forward: list[int], tmp_path: Path) -> None:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    rng = np.random.default_rng(3)
    scan = np.zeros((30, 36, 40), np.float32)
    scan[4:26, 5:30, 6:35] = 100 + 20 * rng.normal(size=(22, 25, 29))
    scan[10:14, 12:16, 14:18] = 0  # a hole inside, and a gap at the edge of the body
    scan[4:10, 5:12, 6:14] = 0
    label = np.zeros(scan.shape, np.uint8)
    label[12:20, 10:22, 15:27] = 1
    for values, name in ((scan, "a_0000"), (label, "a")):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.9, 1.1, 2.5))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    plans = copy.deepcopy(plan_for("none", forward))
    chosen = plans["configurations"]["3d_fullres"]
    chosen |= {"spacing": [1.4, 1.5, 1.6], "use_mask_for_norm": [masked], "normalization_schemes": ["ZScoreNormalization"]}
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}
    files = (tmp_path / "a_0000.nii.gz",), tmp_path / "a.nii.gz"
    manager = PlansManager(plans)
    theirs = DefaultPreprocessor(False).run_case(
        [str(files[0][0])], str(files[1]), manager, manager.get_configuration("3d_fullres"), description
    )
    image, properties = read_images(files[0])
    box = region_box(image, properties, "none")
    data, seg = prepare_labelled(image, read_label(files[1]), properties, plans, chosen, box)
    assert np.allclose(data, theirs[0], atol=1e-4)
    assert masked == (-1 in seg)
    expected = theirs[1] if masked else np.maximum(theirs[1], 0)
    assert (seg != expected).mean() < 1e-4
    for key in ("shape_before_cropping", "bbox_used_for_cropping", "shape_after_cropping_and_before_resampling"):
        assert np.array_equal(np.array(properties[key]), np.array(theirs[2][key])), key


def test_a_plan_of_ours_is_resampled_without_pytorch() -> None:
    import subprocess

    code = (
        "import numpy as np, sys\n"
        "from lnauto.data.resample import resample_image\n"
        f"resample_image(np.zeros((1, 8, 8, 8), np.float32), (4, 4, 4), (1, 1, 1), {asked()!r})\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
