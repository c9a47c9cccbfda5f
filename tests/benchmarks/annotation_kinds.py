"""Data sets of which it is known how they were annotated: three phantoms of each of ten kinds, eight real ones, two tables.

    python tests/benchmarks/planning.py --parts strategy

No two are alike: seeds, sizes, numbers of cases, and within a kind the way it comes about. What `dataset.json` says is taken out
again wherever the planner has to find out by itself. The half "tune" has even seeds, the half "report" odd ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from lnauto.data.phantom import make_phantom

HALVES = ("tune", "report")
SIZES = (64, 48, 96)
# Eight at least: with fewer nothing is estimated, and the plan says so. Few of the large ones: they take the longest to draw.
CASES = {48: (8, 14), 64: (8, 14), 96: (8, 10)}
VARIANTS = 3
IGNORE = 2

Rng = np.random.Generator
Description = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A data set on disk, and the strategy that is right for it."""

    kind: str
    truth: str
    folder: Path
    pretrained: bool = False  # whether a foundation model is given with it


@dataclass(frozen=True)
class Kind:
    """What the phantom is drawn with, and what is changed afterwards; `change` gets the number of the variant."""

    truth: str
    annotation: str
    change: Callable[[Path, Rng, int], None] = lambda folder, rng, variant: None
    declare: bool = False
    pretrained: bool = False


def describe(folder: Path, change: Callable[[Description], None]) -> None:
    path = folder / "dataset.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def undeclare(folder: Path) -> None:
    describe(folder, lambda description: description.pop("annotation", None))


def write_like(array: np.ndarray, like: sitk.Image, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def unlabel(folder: Path, cases: list[str]) -> None:
    """Take away the labels of these cases, and say so."""
    for name in cases:
        (folder / "labelsTr" / f"{name}.nii.gz").unlink(missing_ok=True)
    describe(folder, lambda description: description.update(unannotated=cases))


def case_names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix("_0000.nii.gz") for path in (folder / "imagesTr").glob("*_0000.nii.gz"))


def _leave_strokes(folder: Path, rng: Rng, variant: int) -> None:
    """Two of three keep silent about their strokes."""
    if variant:
        undeclare(folder)


def _ignore_parts(folder: Path, rng: Rng, variant: int) -> None:
    """Filled nodes, but not everything was looked at: a run of slices, single slices, or a box."""
    for path in sorted((folder / "labelsTr").glob("*.nii.gz")):
        image = sitk.ReadImage(str(path))
        label = sitk.GetArrayFromImage(image)
        looked_at = np.zeros(label.shape, bool)
        depth = len(label)
        if variant == 0:
            run = int(depth * rng.uniform(0.35, 0.8))
            start = int(rng.integers(0, depth - run))
            looked_at[start : start + run] = True
        elif variant == 1:
            looked_at[int(rng.integers(0, 4)) :: int(rng.integers(5, 9))] = True
        else:
            margins = [int(side * rng.uniform(0.05, 0.2)) for side in label.shape]
            looked_at[tuple(slice(margin, side - margin) for margin, side in zip(margins, label.shape, strict=True))] = True
        write_like(np.where(looked_at, label, IGNORE).astype(np.uint8), image, path)
    describe(folder, lambda description: description["labels"].update(ignore=IGNORE))


def _keep_few(folder: Path, rng: Rng, variant: int) -> None:
    names = case_names(folder)
    unlabel(folder, names[(1, 3, 5)[variant] :])


def _table(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = folder / "patients.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def _know_metastases(folder: Path, rng: Rng, variant: int) -> None:
    """As the phantom's table is; with that column alone; or stages without the tumour's side, which do not say where."""
    if variant == 1:
        _table(folder, lambda table: table[["patient", "lnm", "age"]])
    if variant == 2:
        _table(folder, lambda table: table.drop(columns=["lnm", "tumour_side"]))


def _know_stages(folder: Path, rng: Rng, variant: int) -> None:
    """No column of metastases, or one with few entries, with gaps in the stages or without."""
    truth = pd.read_csv(folder / "truth" / "patients.csv")

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table["n_stage"] = truth["n_stage"]
        if variant == 0:
            return table.drop(columns="lnm")
        table["lnm"] = truth["lnm"].astype(float).where(rng.permutation(len(table)) < 0.4 * len(table))
        if variant == 2:
            table["n_stage"] = table["n_stage"].astype(float).where(rng.permutation(len(table)) < 0.8 * len(table))
        return table

    _table(folder, change)


def _know_nothing(folder: Path, rng: Rng, variant: int) -> None:
    """No table, with the images in one place or the other; or a table that knows of age and T stage only."""
    if variant == 2:
        _table(folder, lambda table: table[["patient", "age", "t_stage"]])
        return
    (folder / "patients.csv").unlink()
    undeclare(folder)
    describe(folder, lambda description: description["labels"].update(node=1))
    if variant == 0:
        unlabel(folder, case_names(folder))
    else:
        (folder / "imagesTr").rename(folder / "imagesUn")


KINDS = {
    "full": Kind("full", "full"),
    "full, declared": Kind("full", "full", declare=True),
    "partial": Kind("partial_instance", "partial"),
    "partial, declared": Kind("partial_instance", "partial", declare=True),
    "strokes": Kind("scribble", "scribble", _leave_strokes),
    "ignore label": Kind("ignore_label", "full", _ignore_parts),
    "few shot": Kind("few_shot", "full", _keep_few, pretrained=True),
    "metastases known": Kind("image_level", "none", _know_metastases),
    "stages known": Kind("stage_level", "none", _know_stages),
    "nothing known": Kind("unlabelled", "none", _know_nothing),
}


def phantoms(root: Path, half: str, workers: int, only: str = "") -> Iterator[Sample]:
    """One data set after the other, each drawn when it is asked for; `only` those whose kind holds this text."""
    for number, (name, kind) in enumerate(KINDS.items()):
        if only not in name:
            continue
        for variant in range(VARIANTS):
            seed = 2 * (VARIANTS * number + variant) + HALVES.index(half)
            rng = np.random.default_rng(seed)
            size = SIZES[(number + variant) % len(SIZES)]
            fraction = round(0.2 + 0.5 * (variant + rng.random()) / VARIANTS, 2)
            folder = make_phantom(
                root / f"Dataset{600 + VARIANTS * number + variant}_Phantom",
                cases=int(rng.integers(*CASES[size])),
                annotation=kind.annotation,
                fraction=fraction,
                size=size,
                seed=seed,
                declare=kind.declare,
                workers=workers,
                quiet=True,
            )
            kind.change(folder, rng, variant)
            told = f"{name} {fraction:g}" if kind.annotation == "partial" else name
            yield Sample(f"{told}, phantom of {size}", kind.truth, folder, kind.pretrained)
