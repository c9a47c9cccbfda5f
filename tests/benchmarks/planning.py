"""The planner: whether it takes data sets for what they are, and what its looking costs.

    python tests/benchmarks/planning.py --parts strategy --seeds report    # 40 data sets, the confusion table
    python tests/benchmarks/planning.py --parts speed                      # looking against stock's fingerprint + preprocessing
    python tests/benchmarks/planning.py --parts budgets                    # whether budgets are kept, and what more time is worth

Rules are tuned with `--seeds tune` and judged with `--seeds report`. Everything is written to a temporary folder, the figures to
the JSON file named with --json, after every part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotation_kinds import HALVES, Sample, phantoms
from pipeline import machine
from planning_budgets import budgets, show_budgets
from planning_speed import WORKERS, show_speed, speed
from real_kinds import real, tables
from tqdm import tqdm

SHOWN = ("declared", "annotated_cases", "ignore_label", "drawn_share", "filled_share", "nodes", "completeness")
AIM = 38


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", choices=HALVES, default="tune")
    parser.add_argument("--only", default="", help="only data sets whose kind holds this text, such as partial")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw phantoms")
    parser.add_argument("--realdata", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the speed part")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 10.0], help="budgets of that part")
    parser.add_argument("--json", type=Path, default=Path("benchmark_planning.json"))
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return WORKERS[options.worker[0]](*options.worker[1:])
    figures: dict[str, Any] = {"machine": machine("cpu"), "command": " ".join(sys.argv)}
    for name in options.parts:
        with tempfile.TemporaryDirectory(prefix="lnauto_benchmark_") as folder:
            figures[name] = PARTS[name](Path(folder), options)
        options.json.write_text(json.dumps(figures, indent=2, default=str) + "\n")
        SHOW[name](figures[name])
    return 0


def samples(root: Path, options: argparse.Namespace) -> Iterator[Sample]:
    yield from real(root, options.seeds, options.realdata, options.only)
    yield from tables(root, options.seeds, options.realdata, options.only)
    yield from phantoms(root, options.seeds, options.workers, options.only)


def strategy(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What the planner takes each data set for, with what it rests on."""
    verdicts = []
    for sample in tqdm(samples(root, options), total=None if options.only else 40, unit="data set"):
        verdicts.append(judge(sample))
        shutil.rmtree(sample.folder)
    right = sum(verdict["right"] for verdict in verdicts)
    return {"seeds": options.seeds, "right": right, "of": len(verdicts), "data_sets": verdicts}


def judge(sample: Sample) -> dict[str, Any]:
    from lnauto.data.raw import RawDataset
    from lnauto.planners.completeness import estimate_completeness, score_cases
    from lnauto.planners.evidence import gather
    from lnauto.planners.fingerprint import look_at_all
    from lnauto.planners.strategy import choose_strategy

    started = time.perf_counter()
    dataset = RawDataset.read(sample.folder)
    cases = look_at_all(dataset, quiet=True)
    completeness = estimate_completeness(score_cases(dataset, cases, quiet=True))
    found = gather(dataset, cases, completeness, pretrained=sample.pretrained)
    chosen = choose_strategy(found)
    return {
        "kind": sample.kind,
        "cases": len(cases),
        "truth": sample.truth,
        "chosen": chosen.name,
        "right": chosen.name == sample.truth,
        "reason": chosen.reason,
        "runner_up": chosen.runner_up,
        "evidence": {name: value if isinstance(value := getattr(found, name), (int, float)) else str(value) for name in SHOWN},
        "seconds": round(time.perf_counter() - started, 2),
    }


def show_strategy(figures: dict[str, Any]) -> None:
    verdicts = figures["data_sets"]
    pairs = Counter((verdict["truth"], verdict["chosen"]) for verdict in verdicts)
    names = list(dict.fromkeys([truth for truth, _ in pairs] + [chosen for _, chosen in pairs]))
    print(f"{'truth, taken for:':18}" + "".join(f"{name:>18}" for name in names))
    for truth in names:
        counts = (pairs[truth, chosen] for chosen in names)
        print(f"{truth:18}" + "".join(f"{count or '.':>18}" for count in counts))
    print(f'{figures["right"]} of {figures["of"]} right with the seeds "{figures["seeds"]}" (aim: {AIM} of 40)')
    for verdict in verdicts:
        if not verdict["right"]:
            print(f"  {verdict['kind']}: {verdict['chosen']} instead of {verdict['truth']}, because {verdict['reason']}")
            print("    " + ", ".join(f"{name} {value}" for name, value in verdict["evidence"].items()))


PARTS = {"strategy": strategy, "speed": speed, "budgets": budgets}
SHOW = {"strategy": show_strategy, "speed": show_speed, "budgets": show_budgets}

if __name__ == "__main__":
    sys.exit(main())
