"""What of the background can be trusted where only some nodes are drawn: the rules in numbers, from the nodes drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust
from lnauto.planners.case_facts import CaseFacts, NodeFacts
from lnauto.planners.completeness.maps import can_be_mapped

ORGANS, LIKENESS = "organsTr", "likeness"
SOFT_TISSUE_HU = (-30.0, 130.0)  # nobody's nodes are narrower than that: those drawn may all be of one patient [our choice]
AIR_BELOW_HU, BONE_ABOVE_HU = -500.0, 250.0
LEAST_DEPTH_MM = 10.0
SPARED = 2.0  # per cent of the nodes that may be darker or brighter than the range [our choice]


def choose_trust(dataset: RawDataset, cases: Sequence[CaseFacts], strategy: str, region: str) -> tuple[Trust | None, str]:
    """The rules for trusted background, and why; None: everything that is not drawn is what the label says."""
    nodes = [node for case in cases for node in case.nodes]
    if strategy != "partial_instance":
        return None, "as drawn"
    if not nodes:
        return None, "as drawn: there is no node to go by"
    channels = list(dataset.channel_names.values())
    is_ct = channels[0].lower() == "ct"
    ranges = [_range(nodes, place) if name.lower() == "ct" else (None, None) for place, name in enumerate(channels)]
    depth = max(LEAST_DEPTH_MM, max(node.short_axis_mm for node in nodes) / 2)
    trust = Trust(
        low=tuple(low for low, _ in ranges),
        high=tuple(high for _, high in ranges),
        region=(region if region != "none" else "body") if is_ct else "none",
        depth_mm=round(depth, 1) if is_ct else None,
        air_below=AIR_BELOW_HU if is_ct else None,
        bone_above=BONE_ABOVE_HU if is_ct else None,
        organs=ORGANS if (dataset.folder / ORGANS).is_dir() else None,
        likeness=LIKENESS if can_be_mapped(cases) else None,
    )
    return trust, _reason(trust, len(nodes))


def _range(nodes: Sequence[NodeFacts], channel: int) -> tuple[float, float]:
    """From nearly the darkest to nearly the brightest node: of many nodes one is drawn into the lung."""
    dark = np.percentile([node.middle[channel][0] for node in nodes], SPARED)
    bright = np.percentile([node.middle[channel][1] for node in nodes], 100 - SPARED)
    return round(min(SOFT_TISSUE_HU[0], float(dark)), 1), round(max(SOFT_TISSUE_HU[1], float(bright)), 1)


def _reason(trust: Trust, nodes: int) -> str:
    known = [f"{trust.shell_mm:g} mm round each drawn node"]
    if trust.low[0] is not None:
        known += ["air", "bone", f"what is not between {trust.low[0]:g} and {trust.high[0]:g} HU, as the {nodes} drawn nodes are"]
        known.append(f"tissue deeper than {trust.depth_mm:g} mm")
    if trust.region != "none":
        known.append(f"what lies outside the {trust.region}")
    if trust.organs is not None:
        known.append(f"the organs in {trust.organs}")
    if trust.likeness is not None:
        known.append(f"what looks less like a drawn node than {100 - trust.unlike_below:g} % of drawn voxels do")
    rest = "what else is not drawn is ignored, because it may be a node"
    return f"{', '.join(known)}; {rest}"
