"""The mask from coarse logits: voxel by voxel what nnU-Net's own export gives, though only boxes are interpolated."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from stock_models import stock_plans

from lnauto.compat.inference import convert_predicted_logits_to_segmentation_with_correct_shape
from lnauto.compat.plans import PlansManager
from lnauto.inference import export
from lnauto.inference.export import Exporter, above_background, largest_class

TORCH = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
SKIMAGE = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
PLAN = (2.0, 1.5, 1.5)  # mm: of the logits


def drawn_logits(shape: tuple[int, ...], classes: int, seed: int = 0) -> torch.Tensor:
    """Blobs of every class on background, some of them at the border and some of one voxel."""
    rng = np.random.default_rng(seed)
    logits = np.stack([gaussian_filter(rng.normal(size=shape), 1.2) for _ in range(classes)])
    logits[0] += 0.35
    logits[1, 0, 0, 0] = logits[1, 5, 5, 5] = 3.0
    return torch.from_numpy(logits.astype(np.float32))


def managers(function: str, kwargs: dict[str, Any], classes: int, transpose: tuple[int, ...]) -> tuple[Any, Any, Any]:
    content = stock_plans()
    back = [transpose.index(axis) for axis in range(3)]
    content |= {"transpose_forward": list(transpose), "transpose_backward": back}
    chosen = content["configurations"]["3d_fullres"]
    chosen |= {"resampling_fn_probabilities": function, "resampling_fn_probabilities_kwargs": kwargs, "spacing": list(PLAN)}
    plans = PlansManager(content)
    labels = {"background": 0, **{f"class {n}": n for n in range(1, classes)}}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    return plans, plans.get_configuration("3d_fullres"), plans.get_label_manager(description)


@pytest.mark.parametrize(
    ("function", "kwargs", "spacing"),
    [
        ("resample_torch_fornnunet", TORCH, (1.0, 0.8, 0.9)),
        ("resample_torch_fornnunet", {**TORCH, "force_separate_z": None}, (5.0, 0.9, 0.8)),
        ("resample_data_or_seg_to_shape", SKIMAGE, (1.0, 0.8, 0.9)),
        ("resample_data_or_seg_to_shape", SKIMAGE, (5.0, 0.9, 0.8)),
        ("resample_data_or_seg_to_shape", SKIMAGE, (3.0, 2.5, 1.5)),  # coarser than the logits: some blobs fall between
        ("resample_torch_fornnunet", TORCH, PLAN),
        ("resample_data_or_seg_to_shape", {"is_seg": False, "order": 1}, (5.0, 0.9, 0.8)),
        ("resample_torch_fornnunet", {"aniso_axis_mode": "linear"}, (5.0, 0.9, 0.8)),
        ("resample_torch_fornnunet", {"separate_z_anisotropy_threshold": 100}, (5.0, 0.9, 0.8)),
    ],
    ids=[
        *("torch", "torch, thick slices", "skimage", "skimage, thick slices", "coarser", "as it is"),
        *("skimage, nothing said of thick slices", "linear through thick slices", "no slice is thick"),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_mask_is_stock_s_voxel_by_voxel(
    function: str, kwargs: dict[str, Any], spacing: tuple[float, ...], classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BLOCK", 3)  # the logits are small: eight would be half of them
    transpose = (1, 0, 2)
    logits = drawn_logits((14, 20, 18), classes)
    plans, configuration, labels = managers(function, kwargs, classes, transpose)
    forward = [spacing[axis] for axis in transpose]
    inside = tuple(round(side * mine / theirs) for side, mine, theirs in zip(logits.shape[1:], PLAN, forward, strict=True))
    properties = {
        "spacing": list(spacing),
        "shape_before_cropping": tuple(side + 5 for side in inside),
        "shape_after_cropping_and_before_resampling": inside,
        "bbox_used_for_cropping": [[2, 2 + side] for side in inside],
    }
    expected, each = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.clone(), plans, configuration, labels, copy.deepcopy(properties), return_probabilities=True, num_threads_torch=1
    )
    exporter = Exporter(plans, configuration, labels)
    exported = exporter.export(exporter.kept(logits), properties, with_probability=True)
    found = exported.mask
    box = tuple(
        slice(2, 2 + inside[transpose.index(axis)]) for axis in range(3)
    )  # what was cropped away is 0 here, and 1/2 there
    assert exported.probability is not None
    assert exported.probability[box] == pytest.approx(1 - each[0][box], abs=1e-5)
    assert exported.probability.sum() == pytest.approx(exported.probability[box].sum())
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert set(np.unique(expected)) == set(range(classes))
    assert np.array_equal(found, expected)


def test_slabs_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    above = above_background(drawn_logits((12, 16, 16), 2))
    whole = largest_class(above, (40, 30, 34))
    monkeypatch.setattr(export, "SLAB_VOXELS", 2000)
    assert np.array_equal(largest_class(above, (40, 30, 34)), whole)


@pytest.mark.parametrize("block", [1, 3, 8, 100])
def test_boxes_hold_all_that_is_above_background(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BLOCK", block)
    above = torch.full((2, 20, 17, 9), -1.0)
    for number, (z, y, x) in enumerate([(0, 0, 0), (19, 16, 8), (10, 3, 4)]):
        above[number % 2, z, y, x] = 1
    boxes = export.positive_boxes(above)
    held = torch.zeros(20, 17, 9, dtype=torch.bool)
    for box in boxes:
        assert all(0 <= part.start < part.stop <= side for part, side in zip(box, held.shape, strict=True))
        held[box] = True
    assert held[(above > 0).any(dim=0)].all()
    assert block == 100 or not held.all()


def test_of_background_alone_nothing_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_fill", lambda *_: pytest.fail("a box of background was interpolated"))
    assert not largest_class(torch.full((1, 8, 8, 8), -1.0), (20, 20, 20)).any()


def test_regions_and_other_ways_to_interpolate_are_left_to_stock() -> None:
    cubic = managers("resample_data_or_seg_to_shape", {**SKIMAGE, "order": 3}, 2, (0, 1, 2))
    for function, kwargs in (
        ("no_resampling_hack", {}),
        ("resample_torch_fornnunet", {**TORCH, "mode": "nearest"}),
        ("resample_data_or_seg_to_shape", {**SKIMAGE, "order": 0}),
    ):
        assert not export._is_linear(managers(function, kwargs, 2, (0, 1, 2))[1])
    logits = drawn_logits((10, 12, 12), 2)
    properties = {
        "spacing": [1.0, 1.0, 1.0],
        "shape_before_cropping": (20, 18, 18),
        "shape_after_cropping_and_before_resampling": (20, 18, 18),
        "bbox_used_for_cropping": [[0, 20], [0, 18], [0, 18]],
    }
    expected = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.clone(), *cubic, copy.deepcopy(properties), num_threads_torch=1
    )
    exporter = Exporter(*cubic)
    assert exporter.kept(logits) is logits
    exported = exporter.export(logits.clone(), copy.deepcopy(properties), with_probability=True)
    assert np.array_equal(exported.mask, expected)
    assert np.array_equal(exported.probability > 0.5, expected > 0)
    assert exporter.export(logits, properties).probability is None
