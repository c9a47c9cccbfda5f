"""Patients after their scans: a probability for each, by the heads of the folds that predicted the masks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lnauto.data.patients import PatientTable, examine
from lnauto.data.raw import Case
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme
from lnauto.files import csv_text, read_json, replacing, resolved, write_text
from lnauto.nodes import label_components
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.trainers.patient import CLINICAL
from lnauto.workflow.bags import BagMaker
from lnauto.workflow.block_attention import paint_blocks
from lnauto.workflow.clinical_rows import check_columns, unknown_entries
from lnauto.workflow.head_files import DESCRIPTION, HeadModel, PatientReading
from lnauto.workflow.report import PATIENTS

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag import Bag
    from lnauto.trainers.patient.columns import Column

log = logging.getLogger(__name__)

ATTENTION = "attention"  # the folder of maps
STRANGE = 0.99  # of the training nodes are less strange than one that is told as such


@dataclass(frozen=True)
class Heads:
    """The heads of one model, by fold."""

    folder: Path  # the model's
    trainer: str
    folds: dict[str, HeadModel]
    masks: str  # "given" or "predicted": what they learned from; "none": blocks of scans without masks

    @property
    def threshold(self) -> float:
        return float(np.mean([head.threshold for head in self.folds.values()]))

    @property
    def columns(self) -> list[Column]:
        """The clinical columns, as each head learned them."""
        return [column for head in self.folds.values() for column in head.columns]

    @property
    def patients(self) -> set[str]:
        """Whom any of them was trained on."""
        return {patient for head in self.folds.values() for patient in head.patients}


@dataclass(frozen=True)
class NodeReading:
    """What the heads say of a node."""

    probability: float
    attention: float


def find_heads(model: Path, folds: Sequence[str], trainer: str | None) -> Heads | None:
    """The heads of a model's folds: the one named, or the plan's, or the only one there; None: there is none."""
    there: dict[str, list[str]] = {}
    for path in sorted(model.glob(f"fold_*/*/{DESCRIPTION}")):
        there.setdefault(path.parent.name, []).append(path.parent.parent.name.removeprefix("fold_"))
    if trainer is not None and trainer not in there:
        known = ", ".join(there) or "none"
        raise InputError.of(f"this model has no head {trainer} (there: {known})", model, "train it with lnauto_train -tr")
    if not there:
        return None
    settings = read_json(model / "plans.json", "train again")["lnauto"].get("patient_head") or {}
    chosen = trainer or (settings.get("trainer") if settings.get("trainer") in there else None)
    if chosen is None and len(there) > 1:
        raise InputError.of(f"this model has several heads ({', '.join(there)})", model, "say which with -tr")
    chosen = chosen or next(iter(there))
    usable = [fold for fold in folds if fold in there[chosen]]
    if not usable:
        return None
    models = {fold: HeadModel.load(model / f"fold_{fold}" / chosen) for fold in usable}
    described = [model / f"fold_{fold}" / chosen / DESCRIPTION for fold in usable]
    provenances = [read_json(path, "train again")["provenance"] for path in described]
    if chosen != CLINICAL:  # which reads no scan
        _check_plan(model / "plans.json", dict(zip(described, provenances, strict=True)))
    return Heads(model, chosen, models, provenances[0].get("masks", "predicted"))


def _check_plan(path: Path, heads: Mapping[Path, Mapping[str, Any]]) -> None:
    """Whether the plan that scans are prepared by is the one that heads were trained under; earlier versions did not say."""
    plan = Plan.load(path, "train again")
    for head, provenance in heads.items():
        learned = provenance.get("bags_made_of")
        if learned not in (None, BagMaker.of_plan(plan, {}, provenance.get("configuration", CONFIGURATION)).made_of):
            what = "this head was trained under another plan than that of its model, which prepares scans differently"
            raise InputError.of(what, head, "train it anew with --overwrite, or leave its fold out with -f")


def read_patients(path: Path | None, cases: Sequence[Case], output: Path, heads: Heads | None) -> PatientTable | None:
    """The clinical rows of the patients to predict, checked against the scans and against what the heads learned."""
    if path is None or heads is None:
        return None
    check_apart(path, output)
    if not path.is_file():
        raise InputError.of("there is no such file", path, "give --patients a table, one row per patient")
    table, problems = examine(path, [case.name for case in cases])
    if problems or table is None:
        raise InputError(problems)
    check_columns(heads.columns, table, path.name)
    return table


def check_apart(table: Path, output: Path) -> None:
    """Whether the table that is read is another than the one that is written, whatever may be overwritten."""
    if resolved(table) == resolved(output / PATIENTS):
        raise InputError.of("the table would be replaced by what is said of its patients", table, "give another folder with -o")


def predict_heads(
    heads: Heads,
    plan: Plan,
    description: Mapping[str, Any],
    configuration: str,
    cases: Sequence[Case],
    masks: Mapping[str, Path],
    table: PatientTable | None,
    output: Path,
    device: str | None,
    precision: str,
    quiet: bool,
    numbered: bool = False,
) -> dict[tuple[str, int], NodeReading]:
    """Write `patients.csv` and the maps of attention; returns what is said of each node, or, without masks, of each block.

    With `numbered` each value of a mask is a node of its own.
    """
    maker = BagMaker.of_plan(plan, dict(description), configuration, quiet, numbered)
    patients: dict[str, list[str]] = {}
    owner = table.patient_of if table is not None else {}
    for case in cases:
        if maker.on_blocks or case.name in masks:
            patients.setdefault(owner.get(case.name, case.name), []).append(case.name)
    rows = {} if table is None else {name: table.frame.loc[name].to_dict() for name in patients if name in table.frame.index}
    images = {case.name: case.images for case in cases}
    bags = maker.bags(patients, images, masks, rows, {})
    look = maker.look(patients, images, masks, device, precision)
    by_fold = {fold: head.read(bags, look) for fold, head in heads.folds.items()}
    predicted = [_row(heads, [by_fold[fold][at] for fold in by_fold], bag) for at, bag in enumerate(bags)]
    write_text(output / PATIENTS, csv_text([predicted[0], *(row.values() for row in predicted)]))
    nodes = _nodes(bags, by_fold)
    if maker.on_blocks:
        _write_block_attention(nodes, {case: files[0] for case, files in images.items()}, maker, output / ATTENTION)
    else:
        _write_attention(nodes, masks, description, numbered, output / ATTENTION)
    log.info("Probabilities of %d patients (%s, %d heads) are in %s.", len(bags), heads.trainer, len(by_fold), output / PATIENTS)
    return nodes


def _row(heads: Heads, readings: Sequence[PatientReading], bag: Bag) -> dict[str, Any]:
    calibrated = [reading.probability for reading in readings]
    probability = float(np.mean(calibrated))
    columns = sorted({name for head in heads.folds.values() for name in head.planned})
    missing = [name for name in columns if bag.row.get(name) is None or pd.isna(bag.row[name])]
    on_blocks, nodes, reads_scan = heads.masks == "none", len(set(bag.sources)), heads.trainer != CLINICAL
    flags = ["no node found"] if reads_scan and not nodes else []
    flags += ["clinical missing"] if columns and len(missing) == len(columns) else [f"{name} missing" for name in missing]
    flags += [f'{name} "{bag.row[name]}" unknown' for name in _unknown(heads.columns, bag)]
    strange = [reading.told["strangeness"] for reading in readings if "strangeness" in reading.told]
    flags += ["out of distribution"] if strange and float(np.mean(strange)) > STRANGE else []
    flags += ["trained on"] if bag.patient in heads.patients else []
    looked_at = "scan" if on_blocks else "nodes"
    read = [
        *([looked_at] if reads_scan and nodes else []),
        *(["clinical"] if len(missing) < len(columns) else []),
    ]
    return {
        "patient": bag.patient,
        "probability": float(np.mean([1 / (1 + np.exp(-reading.logit)) for reading in readings])),
        "probability_calibrated": probability,
        "low": min(calibrated),
        "high": max(calibrated),
        "threshold": heads.threshold,
        "class": int(probability >= heads.threshold),
        "branch": " and ".join(read) or "none",
        "nodes": "" if on_blocks else nodes,
        "flags": "; ".join(flags),
    }


def _unknown(columns: Sequence[Column], bag: Bag) -> list[str]:
    """The columns in which a patient's entry is a category that no head knows."""
    entries = {name: pd.Series([bag.row.get(name)], dtype=object) for name in sorted({column.name for column in columns})}
    return [name for name, entry in entries.items() if unknown_entries(columns, name, entry)[0]]


def _nodes(bags: Sequence[Bag], by_fold: Mapping[str, Sequence[PatientReading]]) -> dict[tuple[str, int], NodeReading]:
    """The folds' mean for each node; of a node read in several slices, the most suspicious one's probability."""
    found: dict[tuple[str, int], NodeReading] = {}
    for at, bag in enumerate(bags):
        chance = np.mean([readings[at].node_probabilities for readings in by_fold.values()], axis=0)
        weight = np.mean([readings[at].attention for readings in by_fold.values()], axis=0)
        if len(chance) != len(bag) or len(weight) != len(bag):
            continue  # a head on the clinical row says nothing of nodes
        for source, one, share in zip(bag.sources, chance, weight, strict=True):
            known = found.get(source, NodeReading(0.0, 0.0))
            found[source] = NodeReading(max(known.probability, float(one)), known.attention + float(share))
    return found


def _write_block_attention(
    blocks: Mapping[tuple[str, int], NodeReading], scans: Mapping[str, Path], maker: BagMaker, folder: Path
) -> None:
    """How much each block counted."""
    for case in sorted({case for case, _ in blocks}):
        shares = {number: said.attention for (of, number), said in blocks.items() if of == case}
        paint_blocks(shares, scans[case], maker.grids[case], maker.crops, folder / f"{case}.nii.gz")


def _write_attention(
    nodes: Mapping[tuple[str, int], NodeReading],
    masks: Mapping[str, Path],
    description: Mapping[str, Any],
    numbered: bool,
    folder: Path,
) -> None:
    """How much each node counted, painted into it, in the image's own geometry."""
    import SimpleITK as sitk

    scheme = LabelScheme.of_description(description)
    values = [value for label in scheme.nodes for value in label.values]
    for case in sorted({case for case, _ in nodes}):
        image = sitk.ReadImage(str(masks[case]))
        drawn = sitk.GetArrayViewFromImage(image)
        instances = drawn.astype(np.int32) if numbered else label_components(np.isin(drawn, values))[0]
        shares = np.zeros(int(instances.max()) + 1, np.float32)
        for number in range(1, len(shares)):
            shares[number] = nodes[case, number].attention if (case, number) in nodes else 0
        painted = sitk.GetImageFromArray(shares[instances])
        painted.CopyInformation(image)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{case}.nii.gz") as temporary:
            sitk.WriteImage(painted, str(temporary))
