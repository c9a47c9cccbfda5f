"""One self-contained page of HTML: sections, tables and pictures in, text out. Nothing in it asks for anything outside it."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lnauto import __version__

# Whatever gets into the page, the browser loads nothing and sends nothing.
INLINE = "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
POLICY = f"default-src 'none'; {INLINE}; base-uri 'none'; form-action 'none'"
NOTHING = "&ndash;"

Value = str | float | int | None


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and a place in its menu; `body` is HTML."""

    anchor: str
    title: str
    body: str


@dataclass(frozen=True)
class Column:
    """Of a table: its heading, how numbers are written, and what is shown when a reader points at it."""

    title: str
    format: str = ""  # of numbers, such as ".1f"; empty: the column holds words
    how: str = ""


@dataclass(frozen=True)
class Html:
    """What is HTML already, in a cell; it sorts by `key`."""

    text: str
    key: Value = None


def escape(text: object) -> str:
    """Text as text, whatever is in it."""
    return html.escape(str(text), quote=True)


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[Value | Html]], identifier: str, filtered: bool = False, caption: str = ""
) -> str:
    """A table that its reader may sort and, with `filtered`, search; None is a dash and sorts last."""
    heads = "".join(_head(column) for column in columns)
    lines = "".join(
        f"<tr>{''.join(_cell(column, value) for column, value in zip(columns, row, strict=True))}</tr>" for row in rows
    )
    search = f'<label class="search">Search <input type="search" data-table="{escape(identifier)}"></label>' if filtered else ""
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'{search}<div class="scroll"><table id="{escape(identifier)}" class="sortable">{told}'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _head(column: Column) -> str:
    told = f' title="{escape(column.how)}"' if column.how else ""
    kind = ' class="number"' if column.format else ""
    return f'<th scope="col"{kind}><button type="button"{told}>{escape(column.title)}</button></th>'


def _cell(column: Column, value: Value | Html) -> str:
    if isinstance(value, Html):
        return f'<td data-key="{escape("" if value.key is None else value.key)}">{value.text}</td>'
    kind = ' class="number"' if column.format else ""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return f'<td{kind} data-key="">{NOTHING}</td>'
    if column.format and not isinstance(value, str):
        return f'<td{kind} data-key="{value!r}">{value:{column.format}}</td>'
    return f'<td data-key="{escape(value)}">{escape(value)}</td>'


def facts(pairs: Mapping[str, object]) -> str:
    """A list of what is what."""
    return (
        "<dl class=facts>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs.items()) + "</dl>"
    )


def picture(content: bytes, kind: str, told: str) -> str:
    """An image inside the page; `kind` is that of its file, such as `webp`."""
    coded = base64.b64encode(content).decode()
    return f'<img alt="{escape(told)}" src="data:image/{kind};base64,{coded}">'


def figure(svg: str, caption: str) -> str:
    """A drawing, as SVG, with its caption."""
    return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{escape(caption)}</figcaption></figure>"


def embedded(identifier: str, value: Any) -> str:
    """Data for the page's own script; no text in it can end the script."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return f'<script type="application/json" id="{escape(identifier)}">{text}</script>'


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page; `lead` is HTML and stands under the title."""
    menu = "".join(f'<a href="#{escape(section.anchor)}">{escape(section.title)}</a>' for section in sections)
    bodies = "".join(
        f'<section id="{escape(section.anchor)}"><h2>{escape(section.title)}</h2>{section.body}</section>' for section in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><link rel=icon href=data:,><style>{_asset('page.css')}</style></head><body>"
        f'<a class="skip" href="#content">To the content</a><header><h1>{escape(title)}</h1>{lead}<nav>{menu}</nav></header>'
        f'<main id="content">{bodies}</main>'
        f"<footer>Made by lnauto {escape(__version__)}. Not a medical device; for research.</footer>"
        f"<script>{_asset('page.js')}</script></body></html>"
    )


@cache
def _asset(name: str) -> str:
    return (files("lnauto.report") / "assets" / name).read_text(encoding="utf-8")
