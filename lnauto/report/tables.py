"""Tables as values: composed once, then written as HTML for the page, or as numbers and LaTeX for a paper (`paper.py`)."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

NOTHING = "&ndash;"
TAG = re.compile(r"<[^>]*>")

Value = str | float | int | None


def escape(text: object) -> str:
    """Text as text, whatever is in it."""
    return html.escape(str(text), quote=True)


@dataclass(frozen=True)
class Column:
    """Of a table: its heading, how numbers are written, and what is shown when a reader points at it."""

    title: str
    format: str = ""  # of numbers, such as ".1f"; empty: the column holds words
    how: str = ""
    name: str = ""  # in a file of numbers; empty: made of the title

    @property
    def heading(self) -> str:
        return self.name or re.sub(r"\W+", "_", self.title.lower()).strip("_") or "column"


@dataclass(frozen=True)
class Html:
    """What is HTML already, in a cell: a link, a button. It sorts by `key`, which is also what a file of numbers holds."""

    text: str
    key: Value = None

    def html(self) -> str:
        return self.text

    def plain(self) -> str:
        return html.unescape(TAG.sub("", self.text))

    def parts(self) -> dict[str, Value]:
        return {"": self.key}


@dataclass(frozen=True)
class Interval:
    """A figure with its interval beside it; sorts by the figure."""

    value: float | None
    low: float | None = None
    high: float | None = None
    form: str = ".2f"

    @property
    def key(self) -> Value:
        return self.value

    def html(self) -> str:
        if self.value is None:
            return NOTHING
        between = "" if self.ends is None else f" <span class=quiet>({self.ends[0]} to {self.ends[1]})</span>"
        return f"<span class=figure>{self.value:{self.form}}{between}</span>"

    def plain(self) -> str | None:
        """`0.71 (0.66 to 0.75)`, as far as they exist."""
        if self.value is None:
            return None
        between = "" if self.ends is None else f" ({self.ends[0]} to {self.ends[1]})"
        return f"{self.value:{self.form}}{between}"

    @property
    def ends(self) -> tuple[str, str] | None:
        """The interval as it is shown."""
        return None if self.low is None or self.high is None else (f"{self.low:{self.form}}", f"{self.high:{self.form}}")

    def parts(self) -> dict[str, Value]:
        return {"": self.value, "_low": self.low, "_high": self.high}


@dataclass(frozen=True)
class Share:
    """So many of so many; sorts by the share."""

    part: int
    whole: int

    @property
    def key(self) -> Value:
        return self.part / self.whole if self.whole else None

    def html(self) -> str:
        return f"<span class=figure>{self.plain()}</span>"

    def plain(self) -> str:
        return f"{self.part} of {self.whole}"

    def parts(self) -> dict[str, Value]:
        return {"": self.part, "_of": self.whole}


@dataclass(frozen=True)
class Place:
    """A point in the world, in mm."""

    x: float
    y: float
    z: float

    @property
    def key(self) -> Value:
        return self.plain()

    def html(self) -> str:
        return self.plain()

    def plain(self) -> str:
        return f"{self.x:.0f}, {self.y:.0f}, {self.z:.0f}"

    def parts(self) -> dict[str, Value]:
        return {"_x": self.x, "_y": self.y, "_z": self.z}


Cell = Value | Html | Interval | Share | Place
Record = Mapping[str, Value]  # a line of a file of numbers


@dataclass(frozen=True)
class Table:
    """A table that its reader may sort and, with `filtered`, search; None is a dash and sorts last."""

    identifier: str  # in the page
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""  # headings stand for it in the page, which reads it aloud alone; a paper shows it
    name: str = ""  # of its files; empty: the identifier
    case: str | None = None  # whose it is: such tables of one name are one file, with a column for the case
    notes: Sequence[str] = ()  # how its figures were taken
    filtered: bool = False

    def html(self) -> str:
        identifier = escape(self.identifier)
        heads = "".join(_head(column) for column in self.columns)
        lines = "".join(
            f"<tr>{''.join(_cell(column, value) for column, value in zip(self.columns, row, strict=True))}</tr>"
            for row in self.rows
        )
        search = f'<label class="search">Search <input type="search" data-table="{identifier}"></label>' if self.filtered else ""
        told = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        notes = "".join(f"<p class=quiet>{escape(note)}</p>" for note in self.notes)
        return (
            f'{search}<div class="scroll"><table id="{identifier}" class="sortable">{told}'
            f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>{notes}"
        )

    def headings(self) -> list[str]:
        """Of the columns in a file of numbers; none stands there twice."""
        given: list[str] = []
        for column in self.columns:
            name, number = column.heading, 2
            while name in given:
                name, number = f"{column.heading}_{number}", number + 1
            given.append(name)
        return given

    def records(self) -> list[Record]:
        """The rows as numbers: an interval's ends, and what a share is of, in columns of their own."""
        cells = [[_parts(value) for value in row] for row in self.rows]
        columns = [
            (heading, dict.fromkeys(end for row in cells for end in row[place])) for place, heading in enumerate(self.headings())
        ]
        return [
            {
                f"{heading}{end}": parts.get(end)
                for parts, (heading, ends) in zip(row, columns, strict=True)
                for end in ends
                if end or "_x" not in ends  # where a place is missing there is none in one column either
            }
            for row in cells
        ]


def joined(tables: Sequence[Table]) -> Table:
    """Tables of one name as one: those of cases below each other, each row beginning with its case."""
    first = tables[0]
    if first.case is None:
        return first
    headings = [table.headings() for table in tables]
    columns = dict(pair for table, names in zip(tables, headings, strict=True) for pair in zip(names, table.columns, strict=True))
    rows: list[list[Cell]] = []
    for table, names in zip(tables, headings, strict=True):
        for row in table.rows:
            known = dict(zip(names, row, strict=True))
            rows.append([table.case, *(known.get(name) for name in columns)])
    return replace(first, columns=[Column("case"), *columns.values()], rows=rows, case=None)


def is_missing(value: Cell) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain_cell(column: Column, value: Cell) -> str:
    """As the page shows what is neither missing nor an interval, without its HTML."""
    if isinstance(value, Html | Share | Place):
        return value.plain()
    return f"{value:{column.format}}" if column.format and not isinstance(value, str) else str(value)


def _parts(value: Cell) -> dict[str, Value]:
    return value.parts() if isinstance(value, Html | Interval | Share | Place) else {"": value}


def _head(column: Column) -> str:
    told = f' title="{escape(column.how)}"' if column.how else ""
    kind = ' class="number"' if column.format else ""
    return f'<th scope="col"{kind}><button type="button"{told}>{escape(column.title)}</button></th>'


def _cell(column: Column, value: Cell) -> str:
    if isinstance(value, Html | Interval | Share | Place):
        return f'<td data-key="{escape("" if value.key is None else value.key)}">{value.html()}</td>'
    kind = ' class="number"' if column.format else ""
    if is_missing(value):
        return f'<td{kind} data-key="">{NOTHING}</td>'
    if column.format and not isinstance(value, str):
        return f'<td{kind} data-key="{value!r}">{value:{column.format}}</td>'
    return f'<td data-key="{escape(value)}">{escape(value)}</td>'
