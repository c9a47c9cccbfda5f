"""What was measured about a data set, as the rules of strategy.py read it; every figure says how it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, get_type_hints

import numpy as np

from lnauto.data.patients import PatientTable
from lnauto.data.raw import RawDataset
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.region import nodes_held, voxels_kept

Spread = tuple[float, float, float]  # 5th, 50th and 95th percentile


@dataclass(frozen=True)
class Completeness:
    """The share of nodes that were drawn, between `low` and `high` in nine of ten data sets like this one."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.0%} ({self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True)
class Evidence:
    """The data set in figures; None is "cannot be said". Who knows figures from elsewhere (a paper's) may give just these."""

    declared: Annotated[str | None, '"annotation" in dataset.json'] = None
    channels: Annotated[tuple[str, ...], '"channel_names" in dataset.json'] = ()
    annotated_cases: Annotated[int, "cases with a label file"] = 0
    unannotated_cases: Annotated[int, "cases without one, named in dataset.json or lying in imagesUn"] = 0
    ignore_label: Annotated[bool, '"ignore" in the labels of dataset.json'] = False
    drawn_share: Annotated[float | None, "median over the annotated cases of the share of voxels that are not `ignore`"] = None
    background_drawn: Annotated[bool, "whether any annotated case holds a voxel of value 0"] = False
    node_share: Annotated[float | None, "median over the annotated cases of the share of voxels that are node"] = None
    filled_share: Annotated[
        float | None, "median over the nodes of the share of a node's voxels in a full 3x3 square of a slice"
    ] = None
    nodes: Annotated[int, "26-connected components of the node labels (or instances) in all cases"] = 0
    nodes_per_case: Annotated[Spread | None, "5th, 50th, 95th percentile over the annotated cases"] = None
    node_volume_mm3: Annotated[Spread | None, "5th, 50th, 95th percentile over the nodes"] = None
    node_long_axis_mm: Annotated[Spread | None, "the same; largest extent in the slice where the node is longest"] = None
    node_short_axis_mm: Annotated[Spread | None, "the same; at right angles to the long axis in that slice"] = None
    nodes_at_border: Annotated[float | None, "share of nodes that touch the image's border"] = None
    intensity_inside: Annotated[tuple[Spread, ...], "channel by channel: percentiles over the nodes of their mean intensity"] = ()
    intensity_shell: Annotated[tuple[Spread, ...], "channel by channel: the same in a shell of 4 mm round each node"] = ()
    body_mm: Annotated[
        Spread | None, "CT: median extent (z, y, x) of the largest component above -300 HU, looked at every 4 mm"
    ] = None
    lung_mm: Annotated[Spread | None, "CT: median extent (z, y, x) of air below -500 HU inside the body"] = None
    patients: Annotated[int, "rows of patients.csv"] = 0
    known_lnm: Annotated[tuple[int, int], "patients of patients.csv without and with nodal metastasis (lnm 0 and 1)"] = (0, 0)
    known_stages: Annotated[tuple[int, int, int, int], "patients of patients.csv with n_stage 0, 1, 2 and 3"] = (0, 0, 0, 0)
    known_sides: Annotated[int, "patients of patients.csv with a tumour_side"] = 0
    centres: Annotated[int, "different entries of centre in patients.csv"] = 0
    missing_entries: Annotated[dict[str, float], "share of patients without an entry, column by column"] = field(
        default_factory=dict
    )
    completeness: Annotated[
        Completeness | None, "share of the nodes that were drawn, with an interval; by planners/completeness"
    ] = None
    foundation_model: Annotated[bool, "whether --pretrained names a foundation model"] = False
    neck_mm: Annotated[Spread | None, "CT: median extent (z, y, x) of the body from 40 mm below the lungs' top upwards"] = None
    region_holds: Annotated[dict[str, float], "CT: share of the nodes that lie in a region with 10 mm round them"] = field(
        default_factory=dict
    )
    region_keeps: Annotated[dict[str, float], "CT: median share of an image's voxels that cropping to a region keeps"] = field(
        default_factory=dict
    )

    orientation: Annotated[str | None, "where x, y and z of the images count to (LPS: left, back, head), if all agree on it"] = (
        None
    )

    def to_json(self) -> dict[str, dict[str, Any]]:
        hints = get_type_hints(type(self), include_extras=True)
        values = {**vars(self), "completeness": asdict(self.completeness) if self.completeness else None}
        return {name: {"value": values[name], "how": hint.__metadata__[0]} for name, hint in hints.items()}


def gather(
    dataset: RawDataset, cases: Sequence[CaseFacts], completeness: Completeness | None = None, pretrained: bool = False
) -> Evidence:
    """Sum up what every case showed, and what the table says."""
    annotated = [case for case in cases if case.annotated]
    nodes = [node for case in annotated for node in case.nodes]
    return Evidence(
        declared=dataset.annotation,
        channels=tuple(dataset.channel_names.values()),
        annotated_cases=len(annotated),
        unannotated_cases=len(cases) - len(annotated),
        ignore_label=dataset.ignore_label is not None,
        drawn_share=_median([case.drawn for case in annotated]),
        background_drawn=any(case.background_drawn > 0 for case in annotated),
        node_share=_median([_node_share(case) for case in annotated]),
        filled_share=_median([node.filled for node in nodes]),
        nodes=len(nodes),
        nodes_per_case=_spread([len(case.nodes) for case in annotated]),
        node_volume_mm3=_spread([node.volume_mm3 for node in nodes]),
        node_long_axis_mm=_spread([node.long_axis_mm for node in nodes]),
        node_short_axis_mm=_spread([node.short_axis_mm for node in nodes]),
        nodes_at_border=float(np.mean([node.at_border for node in nodes])) if nodes else None,
        intensity_inside=_by_channel([node.inside for node in nodes]),
        intensity_shell=_by_channel([node.shell for node in nodes]),
        body_mm=_extent([case.body_mm for case in cases if case.body_mm]),
        lung_mm=_extent([case.lung_mm for case in cases if case.lung_mm]),
        completeness=completeness,
        foundation_model=pretrained,
        neck_mm=_extent([case.neck_mm for case in cases if case.neck_mm]),
        region_holds={name: round(share, 3) for name, share in nodes_held(cases).items()},
        region_keeps={name: round(share, 3) for name, share in voxels_kept(cases).items()},
        orientation=_shared([case.orientation for case in cases]),
        **_of_table(dataset.patients),
    )


def _shared(values: Sequence[str]) -> str | None:
    return values[0] if len(set(values)) == 1 else None


def _of_table(table: PatientTable | None) -> dict[str, Any]:
    if table is None:
        return {
            "patients": 0,
            "known_lnm": (0, 0),
            "known_stages": (0, 0, 0, 0),
            "known_sides": 0,
            "centres": 0,
            "missing_entries": {},
        }
    frame = table.frame.drop(columns="cases")
    empty = frame.iloc[:, :0]

    def count(column: str, value: float) -> int:
        return int((frame[column] == value).sum()) if column in frame else 0

    return {
        "patients": len(frame),
        "known_lnm": (count("lnm", 0), count("lnm", 1)),
        "known_stages": tuple(count("n_stage", stage) for stage in range(4)),
        "known_sides": int(frame.get("tumour_side", empty).notna().to_numpy().sum()),
        "centres": int(frame["centre"].nunique()) if "centre" in frame else 0,
        "missing_entries": {str(name): round(float(share), 3) for name, share in frame.isna().mean().items()},
    }


def _node_share(case: CaseFacts) -> float:
    volume = sum(node.volume_mm3 for node in case.nodes)
    return volume / float(np.prod(case.spacing) * np.prod(case.shape))


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    low, middle, high = (round(float(value), 2) for value in np.nanpercentile(values, [5, 50, 95]))
    return low, middle, high


def _by_channel(means: Sequence[tuple[float, ...]]) -> tuple[Spread, ...]:
    found = (_spread([value for value in channel if not np.isnan(value)]) for channel in zip(*means, strict=True))
    return tuple(spread for spread in found if spread is not None)


def _extent(boxes: Sequence[Spread]) -> Spread | None:
    if not boxes:
        return None
    z, y, x = (float(side) for side in np.median(boxes, axis=0))
    return z, y, x
