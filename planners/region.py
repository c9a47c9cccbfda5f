"""Whether images are cropped to a region before anything else, and to which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lnauto.data.region import REGIONS
from lnauto.planners.case_facts import HELD_MM, CaseFacts

LEAST_REMOVED = 0.2  # of the voxels; for less, cropping is not worth a further way to go wrong [our choice]
NODES_TO_GO_BY = 20  # fewer may all lie in the lungs' box by chance; the body holds any node [our choice]


def choose_region(cases: Sequence[CaseFacts]) -> tuple[str, str]:
    """The smallest region that holds every drawn node, and why."""
    nodes = sum(len(case.nodes) for case in cases)
    held, kept = nodes_held(cases), voxels_kept(cases)
    if not kept:
        return "none", "whole images: regions are known in CT only"
    if not nodes:
        return "none", "whole images: no node is drawn that would show which part matters"
    eligible = [name for name in kept if name == "body" or nodes >= NODES_TO_GO_BY]
    holding = [name for name in eligible if held[name] == 1.0 and kept[name] <= 1 - LEAST_REMOVED]
    if not holding:
        small = [name for name in kept if kept[name] <= 1 - LEAST_REMOVED]
        if not small:
            return "none", f"whole images: no region leaves out {LEAST_REMOVED:.0%} of the voxels"
        shares = ", ".join(f"{name} {held[name]:.0%}" for name in small)
        few = f"; {nodes} are too few to go by" if nodes < NODES_TO_GO_BY else ""
        return "none", f"whole images: no smaller region holds every one of the {nodes} nodes drawn ({shares}{few})"
    name = min(holding, key=lambda region: kept[region])
    reason = f"it holds all {nodes} drawn nodes with {HELD_MM:g} mm round them, and {kept[name]:.0%} of the voxels"
    return name, f"{name}: {reason}"


def nodes_held(cases: Sequence[CaseFacts]) -> dict[str, float]:
    """Region by region, the share of the drawn nodes that lie in it."""
    nodes = [node for case in cases for node in case.nodes]
    names = _names(cases) if nodes else ()
    return {name: sum(name in node.held_by for node in nodes) / len(nodes) for name in names}


def voxels_kept(cases: Sequence[CaseFacts]) -> dict[str, float]:
    """Region by region, the median share of an image that cropping keeps."""
    return {name: float(np.median([case.regions[name].kept for case in cases])) for name in _names(cases)}


def _names(cases: Sequence[CaseFacts]) -> tuple[str, ...]:
    return tuple(name for name in REGIONS[1:] if all(name in case.regions for case in cases)) if cases else ()
