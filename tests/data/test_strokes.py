"""What strokes lead to: the node they are on, what surely is none, and between them what nobody knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
from building import write_balls

from lnauto.data import strokes
from lnauto.data.phantom import make_phantom
from lnauto.data.raw import RawDataset
from lnauto.data.strokes import follow
from lnauto.data.trusted_background import Trust, materialise
from lnauto.paths import activate
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.workflow.plan import bring_up_to_date

MM, IGNORE = (1.0, 1.0, 1.0), 9
FAT, TISSUE, BRIGHT = -100.0, 40.0, 200.0
WITHIN, FROM, REACH = 4.0, 6.0, 1.0
SIDE = 40
GRID = np.stack(np.meshgrid(*(np.arange(SIDE),) * 3, indexing="ij"))


def read_label(path: Path) -> np.ndarray:
    found: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return found


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    found: np.ndarray = np.linalg.norm(GRID - np.array(centre)[:, None, None, None], axis=0) <= radius
    return found


NODE, VESSEL = ball((20, 20, 20), 5), (np.hypot(GRID[1] - 20, GRID[2] - 27) <= 2)


def scene(vessel: float = BRIGHT) -> tuple[np.ndarray, np.ndarray]:
    """A node in fat that a vessel touches, with a line through its middle, and a line of background far away."""
    image = np.full((SIDE,) * 3, FAT)
    image[VESSEL], image[NODE] = vessel, TISSUE
    image += np.random.default_rng(0).normal(0, 5, image.shape)
    label = np.full(image.shape, IGNORE, np.uint8)
    label[20, 20, 17:24] = 1
    label[20, 2, 2:38] = 0
    return image[None].astype(np.float32), label


def followed(image: np.ndarray, label: np.ndarray, within: float = WITHIN, spacing: tuple[float, ...] = MM) -> np.ndarray:
    return follow(image, label, spacing, IGNORE, within, FROM, REACH)


def test_a_stroke_leads_through_its_node_and_not_into_what_touches_it() -> None:
    found = followed(*scene())
    assert (found[NODE] == 1).mean() > 0.5  # its rim looks like neither, and stays unknown
    assert (found[NODE] == 0).sum() == (found[~NODE] == 1).sum() == 0
    near = ball((20, 20, 20), 9)
    assert (found[near & ~NODE] == 0).mean() > 0.9


def test_without_leaning_on_intensities_it_leads_into_what_touches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strokes, "LEANING", 0.0)
    assert (followed(*scene())[~NODE] == 1).sum() > 50


def test_each_stroke_is_compared_with_what_it_lies_on() -> None:
    """A dark node and a bright one beside each other: to each its own, by the nearer way."""
    image, label = np.full((SIDE,) * 3, FAT), np.full((SIDE,) * 3, IGNORE, np.uint8)
    dark, bright = ball((20, 20, 14), 5), ball((20, 20, 25), 5)
    image[dark], image[bright] = 20, 160
    label[20, 20, 12:17], label[20, 20, 23:28], label[2, 2, :] = 1, 2, 0
    found = followed(image[None].astype(np.float32), label)
    assert (found[dark] == 1).mean() > 0.6
    assert (found[bright] == 2).mean() > 0.6
    assert (found[dark] == 2).sum() == (found[bright] == 1).sum() == 0


def test_what_is_known_stays() -> None:
    image, label = scene()
    label[20, 23, 18:23] = 0  # somebody drew it, inside
    found = followed(image, label)
    np.testing.assert_array_equal(found[label != IGNORE], label[label != IGNORE])


def test_where_nothing_is_background_nothing_is_followed() -> None:
    image, label = scene()
    label[label == 0] = IGNORE
    np.testing.assert_array_equal(followed(image, label), label)
    nothing = np.full_like(label, IGNORE)
    nothing[0, 0, 0] = 0
    np.testing.assert_array_equal(followed(image, nothing), nothing)


def test_ways_are_counted_in_voxel_edges() -> None:
    image, label = scene()
    found = followed(image, label)[NODE]
    np.testing.assert_array_equal(found, followed(image, label, spacing=(1.5, 1.5, 1.5))[NODE])
    assert (followed(image, label, within=2)[NODE] == 1).sum() < 0.5 * (found == 1).sum()


def test_a_long_stroke_may_be_on_a_thick_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line along a large node: how thick that is nobody said, and its far side is not called background."""
    image, label = np.full((SIDE,) * 3, FAT), np.full((SIDE,) * 3, IGNORE, np.uint8)
    node = ball((20, 20, 20), 13)
    image[node] = TISSUE
    label[20, 20, 8:33], label[2, 2, :] = 1, 0
    found = followed(image[None].astype(np.float32), label)[node]
    assert (found == 0).mean() < 0.1
    assert (found == IGNORE).mean() > 0.7
    monkeypatch.setattr(strokes, "THICK", 0.0)
    assert (followed(image[None].astype(np.float32), label)[node] == 0).mean() > 0.6


def test_all_channels_lead() -> None:
    """Seen in one channel alone, the vessel is as the node; the other tells them apart."""
    image, label = scene(vessel=TISSUE)
    other = np.where(VESSEL, 10.0, 0.0) + np.random.default_rng(1).normal(0, 0.5, VESSEL.shape)
    alone = followed(image, label)
    both = followed(np.concatenate([image, other[None].astype(np.float32)]), label)
    outside = VESSEL & ~NODE
    assert (alone[outside] == 1).sum() >= 10
    assert (both[outside] == 1).sum() == 0


def test_on_phantoms_most_of_each_node_is_found_and_little_else(tmp_path: Path) -> None:
    folder = make_phantom(tmp_path / "Dataset903_Strokes", cases=3, size=64, annotation="scribble", seed=5, quiet=True)
    description = json.loads((folder / "dataset.json").read_text())
    ignore = description["labels"]["ignore"]
    trust = Trust(low=(-70.0,), high=(150.0,), region="none", shell_mm=None, reach=REACH, air_below=-500.0, bone_above=250.0)
    right = wrong = lost = nodes = before = 0
    for path in sorted((folder / "labelsTr").iterdir()):
        scan = sitk.ReadImage(str(folder / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")))
        image, spacing = sitk.GetArrayFromImage(scan)[None].astype(np.float32), scan.GetSpacing()[::-1]
        drawn, truth = read_label(path), read_label(folder / "truth/labelsTr" / path.name) > 0
        whole = tuple(slice(0, side) for side in drawn.shape)
        known = materialise(image, drawn, spacing, trust, whole, description)
        found = follow(image, known, spacing, ignore, WITHIN, FROM, REACH)
        before += (known == 1).sum()
        right, wrong = right + (found == 1)[truth].sum(), wrong + (found == 1)[~truth].sum()
        lost, nodes = lost + (found == 0)[truth].sum(), nodes + truth.sum()
    assert before < 0.12 * nodes
    assert right > 0.65 * nodes
    assert wrong < 0.5 * right
    assert lost < 0.05 * nodes


@pytest.fixture
def raw(folders: Path) -> Path:
    """Balls with a few voxels of each drawn, as of the background; the rest is unknown."""
    folder = folders / "raw/Dataset901_Balls"
    write_balls(folder)
    for path in sorted((folder / "labelsTr").iterdir()):
        image = sitk.ReadImage(str(path))
        balls = sitk.GetArrayFromImage(image)
        drawn = np.full(balls.shape, 2, np.uint8)
        drawn[::3, ::3, :][balls[::3, ::3, :] == 1] = 1
        drawn[::8, ::8, :] = balls[::8, ::8, :]
        written = sitk.GetImageFromArray(drawn)
        written.CopyInformation(image)
        sitk.WriteImage(written, str(path))
    description: dict[str, Any] = json.loads((folder / "dataset.json").read_text())
    description |= {"labels": {"background": 0, "node": 1, "ignore": 2}, "annotation": "scribble"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_the_plan_says_how_far_and_training_learns_it(raw: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """Every voxel that is preprocessed is looked at, and none but unknown ones differ; the plan can leave it out."""
    code, out, complaint = command("plan_and_preprocess", "-d", 901, "--device", "cpu")
    assert code == 0, complaint
    assert "what is more than 6 voxels from every stroke on a node by way of like tissue" in " ".join(out.split())
    base = raw.parents[1] / "preprocessed/Dataset901_Balls"
    plan = json.loads((base / "lnautoPlans.json").read_text())
    with_ways = labels(base)
    plan["lnauto"]["trusted_background"]["node_within"] = None
    (base / "lnautoPlans.json").write_text(json.dumps(plan))
    changed = Plan.load(base / "lnautoPlans.json", "plan anew")
    bring_up_to_date(RawDataset.read(raw), changed, CONFIGURATION, activate(), quiet=True)
    without = labels(base)
    unknown = without == 2
    np.testing.assert_array_equal(with_ways[~unknown], without[~unknown])
    assert (with_ways == 1).sum() > 3 * (without == 1).sum()
    assert (with_ways == 2).sum() < 0.7 * unknown.sum()


def labels(base: Path) -> np.ndarray:
    found = [blosc2.open(str(path))[0] for path in sorted((base / "lnautoPlans_3d_fullres").glob("*_seg.b2nd"))]
    return np.concatenate([each.ravel() for each in found])
