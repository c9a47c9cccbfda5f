"""Filled checklists as Markdown, for a manuscript's supplement, and as a section of the page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lnauto import __version__
from lnauto.report.checklists.item import STATUS, Checklist, Filled
from lnauto.report.page import Piece
from lnauto.report.tables import Cell, Column, Html, Table, escape

COLUMNS = ("item", "topic, in lnauto's words", "status", "what the run knows, or what is to be written")
DRAFT = (
    "A draft. Topics are in lnauto's words: read each item in the source, by its number. *Found* is what the model's own files"
    " say, and *to add* what they cannot say. *Yours to fill* is known to nobody but you. Check every line before you hand it in."
)
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$])")  # also $: many viewers take it for a formula


def to_json(checklist: Checklist, filled: Sequence[Filled]) -> dict[str, Any]:
    """What `report.json` holds and the page shows."""
    return {
        "name": checklist.name,
        "source": checklist.source,
        "note": checklist.note,
        "items": [one.to_json() for one in filled],
    }


def counted(items: Sequence[Mapping[str, Any]]) -> str:
    """`12 found, 20 yours to fill, 4 not applicable`."""
    counts = Counter(item["status"] for item in items)
    return ", ".join(f"{counts[status]} {told}" for status, told in STATUS.items() if counts[status])


def markdown(content: Mapping[str, Any]) -> str:
    """A checklist's file; a table for each of its sections."""
    items = content["items"]
    parts = [
        f"# {content['name']}: draft",
        f"Written by lnauto {__version__}. Source: {_plain(content['source'])}. {_plain(content['note'])}",
        DRAFT,
        f"Of {len(items)} items: {counted(items)}.",
    ]
    for section in dict.fromkeys(item["section"] for item in items):
        rows = [_row(item) for item in items if item["section"] == section]
        lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
        parts += [f"## {_plain(section)}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(parts) + "\n"


def _row(item: Mapping[str, Any]) -> list[str]:
    rest = f" *To add:* {_plain(item['rest'])}." if item["rest"] else ""
    return [item["number"], _plain(item["topic"]), STATUS[item["status"]], _plain(item["text"]) + rest]


def _plain(text: str) -> str:
    """Text as text in a cell of Markdown, whatever is in it."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()).replace("&", "&amp;"))


def section(checklists: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """The page's section: a table for each checklist, closed at first."""
    lead = "<p>Drafts, also as Markdown beside this page. Topics are in lnauto's words; each item itself is in the source.</p>"
    return [lead, *(piece for content in checklists for piece in _details(content))]


def _details(content: Mapping[str, Any]) -> list[Piece]:
    items, name = content["items"], content["name"]
    summary = f"<summary><h3>{escape(name)}</h3><span class=quiet>{escape(counted(items))}</span></summary>"
    notes = f"<p class=quiet>Source: {escape(content['source'])}. {escape(content['note'])}</p>"
    rows = [_line(item) for item in items]
    table = Table(f"checklist-{anchor(name)}", [Column(title) for title in COLUMNS], rows)
    return [f'<details class="case">{summary}<div class="inside">{notes}', table, "</div></details>"]


def anchor(name: str) -> str:
    """`tripod-ai` of `TRIPOD+AI`."""
    return re.sub(r"[^a-z]+", "-", name.lower()).strip("-")


def _line(item: Mapping[str, Any]) -> list[Cell]:
    rest = f" <span class=quiet>To add: {escape(item['rest'])}.</span>" if item["rest"] else ""
    told = f"{item['text']} To add: {item['rest']}." if item["rest"] else item["text"]
    text = Html(escape(item["text"]) + rest, told)
    return [item["number"], item["topic"], STATUS[item["status"]], text]
