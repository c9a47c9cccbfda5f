"""Which region a plan crops to: the smallest that holds every drawn node and leaves enough out, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from building import write_image

from lnauto.files import read_json
from lnauto.planners.case_facts import CaseFacts, NodeFacts, RegionFacts
from lnauto.planners.fingerprint import summarise
from lnauto.planners.region import choose_region

Command = Callable[..., tuple[int, str, str]]
EVERYWHERE = ("body", "lungs", "neck")


def node(*held_by: str) -> NodeFacts:
    return NodeFacts(500.0, 12.0, 9.0, False, 1.0, (40.0,), (-80.0,), held_by)


def case(nodes: list[NodeFacts], body: float = 0.7, lungs: float = 0.4, neck: float = 0.5) -> CaseFacts:
    kept = {"body": body, "lungs": lungs, "neck": neck}
    regions = {name: RegionFacts([round(100 * share), 100, 100], share) for name, share in kept.items()}
    empty = np.empty((1, 0), np.float32)
    return CaseFacts([2.0, 1.0, 1.0], [100, 100, 100], 1.0, empty, True, tuple(nodes), 1.0, 0.9, None, None, None, regions)


def test_the_smallest_region_that_holds_every_node_is_chosen() -> None:
    cases = [case([node(*EVERYWHERE)] * 10), case([node("body", "neck")] * 10)]
    name, reason = choose_region(cases)
    assert name == "neck"
    assert "all 20 drawn nodes with 10 mm round them, and 50% of the voxels" in reason
    assert choose_region([case([node(*EVERYWHERE)] * 20)])[0] == "lungs"
    assert choose_region([*cases, case([node("body")])])[0] == "body"


def test_one_node_outside_is_enough_to_keep_the_whole_image() -> None:
    name, reason = choose_region([case([node(*EVERYWHERE)] * 49), case([node("lungs")])])
    assert (name, "lungs holds" in reason) == ("lungs", False)
    name, reason = choose_region([case([node(*EVERYWHERE)] * 49), case([node()])])
    assert name == "none"
    assert "no smaller region holds every one of the 50 nodes drawn (body 98%, " in reason


def test_what_removes_little_or_rests_on_few_nodes_is_not_chosen() -> None:
    assert choose_region([case([node(*EVERYWHERE)] * 20, body=0.95, lungs=0.81, neck=0.9)])[0] == "none"
    assert choose_region([case([node(*EVERYWHERE)] * 20, body=0.95, lungs=0.80, neck=0.9)])[0] == "lungs"
    assert choose_region([case([node(*EVERYWHERE)] * 19)])[0] == "body"


def test_without_nodes_or_ct_nothing_is_cropped() -> None:
    assert choose_region([case([])])[0] == "none"
    scan = case([node()] * 30)
    assert choose_region([CaseFacts(**{**vars(scan), "regions": {}})]) == ("none", "whole images: regions are known in CT only")


def test_the_fingerprint_is_that_of_cropped_images() -> None:
    assert summarise([case([node(*EVERYWHERE)])], "lungs").shapes_after_crop == [[40, 100, 100]]
    assert summarise([case([node(*EVERYWHERE)])]).shapes_after_crop == [[100, 100, 100]]


@pytest.fixture
def wide(folders: Path) -> Path:
    """Four scans of a small body in much air."""
    rng = np.random.default_rng(0)
    folder = folders / "raw/Dataset909_Wide"
    for number in range(4):
        image, label = np.full((20, 60, 60), -1000, np.int16), np.zeros((20, 60, 60), np.uint8)
        image[:, 12:44, 20:52] = rng.normal(0, 20, (20, 32, 32))
        image[:, 50:53, 5:55] = 100  # the table
        label[8:12, 20:26, 30:36] = 1
        image[label == 1] += 80
        write_image(folder / f"imagesTr/a{number}_0000.nii.gz", image)
        write_image(folder / f"labelsTr/a{number}.nii.gz", label)
    labels = {"background": 0, "node": 1}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 4, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folders


def test_cases_are_preprocessed_as_the_plan_crops_and_again_when_it_is_edited(wide: Path, command: Command) -> None:
    import blosc2

    assert command("plan_and_preprocess", "-d", 909, "--quiet", "--device", "cpu")[0] == 0
    base = wide / "preprocessed/Dataset909_Wide"
    plan = read_json(base / "lnautoPlans.json", "")
    assert plan["lnauto"]["region"] == "body"
    assert plan["lnauto"]["evidence"]["region_holds"]["value"]["body"] == 1.0
    stored = base / "lnautoPlans_3d_fullres/a0.b2nd"
    assert blosc2.open(str(stored)).shape[1:] == (20, 33, 33)  # looked for at every second voxel, and so one wider
    plan["lnauto"]["region"] = "none"
    (base / "lnautoPlans.json").write_text(json.dumps(plan))
    code, out, complaint = command("train", 909, 0, "--iterations", 1, "--device", "cpu")
    assert code == 0, complaint
    assert "4 preprocessed cases were made from other labels or under another plan; they are made again." in out
    assert blosc2.open(str(stored)).shape[1:] == (20, 60, 60)
    plan["lnauto"]["region"] = "knee"
    (base / "lnautoPlans.json").write_text(json.dumps(plan))
    code, _, complaint = command("train", 909, 0, "--device", "cpu")
    assert (code, complaint.startswith("lnauto: there is no region knee (there: none, body, lungs, neck), in ")) == (2, True)
