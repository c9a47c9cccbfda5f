"""What is trusted as background, why, and that a node nobody drew is hardly ever among it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lnauto.data.phantom import make_phantom
from lnauto.data.raw import RawDataset
from lnauto.data.region import find_region
from lnauto.data.trusted_background import REASONS, Trust, as_drawn, materialise, reasons, trusted_background, with_ignore
from lnauto.planners.case_facts import look_at
from lnauto.planners.trust import choose_trust

MM = (2.0, 1.5, 1.5)
TRUST = Trust(low=(-30.0,), high=(130.0,), region="body", depth_mm=12.0, air_below=-500.0, bone_above=250.0, organs="organsTr")
DRAWN, UNDRAWN, HEART, RIB, LUNG, CALCIUM = (
    np.s_[8:13, 20:26, 20:26], np.s_[16:20, 20:25, 40:45], np.s_[4:36, 34:64, 14:50], np.s_[4:36, 8:16, 10:60],
    np.s_[4:36, 20:30, 52:62], np.s_[26:30, 20:26, 20:26],
)  # fmt: skip
BODY = tuple(slice(2, side - 2) for side in (40, 70, 70))


def chest() -> tuple[np.ndarray, np.ndarray]:
    """A block of fat with two nodes, of which one is drawn, a heart, a rib, a lung and a calcified node."""
    image, drawn = np.full((40, 70, 70), -1000, np.float32), np.zeros((40, 70, 70), bool)
    image[BODY] = -100
    for place, intensity in ((DRAWN, 50), (UNDRAWN, 40), (HEART, 60), (RIB, 500), (LUNG, -850), (CALCIUM, 400)):
        image[place] = intensity
    drawn[DRAWN] = True
    return image[None], drawn


def why(trust: Trust = TRUST, **more: Any) -> np.ndarray:
    image, drawn = chest()
    return np.array(REASONS)[reasons(image, drawn, MM, trust, BODY, **more)]


def test_each_place_is_background_for_its_own_reason() -> None:
    found = why()
    assert set(found[DRAWN].ravel()) == set(found[UNDRAWN].ravel()) == {"unknown"}
    assert found[0, 0, 0] == "region"
    assert found[20, 25, 57] == "air"
    assert found[20, 12, 30] == "bone"
    assert found[33, 28, 8] == "intensity"  # fat
    assert found[20, 49, 32] == "depth"  # the middle of the heart
    assert found[20, 36, 32] == "unknown"  # its rim may be a node beside it
    assert found[7, 22, 22] == found[10, 22, 27] == "shell"
    assert found[10, 22, 29] == "intensity"  # 4.5 mm away
    assert found[28, 23, 23] == "unknown"  # calcium in a small piece


def test_without_a_rule_its_voxels_are_unknown() -> None:
    assert why(replace(TRUST, depth_mm=None))[20, 49, 32] == "unknown"
    wide = replace(TRUST, low=(None,), high=(None,), depth_mm=None)
    assert why(wide)[20, 25, 57] == "air"
    assert why(replace(wide, air_below=None))[20, 25, 57] == "unknown"
    assert why(wide)[20, 12, 30] == "bone"
    assert why(replace(wide, bone_above=None))[20, 12, 30] == "unknown"
    assert why(wide)[33, 28, 8] == "unknown"


STROKES = Trust(low=(None,), high=(None,), region="none", shell_mm=None, reach=1.0)


def far_from(*strokes: tuple[slice | int, ...], trust: Trust = STROKES) -> np.ndarray:
    """Where nothing is said but that it is far from each of these strokes, in a block of 40x70x70 voxels of 2x1.5x1.5 mm."""
    drawn = np.zeros((40, 70, 70), bool)
    for stroke in strokes:
        drawn[stroke] = True
    everywhere = tuple(slice(0, side) for side in drawn.shape)
    found: np.ndarray = reasons(np.ones((1, *drawn.shape)), drawn, MM, trust, everywhere) == REASONS.index("far")
    return found


def test_a_node_reaches_as_far_beyond_its_stroke_as_this_is_long() -> None:
    far = far_from(np.s_[20, 30, 20:32])  # 18 mm, and 3 mm more at each end in which another stroke would be on the same node
    assert far[20, 30].tolist() == [x < 2 or x >= 50 for x in range(70)]
    assert far[:, 30, 26].tolist() == [z < 6 or z > 34 for z in range(40)]
    assert far[20, :, 26].tolist() == [y < 12 or y > 48 for y in range(70)]
    assert far_from(np.s_[20, 30, 20:32], trust=replace(STROKES, reach=0.5)).sum() > far.sum()


def test_lines_in_neighbouring_slices_are_one_stroke() -> None:
    together = far_from(*(np.s_[z, 30, 30:34] for z in range(15, 25)))
    assert not together[5, 30, 31]  # the ten lines are 20 mm long, each of them 6
    assert far_from(np.s_[15, 30, 30:34])[5, 30, 31]


@pytest.mark.parametrize("background", [True, False])
def test_strokes_without_background_are_left_as_they_are(background: bool) -> None:
    label = np.full((40, 70, 70), 2, np.uint8)
    label[20, 30, 20:32] = 1
    label[1, 1, 1] = 0 if background else 2
    everywhere = tuple(slice(0, side) for side in label.shape)
    description = {"labels": {"background": 0, "node": 1, "ignore": 2}}
    found = materialise(np.ones((1, *label.shape)), label, MM, STROKES, everywhere, description)
    assert np.array_equal(found, label) is not background
    assert bool(found[20, 30, 60] == 0) is background


def test_a_dot_is_on_a_node_too_and_a_case_without_a_stroke_has_none() -> None:
    far = far_from(np.s_[20, 30, 30])
    assert not far[20, 30, 37]
    assert far[20, 30, 40]
    assert far_from().all()


def test_organs_are_never_node_and_what_is_drawn_always_is() -> None:
    organs = np.zeros((40, 70, 70), np.uint8)
    organs[HEART] = 3
    organs[DRAWN] = 4
    found = why(organs=organs)
    assert set(found[HEART].ravel()) == {"organ"}
    assert set(found[DRAWN].ravel()) == {"unknown"}


def test_what_hardly_looks_like_a_drawn_node_is_background_but_not_the_rim_of_what_does() -> None:
    likeness = np.full((40, 70, 70), 5, np.uint8)
    likeness[UNDRAWN] = 60
    likeness[HEART] = 19
    trust = replace(TRUST, depth_mm=None)
    found = why(trust, likeness=likeness)
    assert set(found[UNDRAWN].ravel()) == {"unknown"}
    assert found[20, 49, 32] == "unlike"
    assert found[18, 22, 38] == "intensity"  # certain reasons stay what they are
    assert set(why(replace(trust, unlike_below=19.0), likeness=likeness)[HEART].ravel()) == {"unknown"}
    likeness[UNDRAWN] = 5
    likeness[UNDRAWN[0], UNDRAWN[1], 42:43] = 60
    assert set(why(trust, likeness=likeness)[18, 22, 40:45]) == {"unknown"}  # two voxels, 3 mm, to either side
    assert set(why(replace(trust, unlike_margin_mm=1.0), likeness=likeness)[18, 22, [40, 44]]) == {"unlike"}


def test_a_shell_spares_the_next_drawn_node() -> None:
    image, drawn = chest()
    drawn[8:13, 20:26, 27:32] = True  # a voxel apart
    image[0][drawn] = 50
    found = trusted_background(image, drawn, MM, TRUST, BODY)
    assert not found[drawn].any()
    assert found[8:13, 20:26, 26].all()


LABELS = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "all": [1, 2], "node": 2}}


def test_the_ignore_label_comes_and_goes() -> None:
    taught = with_ignore(LABELS, TRUST)
    assert taught["labels"]["ignore"] == 3
    assert as_drawn(taught) == LABELS
    assert with_ignore(LABELS, None) == LABELS
    own = {"labels": {"background": 0, "node": 1, "ignore": 2}}
    assert as_drawn(with_ignore(own, TRUST)) == own


def test_what_is_neither_drawn_nor_trusted_is_ignored() -> None:
    image, drawn = chest()
    label = drawn.astype(np.float32) * 2
    taught = materialise(image, label, MM, TRUST, BODY, with_ignore(LABELS, TRUST))
    assert (taught[DRAWN] == 2).all()
    assert (taught[UNDRAWN] == 3).all()
    assert taught[0, 0, 0] == taught[33, 28, 8] == 0
    assert taught.dtype == label.dtype


def test_background_that_somebody_drew_stays_and_ignored_air_becomes_background() -> None:
    image, drawn = chest()
    label = np.where(drawn, 1, 2).astype(np.float32)
    label[UNDRAWN] = 0  # somebody said so
    own = {"labels": {"background": 0, "node": 1, "ignore": 2}}
    taught = materialise(image, label, MM, TRUST, BODY, own)
    assert (taught[UNDRAWN] == 0).all()
    assert taught[0, 0, 0] == 0
    assert taught[20, 36, 32] == 2


def test_magnetic_resonance_has_no_hounsfield_units() -> None:
    """Only what is 0 in every channel, shells and organs are known to be background."""
    image, drawn = chest()
    image = np.maximum(image + 1000, 0)
    trust = replace(TRUST, low=(None,), high=(None,), region="none", depth_mm=None, air_below=None, bone_above=None)
    whole = tuple(slice(0, side) for side in drawn.shape)
    found = np.array(REASONS)[reasons(image, drawn, MM, trust, whole)]
    assert set(found.ravel()) == {"unknown", "air", "shell"}
    assert found[0, 0, 0] == "air"


def test_the_plan_holds_the_rules() -> None:
    assert Trust.of_plan({"lnauto": {"trusted_background": vars(TRUST)}}) == TRUST
    assert Trust.of_plan({"lnauto": {"trusted_background": None}}) is None
    assert Trust.of_plan({}) is None


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chests of which about a third of the nodes are drawn; not the ones the rules were made on."""
    folder = tmp_path_factory.mktemp("phantom") / "Dataset910_Partial"
    return make_phantom(folder, cases=3, annotation="partial", fraction=0.35, size=64, seed=11, style="b", quiet=True)


def shares(phantom: Path, **changes: Any) -> tuple[float, float, float]:
    """How much of the nodes that nobody drew, of the body, and of all voxels is trusted to be background."""
    from lnauto.compat.images import SimpleITKIO

    dataset = RawDataset.read(phantom)
    cases = [look_at(dataset, case, 0) for case in dataset.cases]
    trust, _ = choose_trust(dataset, cases, "partial_instance", "none")
    assert trust is not None
    trust = replace(trust, **changes)
    undrawn, body, everything = [], [], []
    for case in dataset.cases:
        image, properties = SimpleITKIO().read_images([str(case.images[0])])
        assert case.label is not None
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(case.label)))
        nodes = sitk.GetArrayFromImage(sitk.ReadImage(str(phantom / "truth/nodes" / case.label.name)))
        box = find_region(image[0], properties["spacing"], properties["sitk_stuff"]["direction"], "body")
        known = trusted_background(image, label > 0, properties["spacing"], trust, box)
        assert not known[label > 0].any()
        undrawn.append(known[(nodes > 0) & (label == 0)])
        body.append(known[image[0] > -300])
        everything.append(known.ravel())
    return tuple(float(np.concatenate(part).mean()) for part in (undrawn, body, everything))  # type: ignore[return-value]


def test_nodes_that_nobody_drew_are_not_taught_as_background(phantom: Path) -> None:
    undrawn, body, everything = shares(phantom)
    assert undrawn < 0.02
    assert body > 0.2
    assert everything > 0.5
    narrow = shares(phantom, low=(30.0,), high=(60.0,))
    assert narrow[0] > 0.1  # what the range and its reserve are for
