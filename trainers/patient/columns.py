"""Clinical columns as numbers: standardised, one-hot, and missing as a state of its own.

What is missing takes a neutral value, the average of the training patients who have an entry, so that it speaks neither for nor
against metastasis, and above all is not read as "negative"; an indicator beside it learns whether missing means something. Where
no training patient lacked an entry there is nothing to learn of it, and no indicator. Everything is learned from the training
patients only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lnauto.data.clinical_values import is_text

FEWEST = 5  # training patients with a value, or without one: a weight for fewer would rest on chance [our choice]
FURTHEST = 4.0  # standard deviations from the mean that a number may speak for: far slips of a decimal point [our choice]
OTHER = "(other)"
NAMES = frozenset({"id", "patient_id", "patientid", "pid", "case_id", "caseid", "mrn", "name", "index", "unnamed: 0"})


@dataclass(frozen=True)
class Column:
    """How one clinical column becomes numbers."""

    name: str
    kind: str  # "number" or "category"
    mean: float = 0.0
    deviation: float = 1.0
    levels: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()  # of the levels, among the training patients with an entry
    indicator: bool = False  # whether missing has a number of its own

    @classmethod
    def of_numbers(cls, values: pd.Series) -> Column | str:
        """Learned from the training patients' entries, or why it cannot be."""
        known = values.dropna()
        if known.empty:
            return "no training patient has an entry"
        if known.nunique() == 1:
            return f"it is {known.iloc[0]:g} of every training patient who has an entry"
        return cls(
            str(values.name),
            "number",
            mean=float(known.mean()),
            deviation=float(known.std(ddof=0)),
            indicator=_often_missing(values),
        )

    @classmethod
    def of_categories(cls, values: pd.Series) -> Column | str:
        """The same of text. Rare categories are one, "(other)", where they have enough patients together."""
        known = plain(values).dropna()
        if known.empty:
            return "no training patient has an entry"
        if known.nunique() == 1:
            return f'it is "{known.iloc[0]}" of every training patient who has an entry'
        counts = known.value_counts()
        levels = {str(level): int(count) for level, count in sorted(counts.items()) if count >= FEWEST}
        if not levels:
            return f"no entry is shared by {FEWEST} training patients"
        if (rest := len(known) - sum(levels.values())) >= FEWEST:
            levels[OTHER] = rest
        if len(levels) == 1:
            return f'fewer than {FEWEST} training patients have another entry than "{next(iter(levels))}"'
        shares = tuple(count / len(known) for count in levels.values())
        return cls(str(values.name), "category", levels=tuple(levels), shares=shares, indicator=_often_missing(values))

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Column:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
        return cls(**values)

    @property
    def features(self) -> tuple[str, ...]:
        """What its numbers are called."""
        own = (self.name,) if self.kind == "number" else tuple(f"{self.name}: {level}" for level in self.levels)
        return (*own, f"{self.name} missing") if self.indicator else own

    def encode(self, values: pd.Series) -> NDArray[np.float64]:
        """Patients x features; 0 is the average training patient with an entry."""
        missing = values.isna().to_numpy()
        if self.kind == "number":
            known = ((values.astype(float) - self.mean) / self.deviation).clip(-FURTHEST, FURTHEST).to_numpy()[:, None]
        else:
            entries = self._levels_of(values)
            known = np.stack([(entries == level).to_numpy(float) for level in self.levels], axis=1) - self.shares
            known[~entries.isin(self.levels).to_numpy()] = 0.0
        neutral = np.where(missing[:, None], 0.0, known)
        return np.concatenate([neutral, missing[:, None]], axis=1) if self.indicator else neutral

    def unseen(self, values: pd.Series) -> pd.Series:
        """Whether an entry is a category that the training patients did not have, or hardly."""
        if self.kind == "number":
            return pd.Series(False, index=values.index)
        return values.notna() & ~plain(values).isin(self.levels)

    def _levels_of(self, values: pd.Series) -> pd.Series:
        entries = plain(values)
        return entries.mask(self.unseen(values), OTHER) if OTHER in self.levels else entries

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def learn_columns(rows: pd.DataFrame, names: Sequence[str]) -> tuple[tuple[Column, ...], dict[str, str]]:
    """The columns of the training patients' `rows` that can be learned from, by name, and why others cannot."""
    columns, dropped = list[Column](), dict[str, str]()
    for name in sorted(names):
        found = learn_column(rows[name])
        if isinstance(found, Column):
            columns.append(found)
        else:
            dropped[name] = found
    return tuple(columns), dropped


def learn_column(values: pd.Series) -> Column | str:
    if str(values.name).casefold() in NAMES:
        return "its name says that it names patients"
    return Column.of_categories(values) if is_text(values) else Column.of_numbers(values)


def _often_missing(values: pd.Series) -> bool:
    """Whether enough training patients lack an entry, and enough have one, to learn what it means."""
    missing = int(values.isna().sum())
    return FEWEST <= missing <= len(values) - FEWEST


def encode(columns: Sequence[Column], rows: pd.DataFrame) -> NDArray[np.float64]:
    parts = [column.encode(rows[column.name]) for column in columns]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(rows), 0))


def plain(values: pd.Series) -> pd.Series:
    """Categories in one spelling: capitals do not count, and a number is written as short as it can be."""
    return values.map(_plain, na_action="ignore").astype(object)


def _plain(entry: Any) -> str:
    text = str(entry).strip().casefold()
    try:
        return f"{float(text):g}"
    except ValueError:
        return text
