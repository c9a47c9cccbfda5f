"""Named protocols: which scores a label gets, and what they are worth where a mask is empty.

`lnauto` is the default; the others restate what a challenge or a paper computed, so that figures can be compared with its own.
Nodes are counted in the same way under every protocol (`lnauto.evaluation.matching`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lnauto.errors import InputError

LEFT_OUT = math.nan
"""The worth of a score that does not exist: it enters no mean, and the summary counts how many were left out."""


@dataclass(frozen=True)
class Empty:
    """What a score is worth if truth and prediction are both empty, and if just one of them is."""

    both: float
    one: float


@dataclass(frozen=True)
class Protocol:
    """How the masks of a label are scored; `scores` names the scores in the order of the tables."""

    name: str
    source: str
    scores: Mapping[str, Empty]
    tolerance_mm: float = 1.0
    pooled_assd: bool = False
    """Mean over the distances of both surfaces together, instead of the average of the two surfaces' means."""
    aggregated: bool = False
    """The headline is Dice over the volumes (mm3) of all cases together, not the mean over cases."""
    resampled: bool = False
    """A prediction of the truth's spacing that lies elsewhere is brought to the truth's grid (nearest) instead of refused."""

    def title(self, score: str) -> str:
        """The score's name in a table."""
        return {
            "dice": "Dice",
            "nsd": f"NSD at {self.tolerance_mm:g} mm",
            "assd": "ASSD, mm",
            "hd95": "HD95, mm",
        }[score]

    def to_json(self) -> dict[str, Any]:
        """The protocol in words and numbers."""
        empty = {name: {"both_empty": _worth(rule.both), "one_empty": _worth(rule.one)} for name, rule in self.scores.items()}
        return {
            "name": self.name,
            "source": self.source,
            "scores": empty,
            "nsd_tolerance_mm": self.tolerance_mm if "nsd" in self.scores else None,
            "assd": ("pooled" if self.pooled_assd else "average of the two means") if "assd" in self.scores else None,
            "headline": "Dice over all cases together" if self.aggregated else "mean over cases",
        }


def _worth(value: float) -> float | str:
    return "left out" if math.isnan(value) else value


_PROTOCOLS = (
    Protocol(
        name="lnauto",
        source="Dice, NSD with surface elements weighted by area, ASSD as LNQ2023; what does not exist is left out and counted",
        scores={"dice": Empty(LEFT_OUT, 0.0), "nsd": Empty(LEFT_OUT, 0.0), "assd": Empty(LEFT_OUT, LEFT_OUT)},
    ),
    Protocol(
        name="lnq2023",
        source="LNQ2023: Dice of SimpleITK's label overlap, ASSD as the average of the two mean surface distances",
        scores={"dice": Empty(LEFT_OUT, 0.0), "assd": Empty(LEFT_OUT, LEFT_OUT)},
    ),
    Protocol(
        name="segrap",
        source="SegRap2023: Dice and NSD at 1 mm, surface elements weighted by area; its own tables round each case to 4 digits",
        scores={"dice": Empty(1.0, 0.0), "nsd": Empty(1.0, 0.0)},
    ),
    Protocol(
        name="hntsmrg",
        source="HNTS-MRG 2024: DSCagg, a label's Dice over the volumes (mm3) of all cases together, then the mean over labels",
        scores={"dice": Empty(LEFT_OUT, 0.0)},
        aggregated=True,
        resampled=True,
    ),
    Protocol(
        name="wcode",
        source="WCODE (DBDMP, ReCo-I2P): Dice, pooled ASSD, HD95; what Dice of two empty masks is there is not known: left out",
        scores={"dice": Empty(LEFT_OUT, 0.0), "assd": Empty(0.0, 20.0), "hd95": Empty(0.0, 100.0)},
        pooled_assd=True,
    ),
)
PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _PROTOCOLS}


def protocol_of(name: str | Protocol) -> Protocol:
    """The protocol of a name; a protocol is itself."""
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise InputError.of(f"there is no protocol {name!r}", "--protocol", f"take one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
