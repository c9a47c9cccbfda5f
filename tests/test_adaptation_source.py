"""How well an adapted model does on the cases it comes from: their masks are read as that data set has them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import SimpleITK as sitk
from building import write_image

from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.inference.foundation import Foundation
from lnauto.planners.adaptation import map_labels
from lnauto.workflow.adaptation import _on_source, check_source

CT = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": 1}
PERFECT = {"dice": 1.0, "node_f1": 1.0}


def balls(*values: int) -> np.ndarray:
    """A mask of three cubes of these values."""
    mask = np.zeros((24, 24, 24), np.uint8)
    for number, value in enumerate(values):
        mask[3:8, 3:8, 8 * number + 1 : 8 * number + 6] = value
    return mask


def a_source(folder: Path, description: dict[str, Any], *values: int) -> RawDataset:
    """A data set of one case."""
    raw = folder / "Dataset902_Source"
    for channel in description["channel_names"]:
        write_image(raw / f"imagesTr/case_{int(channel):04d}.nii.gz", np.zeros((24, 24, 24), np.float32))
    if values:
        write_image(raw / "labelsTr/case.nii.gz", balls(*values))
    (raw / "dataset.json").write_text(json.dumps(description))
    return RawDataset.read(raw)


@dataclass
class Oracle:
    """Says the same of every image."""

    mask: np.ndarray
    region: str = field(default="none")

    def predict_files(self, images: Any) -> sitk.Image:
        return sitk.GetImageFromArray(self.mask)


@pytest.mark.parametrize(
    ("theirs", "drawn", "ours", "found", "expected"),
    [
        ({"labels": {"LN": 1}}, (1, 1, 1), {"labels": {"node": 1}}, (1, 1, 0), {"dice": 0.8, "node_f1": 0.8}),
        ({"labels": {"organ": 1, "LN": 2}}, (2, 1, 2), {"labels": {"node": 1}}, (1, 0, 1), PERFECT),
        ({"labels": {"LN": 1}, "instances": True}, (1, 2, 3), {"labels": {"node": 1}}, (1, 1, 1), PERFECT),
        ({"labels": {"LN": 1}}, (1, 1, 1), {"labels": {"node": 1}, "instances": True}, (1, 1, 1), PERFECT),
        ({"labels": {"LN": 1, "ignore": 2}}, (1, 2, 1), {"labels": {"node": 1}}, (1, 1, 1), PERFECT),
        (
            {"labels": {"a": 1, "b": 2}},
            (1, 2, 2),
            {"labels": {"a": 1, "b": 2}, "node_labels": [2]},
            (0, 2, 2),
            {"dice": 0.5, "node_f1": 1.0},
        ),
        (
            {"labels": {"LN": [1, 2]}, "regions_class_order": [1]},
            (1, 2, 1),
            {"labels": {"node": [1, 2]}, "regions_class_order": [2]},
            (2, 2, 2),
            PERFECT,
        ),
        (
            {"labels": {"LN": [1, 2], "metastasis": [2]}, "regions_class_order": [1, 2]},
            (1, 2, 1),
            {"labels": {"node": [1, 2], "metastasis": [1]}, "regions_class_order": [2, 1]},
            (2, 1, 2),
            PERFECT,
        ),
    ],
    ids=["one missed", "another value", "numbered", "ours numbered", "ignored", "node_labels", "a region", "regions"],
)
def test_masks_of_the_source_are_read_as_it_has_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    theirs: dict[str, Any],
    drawn: tuple[int, ...],
    ours: dict[str, Any],
    found: tuple[int, ...],
    expected: dict[str, float],
) -> None:
    described, own = ({**CT, **each, "labels": {"background": 0, **each["labels"]}} for each in (theirs, ours))
    source = a_source(tmp_path, described, *drawn)
    mapping = map_labels(source.labels, own["labels"])
    foundation = Foundation(tmp_path, "FM", {}, "3d_fullres", described, "nnUNetTrainer")
    check_source(source, foundation, Mock(lnauto={"foundation": {"labels": mapping}}), own)
    monkeypatch.setattr("lnauto.trainers.validation.predictor_of", lambda _: Oracle(balls(*found)))
    trainer: Any = Mock(dataset_json=own, plans_manager=Mock(plans={"lnauto": {"region": "none"}}))
    trainer.options.quiet = True
    assert _on_source(trainer, source, source.cases, mapping) == pytest.approx(expected)


LABELS = {"background": 0, "LN": 1}
REGIONS = {"background": 0, "LN": [1, 2], "metastasis": [2, 3]}
PAIR = {"background": 0, "LN": 1, "metastasis": 2}


@pytest.mark.parametrize(
    ("described", "drawn", "of_model", "own", "complaint"),
    [
        (
            {"labels": LABELS},
            (1, 1, 1),
            {"channel_names": {"0": "CT", "1": "PET"}},
            LABELS,
            "takes 2 channels .* leave --source out",
        ),
        ({"labels": LABELS}, (1, 1, 1), {"channel_names": {"0": "T1"}}, LABELS, "has 1 channel .* leave --source out"),
        ({"labels": {"background": 0, "organ": 1}}, (1, 1, 1), {}, LABELS, "has no label LN, which the foundation model"),
        ({"labels": LABELS, "unannotated": ["case"]}, (), {}, LABELS, "has no case with a label, in .*Source; give --source"),
        ({"labels": REGIONS, "regions_class_order": [1, 3]}, (1, 1, 1), {"labels": PAIR}, PAIR, "2 is LN and metastasis there"),
    ],
    ids=["channels", "another channel", "label", "no label", "regions"],
)
def test_a_source_that_cannot_be_measured_is_refused_before_training(
    tmp_path: Path,
    described: dict[str, Any],
    drawn: tuple[int, ...],
    of_model: dict[str, Any],
    own: dict[str, Any],
    complaint: str,
) -> None:
    source = a_source(tmp_path, {**CT, **described}, *drawn)
    model = {**CT, "labels": LABELS, **of_model}
    foundation = Foundation(tmp_path, "FM", {}, "3d_fullres", model, "nnUNetTrainer")
    plan: Any = Mock(lnauto={"foundation": {"labels": map_labels(model["labels"], own)}})
    with pytest.raises(InputError, match=complaint):
        check_source(source, foundation, plan, {"labels": own})
