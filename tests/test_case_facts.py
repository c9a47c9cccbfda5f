"""What is measured in one case, on volumes of which every figure is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from building import write_image

from lnauto.data.raw import RawDataset
from lnauto.nodes import label_components
from lnauto.planners.case_facts import CaseFacts, filled_share, look_at, stripes
from lnauto.planners.evidence import gather


def look(
    folder: Path,
    image: np.ndarray,
    label: np.ndarray,
    labels: dict[str, Any],
    spacing: tuple[float, float, float] = (2, 1.5, 1.5),
) -> CaseFacts:
    write_image(folder / "imagesTr/a_0000.nii.gz", image, spacing)
    write_image(folder / "labelsTr/a.nii.gz", label, spacing)
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    dataset = RawDataset.read(folder)
    return look_at(dataset, dataset.cases[0], 0)


def test_nodes_their_inside_and_what_lies_round_them(tmp_path: Path) -> None:
    image, label = np.full((24, 40, 40), -100, np.int16), np.zeros((24, 40, 40), np.uint8)
    label[8:12, 10:18, 10:16] = 1
    label[0:2, 30:32, 30:32] = 1  # at the border
    image[label == 1] = 40
    facts = look(tmp_path / "Dataset906_Facts", image, label, {"background": 0, "node": 1})
    large, small = facts.nodes
    assert large.volume_mm3 == pytest.approx(4 * 8 * 6 * 4.5)
    assert (large.at_border, small.at_border) == (False, True)
    assert large.inside == (40.0,)
    assert large.shell == (-100.0,)
    assert (large.filled, small.filled) == (1.0, 0.0)
    assert (facts.drawn, facts.background_drawn) == (1.0, pytest.approx(1 - (label == 1).mean()))


def test_axes_are_those_of_the_patients_axial_slices_however_the_array_lies(tmp_path: Path) -> None:
    """As every table of nodes has them."""
    label = np.zeros((24, 30, 40), np.uint8)
    label[6:16, 10:14, 8:28] = 1
    axes = []
    for number, lies in enumerate(("LPS", "PIR")):
        turned = sitk.DICOMOrient(sitk.GetImageFromArray(label), lies)
        folder = tmp_path / f"Dataset91{number}_Turned"
        for path, image in (("imagesTr/a_0000.nii.gz", sitk.Cast(turned, sitk.sitkFloat32)), ("labelsTr/a.nii.gz", turned)):
            (folder / path).parent.mkdir(parents=True)
            sitk.WriteImage(image, str(folder / path))
        description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}
        (folder / "dataset.json").write_text(json.dumps({**description, "numTraining": 1}))
        dataset = RawDataset.read(folder)
        axes += [(node.short_axis_mm, node.long_axis_mm) for node in look_at(dataset, dataset.cases[0], 0).nodes]
    assert axes[1] == pytest.approx(axes[0])
    assert axes[0][1] > 20


def test_strokes_are_thin_and_little_is_drawn(tmp_path: Path) -> None:
    image, label = np.full((12, 40, 40), -100, np.int16), np.full((12, 40, 40), 2, np.uint8)
    label[6, 10, 5:25] = 1
    label[3, 20, 5:35] = 0
    facts = look(tmp_path / "Dataset907_Strokes", image, label, {"background": 0, "node": 1, "ignore": 2})
    assert facts.nodes[0].filled == 0.0
    assert facts.drawn == pytest.approx(50 / label.size)
    assert facts.background_drawn == pytest.approx(30 / label.size)


def test_a_stroke_of_two_voxels_is_not_filled_and_a_blob_is() -> None:
    mask = np.zeros((3, 12, 12), bool)
    mask[1, 2:4, 1:11] = True
    assert filled_share(mask) == 0
    mask[1, 2:5, 1:4] = True
    assert filled_share(mask) == pytest.approx(9 / mask.sum())


def test_body_lungs_and_neck_are_found_in_the_air_round_them(tmp_path: Path) -> None:
    image, label = np.full((40, 80, 80), -1000, np.int16), np.zeros((40, 80, 80), np.uint8)
    image[:, 20:60, 10:70] = 30
    image[4:16, 30:50, 20:60] = -850
    label[8, 28, 40] = label[30, 40, 40] = 1
    facts = look(tmp_path / "Dataset908_Body", image, label, {"background": 0, "node": 1}, (4.0, 3.0, 3.0))
    evidence = gather(RawDataset.read(tmp_path / "Dataset908_Body"), [facts])
    np.testing.assert_allclose(facts.body_mm, (160, 120, 180), atol=4)
    np.testing.assert_allclose(facts.lung_mm, (48, 60, 120), atol=4)
    np.testing.assert_allclose(facts.neck_mm, (96 + 40, 120, 180), atol=4)
    assert evidence.body_mm == facts.body_mm
    assert (evidence.nodes, evidence.nodes_at_border) == (2, 0)
    assert [node.held_by for node in facts.nodes] == [("body", "lungs"), ("body", "neck")]
    assert evidence.region_holds == {"body": 1.0, "lungs": 0.5, "neck": 0.5}
    assert facts.regions["body"].shape == [40, 40, 60]
    assert evidence.region_keeps["body"] == pytest.approx(40 * 60 / 80**2, abs=0.001)


def test_nodes_drawn_on_every_third_slice_are_stripes() -> None:
    drawn = np.zeros((24, 20, 20), np.uint8)
    drawn[2:20, 4:10, 4:10] = 1
    assert stripes(label_components(drawn)[0]) == 0
    drawn[np.arange(24) % 3 > 0] = 0
    assert stripes(label_components(drawn)[0]) == 6
    assert stripes(label_components(drawn.transpose(2, 1, 0))[0]) == 6
    drawn[4:] = 0
    assert stripes(label_components(drawn)[0]) == 0  # one small node
