"""What the rows share, each made once and when it is first asked for; no row may change it."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import write_balls, write_image, write_random_model
from dicom_files import stored, three_nodes, write_series

from lnauto.paths import VARIABLES

DATASET = "Dataset901_Balls"
MODEL = "LNTrainer__lnautoPlans__3d_fullres"


class Material:
    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def planned(self) -> Path:
        """Raw and preprocessed folders of a data set of balls."""
        from lnauto.networks import probe
        from lnauto.report import painter
        from lnauto.workflow import plan

        folder = self.root / "planned"
        write_balls(folder / "raw" / DATASET, side=24, cases=4, test_cases=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probe, "seconds_per_step", lambda *_: 7.0)  # so slow that the smallest network is planned
            patch.setattr(painter, "draw_plan", lambda *_: None)
            for name, variable in VARIABLES.items():
                patch.setenv(variable, str(folder / name))
            plan.plan_and_preprocess("901", plan.Request(device="cpu", quiet=True))
        return folder

    @cached_property
    def preprocessed(self) -> Path:
        return self.planned / "preprocessed" / DATASET

    @cached_property
    def model(self) -> Path:
        """A model of two folds that finds nothing, so that nothing of it takes time."""
        import torch

        folder = self.root / "results" / DATASET / MODEL
        write_random_model(self.preprocessed, folder)
        for path in folder.glob("fold_*/*.pth"):
            content: dict[str, Any] = torch.load(path, weights_only=True)
            for name, values in content["network_weights"].items():
                if "seg_layers" in name and name.endswith("bias"):
                    values.copy_(torch.tensor([1e3, -1e3]))
            torch.save(content, path)
        return folder

    @cached_property
    def packed(self) -> Path:
        """One fold of it in a file."""
        from lnauto.workflow.export_model import Request, export
        from lnauto.workflow.predict import Request as Wanted

        return export(Wanted(model=self.model, folds=["0"]), self.root / "packed" / "balls.lnauto", Request())

    @cached_property
    def scan(self) -> Path:
        path = self.root / "scan" / "scan_0000.nii.gz"
        write_image(path, np.random.default_rng(1).normal(0, 60, (16, 16, 16)).astype(np.float32))
        return path

    @cached_property
    def mask(self) -> Path:
        """One node on the scan's grid."""
        path = self.root / "scan" / "mask.nii.gz"
        mask = np.zeros((16, 16, 16), np.uint8)
        mask[4:9, 4:9, 4:9] = 1
        write_image(path, mask)
        return path

    @cached_property
    def measured(self) -> Path:
        """What `lnauto_measure` writes of the mask."""
        from lnauto.workflow.measure import Request, measure

        folder = self.root / "measured"
        measure(self.mask, self.scan, folder, Request(report=False, quiet=True))
        return folder

    @cached_property
    def evaluated(self) -> Path:
        """A folder of masks with figures."""
        from lnauto.workflow.evaluate import evaluate

        folder = self.root / "evaluated"
        for side in ("truth", "masks"):
            (folder / side).mkdir(parents=True)
            shutil.copyfile(self.mask, folder / side / "case.nii.gz")
        evaluate(folder / "truth", folder / "masks")
        return folder / "masks"

    @cached_property
    def dicom(self) -> Path:
        """A case: a CT of six slices, and a SEG drawn on it."""
        from lnauto.dicom.listing import read_folder
        from lnauto.dicom.write_seg import write_seg

        folder = self.root / "dicom" / "anna"
        write_series(folder / "ct", stored())
        [series] = read_folder(folder / "ct").series
        write_seg(three_nodes(), series, folder / "drawn", names={1: "LN 1", 2: "LN 2", 3: "Heart"})
        return folder

    @cached_property
    def table_model(self) -> Path:
        """A model of a table alone, trained in a moment."""
        from lnauto.workflow import patient_figures
        from lnauto.workflow.plan import Request as PlanRequest
        from lnauto.workflow.plan import plan_and_preprocess
        from lnauto.workflow.train import Request, train

        folder = self.root / "tables"
        write_patients(folder / "raw" / "Dataset902_Table" / "patients.csv")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(patient_figures, "draw_patients", lambda *_: None)
            for name, variable in VARIABLES.items():
                patch.setenv(variable, str(folder / name))
            plan_and_preprocess("902", PlanRequest(device="cpu", quiet=True))
            return train("902", ["0"], Request(device="cpu", report=False, quiet=True))

    def state(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file: whether a row wrote into what all share."""
        found = {}
        for folder, _, files in os.walk(self.root):
            for name in files:
                stat = os.stat(path := os.path.join(folder, name))
                found[path] = (stat.st_size, stat.st_mtime_ns)
        return found


def write_patients(path: Path, patients: int = 40) -> None:
    """Age tells of metastasis, size a little."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["patient,lnm,age,size"]
    for number in range(patients):
        lnm = number % 2
        lines.append(f"p{number:02d},{lnm},{50 + 15 * lnm + rng.normal(0, 5):.1f},{rng.normal(lnm, 2):.2f}")
    path.write_text("\n".join(lines) + "\n")
