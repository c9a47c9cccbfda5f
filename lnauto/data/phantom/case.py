"""One case, drawn from its own random numbers: the picture, the nodes in it, and the patient it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnauto.data.phantom import bones, lookalikes, lungs, mediastinum, thorax
from lnauto.data.phantom.acquisition import FULL_FIELD, STYLES, Scan, Style, scanned
from lnauto.data.phantom.canvas import Canvas, Warp
from lnauto.data.phantom.nodes import Form, cover, paint
from lnauto.data.phantom.patients import Patient, Plan, describe, with_gaps
from lnauto.data.phantom.placement import Room, mark, place
from lnauto.data.phantom.shapes import ellipsoid
from lnauto.data.phantom.stations import STATIONS
from lnauto.nodes import label_components, measure_nodes

Rng = np.random.Generator

SHRINK_ABOVE_MM3 = 1000.0  # so that the 5th percentile on the grid stays near that of real nodes, 0.8 ml


@dataclass(frozen=True)
class DrawnNode:
    """A node as it came out on the grid; `number` is its value in the instances."""

    number: int
    metastatic: bool
    station: str
    volume_mm3: float
    short_axis_mm: float
    long_axis_mm: float
    form: Form


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """Everything that is true of one case."""

    name: str
    image: NDArray[np.int16]  # HU
    instances: NDArray[np.uint8]
    scan: Scan
    nodes: tuple[DrawnNode, ...]
    patient: Patient
    stations: dict[str, int]  # those in view, 1: metastatic
    plan: Plan
    placed: tuple[bool, ...]  # which of the plan's nodes found a place


def draw_case(name: str, seed: tuple[int, ...], size: int, style_name: str) -> PhantomCase:
    """The case depends on its arguments alone, never on how many others there are."""
    rng = np.random.default_rng(seed)
    style = STYLES[style_name]
    scan, canvas, stations, plan = _begin(rng, style, size)
    _draw_anatomy(canvas, rng, scan, plan)
    room = Room(canvas, np.zeros(canvas.shape, bool))
    nodes, instances, placed = _draw_nodes(room, rng, plan, scan)
    lookalikes.draw_lookalikes(room, rng, scan.phase, plenty=1.0 if size >= FULL_FIELD else 0.5)
    if scan.table:
        thorax.draw_table(canvas)
    image = scanned(rng, canvas.hu, scan)
    involved = sorted({node.station for node in nodes if node.metastatic})
    patient = describe(rng, name, plan, involved, style, scan.phase_name == "plain")
    labels = {station: int(station in involved) for station in stations}
    return PhantomCase(name, image, instances, scan, nodes, patient, labels, plan, placed)


def draw_plan(seed: tuple[int, ...], size: int, style_name: str) -> Plan:
    """The plan of the case that `draw_case` draws, in a thousandth of the time: the picture is left out."""
    return _begin(np.random.default_rng(seed), STYLES[style_name], size)[3]


def describe_patient(name: str, seed: tuple[int, ...], style_name: str) -> Patient:
    """A patient without a scan: the nodes are planned, with the size of chest that has them all in view, and none is drawn."""
    rng = np.random.default_rng(seed)
    scan, _, _, plan = _begin(rng, STYLES[style_name], FULL_FIELD)
    involved = sorted({station for station, form in plan.nodes if form.metastatic})
    return with_gaps(rng, describe(rng, name, plan, involved, STYLES[style_name], scan.phase_name == "plain"))


def _begin(rng: Rng, style: Style, size: int) -> tuple[Scan, Canvas, list[str], Plan]:
    """The scan, its empty canvas, the stations in view and what is to be drawn there."""
    scan = Scan.draw(rng, style, size)
    canvas = Canvas(scan.shape, scan.spacing, scan.start, Warp.draw(rng, scan.body_scale))
    stations = in_view(canvas)
    return scan, canvas, stations, Plan.draw(rng, stations, plenty=1.0 if size >= FULL_FIELD else min(1.0, (size / 64) ** 1.5))


def in_view(canvas: Canvas) -> list[str]:
    """Stations whose middle lies well inside the volume."""
    found = []
    for name, station in STATIONS.items():
        centre = np.array(station.centre, float)
        lower, upper = canvas.warp.bounds(centre, centre)
        middle = (lower + upper) / 2
        inside = (middle - canvas.start) / canvas.spacing[::-1]
        room = np.minimum(inside, np.array(canvas.shape[::-1]) - 1 - inside) * canvas.spacing[::-1]
        if (room > 12).all():
            found.append(name)
    return found


def _draw_anatomy(canvas: Canvas, rng: Rng, scan: Scan, plan: Plan) -> None:
    build, middle = thorax.Build.draw(rng), mediastinum.plan_middle(rng)
    thorax.draw_wall(canvas, rng, build, scan.phase)
    thorax.draw_abdomen(canvas, rng, build, scan.phase)
    lung = lungs.draw_lungs(canvas, rng, build, middle.envelope, scan.phase.pulmonary)
    lookalikes.draw_tumour(canvas, rng, plan.tumour_side, plan.t_stage, scan.phase, lung)
    mediastinum.draw_fat(canvas, rng, middle)
    mediastinum.draw_thymus(canvas, rng)
    bones.draw_bones(canvas, rng, build)
    mediastinum.draw_organs(canvas, rng, middle, scan.phase)


def _draw_nodes(
    room: Room, rng: Rng, plan: Plan, scan: Scan
) -> tuple[tuple[DrawnNode, ...], NDArray[np.uint8], tuple[bool, ...]]:
    canvas = room.canvas
    instances = np.zeros(canvas.shape, np.uint8)
    kept: list[tuple[str, Form]] = []
    placed = [False] * len(plan.nodes)
    for at, (station, wanted) in enumerate(plan.nodes):
        settled = _settle(room, rng, wanted, station)
        if settled is None:
            continue
        form, centre = settled
        found = cover(canvas, form, centre, room.free)
        if found is None:
            continue
        box, taken = found
        labels, count = label_components(taken > 0.5)
        if not count:
            continue
        mask = labels == 1
        paint(canvas, rng, form, centre, scan.phase, scan.node_texture_hu, box, np.where(mask | (taken <= 0.5), taken, 0))
        kept.append((station, form))
        placed[at] = True
        instances[box][mask] = len(kept)
        mark(room, mask, box)
    return *_measured(kept, instances, scan), tuple(placed)


def _settle(room: Room, rng: Rng, form: Form, station: str) -> tuple[Form, np.ndarray] | None:
    """A place in or near the station; a node that finds none becomes smaller, but not smaller than nodes are."""
    where = STATIONS[station]
    for attempt in range(12):
        wide = 1.0 + 0.15 * attempt
        region = ellipsoid(where.centre, tuple(wide * radius for radius in where.radii))
        centre = place(room, rng, form, region)
        if centre is not None:
            return form, centre
        if attempt >= 6 and form.volume_mm3 > SHRINK_ABOVE_MM3:
            form = form.smaller(0.8)
    return None


def _measured(
    kept: list[tuple[str, Form]], instances: NDArray[np.uint8], scan: Scan
) -> tuple[tuple[DrawnNode, ...], NDArray[np.uint8]]:
    """Number the nodes by descending volume, and measure them as they came out."""
    sizes = np.bincount(instances.ravel(), minlength=len(kept) + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    number = np.zeros(len(kept) + 1, np.uint8)
    number[1 + order] = np.arange(1, len(kept) + 1)
    instances = number[instances]
    measures = measure_nodes(instances, scan.spacing)
    nodes = tuple(
        DrawnNode(
            node.number, kept[at][1].metastatic, kept[at][0], node.volume_mm3, node.short_axis_mm, node.long_axis_mm, kept[at][1]
        )
        for node, at in zip(measures, order.tolist(), strict=True)
    )
    return nodes, instances
