"""Which head for the mask-gated vectors of how many patients: gated attention or a transformer, on vectors drawn by lot.

    python tests/benchmarks/mask_gate_heads.py --patients 60 120 --seeds 5

Three ways in which nodes can tell: one of a patient's nodes is shifted (`one`), all are, a little (`all`), or two nodes are
shifted in two directions, of which each occurs alone in patients without metastasis (`two`). Printed: the AUC of 300 other
patients, mean over seeds and its standard error, and the seconds of processor time a fit takes. A head is the mean of five fits.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))
from bags import drawn_bag

from lnauto.trainers.patient import mask_gate
from lnauto.trainers.patient.bag import Bag
from lnauto.trainers.patient.mask_gate import LNMTrainerMaskGate, without_images

CHANNELS, TELLING = 64, 6
STRENGTH = {"one": 1.2, "all": 0.4, "two": 1.5}
HEADS = {"attention": (0, None), "transformer, 1 layer": (1, None), "transformer, 2 layers": (2, None)}


def drawn(patients: int, seed: int, way: str) -> list[Bag]:
    """Patients with up to eight nodes, every second one with metastasis."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(patients):
        nodes, label = int(rng.integers(2, 9)), number % 2
        bag = without_images(drawn_bag(rng, f"p{number:04d}", nodes, label=label))
        vectors = rng.normal(0, 1, (nodes, CHANNELS)).astype(np.float32)
        first, second = rng.permutation(nodes)[:2]
        if way == "one" and label:
            vectors[first, :TELLING] += STRENGTH[way]
        elif way == "all" and label:
            vectors[:, :TELLING] += STRENGTH[way]
        elif way == "two":
            kinds = (True, True) if label else ((True, False), (False, True))[int(rng.integers(2))]
            for node, shift, place in ((first, kinds[0], 0), (second, kinds[1], TELLING)):
                vectors[node, place : place + TELLING] += STRENGTH[way] * shift
        found.append(replace(bag, features={"encoder_2": vectors}))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, nargs="+", default=[60, 120])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=list(STRENGTH))
    parser.add_argument("--heads", nargs="+", default=list(HEADS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    mask_gate.probe = lambda bags, stages, seed: dict.fromkeys(stages, 0.5)  # there is but one
    for patients in options.patients:
        for way in options.ways:
            for head in options.heads:
                layers, width = HEADS[head]
                width = width or mask_gate.hidden_for(patients)
                mask_gate.size_for = lambda _, size=(layers, width): size
                found, started = [], time.process_time()
                for seed in range(options.seeds):
                    others = drawn(300, 1000 + seed, way)
                    member, _ = LNMTrainerMaskGate().fit_member(drawn(patients, seed, way), [], seed)
                    found.append(roc_auc_score([bag.label for bag in others], [said.logit for said in member.read(others)]))
                spread = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
                seconds = (time.process_time() - started) / options.seeds
                print(f"{patients:5d} {way:4s} {head:22s} {np.mean(found):.3f} +- {spread:.3f}  {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
