"""How often a 95 % interval of the AUC holds the true one: DeLong's plain interval, and ours on the logit.

Scores are normal in both classes, so that the true AUC is known. `python tests/benchmarks/auc_coverage.py [--repeats N]`.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from lnauto.evaluation.discrimination import _outranked, _variance, auc
from lnauto.evaluation.estimates import Z

COHORTS = [(10, 10, 0.85), (10, 10, 0.95), (10, 30, 0.75), (20, 40, 0.85), (20, 40, 0.95), (50, 100, 0.85), (110, 153, 0.8)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000, metavar="N", help="cohorts of each kind")
    repeats = parser.parse_args().repeats
    generator = np.random.default_rng(0)
    print(f"{'with':>6}{'without':>8}{'AUC':>6}{'plain':>8}{'ours':>8}{'perfect':>9}")
    for with_it, without, area in COHORTS:
        apart = norm.ppf(area) * 2**0.5
        labels = np.arange(with_it + without) < with_it
        held = np.zeros(3)
        for _ in range(repeats):
            scores = generator.normal(size=labels.size) + apart * labels
            estimate = auc(labels, scores)
            reach = Z * _variance(*_outranked(labels, scores)) ** 0.5
            held += abs(estimate.value - area) <= reach, estimate.low <= area <= estimate.high, estimate.value == 1
        plain, ours, perfect = held / repeats
        print(f"{with_it:>6}{without:>8}{area:>6.2f}{plain:>8.3f}{ours:>8.3f}{perfect:>9.3f}")


if __name__ == "__main__":
    main()
