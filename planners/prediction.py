"""How tiles are laid over a scan, and which mirrored copies are looked at: defaults of validation and prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STOCKS_OVERLAP, LEAST_OVERLAP = 0.5, 0.25
STEP = 0.05


@dataclass(frozen=True)
class Tiling:
    """Settings `lnauto_predict` goes by where it is told nothing else, and a reason."""

    settings: dict[str, Any]
    reason: str


def choose_tiling(device: str, patch_mm: Sequence[float], node_mm: float | None) -> Tiling:
    """nnU-Net's own where a GPU computes a scan in a second; on a processor as few tiles as show each node whole.

    A node lies wholly in one tile at least, with no regard to where tiles begin, if they overlap by its length.
    """
    if device == "cuda":
        return Tiling({"tta": "full", "overlap": STOCKS_OVERLAP}, "overlap by half, with all mirrored copies, as stock nnU-Net")
    if node_mm is None:
        overlap, reason = STOCKS_OVERLAP, "half, as stock nnU-Net: how long nodes are is not known"
    else:
        share = math.ceil(node_mm / min(patch_mm) / STEP - 1e-6) * STEP
        overlap = round(min(max(share, LEAST_OVERLAP), STOCKS_OVERLAP), 2)
        reason = (
            f"{overlap:g} of a patch ({overlap * min(patch_mm):.0f} mm or more; the 95th percentile node has {node_mm:.0f} mm)"
        )
    return Tiling({"tta": "fast", "overlap": overlap}, f"overlap by {reason}, with one mirrored copy")
