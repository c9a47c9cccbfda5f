"""Filled checklists as Markdown, for a manuscript's supplement, and as a section of the page."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lnauto import __version__
from lnauto.report.checklists.item import STATUS, Checklist, Filled

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


def section(checklists: Sequence[Mapping[str, Any]]) -> str:
    """The page's section: a table for each checklist, closed at first."""
    lead = "<p>Drafts, also as Markdown beside this page. Topics are in lnauto's words; each item itself is in the source.</p>"
    return lead + "".join(_details(content, number) for number, content in enumerate(checklists, start=1))


def _details(content: Mapping[str, Any], number: int) -> str:
    items = content["items"]
    heads = "".join(f'<th scope="col"><button type="button">{_escape(title)}</button></th>' for title in COLUMNS)
    rows = "".join(_line(item, place) for place, item in enumerate(items))
    summary = f"<summary><h3>{_escape(content['name'])}</h3><span class=quiet>{_escape(counted(items))}</span></summary>"
    notes = f"<p class=quiet>Source: {_escape(content['source'])}. {_escape(content['note'])}</p>"
    table = f'<table id="checklist-{number}" class="sortable"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<details class="case">{summary}<div class="inside">{notes}<div class="scroll">{table}</div></div></details>'


def _line(item: Mapping[str, Any], place: int) -> str:
    rest = f" <span class=quiet>To add: {_escape(item['rest'])}.</span>" if item["rest"] else ""
    cells = [(place, item["number"]), (item["topic"], item["topic"])]
    cells += [(STATUS[item["status"]], STATUS[item["status"]])]
    plain = "".join(f'<td data-key="{_escape(key)}">{_escape(text)}</td>' for key, text in cells)
    return f'<tr>{plain}<td data-key="{_escape(item["text"])}">{_escape(item["text"])}{rest}</td></tr>'


def _escape(text: object) -> str:
    return html.escape(str(text), quote=True)
