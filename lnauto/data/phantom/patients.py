"""The label model: who has metastases, where, and what a table knows of it.

1. Enlarged nodes lie at stations, more of them where the tumour's side drains to, whether there are metastases or not.
2. The tumour's cells have a reach: 0 (none), 1 (the hilum of the tumour's side), 2 (also the mediastinum) or 3 (also across
   and above the collarbones). T stage raises it.
3. Each node within reach is metastatic by a chance of its own, the nearer the higher; none is beyond.
4. What a node looks like depends on whether it is metastatic, and is in `nodes.py`.

So the same look means more within reach of the tumour than across. Whether there are metastases, N stage and station labels
follow from the nodes that were drawn, never the other way round. The marker carries a little of the truth, age none. In the
tables some values are missing; the truth has them all. `optimum.py` inverts this model; who changes it here changes it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lnauto.data.phantom.acquisition import Style
from lnauto.data.phantom.nodes import Form
from lnauto.data.phantom.stations import STATIONS, n_group, n_stage

Rng = np.random.Generator

T_STAGES = (0.28, 0.34, 0.23, 0.15)
REACH_BY_T = ((0.54, 0.24, 0.17, 0.05), (0.41, 0.28, 0.23, 0.08), (0.28, 0.32, 0.28, 0.12), (0.18, 0.33, 0.32, 0.17))
METASTATIC = (  # chance that a node is, by reach and by what N stage it would mean (1, 2, 3)
    (0.0, 0.0, 0.0),
    (0.75, 0.0, 0.0),
    (0.75, 0.38, 0.0),
    (0.75, 0.38, 0.32),
)
DRAINED = {1: 3.0, 2: 0.8, 3: 1.2}  # how much rather nodes are enlarged, by the N stage they would mean
STATIONS_PER_PATIENT = (3, 7)
NODES_PER_STATION = (0.72, 0.21, 0.07)  # one, two, three, at a station with enlarged nodes
MARKER = {0: 1.1, 1: 1.6}  # mean of the logarithm, by whether there are metastases
MARKER_SD = 0.7
MISSING = {"lnm": 0.05, "n_stage": 0.2, "tumour_side": 0.08, "t_stage": 0.15, "age": 0.05, "marker": 0.25}
STATION_KNOWN = 0.6  # the part of stations of which somebody wrote something down
COLUMNS = ("patient", "cases", "lnm", "n_stage", "tumour_side", "centre", "t_stage", "age", "marker")


@dataclass(frozen=True)
class Patient:
    """One row of the table; None is missing."""

    patient: str
    cases: str
    lnm: int | None
    n_stage: int | None
    tumour_side: str | None
    centre: str
    t_stage: int | None
    age: int | None
    marker: float | None

    @property
    def row(self) -> dict[str, object]:
        return {name: "" if value is None else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Plan:
    """What is to be drawn of a patient: the tumour, and each node's station and form."""

    tumour_side: str
    t_stage: int
    nodes: tuple[tuple[str, Form], ...]

    @classmethod
    def draw(cls, rng: Rng, stations: Sequence[str], plenty: float = 1.0) -> Plan:
        """`stations` are those in view; `plenty` scales the number of those with nodes."""
        side = "L" if rng.random() < 0.45 else "R"
        t_stage = 1 + int(rng.choice(4, p=T_STAGES))
        reach = int(rng.choice(4, p=REACH_BY_T[t_stage - 1]))
        nodes = []
        for station in _with_nodes(rng, stations, side, plenty):
            chance = METASTATIC[reach][n_group(station, side) - 1]
            nodes += [(station, Form.draw(rng, bool(rng.random() < chance))) for _ in range(_how_many(rng))]
        nodes.sort(key=lambda node: -node[1].volume_mm3)  # large ones find a place first
        return cls(side, t_stage, tuple(nodes))


def _with_nodes(rng: Rng, stations: Sequence[str], side: str, plenty: float) -> list[str]:
    """Stations with enlarged nodes, which depend on the tumour's side and on nothing else of the patient."""
    least, most = STATIONS_PER_PATIENT
    number = min(len(stations), max(1, round(plenty * int(rng.integers(least, most + 1)))))
    weights = np.array([STATIONS[station].weight * DRAINED[n_group(station, side)] for station in stations])
    return [stations[n] for n in rng.choice(len(stations), number, replace=False, p=weights / weights.sum())]


def _how_many(rng: Rng) -> int:
    return 1 + int(rng.choice(3, p=NODES_PER_STATION))


def describe(rng: Rng, name: str, plan: Plan, involved: Sequence[str], style: Style, plain: bool) -> Patient:
    """The whole truth of a patient, from the nodes that were drawn."""
    stage = n_stage(involved, plan.tumour_side)
    first = rng.random() < (0.8 if plain else 0.25)
    return Patient(
        patient=name,
        cases=name,
        lnm=int(stage > 0),
        n_stage=stage,
        tumour_side=plan.tumour_side,
        centre=style.centres[0 if first else 1],
        t_stage=plan.t_stage,
        age=int(np.clip(round(rng.normal(66, 9)), 35, 90)),
        marker=draw_marker(rng, int(stage > 0)),
    )


def draw_marker(rng: Rng, lnm: int) -> float:
    return max(0.01, round(float(np.exp(rng.normal(MARKER[lnm], MARKER_SD))), 2))


def with_gaps(rng: Rng, patient: Patient) -> Patient:
    """The patient as the table knows him."""
    lost = {name for name, chance in MISSING.items() if rng.random() < chance}
    if "lnm" in lost:
        lost.add("n_stage")  # who knows the stage knows whether there are metastases
    values: dict[str, Any] = {name: None if name in lost else value for name, value in asdict(patient).items()}
    return Patient(**values)


def known_stations(rng: Rng, stations: Sequence[str]) -> list[str]:
    return [station for station in stations if rng.random() < STATION_KNOWN]
