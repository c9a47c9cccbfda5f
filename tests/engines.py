"""A model of random weights with a scan to predict, for tests of what runs networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lnauto.inference.model import FINAL, build_network
from lnauto.networks import machine_cache
from lnauto.workflow.node_table import NodeTable

Command = Callable[..., tuple[int, str, str]]


def model_of_chance(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folds of random weights, which find enough to compare, and nothing known of this machine."""
    from lnauto.compat.plans import PlansManager

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path / "cache")
    monkeypatch.setattr("lnauto.workflow.predict.measure_masks", lambda *_: NodeTable())  # of thousands of specks
    source = prepared / "preprocessed/Dataset901_Balls"
    plans, description = (json.loads((source / name).read_text()) for name in ("lnautoPlans.json", "dataset.json"))
    folder = tmp_path / "Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres"
    for fold in ("0", "1"):
        torch.manual_seed(int(fold))
        network = build_network(PlansManager(plans), "3d_fullres", description, deep_supervision=False)
        made = {"configuration": "3d_fullres", "plans": plans, "dataset_json": description, "fold": fold}
        content = {"network_weights": network.state_dict(), "init_args": made, "trainer_name": "LNTrainer"}
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save({**content, "inference_allowed_mirroring_axes": [0, 1, 2]}, folder / f"fold_{fold}" / FINAL)
    for name, content in (("plans.json", plans), ("dataset.json", description)):
        (folder / name).write_text(json.dumps(content))
    (tmp_path / "scans").mkdir()
    shutil.copy(prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz", tmp_path / "scans")
    return folder


def predicted(command: Command, model: Path, out: str, *flags: Any) -> tuple[np.ndarray, dict[str, Any]]:
    quick = ("--precision", "fp32", "--tta", "none", "--overlap", 0)  # this machine's bf16 is not what is looked at
    arguments = ("predict", "-i", "scans", "-o", out, "-m", model, "--device", "cpu", "--filter", "none", "--quiet", *quick)
    code, _, complaint = command(*arguments, *flags)
    assert code == 0, complaint
    mask = sitk.GetArrayFromImage(sitk.ReadImage(f"{out}/ball_06.nii.gz"))
    return mask, json.loads(Path(out, "run.json").read_text())
