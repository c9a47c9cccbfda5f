"""A drawing as a value: a figure of matplotlib, its caption, and the numbers that are drawn."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnauto.report.tables import Record, escape

DPI, PRINTED_DPI = 72, 300  # of the page, where a point is a unit of the drawing, and of pictures for a paper
# Text stays text, which can be searched; names inside do not change from run to run.
SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "lnauto"}
UNTOLD: dict[str, Any] = {"Date": None, "Creator": None}
NUMBERED = re.compile(r'<g id="[^"]*"')
STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)  # it would hold for the whole page


@dataclass(frozen=True, eq=False)
class Drawing:
    """Made once; the page and a paper show the same figure."""

    name: str  # of its files
    figure: Any
    told: str  # for those who cannot see it
    caption: str
    numbers: Sequence[Record]

    def html(self) -> str:
        return f"<figure>{self.svg()}<figcaption>{escape(self.caption)}</figcaption></figure>"

    def svg(self) -> str:
        """The figure as an element of the page."""
        text = self._as_svg({"Format": None, "Type": None})
        text = STYLE.sub("", NUMBERED.sub("<g", text[text.index("<svg") :]))
        label = f'<svg role="img" aria-label="{html.escape(self.told, quote=True)}" style="stroke-linejoin:round" '
        return label + text.removeprefix("<svg ")

    def svg_file(self) -> str:
        """The figure as a file of its own, which tells what it shows."""
        return self._as_svg({"Title": self.told, "Description": self.caption})

    def save_png(self, path: Path) -> None:
        self._save(path, format="png", dpi=PRINTED_DPI, metadata={"Title": self.told, "Description": self.caption})

    def _as_svg(self, told: dict[str, Any]) -> str:
        from matplotlib import rc_context

        file = io.StringIO()
        with rc_context(SETTINGS):
            self._save(file, format="svg", metadata={**UNTOLD, **told})
        return file.getvalue()

    def _save(self, target: Path | io.StringIO, **how: Any) -> None:
        as_written(self.figure)
        self.figure.savefig(target, **how)
        self.figure.set_layout_engine("none")  # all that is written later lies where it lay the first time


def figure_of(size: tuple[float, float]) -> Any:
    """An empty figure that no window belongs to."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def as_written(figure: Any) -> None:
    """A dollar sign in a name of a case, label or column begins no formula: it would be drawn as one, or be none at all."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if "$" in text.get_text():  # ticks have no text before they are drawn, and keep their powers of ten
            text.set_parse_math(False)
