"""The page at the end of the demo: what was made, how good it is beside a threshold, pictures, and the pages that tell more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lnauto.report.figures import columns_of, names_of, with_interval
from lnauto.report.page import Page, Section, facts, picture
from lnauto.report.tables import Column, Table, escape


@dataclass(frozen=True)
class Link:
    """Another page, by its place beside this one."""

    to: str
    title: str
    told: str


def demo_page(figures: Mapping[str, Any], links: Sequence[Link], pictures: Mapping[str, bytes]) -> Page:
    """The page; `pictures` are PNGs of the test cases, by their names."""
    names = names_of(list(figures["rows"][0]["figures"]))
    columns = [Column("on the test cases", name="method"), *columns_of(names)]
    rows = [[row["of"], *(with_interval(row["figures"].get(name)) for name in names)] for row in figures["rows"]]
    table = Table("test-cases", columns, rows, "The demo's test cases", notes=figures["notes"])
    pages = "".join(
        f"<dt><a href='{escape(link.to)}'>{escape(link.title)}</a></dt><dd>{escape(link.told)}</dd>" for link in links
    )
    shown = "".join(
        f"<figure>{picture(content, 'png', f'{name}: slices with what was drawn and what was predicted')}</figure>"
        for name, content in pictures.items()
    )
    sections = [
        Section("figures", "How good it is", [table]),
        Section("pages", "Pages to look at", f"<dl class=facts>{pages}</dl>"),
        Section("pictures", "The test cases", f'<div class="pair">{shown}</div>'),
        Section("made-by", "How this was made", facts(figures["made_by"])),
    ]
    return Page(figures["title"], f"<p>{escape(figures['lead'])}</p>", sections)
