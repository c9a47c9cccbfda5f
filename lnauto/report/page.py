"""One self-contained page of HTML: sections, tables and pictures in, text out. Nothing in it asks for anything outside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lnauto import __version__
from lnauto.report.drawing import Drawing
from lnauto.report.tables import Table, escape

# Whatever gets into the page, the browser loads nothing and sends nothing.
INLINE = "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
POLICY = f"default-src 'none'; {INLINE}; base-uri 'none'; form-action 'none'"

Piece = str | Table | Drawing  # of a page: HTML, or what knows how it looks there


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and a place in its menu."""

    anchor: str
    title: str
    body: str | Sequence[Piece]

    @property
    def pieces(self) -> Sequence[Piece]:
        return [self.body] if isinstance(self.body, str) else self.body


@dataclass(frozen=True)
class Page:
    """What a page shows; `lead` is HTML and stands under the title."""

    title: str
    lead: str
    sections: Sequence[Section]

    @property
    def tables(self) -> list[Table]:
        return [piece for section in self.sections for piece in section.pieces if isinstance(piece, Table)]

    @property
    def drawings(self) -> list[Drawing]:
        return [piece for section in self.sections for piece in section.pieces if isinstance(piece, Drawing)]

    def html(self) -> str:
        """The page as text."""
        title = escape(self.title)
        menu = "".join(f'<a href="#{escape(section.anchor)}">{escape(section.title)}</a>' for section in self.sections)
        bodies = "".join(
            f'<section id="{escape(section.anchor)}"><h2>{escape(section.title)}</h2>{_html(section.pieces)}</section>'
            for section in self.sections
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
            f"<title>{title}</title><link rel=icon href=data:,><style>{_asset('page.css')}</style></head><body>"
            f'<a class="skip" href="#content">To the content</a><header><h1>{title}</h1>{self.lead}<nav>{menu}</nav></header>'
            f'<main id="content">{bodies}</main>'
            f"<footer>Made by lnauto {escape(__version__)}. Not a medical device; for research.</footer>"
            f"<script>{_asset('page.js')}</script></body></html>"
        )


def _html(pieces: Sequence[Piece]) -> str:
    return "".join(piece if isinstance(piece, str) else piece.html() for piece in pieces)


def facts(pairs: Mapping[str, object]) -> str:
    """A list of what is what."""
    return (
        "<dl class=facts>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs.items()) + "</dl>"
    )


def picture(content: bytes, kind: str, told: str) -> str:
    """An image inside the page; `kind` is that of its file, such as `webp`."""
    coded = base64.b64encode(content).decode()
    return f'<img alt="{escape(told)}" src="data:image/{kind};base64,{coded}">'


def embedded(identifier: str, value: Any) -> str:
    """Data for the page's own script; no text in it can end the script."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return f'<script type="application/json" id="{escape(identifier)}">{text}</script>'


@cache
def _asset(name: str) -> str:
    return (files("lnauto.report") / "assets" / name).read_text(encoding="utf-8")
