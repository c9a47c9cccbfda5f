"""Real images under every kind of annotation, and real tables without images; what they are is in `annotation_kinds.py`.

What stands for a node is the hippocampus, or the tumour; there is one in each case.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from annotation_kinds import HALVES, Rng, Sample, case_names, describe, unlabel, write_like

from lnauto.data.phantom.annotation import IGNORE as NOT_DRAWN
from lnauto.data.phantom.annotation import scribbles
from lnauto.nodes import label_components

REAL = {"Dataset004_Hippocampus": 20, "Dataset051_STSPETCT": 14}  # cases taken
TREATMENTS = {"full": "full", "partial": "partial_instance", "strokes": "scribble", "un-annotated": "unlabelled"}
ANNOTATED = (0.3, 0.6)  # share of the objects that a partial annotation leaves
TABLES = {"2021-usz-oropharynx.csv": "stage_level", "2023-clb-multisite.csv": "image_level"}


def real(root: Path, half: str, realdata: Path, only: str = "") -> Iterator[Sample]:
    for first, (name, cases) in enumerate(REAL.items()):
        for second, (treatment, truth) in enumerate(TREATMENTS.items()):
            if only not in treatment:
                continue
            rng = np.random.default_rng((1, first, second, HALVES.index(half)))
            folder = root / f"Dataset{700 + 10 * first + second}_Real"
            chosen = rng.permutation(case_names(realdata / name))[:cases]
            _copy(realdata / name, folder, [str(case) for case in chosen])
            _treat(folder, treatment, rng)
            yield Sample(f"{treatment}, {name.partition('_')[2]}", truth, folder)


def _copy(source: Path, folder: Path, cases: list[str]) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
        for case in cases:
            for path in (source / name).glob(f"{case}*.nii.gz"):
                shutil.copyfile(path, folder / name / path.name)
    shutil.copyfile(source / "dataset.json", folder / "dataset.json")


def _treat(folder: Path, treatment: str, rng: Rng) -> None:
    names = case_names(folder)
    if treatment == "un-annotated":
        unlabel(folder, names)
    if treatment == "partial":
        kept = round(float(rng.uniform(*ANNOTATED)) * len(names))
        for name in rng.permutation(names)[kept:]:
            path = folder / "labelsTr" / f"{name}.nii.gz"
            image = sitk.ReadImage(str(path))
            write_like(np.zeros_like(sitk.GetArrayFromImage(image)), image, path)
    if treatment == "strokes":
        labels = json.loads((folder / "dataset.json").read_text())["labels"]
        ignore = max(labels.values()) + 1
        for name in names:
            _stroke(folder, name, ignore, rng)
        describe(folder, lambda description: description["labels"].update(ignore=ignore))


def _stroke(folder: Path, name: str, ignore: int, rng: Rng) -> None:
    """Strokes through the object and through what is brighter than air, each with the value that is drawn there."""
    path = folder / "labelsTr" / f"{name}.nii.gz"
    image = sitk.ReadImage(str(path))
    label = sitk.GetArrayFromImage(image)
    scan = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "imagesTr" / f"{name}_0000.nii.gz")))
    strokes = scribbles(rng, label_components(label)[0], scan > np.percentile(scan, 20))
    write_like(np.where(strokes == NOT_DRAWN, ignore, label).astype(np.uint8), image, path)


def tables(root: Path, half: str, realdata: Path, only: str = "") -> Iterator[Sample]:
    """lyDATA as patients without images: one cohort knows stages and sides, the other whether any level is involved."""
    for number, (name, truth) in enumerate(TABLES.items() if only in "table only" else ()):
        rng = np.random.default_rng((2, number, HALVES.index(half)))
        table = pd.read_csv(realdata / "lydata" / name, header=[0, 1, 2])
        table = table.iloc[np.sort(rng.permutation(len(table))[: len(table) // 2])]
        patients = pd.DataFrame({"patient": table["patient", "core", "id"], "age": table["patient", "core", "age"]})
        if truth == "stage_level":
            patients["n_stage"] = table["patient", "core", "n_stage"]
            patients["tumour_side"] = table["tumor", "core", "side"].map({"left": "L", "right": "R"})
        else:
            levels = table["pathology"][["ipsi", "contra"]]
            involved = levels.isin([True]).any(axis=1)
            patients["lnm"] = involved.astype(float).where(levels.notna().any(axis=1))  # missing and False differ
        folder = root / f"Dataset{720 + number}_Table"
        folder.mkdir(parents=True)
        patients.to_csv(folder / "patients.csv", index=False)
        (folder / "dataset.json").write_text(json.dumps({"annotation": "table"}))
        yield Sample(f"table only, {truth.partition('_')[0]}s, lyDATA", truth, folder)
