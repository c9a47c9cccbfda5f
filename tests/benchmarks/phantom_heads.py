"""Patient heads on phantoms with given masks, beside what they have to beat and the best that anybody could do.

    python tests/benchmarks/phantom_heads.py FOLDER

Five folds by patient; every head is trained on four of them and scores the fifth, with the same bags. The optimum is the
posterior of the label model that drew the patients, on the same patients. A finished head is kept in FOLDER and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
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
from lnauto.planners.wishes import Wishes
from lnauto.trainers.patient import CLINICAL, PATIENT_TRAINERS, find_bag_trainer
from lnauto.trainers.patient.bag import Bag
from lnauto.trainers.patient.clinical import LNMTrainerClinical

NAME = "Dataset801_Metastases"
SHORT_AXIS = 2  # in SHAPES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data and figures; what is there is gone on from")
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", nargs="+", default=[name for name in PATIENT_TRAINERS if name != "LNMTrainerMaskGate"])
    parser.add_argument("--json", type=Path, help="where the figures go (default: figures.json in the folder)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = options.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    dataset, bags, crops = material(root, options)
    optimum = pd.read_csv(dataset.folder / "truth/optimum.csv").set_index("patient")["optimum_of_row"]
    names = [bag.patient for bag in bags]
    folds = make_folds(names, {}, {bag.patient: int(bag.label or 0) for bag in bags}, seed=options.seed)
    scores = rules(bags) | {"optimum": optimum[names].to_numpy(float)}
    seconds: dict[str, float] = {}
    for head in options.heads:
        found = once(root / f"{head}.json", lambda head=head: out_of_fold(head, bags, crops, folds, options.seed))
        scores[head], seconds[head] = np.array(found["probability"]), found["seconds"]
    figures = {"machine": machine(), "command": " ".join(sys.argv), **judged(bags, scores, seconds)}
    write_json(options.json or root / "figures.json", figures)
    show(figures)
    return 0


def material(root: Path, options: argparse.Namespace) -> tuple[RawDataset, list[Bag], Any]:
    """The phantoms, planned, and the bags of the patients whose label the table knows."""
    from lnauto.planners.plan import CONFIGURATION, Plan
    from lnauto.workflow.bags import BagMaker
    from lnauto.workflow.fold import Request
    from lnauto.workflow.heads import HeadWork, given_masks
    from lnauto.workflow.plan import Request as PlanRequest
    from lnauto.workflow.plan import plan_and_preprocess

    use(root, root / "results")
    raw = root / "raw" / NAME
    if not raw.is_dir():
        settings = {"cases": options.patients, "size": options.size, "seed": 4000 + options.seed}
        make_phantom(raw, annotation="full", declare=True, quiet=True, **settings)
    plan_path = root / "preprocessed" / NAME / "lnautoPlans.json"
    if not plan_path.is_file():
        wishes = Wishes(masks="given", minutes=10.0)
        plan_and_preprocess("801", PlanRequest(wishes=wishes, device="cpu", do_preprocess=False, quiet=True))
    plan, dataset = Plan(read_json(plan_path, "")), RawDataset.read(raw)
    everybody = [{"train": [case.name for case in dataset.annotated_cases], "val": []}]
    work = HeadWork(plan, dataset.description, dataset, everybody, root, root, Request(quiet=True), CLINICAL)
    maker = BagMaker.of_plan(plan, dataset.description, CONFIGURATION, quiet=True)
    patients = work.patients("0", "train")
    images = {case.name: case.images for case in dataset.cases}
    bags = maker.bags(patients, images, given_masks(dataset), work.rows(list(patients)), work.labels)
    return dataset, bags, maker.crops


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


def show(figures: dict[str, Any]) -> None:
    print(json.dumps(figures["machine"]))
    print(f"{figures['patients']} patients, {figures['with']} with metastasis")
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
