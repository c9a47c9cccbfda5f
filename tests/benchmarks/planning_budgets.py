"""Whether a budget is kept, what was expected of it, and whether more time finds more nodes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline import BIN, PHANTOM, run
from tqdm import tqdm

TRAINING_CASES, TEST_CASES, SIZE = 24, 12, 96


def budgets(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Plan with each budget, train one model on all cases with what the plan says, predict and evaluate the test cases."""
    raw = root / "raw" / PHANTOM
    shape = ["--cases", TRAINING_CASES, "--test-cases", TEST_CASES, "--size", SIZE, "--quiet"]
    run([BIN / "lnauto_make_phantom", raw, *shape], root)
    return {f"{minutes:g}": one_budget(root, raw, minutes) for minutes in tqdm(options.minutes, unit="budget")}


def one_budget(root: Path, raw: Path, minutes: float) -> dict[str, Any]:
    own = root / f"budget_{minutes:g}"
    own.mkdir()
    (own / "raw").symlink_to(root / "raw")
    quiet = ["--device", "cpu", "--quiet"]
    run([BIN / "lnauto_plan_and_preprocess", "-d", "501", "--budget", f"{minutes}min", *quiet], own)
    seconds = run([BIN / "lnauto_train", "501", "all", *quiet], own)
    run([BIN / "lnauto_predict", "-i", raw / "imagesTs", "-o", own / "out", *quiet], own)
    plan = json.loads((own / "preprocessed" / PHANTOM / "lnautoPlans.json").read_text())["lnauto"]
    history = json.loads(next((own / "results").rglob("history.json")).read_text())
    return {
        "budget_seconds": minutes * 60,
        "training_seconds": seconds,
        "share_of_budget": seconds / (minutes * 60),
        "network": plan["reasons"]["network"],
        "expected_iterations": plan["budget"]["expected_iterations"],
        "iterations": history[-1]["iteration"],
        **nodes_found(raw / "labelsTs", own / "out"),
    }


def nodes_found(truth: Path, predictions: Path) -> dict[str, float]:
    from lnauto.evaluation.folder import evaluate_folders
    from lnauto.evaluation.pair import ALL_NODES

    summary = evaluate_folders(truth, predictions).summary
    nodes = summary.nodes[ALL_NODES]
    return {"dice": summary.mean("dice"), "node_f1": nodes.counts.f1, "false_per_case": nodes.false_per_case}


def show_budgets(figures: dict[str, Any]) -> None:
    columns = ("of budget", "expected its", "iterations", "Dice", "node F1", "false/case")
    print(f"{'budget, min':12}" + "".join(f"{column:>14}" for column in columns))
    for minutes, found in figures.items():
        print(
            f"{minutes:12}{found['share_of_budget']:14.2f}{found['expected_iterations']:14}{found['iterations']:14}"
            f"{found['dice']:14.3f}{found['node_f1']:14.3f}{found['false_per_case']:14.2f}"
        )
