"""A checklist filled with what a run knows."""

from __future__ import annotations

from collections.abc import Callable

from lnauto.report.checklists import of_material, of_model, of_results
from lnauto.report.checklists.claim import CLAIM
from lnauto.report.checklists.item import FOUND, NOT_APPLICABLE, YOURS, Checklist, Filled, Item
from lnauto.report.checklists.metrics import METRICS
from lnauto.report.checklists.run import CLINICAL, RADIOMICS, Run
from lnauto.report.checklists.telling import FINDERS
from lnauto.report.checklists.tripod_ai import TRIPOD_AI

CHECKLISTS = (TRIPOD_AI, CLAIM, METRICS)
KNOWN_BY = (of_material, of_model, of_results)  # whose finders are in FINDERS once these are imported

NEEDS: dict[str, tuple[Callable[[Run], bool], str]] = {
    "head": (lambda run: run.has_head, "the model predicts nothing about patients"),
    "network": (lambda run: run.has_network, "the model segments nothing"),
    "images": (lambda run: run.has_images, "the model reads a table alone"),
    "measures": (lambda run: any(head.measures for head in run.heads), "no patient head here reads measures of nodes"),
    "deep": (lambda run: bool(set(run.trainers) - {CLINICAL, RADIOMICS}), "no patient head here is a deep network"),
    "foundation": (lambda run: run.block.get("foundation") is not None, "no earlier model was updated"),
}
"""What an item may need, and why it does not apply without."""


def fill(checklist: Checklist, run: Run) -> list[Filled]:
    """Each item with its status."""
    return [_filled(item, run) for item in checklist.items]


def _filled(item: Item, run: Run) -> Filled:
    if item.needs:
        holds, without = NEEDS[item.needs]
        if not holds(run):
            return Filled(item, NOT_APPLICABLE, without)
    known = [text for name in item.find if (text := FINDERS[name](run))]
    return Filled(item, FOUND, " ".join(known)) if known else Filled(item, YOURS, item.yours)
