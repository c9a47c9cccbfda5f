"""What tests of pages share: a scan with two nodes, a reader of HTML, and the pictures in it."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lnauto.report.slices import Detail, Window

NASTY = "<img src=x onerror=alert(1)>"
GREY = Window("whole range", 0, 100)
ALL = Detail(40, 40, 320, "webp")


class Reader(HTMLParser):
    """Tags with their attributes, the cells of tables, and what is written in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.data: dict[str, Any] = {}
        self._table, self._script, self._cell = "", "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self._table = attributes.get("id") or ""
            self.rows[self._table] = []
        elif tag == "tr" and self._table:
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self._cell = True
            self.rows[self._table][-1].append("")
        elif tag == "script" and attributes.get("type") == "application/json":
            self._script = attributes["id"] or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        elif tag == "script":
            self._script = ""

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[self._table][-1][-1] += data
        elif self._script:
            self.data[self._script] = json.loads(data)


def scan() -> tuple[np.ndarray, np.ndarray]:
    """Two nodes, one of three slices and one of seven, in an image that counts its voxels' z."""
    instances = np.zeros((20, 30, 40), np.int32)
    instances[4:7, 5:9, 6:10] = 1
    instances[10:17, 20:26, 30:37] = 2
    image = np.broadcast_to(np.arange(20.0)[:, None, None] * 5, instances.shape).copy()
    return image, instances


def pictured(coded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))))


def typeset_rows(path: Path) -> list[list[str]]:
    """The cells of a LaTeX table, its heading first, as a reader of the paper sees them; fails where LaTeX would."""
    text = path.read_text(encoding="utf-8")
    assert re.match(r"% needs \\usepackage\{booktabs(,longtable)?\}\n", text)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#]", text)
    depth = 0
    for sign in re.sub(r"\\[{}]", "", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    opened = [name for word, name in environments if word == "begin"]
    assert [name for word, name in environments if word == "end"] == opened[::-1]
    assert len(re.findall(r"(?<!\\)\\(?:caption|label)\{", text)) == 2
    kinds = re.search(rf"\\begin\{{{opened[-1]}\}}\{{((?:[lr]|p\{{0\.3\\linewidth\}})+)\}}", text)
    assert kinds is not None
    rows = []
    for line in text.split("\\midrule")[0].splitlines()[-1:] + text.split("\\midrule")[-1].splitlines():
        if not line.endswith(r"\\"):
            continue
        assert not line.startswith(("[", "*"))  # LaTeX would take it for an option of the line end before
        rows.append([_typeset(cell) for cell in re.split(r" (?<!\\)& ", line[:-2].rstrip())])
        assert len(rows[-1]) == len(re.sub(r"p\{[^}]*\}", "p", kinds[1]))
    return rows


def _typeset(cell: str) -> str:
    """What LaTeX makes of it. A sign that it does not know as text is a fault."""
    assert not re.search(r"(?<!\\)[_&~^<>|\"]", re.sub(r"\$\^\d\$", "", cell)), cell
    words = {"textasciitilde": "~", "textasciicircum": "^", "textbackslash": "\\", "textless": "<", "textgreater": ">"}
    for word, sign in {**words, "textbar": "|"}.items():
        cell = cell.replace(f"\\{word}{{}}", sign)
    for known, sign in (
        ("--", "\N{EN DASH}"),
        ("-{}", "-"),
        ("$-$", "-"),
        ("$^2$", "\N{SUPERSCRIPT TWO}"),
        ("$^3$", "\N{SUPERSCRIPT THREE}"),
        (r"$\times$", "\N{MULTIPLICATION SIGN}"),
        (r"$\leq$", "\N{LESS-THAN OR EQUAL TO}"),
        (r"$\geq$", "\N{GREATER-THAN OR EQUAL TO}"),
        (r"$\rightarrow$", "\N{RIGHTWARDS ARROW}"),
        ("{[}", "["),
        ("{]}", "]"),
        ("{*}", "*"),
        ("{''}", '"'),
    ):
        cell = cell.replace(known, sign)
    return re.sub(r"\\([&%$#_{}])", r"\1", cell)
