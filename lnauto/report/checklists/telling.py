"""How finders write numbers, and the register in which they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lnauto.report.checklists.run import Run
from lnauto.report.figures import with_interval

Finder = Callable[[Run], "str | None"]

FINDERS: dict[str, Finder] = {}


def finder(function: Finder) -> Finder:
    """Known to the items by its name."""
    FINDERS[function.__name__] = function
    return function


def told(estimate: Mapping[str, Any] | None, form: str = ".2f") -> str | None:
    """A figure with its interval, as far as they exist."""
    return with_interval(estimate, form).plain()


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def times(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def several(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(values: Iterable[object]) -> str:
    """Without repetitions, in their order."""
    return ", ".join(dict.fromkeys(str(value) for value in values))


def by_fold(values: Mapping[str, str]) -> str:
    """`fold 0: a; fold 1: b`, or the value alone where all folds have the same."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return "; ".join(f"fold {fold}: {value}" for fold, value in values.items())


def sentences(parts: Sequence[str | None]) -> str | None:
    """Those that there are, each begun as a sentence is and ended by a full stop."""
    known = [part for part in parts if part]
    return " ".join(f"{part[0].upper()}{part[1:].rstrip('.')}." for part in known) or None
