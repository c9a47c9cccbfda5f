"""For a paper: every table of a page as CSV and LaTeX, every drawing as SVG, PNG and the numbers that are drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from itertools import count
from pathlib import Path

from lnauto import __version__
from lnauto.files import csv_text, replacing, write_text
from lnauto.report.drawing import Drawing
from lnauto.report.page import Page
from lnauto.report.tables import Cell, Column, Html, Interval, Record, Table, Value, is_missing, joined, plain_cell

PAPER, TABLES, FIGURES = "paper", "tables", "figures"
LONG_TABLE = 40  # rows, from which a table may run over pages
LONG_TEXT = 40  # characters, from which a column breaks lines
SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",  # these three are other signs in LaTeX's oldest fonts
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # what stands first in a row would be read as an option of the line end before it
    "]": "{]}",
    "*": "{*}",
    '"': "{''}",
    "\N{EN DASH}": "--",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
    "\N{SUPERSCRIPT THREE}": "$^3$",
}


def write_paper(page: Page, folder: Path) -> None:
    """The files of a page; those that are there are replaced one by one, and others left alone."""
    for name, table in _tables(page).items():
        write_text(folder / TABLES / f"{name}.csv", csv_of(table.records(), table.headings()))
        write_text(folder / TABLES / f"{name}.tex", latex_of(table, name))
    for name, drawing in _drawings(page).items():
        write_text(folder / FIGURES / f"{name}.svg", drawing.svg_file())
        with replacing(folder / FIGURES / f"{name}.png") as temporary:
            drawing.save_png(temporary)
        write_text(folder / FIGURES / f"{name}.csv", csv_of(drawing.numbers))


def _tables(page: Page) -> dict[str, Table]:
    """By the name of their files; those of cases are put together."""
    found: dict[str, list[Table]] = {}
    for table in page.tables:
        name = file_name(table.name or table.identifier)
        found.setdefault(name if table.case is not None else _free(name, found), []).append(table)
    return {name: joined(parts) for name, parts in found.items()}


def _drawings(page: Page) -> dict[str, Drawing]:
    found: dict[str, Drawing] = {}
    for drawing in page.drawings:
        found[_free(file_name(drawing.name), found)] = drawing
    return found


def _free(name: str, taken: Container[str]) -> str:
    """The name, with a number where another has it."""
    names = (f"{name}-{number}" if number > 1 else name for number in count(1))
    return next(one for one in names if one not in taken)


def file_name(text: str) -> str:
    """Letters, digits and hyphens of it, with which every system and LaTeX can do."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "untitled"


def csv_of(records: Sequence[Record], headings: Sequence[str] = ()) -> str:
    """Numbers in full; `headings` where there is no record."""
    names = list(dict.fromkeys(name for record in records for name in record)) or list(headings)
    return csv_text([names, *([_plain(record.get(name)) for name in names] for record in records)])


def _plain(value: Value) -> str:
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return ""
    return str(value) if isinstance(value, int) else repr(float(value))


def latex_of(table: Table, name: str) -> str:
    """A table with rules of booktabs, its numbers as the page shows them."""
    columns = table.columns
    rows = [[_latex_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in table.rows]
    kinds = "".join(_kind(column, [row[place] for row in rows]) for place, column in enumerate(columns))
    long = len(rows) > LONG_TABLE
    heads = [_line([latex_text(column.title) for column in columns]), r"\midrule"]
    caption = rf"\caption{{{latex_text(' '.join([_sentence(table.caption), *table.notes]))}}}"
    label = rf"\label{{tab:{name}}}"
    body = [_line(row) for row in rows]
    lines = [
        rf"% needs \usepackage{{booktabs{',longtable' if long else ''}}}",
        f"% made by lnauto {__version__}",
        *(f"% {' '.join(f'{column.title}: {column.how}'.split())}" for column in columns if column.how),
    ]
    if long:
        again = [r"\toprule", *heads, r"\endhead"]
        lines += [rf"\begin{{longtable}}{{{kinds}}}", f"{caption}{label}" r"\\", r"\toprule", *heads, r"\endfirsthead", *again]
        lines += [r"\bottomrule", r"\endfoot", *body, r"\end{longtable}"]
    else:
        lines += [r"\begin{table}", r"\centering", caption, label, rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", *heads]
        lines += [*body, r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """Text as text for LaTeX, on one line. Two hyphens would become a dash."""
    return re.sub("(-)(?=-)|.", lambda found: "-{}" if found[1] else SPECIAL.get(found[0], found[0]), " ".join(text.split()))


def _sentence(text: str) -> str:
    return text if not text or text.endswith(".") else f"{text}."


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _kind(column: Column, cells: Sequence[str]) -> str:
    if column.format:
        return "r"
    return r"p{0.3\linewidth}" if any(len(cell) > LONG_TEXT for cell in cells) else "l"


def _latex_cell(column: Column, value: Cell) -> str:
    if isinstance(value, Interval):
        return _latex_interval(value)
    if is_missing(value):
        return "--"
    text = latex_text(plain_cell(column, value))
    return text if isinstance(value.key if isinstance(value, Html) else value, str) else _signed(text)


def _latex_interval(value: Interval) -> str:
    if value.value is None:
        return "--"
    shown = _signed(f"{value.value:{value.form}}")
    if value.ends is None:
        return shown
    low, high = map(_signed, value.ends)
    plain = value.ends[0][0].isdigit() and value.ends[1][0].isdigit()  # a dash beside a sign would be read as one
    return f"{shown} ({low}--{high})" if plain else f"{shown} ({low} to {high})"


def _signed(number: str) -> str:
    return number.replace("-", "$-$")
