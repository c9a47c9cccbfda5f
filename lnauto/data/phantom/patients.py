"""The label model: who has metastases, where, and what a table knows of it.

T stage raises the chance of metastasis; metastases lie first at the hilum of the tumour's side (N1), then in the mediastinum
(N2), then across (N3). N stage and station labels follow from the nodes that were drawn, never the other way round. The marker
and T stage carry part of the truth, age none. What a metastatic node looks like is in `nodes.py`. In the tables some values are
missing; the truth has them all.
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
METASTASIS_BY_T = (0.3, 0.48, 0.62, 0.75)
N_BY_T = ((0.5, 0.38, 0.12), (0.38, 0.42, 0.2), (0.28, 0.45, 0.27), (0.2, 0.45, 0.35))  # N1, N2, N3 where there are metastases
STATION_WEIGHTS = {"10R": 2.0, "10L": 2.0, "11R": 1.5, "11L": 1.5, "4R": 2.0, "4L": 1.6, "7": 2.0, "5": 1.2, "6": 1.0}
MISSING = {"lnm": 0.05, "n_stage": 0.2, "tumour_side": 0.08, "t_stage": 0.15, "age": 0.05, "marker": 0.25}
NODES_PER_STATION = (0.55, 0.3, 0.15)  # one, two, three metastatic nodes
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
        """`stations` are those in view; `plenty` scales the number of benign nodes."""
        side = "L" if rng.random() < 0.45 else "R"
        t_stage = 1 + int(rng.choice(4, p=T_STAGES))
        involved: list[str] = []
        if rng.random() < METASTASIS_BY_T[t_stage - 1]:
            involved = _involved(rng, stations, side, 1 + int(rng.choice(3, p=N_BY_T[t_stage - 1])))
        bad = [station for station in involved for _ in range(1 + int(rng.choice(3, p=NODES_PER_STATION)))]
        weights = np.array([STATIONS[station].weight * (0.4 if station in involved else 1.0) for station in stations])
        number = min(len(stations), max(1, round(plenty * int(rng.integers(4, 10)) * (0.65 if bad else 1.0))))
        good = [stations[n] for n in rng.choice(len(stations), number, replace=False, p=weights / weights.sum())]
        nodes = [(station, Form.draw(rng, True)) for station in bad] + [(station, Form.draw(rng, False)) for station in good]
        nodes.sort(key=lambda node: -node[1].volume_mm3)  # large ones find a place first
        return cls(side, t_stage, tuple(nodes))


def _involved(rng: Rng, stations: Sequence[str], side: str, stage: int) -> list[str]:
    """Stations with metastases, at least one of them of the given stage, as far as such are in view."""
    groups = {station: n_group(station, side) for station in stations}
    found: list[str] = []
    for level in range(1, stage + 1):
        members = [station for station in stations if groups[station] == level]
        least = 1 if level == stage else int(rng.random() < 0.7)  # metastases may skip a level
        number = min(len(members), least + int(rng.random() < 0.35))
        if number:
            weights = np.array([STATION_WEIGHTS.get(station, 0.4) for station in members])
            found += [members[n] for n in rng.choice(len(members), number, replace=False, p=weights / weights.sum())]
    return found


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
        marker=round(float(np.exp(rng.normal(1.1 + (0.75 if stage else 0.0), 0.6))), 2),
    )


def with_gaps(rng: Rng, patient: Patient) -> Patient:
    """The patient as the table knows him."""
    lost = {name for name, chance in MISSING.items() if rng.random() < chance}
    if "lnm" in lost:
        lost.add("n_stage")  # who knows the stage knows whether there are metastases
    values: dict[str, Any] = {name: None if name in lost else value for name, value in asdict(patient).items()}
    return Patient(**values)


def known_stations(rng: Rng, stations: Sequence[str]) -> list[str]:
    return [station for station in stations if rng.random() < STATION_KNOWN]
