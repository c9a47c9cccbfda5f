"""Two labellers, one case: how far they agree, which cases are kept for it, and what is learned from them.

The filter is CLISC's (arXiv 2501.16246): of all cases the share that two labellers agree on best is kept. That agreement is
counted where nothing is known, and that the label is what both say, is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lnauto.nodes import Array

KEEP = 0.8  # of the labelled cases [CLISC]


def agreement(first: Array, second: Array, where: Array) -> float:
    """Dice of two label maps in the voxels `where` counts; NaN if neither has a node there.

    With several labels a voxel is shared if both give it the same one.
    """
    one, other = first[where], second[where]
    named = np.count_nonzero(one) + np.count_nonzero(other)
    shared = np.count_nonzero((one == other) & (one > 0))
    return 2 * shared / named if named else math.nan


def keep_best(agreements: Mapping[str, float], share: float = KEEP) -> list[str]:
    """The cases agreed on best, best first: `share` of all, rounded down; of equals the first by name.

    A case without an agreement (NaN) counts among all and is never kept: that two labellers find nothing says little.
    """
    counted = [case for case in agreements if math.isfinite(agreements[case])]
    ranked = sorted(counted, key=lambda case: (-agreements[case], case))
    return ranked[: int(share * len(agreements))]


def pseudo_labels(label: Array, first: Array, second: Array, ignore: int) -> Array:
    """A label with its `ignore` voxels filled in where both labellers say the same; what is drawn or trusted stays."""
    agreed = (label == ignore) & (first == second)
    return np.where(agreed, first, label).astype(label.dtype)
