"""What of the background can be trusted where only some nodes are drawn: the rules in numbers, from the nodes drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import Trust
from lnauto.nodes import Array
from lnauto.planners.case_facts import CaseFacts, NodeFacts

ORGANS, LIKENESS = "organsTr", "likeness"
SOFT_TISSUE_HU = (-30.0, 130.0)  # nobody's nodes are narrower than that: those drawn may all be of one patient [our choice]
AIR_BELOW_HU, BONE_ABOVE_HU = -500.0, 250.0
LEAST_DEPTH_MM = 10.0
LIKELY = 0.5  # share of the places taken for nodes that are nodes, by what is expected; on phantoms it was 0.6 and more [ours]
LIKELY_FROM = range(60, 100, 5)  # per cent that are tried
REACH = 1.0  # times the length of a stroke, on all sides: its node may be three times as wide as the stroke is long [our choice]
NODE_WITHIN, BACKGROUND_FROM = 4.0, 6.0  # voxel edges that a way from a stroke is long [found on phantoms and real scans; ours]
DARK_HU = -50.0  # what is as dark as fat [our choice]
SMALLER = 0.5  # the volume of a node nobody drew, compared with a drawn one's [our choice; they are the smaller ones]
SPARED = 2.0  # per cent of the nodes that may be darker or brighter than the range [our choice]


def choose_trust(
    dataset: RawDataset,
    cases: Sequence[CaseFacts],
    strategy: str,
    region: str,
    undrawn_ml: Array | None = None,
    completeness: float | None = None,
    in_part: bool = False,
) -> tuple[Trust | None, str]:
    """The rules for trusted background, and why; None: everything that is not drawn is what the label says.

    Some strategies need them always, an adaptation of a foundation model where nodes are drawn `in_part`.
    `undrawn_ml` says how much volume that nobody drew has which likeness (`completeness/maps.py`); None: nobody looked.
    """
    nodes = [node for case in cases for node in case.nodes]
    if strategy not in ("partial_instance", "scribble") and not (strategy == "few_shot" and in_part):
        return None, "as drawn"
    if not nodes:
        return None, "as drawn: there is no node to go by"
    channels = list(dataset.channel_names.values())
    is_ct = channels[0].lower() == "ct" and in_hu(cases)
    by_range = [name.lower() == "ct" and (place > 0 or is_ct) for place, name in enumerate(channels)]
    ranges = [_range(nodes, place) if by_range[place] else (None, None) for place in range(len(channels))]
    depth = max(LEAST_DEPTH_MM, max(node.short_axis_mm for node in nodes) / 2)
    strokes = strategy == "scribble"  # they say where nodes are, and not how far these reach
    trust = Trust(
        low=tuple(low for low, _ in ranges),
        high=tuple(high for _, high in ranges),
        region=(region if region != "none" else "body") if is_ct else "none",
        shell_mm=None if strokes else Trust.shell_mm,
        depth_mm=round(depth, 1) if is_ct and not strokes else None,
        reach=REACH if strokes else None,
        node_within=NODE_WITHIN if strokes else None,
        background_from=BACKGROUND_FROM,
        air_below=AIR_BELOW_HU if is_ct else None,
        bone_above=BONE_ABOVE_HU if is_ct else None,
        organs=ORGANS if (dataset.folder / ORGANS).is_dir() else None,
        likeness=LIKENESS if undrawn_ml is not None else None,
        likely_from=_likely_from(dataset, nodes, undrawn_ml, completeness),
    )
    return trust, _reason(trust, len(nodes))


def in_hu(cases: Sequence[CaseFacts]) -> bool:
    """Whether a CT is in HU, as far as its darkest voxels say: any part of a body holds fat, if not air."""
    return float(np.median([case.darkest for case in cases])) <= DARK_HU


def _likely_from(
    dataset: RawDataset, nodes: Sequence[NodeFacts], undrawn_ml: Array | None, completeness: float | None
) -> float | None:
    """The least likeness from which a place is rather a node that nobody drew than anything else, if there is one.

    Of such nodes' voxels as large a part should look so as of drawn ones', and how many there are follows from completeness.
    """
    if undrawn_ml is None or completeness is None or len(dataset.labels) != 2:  # of several labels, which it is is not known
        return None
    drawn_ml = sum(node.volume_mm3 for node in nodes) / 1000
    missing_ml = SMALLER * drawn_ml * (1 - completeness) / max(completeness, 0.01)
    for per_cent in LIKELY_FROM:
        there = float(undrawn_ml[per_cent:].sum())
        if there > 0 and missing_ml * (100 - per_cent) / 100 >= LIKELY * there:
            return float(per_cent)
    return None


def _range(nodes: Sequence[NodeFacts], channel: int) -> tuple[float, float]:
    """From nearly the darkest to nearly the brightest node: of many nodes one is drawn into the lung."""
    dark = np.percentile([node.middle[channel][0] for node in nodes], SPARED)
    bright = np.percentile([node.middle[channel][1] for node in nodes], 100 - SPARED)
    return round(min(SOFT_TISSUE_HU[0], float(dark)), 1), round(max(SOFT_TISSUE_HU[1], float(bright)), 1)


def _reason(trust: Trust, nodes: int) -> str:
    known = [f"{trust.shell_mm:g} mm round each drawn node"] if trust.shell_mm is not None else []
    if trust.low[0] is not None:
        known += ["air", "bone", f"what is not between {trust.low[0]:g} and {trust.high[0]:g} HU, as the {nodes} drawn nodes are"]
    if trust.depth_mm is not None:
        known.append(f"tissue deeper than {trust.depth_mm:g} mm")
    if trust.region != "none":
        known.append(f"what lies outside the {trust.region}")
    if trust.organs is not None:
        known.append(f"the organs in {trust.organs}")
    if trust.likeness is not None:
        known.append(f"what looks less like a drawn node than {100 - trust.unlike_below:g} % of drawn voxels do")
    if trust.reach is not None:
        known.append(f"what is farther from each stroke on a node than {trust.reach:g} times its length, as every node has one")
    if trust.node_within is not None:
        known.append(
            f"what is more than {trust.background_from:g} voxels from every stroke on a node by way of like tissue "
            f"(what is within {trust.node_within:g} is node)"
        )
    rest = "what else is not drawn is ignored, because it may be a node"
    if trust.likely_from is not None:
        rest += f"; what looks more like one than {trust.likely_from:g} % of drawn voxels is taken for one to begin with"
    return f"{', '.join(known)}; {rest}"
