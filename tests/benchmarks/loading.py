"""What a network costs until it can predict: to be built, with random weights and without, and to be given those of a checkpoint.

    python tests/benchmarks/loading.py

nnU-Net's ResEnc L with six stages, 102 million weights. Both ways take turns in one process; medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # what tests build networks with

import torch
from stock_models import architecture
from torch import nn
from weak_strokes import machine

from lnauto.files import write_json
from lnauto.networks.build import Undrawn, build

STAGES = 6
RESENC_L = architecture(residual=True)
RESENC_L["arch_kwargs"] |= {
    "n_stages": STAGES,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[3, 3, 3]] * STAGES,
    "strides": [[1, 1, 1], *[[2, 2, 2]] * (STAGES - 1)],
    "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
    "n_conv_per_stage_decoder": [1] * (STAGES - 1),
}
WAYS: dict[str, type[AbstractContextManager[Any]]] = {"random weights": nullcontext, "none": Undrawn}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        rows = medians(Path(folder) / "weights.pth", options.rounds)
    figures = {"machine": machine(), "command": " ".join(sys.argv), "seconds": rows}
    if options.json:
        write_json(options.json, figures)
    print(json.dumps(figures["machine"]))
    print(f"{'built with':<16} {'built, s':>9} {'loaded, s':>10}")
    for way, row in rows.items():
        print(f"{way:<16} {row['built']:9.2f} {row['loaded']:10.2f}")
    return 0


def medians(checkpoint: Path, rounds: int) -> dict[str, dict[str, float]]:
    torch.save(new().state_dict(), checkpoint)
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, context in WAYS.items():
            started = time.perf_counter()
            with context():
                network = new()
            built = time.perf_counter()
            network.load_state_dict(torch.load(checkpoint, mmap=True, weights_only=True))
            took[way].append((built - started, time.perf_counter() - built))
    parts = {way: [statistics.median(part) for part in zip(*rows, strict=True)] for way, rows in took.items()}
    return {way: {"built": built, "loaded": loaded} for way, (built, loaded) in parts.items()}


def new() -> nn.Module:
    return build(RESENC_L, 1, 2, allow_init=True, deep_supervision=False)


if __name__ == "__main__":
    sys.exit(main())
