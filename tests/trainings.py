"""What a training leaves in a model's folder, without training: plan, histories, masks, their figures, a judged head."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from lnauto.evaluation.cases import CaseResult, evaluate_case
from lnauto.evaluation.folder import Evaluation
from lnauto.evaluation.labels import LabelScheme
from lnauto.nodes import label_components
from lnauto.workflow.evaluate import write_evaluation

Validated = tuple[Path, dict[str, list[CaseResult]]]  # the folder, and the cases of each fold
FOLDS = {"0": ("ball_00", "ball_01"), "1": ("ball_02", "ball_03")}
HEAD = "LNMTrainerABMIL"


def predicted_of(case: str, truth: np.ndarray) -> np.ndarray:
    """All of it; all but the smallest node and something false; the largest alone; nothing."""
    numbers, count = label_components(truth > 0)
    if case == "ball_00":
        return np.asarray(truth)
    if case == "ball_01":
        mask = ((numbers > 0) & (numbers < count)).astype(np.uint8)
        mask[:4, :4, :4] = 1
        return mask
    return ((numbers == 1) & (case == "ball_02")).astype(np.uint8)


def history(start: float) -> list[dict[str, Any]]:
    """As a trainer leaves it: a record of each epoch, nodes in some, and no Dice where a batch held no node."""
    nodes = {"cases": 2, "recall": 0.5, "false_per_case": 1.5, "f1": 0.4}
    return [
        {
            "iteration": 10 * epoch,
            "seconds": 6.0 * epoch,
            "learning_rate": 0.01,
            "train_loss": start / epoch,
            "val_loss": start / epoch + 0.1,
            "dice": None if epoch == 1 else 0.1 * epoch,
            "dice_per_label": [None],
            "nodes": nodes if epoch == 3 else None,
        }
        for epoch in range(1, 5)
    ]


def judged_patients(folder: Path) -> None:
    """The validation of a patient head, in a fold and over all, as a training leaves it."""
    from lnauto.data.patients import PatientTable
    from lnauto.evaluation.patients import Comparator, Fold
    from lnauto.workflow.patient_figures import tell_figures

    rng = np.random.default_rng(3)
    truth = (np.arange(40) % 2).astype(float)
    probability = 1 / (1 + np.exp(-rng.normal(1.5 * (truth - 0.5), 1)))
    patients = [f"patient_{number:02d}" for number in range(40)]
    rows = [f"{name},{lnm:.0f},{'AB'[place % 4 == 0]}" for place, (name, lnm) in enumerate(zip(patients, truth, strict=True))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "patients_raw.csv").write_text("\n".join(["patient,lnm,centre", *rows]) + "\n")
    table = PatientTable.read(folder / "patients_raw.csv")
    (folder / "patients_raw.csv").unlink()
    folds = [
        Fold(name, patients[part], truth[part], probability[part], 0.5)
        for name, part in (("0", slice(0, 20)), ("1", slice(20, 40)))
    ]
    rule = Comparator("short axis", rng.normal(10 + truth, 2), 10.0)
    for fold in folds:
        tell_figures([fold], folder / f"fold_{fold.name}" / HEAD / "validation", "fold", table, briefly=True)
    tell_figures(folds, folder / HEAD / "crossvalidation", "all", table, comparators=[rule], briefly=True)


def write_training(prepared: Path, folder: Path) -> dict[str, list[CaseResult]]:
    """What a training of two folds leaves on the balls, but for its networks."""
    planned, raw = prepared / "preprocessed/Dataset901_Balls", prepared / "raw/Dataset901_Balls"
    folder.mkdir(parents=True)
    for name, source in (("plans.json", "lnautoPlans.json"), ("dataset.json", "dataset.json")):
        shutil.copy(planned / source, folder / name)
    scheme = LabelScheme.from_dataset_json(folder / "dataset.json")
    found: dict[str, list[CaseResult]] = {}
    for fold, cases in FOLDS.items():
        validation = folder / f"fold_{fold}/validation"
        validation.mkdir(parents=True)
        (validation.parent / "history.json").write_text(json.dumps(history(1.0 + int(fold))))
        for case in cases:
            image = sitk.ReadImage(str(raw / f"labelsTr/{case}.nii.gz"))
            truth = sitk.GetArrayFromImage(image)
            predicted = predicted_of(case, truth)
            mask = sitk.GetImageFromArray(predicted)
            mask.CopyInformation(image)
            sitk.WriteImage(mask, str(validation / f"{case}.nii.gz"))
            result = evaluate_case(truth.astype(np.int32), predicted, image.GetSpacing()[::-1], scheme, case=case)
            found.setdefault(fold, []).append(result)
        write_evaluation(Evaluation.of_cases(found[fold], validation, validation), validation)
    return found


def shown(folder: Path, name: str = "report") -> tuple[str, dict[str, Any]]:
    return (folder / f"{name}.html").read_text(), json.loads((folder / f"{name}.json").read_text())


def rows_of(page: str, table: str) -> list[list[str]]:
    """The text of a table's cells."""
    body = re.search(rf'<table id="{table}".*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert body is not None, f"there is no table {table}"
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", body[1], re.DOTALL)]
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in cells]


def told(estimate: dict[str, Any], form: str = ".2f") -> str:
    if estimate["value"] is None:
        return "\N{EN DASH}"
    interval = "" if estimate["low"] is None else " ({low:{form}} to {high:{form}})"
    return ("{value:{form}}" + interval).format(**estimate, form=form)


def viewers(page: str) -> Iterator[dict[str, Any]]:
    for text in re.findall(r'<script type="application/json" id="look-data-\d+">(.*?)</script>', page):
        yield json.loads(text)


def one_case(name: str, dice: float | None, true_mm3: float = 100.0) -> dict[str, Any]:
    volumes = {"true_mm3": true_mm3, "predicted_mm3": 90.0, "shared_mm3": 80.0}
    return {"case": name, "labels": {"node": {"dice": dice, **volumes}}, "nodes": {}}
