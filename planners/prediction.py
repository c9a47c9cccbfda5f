"""How tiles are laid over a scan, and which mirrored copies are looked at: defaults of validation and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STOCKS_OVERLAP, LESS_OVERLAP = 0.5, 0.25


@dataclass(frozen=True)
class Tiling:
    """Settings `lnauto_predict` goes by where it is told nothing else, and a reason."""

    settings: dict[str, Any]
    reason: str


def choose_tiling(device: str) -> Tiling:
    """nnU-Net's own where a GPU computes a scan in a second; on a processor what costs least and finds as much."""
    if device == "cuda":
        return Tiling(
            {"tta": "full", "overlap": STOCKS_OVERLAP}, "tiles overlap by half and all mirrored copies, as stock nnU-Net"
        )
    return Tiling(
        {"tta": "fast", "overlap": LESS_OVERLAP},
        "overlap by a quarter, with one mirrored copy: by half takes up to three times as long, and found no more nodes "
        "(documentation/benchmarks.md)",
    )
