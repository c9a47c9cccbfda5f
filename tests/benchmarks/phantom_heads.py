"""Patient heads on phantoms with given and with predicted masks, beside what they have to beat and the best anybody could do.

    python tests/benchmarks/phantom_heads.py FOLDER

A segmentation network learns from other phantoms, and none of the patients; it predicts their masks, and what it sees of their
nodes goes to LNMTrainerMaskGate. Five folds by patient; every head is trained on four of them and scores the fifth, with the same
bags. The optimum is the posterior of the label model that drew the patients, on the same patients, and the rules are judged on
the masks that the heads see. What is finished is kept in FOLDER and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from weak_strokes import machine, once, use  # sets the number of threads, so before torch does anything

from lnauto.data.folds import make_folds
from lnauto.data.phantom import make_phantom
from lnauto.data.raw import RawDataset
from lnauto.evaluation.comparators import largest_short_axis, node_count
from lnauto.evaluation.patients import auc, calibration, paired_delong
from lnauto.files import read_json, write_json
from lnauto.planners.plan import CONFIGURATION, Plan
from lnauto.planners.wishes import Wishes
from lnauto.trainers.patient import CLINICAL, PATIENT_TRAINERS, find_bag_trainer
from lnauto.trainers.patient.bag import SHORT_AXIS, Bag
from lnauto.trainers.patient.clinical import LNMTrainerClinical
from lnauto.trainers.patient.mask_gate import LNMTrainerMaskGate

NAME, OTHERS = "Dataset801_Metastases", "Dataset800_Others"
MASK_KINDS = ("given", "predicted")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data and figures; what is there is gone on from")
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--others", type=int, default=40, help="phantoms that the segmentation network learns from")
    parser.add_argument("--iterations", type=int, default=600, help="of the segmentation network")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--masks", nargs="+", default=list(MASK_KINDS), choices=MASK_KINDS)
    parser.add_argument("--heads", nargs="+", default=list(PATIENT_TRAINERS))
    parser.add_argument("--json", type=Path, help="where the figures go (default: figures.json in the folder)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = options.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv), "masks": {}}
    for masks in options.masks:
        dataset, bags, crops = material(root, options, masks)
        optimum = pd.read_csv(dataset.folder / "truth/optimum.csv").set_index("patient")["optimum_of_row"]
        names = [bag.patient for bag in bags]
        folds = make_folds(names, {}, {bag.patient: int(bag.label or 0) for bag in bags}, seed=options.seed)
        scores = rules(bags) | {"optimum": optimum[names].to_numpy(float)}
        seconds: dict[str, float] = {}
        for head in options.heads:
            path = root / masks / f"{head}.json"
            path.parent.mkdir(exist_ok=True)
            found = once(path, partial(out_of_fold, head, bags, crops, folds, options.seed))
            scores[head], seconds[head] = np.array(found["probability"]), found["seconds"]
        figures["masks"][masks] = judged(bags, scores, seconds)
        show(masks, figures["masks"][masks])
    write_json(options.json or root / "figures.json", figures)
    print(json.dumps(figures["machine"]))
    return 0


def material(root: Path, options: argparse.Namespace, masks: str) -> tuple[RawDataset, list[Bag], Any]:
    """The bags of the patients whose label the table knows, read as the segmentation network's plan has it."""
    from lnauto.data.patient_labels import PatientLabels
    from lnauto.planners.patient_level import clinical_columns
    from lnauto.workflow.bags import BagMaker
    from lnauto.workflow.heads import given_masks

    use(root, root / "results")
    raw = root / "raw" / NAME
    if not raw.is_dir():
        settings = {"cases": options.patients, "size": options.size, "seed": 4000 + options.seed}
        make_phantom(raw, annotation="full", declare=True, quiet=True, **settings)
    dataset = RawDataset.read(raw)
    plan = plan_of_others(root, options)
    maker = BagMaker.of_plan(plan, dataset.description, CONFIGURATION, quiet=True)
    images = {case.name: case.images for case in dataset.cases}
    paths = given_masks(dataset) if masks == "given" else predicted_masks(root, raw, network(root, options))
    assert dataset.patients is not None
    labels = {str(patient): int(label) for patient, label in PatientLabels.of(dataset.patients).known.items()}
    cases = {patient: [case] for case, patient in sorted(dataset.patient_of.items()) if patient in labels}
    columns = clinical_columns(dataset.patients)
    rows = {patient: dataset.patients.frame.loc[patient, columns].to_dict() for patient in cases}
    bags = maker.bags(cases, images, paths, rows, labels)
    if LNMTrainerMaskGate.name in options.heads:
        bags = maker.look(cases, images, paths, "cpu", "auto")(network(root, options) / "fold_all/checkpoint_final.pth", bags)
    return dataset, bags, maker.crops


def plan_of_others(root: Path, options: argparse.Namespace) -> Plan:
    """Made on phantoms that are none of the patients; all masks and scans are read under it."""
    from lnauto.workflow.plan import Request, plan_and_preprocess

    raw, path = root / "raw" / OTHERS, root / "preprocessed" / OTHERS / "lnautoPlans.json"
    if not raw.is_dir():
        settings = {"cases": options.others, "size": options.size, "seed": 4900 + options.seed}
        make_phantom(raw, annotation="full", declare=True, quiet=True, **settings)
        (raw / "patients.csv").unlink()  # so that no head is trained on them
    if not path.is_file():
        plan_and_preprocess("800", Request(wishes=Wishes(minutes=10.0), device="cpu", do_preprocess=False, quiet=True))
    return Plan(read_json(path, ""))


def network(root: Path, options: argparse.Namespace) -> Path:
    """The folder of a model that has seen none of the patients."""
    from lnauto.workflow.fold import Request
    from lnauto.workflow.plan import Request as PlanRequest
    from lnauto.workflow.plan import plan_and_preprocess
    from lnauto.workflow.train import train

    model = root / "results" / OTHERS / f"LNTrainer__lnautoPlans__{CONFIGURATION}"
    if not (model / "fold_all" / "checkpoint_final.pth").is_file():
        plan_and_preprocess("800", PlanRequest(wishes=Wishes(minutes=10.0), device="cpu", quiet=True))
        request = Request(iterations=options.iterations, device="cpu", workers=0, trainer="LNTrainer", proceed=True, quiet=True)
        train("800", ["all"], request)
    return model


def predicted_masks(root: Path, raw: Path, model: Path) -> dict[str, Path]:
    from lnauto.workflow.predict import Request, predict

    predict(raw / "imagesTr", root / "predicted_masks", Request(model=model, folds=["all"], device="cpu", quiet=True))
    return {path.name.removesuffix(".nii.gz"): path for path in (root / "predicted_masks").glob("*.nii.gz")}


def out_of_fold(head: str, bags: list[Bag], crops: Any, folds: list[dict[str, list[str]]], seed: int) -> dict[str, Any]:
    """Each patient's calibrated probability by the head that had not seen the patient."""
    by_name = {bag.patient: bag for bag in bags}
    columns = sorted(bags[0].row)
    found, started = {}, time.process_time()
    for fold in folds:
        train, kept = ([by_name[name] for name in fold[side]] for side in ("train", "val"))
        if head == CLINICAL:
            rows = pd.DataFrame([bag.row for bag in bags], index=list(by_name))
            labels = pd.Series({bag.patient: bag.label for bag in bags})
            probability = (
                LNMTrainerClinical(seed).train(rows.loc[fold["train"]], labels, columns).probability(rows.loc[fold["val"]])
            )
        else:
            probability = find_bag_trainer(head)(seed=seed).train(train, columns, crops).probability(kept)
        found |= dict(zip(fold["val"], probability.tolist(), strict=True))
        print(f"{head}: {len(found)} of {len(bags)} patients, {time.process_time() - started:.0f} s", flush=True)
    return {"probability": [found[bag.patient] for bag in bags], "seconds": time.process_time() - started}


def rules(bags: list[Bag]) -> dict[str, np.ndarray]:
    names = [bag.patient for bag in bags]
    owners = [bag.patient for bag in bags for _ in bag.sources]
    short = [float(shape[SHORT_AXIS]) for bag in bags for shape in bag.shapes]
    return {"short axis": largest_short_axis(names, owners, short), "number of nodes": node_count(names, owners)}


def judged(bags: list[Bag], scores: dict[str, np.ndarray], seconds: dict[str, float]) -> dict[str, Any]:
    """Every AUC with its interval, and each head against the rule, the table and the optimum."""
    truth = np.array([bag.label for bag in bags], int)
    rows = {}
    for name, score in scores.items():
        row: dict[str, Any] = {"auc": auc(truth, score).to_json(), "seconds": seconds.get(name)}
        if name in seconds:
            row["slope"] = calibration(truth, score).slope.to_json()
            for other in ("short axis", CLINICAL, "optimum"):
                if other != name and other in scores:
                    row[f"above {other}"] = paired_delong(truth, score, scores[other]).to_json()
        rows[name] = row
    return {"patients": len(bags), "with": int(truth.sum()), "rows": rows}


def show(masks: str, figures: dict[str, Any]) -> None:
    print(f"Masks {masks}: {figures['patients']} patients, {figures['with']} with metastasis")
    for name, row in figures["rows"].items():
        told = f"{name:20} AUC {row['auc']['value']:.3f} ({row['auc']['low']:.3f} to {row['auc']['high']:.3f})"
        for other in ("short axis", CLINICAL, "optimum"):
            if (found := row.get(f"above {other}")) is not None:
                told += f" | {other} {found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}, p {found['p']:.3f})"
        if row["seconds"] is not None:
            told += f" | slope {row['slope']['value']:.2f} | {row['seconds']:.0f} s"
        print(told)


if __name__ == "__main__":
    sys.exit(main())
