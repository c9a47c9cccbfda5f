"""What a clinical column holds, and what in it looks like a slip: a word among measurements, a code that stands for missing,
numbers that are written in a way that makes words of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from lnauto.errors import Problem

MEASURED = 10  # different numbers in a column that holds measurements, not codes such as T stages 1, 2, 3, 4a [our choice]
CODES = (-9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0)  # what statistics programs were told to take for missing
FAR = 3.0  # times the range of all other values: so far away a code lies at least [our choice]
SHOWN = 5
WITH_POINT = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
WITH_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")
WITH_UNIT = r"([+-]?[\d.,]*\d)\s*((?:[^\W\d_]|[%°])[^\d]*)"


def as_numbers(present: pd.Series, decimal_comma: bool) -> pd.Series:
    """The entries as numbers, NaN where they are none."""
    written = present.str.replace(",", ".", regex=False) if decimal_comma else present
    return pd.to_numeric(written, errors="coerce").astype(float)


def writes_commas(cells: Iterable[str]) -> bool:
    """Whether a table writes its decimals with a comma, where its delimiter leaves that open."""
    written = set(cells)
    if any(WITH_POINT.fullmatch(cell) for cell in written):
        return False
    return any(WITH_COMMA.fullmatch(cell) and not THOUSANDS.fullmatch(cell) for cell in written)


def is_text(values: pd.Series) -> bool:
    """Whether a column holds words, by whatever name pandas has for them."""
    return not pd.api.types.is_numeric_dtype(values)


def doubts_of(values: pd.Series, decimal_comma: bool, where: str) -> Iterator[Problem]:
    """Faults of a clinical column, which is of numbers, or of text where an entry is none; patients are its index."""
    if is_text(values):
        yield from [*_words_among_numbers(values, decimal_comma, where)] or _numbers_as_words(values, decimal_comma, where)
    else:
        yield from _codes(values, where)


def _words_among_numbers(values: pd.Series, decimal_comma: bool, where: str) -> Iterator[Problem]:
    numbers = as_numbers(values, decimal_comma)
    words = values.notna() & numbers.isna()
    if numbers.nunique() < MEASURED or int(words.sum()) * 2 > int(values.notna().sum()):
        return
    for patient in values.index[words]:
        remedy = "write a number, or leave it empty where it is not known"
        yield Problem(f'"{values.name}" of patient {patient} is "{values[patient]}", among numbers', where, remedy)


def _numbers_as_words(values: pd.Series, decimal_comma: bool, where: str) -> Iterator[Problem]:
    """A column of measurements that would be learned as categories."""
    words = values[values.notna() & as_numbers(values, decimal_comma).isna()]
    with_comma = words[as_numbers(words, True).notna()]
    if with_comma.nunique() >= MEASURED:
        remedy = "write a point for the comma, or, where it parts what is no number, another sign"
        yield Problem(_told(with_comma), where, remedy)
    parted = words.str.extract(f"^{WITH_UNIT}$")
    for unit, numbers in as_numbers(parted[0], True).groupby(parted[1].str.strip().str.casefold()):
        if numbers.nunique() >= MEASURED:
            remedy = f'write the numbers alone, and "{unit}" into the name of the column'
            yield Problem(_told(words[numbers.index[numbers.notna()]]), where, remedy)


def _told(words: pd.Series) -> str:
    return f'"{words.name}" is "{words.iloc[0]}" and the like of {len(words)} patients, which is no number and read as a category'


def _codes(values: pd.Series, where: str) -> Iterator[Problem]:
    for code in CODES:
        coded, others = values.index[values == code], values[values.notna() & ~values.isin(CODES)]
        if len(coded) == 0 or others.nunique() < 2:
            continue
        reach = FAR * (others.max() - others.min())
        beyond = code < others.min() - reach or code > others.max() + reach
        if beyond or (code < 0 and others.min() >= 0 and _has_rank(others)):
            some = ", ".join(map(str, coded[:SHOWN])) + (f" and {len(coded) - SHOWN} more" if len(coded) > SHOWN else "")
            remedy = "leave it empty where it is not known"
            yield Problem(f'"{values.name}" is {code:g} of {some}, which looks like a code for missing', where, remedy)


def _has_rank(others: pd.Series) -> bool:
    """Whether a column of whole numbers from 0 on can have no negative one by nature: counts, years, stages."""
    return bool(np.all(others == np.round(others)))
