"""Whether to pre-train on all images first."""

from __future__ import annotations

from lnauto.planners.evidence import Evidence

SHARE = 0.5  # of what a fold trains [our choice]


def choose_pretraining(found: Evidence) -> tuple[None, str]:
    """Settings, or none, and why: chosen only where it was seen to pay, which so far is nowhere."""
    images = found.annotated_cases + found.unannotated_cases
    tried = "it did not pay where it was tried (documentation/methods/pretraining.md)"
    return None, f"none: {tried}; --pretrain does it, on {images} images"
