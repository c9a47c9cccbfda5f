"""Regions are found however the scan lies, and cropping to one is undone exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lnauto.data.prepare import prepare, read_images
from lnauto.data.preprocess import Job, _preprocess_and_store, case_files
from lnauto.data.raw import Case
from lnauto.data.region import REGIONS, find_region

SPACING = (5.0, 3.0, 4.0)
BODY, LUNGS, NECK = np.s_[4:44, 10:40, 8:40], np.s_[8:24, 14:36, 12:36], np.s_[24:44, 16:34, 16:34]
Box = tuple[slice, ...]


def thorax(lungs: bool = True) -> np.ndarray:
    """A trunk with lungs, and a thinner neck on it; the windpipe is open to the air in front."""
    image = np.full((48, 50, 48), -1000, np.int16)
    image[4:24, 10:40, 8:40] = 30
    image[NECK] = 30
    if lungs:
        image[LUNGS] = -850
        image[8:24, 18:32, 22:26] = 40  # the mediastinum
        image[20:38, 24:26, 23:25] = -950
        image[38, 10:26, 23:25] = -950
    return image


def as_read(image: np.ndarray, axes: str, folder: Path) -> tuple[np.ndarray, list[float], tuple[float, ...]]:
    """The same patient in another orientation, as nnU-Net's reader hands it over."""
    from lnauto.compat.images import SimpleITKIO

    scan = sitk.GetImageFromArray(image)
    scan.SetSpacing(SPACING[::-1])
    path = folder / f"{axes}.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(scan, axes), str(path))
    array, properties = SimpleITKIO().read_images([str(path)])
    return array[0], properties["spacing"], properties["sitk_stuff"]["direction"]


def marked(box: Box, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, np.int16)
    mask[box] = 1
    return mask


@pytest.mark.parametrize("axes", ["LPS", "RAI", "LIP", "SPL", "PIR"])
@pytest.mark.parametrize("name", ["body", "lungs", "neck"])
def test_a_region_is_the_same_part_of_the_patient_however_the_scan_lies(axes: str, name: str, tmp_path: Path) -> None:
    image = thorax()
    straight = find_region(*as_read(image, "LPS", tmp_path), name)
    turned, spacing, direction = as_read(image, axes, tmp_path)
    found = marked(find_region(turned, spacing, direction, name), turned.shape)
    expected, _, _ = as_read(marked(straight, image.shape), axes, tmp_path)
    missing = np.minimum(found, expected).sum() / expected.sum()  # the coarse grid begins at the other end of a turned axis
    assert missing > 0.9
    assert (np.maximum(found, expected).sum()) < 1.1 * expected.sum()


def test_lungs_come_with_their_margins_and_the_neck_lies_above_them(tmp_path: Path) -> None:
    image, spacing, direction = as_read(thorax(), "LPS", tmp_path)
    boxes = {name: find_region(image, spacing, direction, name) for name in REGIONS}
    assert boxes["none"] == tuple(slice(0, side) for side in image.shape)
    for part, body in zip(boxes["body"], BODY, strict=True):
        assert body.start - 1 <= part.start <= body.start
        assert body.stop <= part.stop <= body.stop + 1
    head = boxes["lungs"][0]
    assert (head.start, head.stop) == (LUNGS[0].start - 20 // 5, LUNGS[0].stop + 40 // 5)
    assert boxes["neck"][0] == slice(24 - 40 // 5, boxes["body"][0].stop)
    assert boxes["neck"][1:] == boxes["body"][1:]  # shoulders included


def test_what_is_not_there_is_replaced_by_the_next_larger(tmp_path: Path) -> None:
    image, spacing, direction = as_read(thorax(lungs=False), "LPS", tmp_path)
    body = find_region(image, spacing, direction, "body")
    assert find_region(image, spacing, direction, "lungs") == body
    assert find_region(image, spacing, direction, "neck") == body
    everything = tuple(slice(0, side) for side in image.shape)
    assert find_region(np.full_like(image, -1000), spacing, direction, "lungs") == everything


PLAN: dict[str, Any] = {
    "dataset_name": "Dataset999_None",
    "plans_name": "lnautoPlans",
    "image_reader_writer": "SimpleITKIO",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 30.0, "std": 50.0, "min": -100.0, "max": 200.0, "percentile_00_5": -90.0, "percentile_99_5": 190.0}
    },
}
RESAMPLING = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}


def plan_for(region: str, forward: list[int]) -> dict[str, Any]:
    """A plan that leaves the spacing as it is, so that what is cropped must come back voxel by voxel."""
    name = "resample_torch_fornnunet"
    chosen = {
        "data_identifier": "x",
        "architecture": {},
        "patch_size": [16, 16, 16],
        "spacing": [SPACING[axis] for axis in forward],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **{f"resampling_fn_{what}": name for what in ("data", "seg", "probabilities")},
        **{f"resampling_fn_{what}_kwargs": RESAMPLING for what in ("data", "probabilities")},
        "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True},
    }
    backward = [forward.index(axis) for axis in range(3)]
    geometry = {"transpose_forward": forward, "transpose_backward": backward}
    return {**PLAN, **geometry, "configurations": {"3d_fullres": chosen}, "lnauto": {"region": region}}


@pytest.mark.parametrize("forward", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize(("region", "lungs"), [("lungs", True), ("neck", True), ("body", True), ("lungs", False), ("none", True)])
def test_a_mask_goes_back_exactly_to_where_it_was_drawn(region: str, lungs: bool, forward: list[int], tmp_path: Path) -> None:
    """Preprocess a labelled case, take its label for the network's answer, export: the label as drawn."""
    import blosc2
    import torch

    from lnauto.compat.inference import convert_predicted_logits_to_segmentation_with_correct_shape
    from lnauto.compat.plans import PlansManager
    from lnauto.compat.storage import nnUNetDatasetBlosc2

    image, label = thorax(lungs), np.zeros((48, 50, 48), np.uint8)
    label[19:25, 20:28, 20:23] = label[22, 18, 30] = 1
    for array, name in ((image, "a_0000"), (label, "a")):
        scan = sitk.GetImageFromArray(array)
        scan.SetSpacing(SPACING[::-1])
        sitk.WriteImage(scan, str(tmp_path / f"{name}.nii.gz"))
    plans = plan_for(region, forward)
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}
    images = (tmp_path / "a_0000.nii.gz",)
    (tmp_path / "out").mkdir()
    _preprocess_and_store(Case("a", images, tmp_path / "a.nii.gz"), Job(plans, "3d_fullres", description, tmp_path / "out", ""))
    data, seg = (blosc2.open(str(path))[:] for path in case_files(tmp_path / "out/a")[:2])
    dataset = nnUNetDatasetBlosc2(str(tmp_path / "out"), ["a"])
    properties = dataset.load_case("a")[3]
    assert (data[0].size < 0.9 * image.size) == (region != "none")

    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    scan, found = read_images(images)
    prepared = prepare(scan, found, plans, configuration.configuration, region)
    assert np.array_equal(prepared, data)
    node = torch.from_numpy((seg[0] == 1).astype(np.float32))
    for where in (properties, found):
        mask = convert_predicted_logits_to_segmentation_with_correct_shape(
            torch.stack([0.5 - node, node - 0.5]), manager, configuration, manager.get_label_manager(description), where
        )
        assert np.array_equal(mask, label)
