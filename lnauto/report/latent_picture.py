"""What the VAE-MLP looks at in a patient's most suspicious node: latents, moved one by one and decoded, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnauto.files import replacing
from lnauto.trainers.patient.bag import SHAPES, Bag
from lnauto.trainers.patient.head import Member
from lnauto.trainers.patient.node_vae import ssim
from lnauto.trainers.patient.vae import VAEMLP

DIRECTIONS = 4  # at most
STEPS = (-2, -1, 0, 1, 2)  # deviations over the training patients' crops
LONG_AXIS, SHORT_AXIS = (SHAPES.index(f"{name} axis in mm") for name in ("long", "short"))
OUTLINE, WHITE = "#ffd166", "#ffffff"
PANEL, DPI = 1.55, 100  # inches

CAPTION = """\
Of a node's look the network keeps a few numbers, latents, and nothing else: where the rebuilt node is not like the scanned one,
little of it is in them. Each row moves one latent from -2 to 2 standard deviations of the training nodes; the others stay as in
this node. Rows: those its suspicion is most sensitive to. Per cent: the suspicion then. Bold: nearest to the node as it is.
Right: what becomes brighter (red) or darker (blue). Middle slice; flat grey at an edge is beyond the image. Suspicion rests on
the node's measured form, too, and the patient's probability also on the other nodes and the clinical columns."""

Plane = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Direction:
    """One latent, moved with the others left where they are in this node."""

    latent: int
    effect: float  # on the logit of the node, for one deviation
    own: float  # where the node itself lies, in deviations from the mean
    decoded: tuple[Plane, ...]  # at STEPS
    probabilities: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Traversal:
    """Everything the picture shows; planes are the crop's middle slice, its first channel, intensities in [0, 1]."""

    crop: Plane
    mask: Plane
    rebuilt: Plane
    alike: float  # SSIM of the crop and what was rebuilt of it: how much of the node is in the latents at all
    probability: float
    source: tuple[str, int]
    axes_mm: tuple[float, float]  # long and short
    directions: tuple[Direction, ...]


def traverse(member: Member, bag: Bag, node: int | None = None) -> Traversal:
    """Of one node, by its place in the bag; None: the one this network suspects most. The directions that move its probability
    most come first."""
    network = member.network
    if not isinstance(network, VAEMLP) or not len(bag):
        raise ValueError("a latent traversal needs a network of LNMTrainerVAE and a patient with a node")
    with torch.no_grad():
        output = network(member.reader.batch([bag]))
    top = int(output.instance_logits[0, : len(bag)].argmax()) if node is None else node
    batch = member.reader.batch([bag.take([top])])
    vae = network.vae
    latents = vae.standardised(vae.latents(batch.crops))
    moved = latents.clone().requires_grad_(True)
    (effects,) = torch.autograd.grad(_node_logit(network, moved, batch.shapes).sum(), moved)
    order = effects[0].abs().argsort(descending=True)[:DIRECTIONS].tolist()
    with torch.no_grad():
        scaled, decoded = vae.scaled(batch.crops), vae.decode(_raw(network, latents))
        rebuilt, alike = _planes(decoded)[0], float(ssim(scaled, decoded)[0])
        directions = [_direction(network, latents, batch.shapes, latent, float(effects[0, latent])) for latent in order]
        probability = float(torch.sigmoid(output.instance_logits[0, top]))
        crop, mask = _planes(scaled)[0], _planes(batch.masks)[0]
    long, short = (float(bag.shapes[top, place]) for place in (LONG_AXIS, SHORT_AXIS))
    return Traversal(crop, mask, rebuilt, alike, probability, bag.sources[top], (long, short), tuple(directions))


def _direction(network: VAEMLP, latents: Tensor, shapes: Tensor, latent: int, effect: float) -> Direction:
    along = latents.repeat(len(STEPS), 1)
    along[:, latent] = torch.tensor(STEPS, dtype=along.dtype)
    probabilities = torch.sigmoid(_node_logit(network, along, shapes.expand(len(STEPS), -1)))
    decoded = _planes(network.vae.decode(_raw(network, along)))
    return Direction(latent, effect, float(latents[0, latent]), tuple(decoded), tuple(probabilities.tolist()))


def _node_logit(network: VAEMLP, standardised: Tensor, shapes: Tensor) -> Tensor:
    found: Tensor = network.node(torch.cat([standardised, shapes], dim=1))[:, 0]
    return found


def _raw(network: VAEMLP, standardised: Tensor) -> Tensor:
    return standardised * network.vae.latent_deviation + network.vae.latent_mean


def _planes(crops: Tensor) -> list[Plane]:
    """The middle slice across the shortest axis, of equals the first, which is z."""
    axis = 2 + int(np.argmin(crops.shape[2:]))
    return list(crops[:, 0].select(axis - 1, crops.shape[axis] // 2).numpy())


def draw_traversal(member: Member, bag: Bag, path: Path, node: int | None = None, probability: float | None = None) -> None:
    """One PNG: a node and what the network keeps of it; a row for each of the latents that matter most to it. `node` as in
    `traverse`; `probability`: the patient's, calibrated."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = traverse(member, bag, node)
    rows, columns = max(2, len(found.directions)), len(STEPS) + 2
    figure = Figure(figsize=(PANEL * (columns + 0.9), PANEL * 1.22 * rows + 1.0), dpi=DPI, layout="constrained", facecolor=WHITE)
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, columns, squeeze=False)
    for place in places.ravel():
        place.set_axis_off()
    _grey(places[0, 0], found.crop, "as scanned")
    _grey(places[1, 0], found.rebuilt, f"as rebuilt\nlikeness {found.alike:.2f} of 1")
    if 0 < found.mask.mean() < 1:
        for place in places[:2, 0]:
            place.contour(found.mask, levels=[0.5], colors=OUTLINE, linewidths=1.2)
    largest = max((float(np.abs(_change(one)).max()) for one in found.directions), default=0.0) or 1.0
    for row, direction in zip(places[:, 1:], found.directions, strict=False):
        _draw_direction(row, direction, largest)
    figure.suptitle(_title(found, bag, probability), fontsize=11, parse_math=False)
    figure.supxlabel(CAPTION, fontsize=9, color="#444444")
    with replacing(path) as temporary:
        figure.savefig(temporary, facecolor=WHITE)


def _title(found: Traversal, bag: Bag, probability: float | None) -> str:
    label = {None: "", 0: " (known: no metastasis)", 1: " (known: metastasis)"}[bag.label]
    patient = "" if probability is None else f": probability of metastasis {_per_cent(probability)}"
    case, number = found.source
    long, short = found.axes_mm
    node = f"node {number} of {case}, {long:.0f} x {short:.0f} mm: suspicion {_per_cent(found.probability)}"
    return f"{bag.patient}{patient}{label}\n{node} (one network's, not calibrated)"


def _per_cent(chance: float) -> str:
    if chance < 0.001 or chance > 0.999:
        return "below 0.1 %" if chance < 0.5 else "above 99.9 %"
    return f"{100 * chance:.{1 if min(chance, 1 - chance) < 0.1 else 0}f} %"


def _draw_direction(row: Sequence[Any], direction: Direction, largest: float) -> None:
    nearest = int(np.argmin([abs(step - direction.own) for step in STEPS]))
    for place, (step, plane, probability) in enumerate(zip(STEPS, direction.decoded, direction.probabilities, strict=True)):
        name = f"latent {direction.latent}, {step} sd" if place == 0 else f"{step} sd"
        _grey(row[place], plane, f"{name}\n{_per_cent(probability)}", bold=place == nearest)
    row[len(STEPS)].imshow(_change(direction), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    row[len(STEPS)].set_title(f"change from -2 to 2\n(this node: {round(direction.own, 1) + 0.0:+.1f} sd)", fontsize=8)


def _change(direction: Direction) -> Plane:
    return np.asarray(direction.decoded[-1] - direction.decoded[0])


def _grey(place: Any, plane: Plane, name: str, bold: bool = False) -> None:
    place.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    place.set_title(name, fontsize=8, weight="bold" if bold else "normal")
