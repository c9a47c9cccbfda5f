"""Figures over all folds, which hold for the folds they were made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def is_of_these(pooled: Path, folds: Iterable[Path]) -> bool:
    """Whether a table over all folds holds every row of the folds' own: one that was trained again since has others."""
    there = _rows(pooled)
    return bool(there) and all(_rows(fold) <= there for fold in folds)


def _rows(table: Path) -> set[str]:
    return set(table.read_text(encoding="utf-8").splitlines()) if table.is_file() else set()
