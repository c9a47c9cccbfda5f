"""What a checklist is, for the modules that list its items, and for the one that fills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FOUND, YOURS, NOT_APPLICABLE = "found", "yours", "not applicable"
STATUS = {FOUND: "found", YOURS: "yours to fill", NOT_APPLICABLE: "not applicable"}  # as a reader sees it


@dataclass(frozen=True)
class Item:
    """One item; `topic` is in lnauto's words, never the checklist's.

    Args:
        yours: what its authors write where nothing is found.
        find: which finders answer it, by their names; each that knows something gives a sentence or two.
        rest: what its authors write beside what was found; empty if that is all.
        needs: what the model must have for the item to apply, by its name in `fill.NEEDS`.
    """

    number: str
    section: str
    topic: str
    yours: str
    find: tuple[str, ...] = ()
    rest: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Checklist:
    """All items of one checklist, and where the real one is."""

    name: str
    file: str
    source: str
    note: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Filled:
    """An item with what the run says to it, or what is to be written, or why it does not apply."""

    item: Item
    status: str
    text: str

    @property
    def rest(self) -> str:
        return self.item.rest if self.status == FOUND else ""

    def to_json(self) -> dict[str, Any]:
        item = self.item
        return {
            "number": item.number,
            "section": item.section,
            "topic": item.topic,
            "status": self.status,
            "text": self.text,
            "rest": self.rest,
        }
