"""Labels from which nothing can be learned: a line, exit code 2, and no training begun."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from building import write_balls

from lnauto.files import read_json
from lnauto.paths import VARIABLES
from lnauto.workflow.plan import Request, plan_and_preprocess

Command = Callable[..., tuple[int, str, str]]
Redraw = Callable[[str, np.ndarray], np.ndarray]
NAME = "Dataset902_Strokes"
NODE, IGNORE = 1, 2


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls with an ignore label, everything judged, planned and preprocessed; read-only for tests."""
    root = tmp_path_factory.mktemp("strokes")
    raw = root / "raw" / NAME
    write_balls(raw, side=24, test_cases=0)
    description = json.loads((raw / "dataset.json").read_text())
    description["labels"]["ignore"] = IGNORE
    (raw / "dataset.json").write_text(json.dumps({**description, "annotation": "scribble"}))
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("902", Request(device="cpu", quiet=True))
    return root


@pytest.fixture
def own(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, variable in VARIABLES.items():
        if (planned / name).is_dir():
            shutil.copytree(planned / name, tmp_path / name)
        monkeypatch.setenv(variable, str(tmp_path / name))
    return tmp_path


def redraw(root: Path, change: Redraw) -> None:
    """Change labels after planning, as an annotator may."""
    for path in sorted((root / "raw" / NAME / "labelsTr").iterdir()):
        image = sitk.ReadImage(str(path))
        changed = sitk.GetImageFromArray(change(path.name.removesuffix(".nii.gz"), sitk.GetArrayFromImage(image)))
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(path))


def refused(root: Path, command: Command, *arguments: object) -> str:
    code, _, complaint = command("train", 902, *arguments, "--iterations", 2, "--quiet", "--device", "cpu")
    assert code == 2, complaint
    assert complaint.startswith("lnauto: ")
    assert complaint.count("\n") == 1
    assert not list((root / "results").rglob("checkpoint*"))
    return complaint


def test_strokes_without_background_are_refused_at_training_too(own: Path, command: Command) -> None:
    redraw(own, lambda _, label: np.where(label == 0, IGNORE, label))
    complaint = refused(own, command, 0)
    assert "no voxel is drawn as background, so nothing says what is no node, in the training cases of fold 0" in complaint


def test_a_fold_without_a_node_is_refused_before_any_fold_is_trained(own: Path, command: Command) -> None:
    folds = read_json(own / f"preprocessed/{NAME}/splits_final.json", "")
    redraw(own, lambda name, label: np.where(label == NODE, 0, label) if name in folds[1]["train"] else label)
    assert "no node is drawn, in the training cases of fold 1" in refused(own, command, 0, 1)


def test_no_node_anywhere_is_refused(own: Path, command: Command) -> None:
    redraw(own, lambda _, label: np.where(label == NODE, IGNORE, label))
    assert "no node is drawn, in the training cases of fold all" in refused(own, command, "all")


def test_labels_that_are_all_ignore_are_refused(own: Path, command: Command) -> None:
    redraw(own, lambda _, label: np.full_like(label, IGNORE))
    assert 'every voxel carries "ignore", in the training cases of fold 0' in refused(own, command, 0)
    code, _, complaint = command("plan_and_preprocess", "-d", 902, "--quiet", "--device", "cpu")
    assert (code, complaint.count("\n")) == (2, 1)
    assert 'all 6 labels hold nothing but "ignore"' in complaint
