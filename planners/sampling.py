"""Where patches come from that need not hold a node."""

from __future__ import annotations

from lnauto.planners.evidence import Evidence
from lnauto.planners.strategy import SCANTY

RANDOM_AMONG_STROKES = 0.33  # the other patches are centred on a drawn voxel, as all of nnU-Net's are [our choice]


def choose_sampling(found: Evidence, trusted_background: bool) -> dict[str, float]:
    """The share of those patches that may lie anywhere: all, unless a patch anywhere would teach next to nothing."""
    sparse = not trusted_background and found.ignore_label and (found.drawn_share or 0.0) < SCANTY
    return {"random": RANDOM_AMONG_STROKES if sparse else 1.0}
