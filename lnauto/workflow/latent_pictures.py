"""What an autoencoder's head keeps of a node, drawn for the held-out patients it suspects most."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnauto.report.latent_picture import draw_traversal
from lnauto.workflow.head_files import HeadModel, PatientReading

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag import Bag
    from lnauto.trainers.patient.head import Member

log = logging.getLogger(__name__)

MOST = 3  # patients
UNFIT = r'[/\\:*?"<>|%\x00-\x1f]'  # for a file's name, on some system or other


def draw_latents(model: HeadModel, bags: Sequence[Bag], readings: Sequence[PatientReading], folder: Path) -> None:
    """`latents_PATIENT.png` of the patients with the highest probability; in each the node with the highest is shown."""
    for earlier in folder.glob("latents_*.png"):  # of a head that was trained before, and of other patients
        earlier.unlink()
    with_nodes = [(bag, reading) for bag, reading in zip(bags, readings, strict=True) if len(bag)]
    shown = sorted(with_nodes, key=lambda one: (-one[1].probability, one[0].patient))[:MOST]
    for bag, reading in shown:
        top = int(reading.node_probabilities.argmax())
        chance = float(reading.node_probabilities[top])
        member = _nearest(model.heads[0].members, bag, top, chance)
        name = re.sub(UNFIT, lambda found: f"%{ord(found[0]):02X}", bag.patient)
        draw_traversal(member, bag, folder / f"latents_{name}.png", top, reading.probability)
    if shown:
        log.info("Of the most suspicious held-out patients, latents_*.png in %s shows what the head looks at.", folder)


def _nearest(members: Sequence[Member], bag: Bag, node: int, chance: float) -> Member:
    """The network that says of this node what all together say: each has latents of its own, so one has to stand for them."""
    logits = np.array([member.read([bag])[0].instance_logits[node] for member in members])
    return members[int(np.abs(1 / (1 + np.exp(-logits)) - chance).argmin())]
