"""Which of several series is meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lnauto.dicom.listing import Series
from lnauto.errors import InputError

MODALITIES = {"CT": "CT", "PET": "PT", "PT": "PT", "SUV": "PT", "MR": "MR", "MRI": "MR"}


def choose(series: Sequence[Series], wanted: str = "", folder: Path | str = "the folder") -> Series:
    """The one series that `wanted` names: a UID or its end, a pattern on the description, or a channel such as CT or PET.

    Without `wanted` there must be one volume. A series that is no volume, such as a localiser, is taken only where it alone is
    named, so that whoever reads it says what is wrong with it.
    """
    named = _named(series, wanted.strip())
    volumes = [one for one in named if one.fault is None]
    found = volumes or named
    if len(found) == 1:
        return found[0]
    listed = "; ".join(map(str, found or series))
    if not series:
        raise InputError.of("there is no DICOM image", folder, "check the path")
    if not found:
        what = f"no series is {wanted} (there: {listed})"
        raise InputError.of(what, folder, "name one by the end of its UID, or by a pattern on its description (--series)")
    which = f"{len(found)} series are {wanted}" if wanted else f"there are {len(found)} series"
    raise InputError.of(f"{which}: {listed}", folder, "choose one by the end of its UID or by its description (--series)")


def _named(series: Sequence[Series], wanted: str) -> list[Series]:
    """Those that match, by the first way of naming that matches any."""
    if not wanted:
        return list(series)
    if re.fullmatch(r"[\d.]+", wanted):
        by_uid = [one for one in series if one.uid == wanted] or [one for one in series if one.uid.endswith(wanted)]
        if by_uid:
            return by_uid
    if wanted.upper() in MODALITIES:  # never a pattern: "CT" is in "Rectum", too
        return [one for one in series if one.modality == MODALITIES[wanted.upper()]]
    pattern = compiled(wanted, "--series")
    whole = [one for one in series if pattern.fullmatch(one.description)]
    return whole or [one for one in series if pattern.search(one.description)]


def compiled(pattern: str, flag: str) -> re.Pattern[str]:
    """A pattern of the user's, whatever its capitals."""
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        what = f"{pattern} is no valid pattern ({error})"
        raise InputError.of(what, flag, "write a regular expression, like 'LN.*|Node.*'") from error
