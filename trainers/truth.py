"""Where the labels lie that a fold is validated with: as somebody drew them, not as they were preprocessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lnauto.data.preprocess import provenance_path
from lnauto.data.provenance import Provenance
from lnauto.data.raw import RawDataset
from lnauto.paths import activate


def labels_of(cases: Path, names: Sequence[str]) -> dict[str, Path | None]:
    """By case: in the raw data set, if it is there, else where the label lay when the case was preprocessed; None: nobody knows.

    `cases` is the folder of preprocessed ones. A raw data set may be moved after preprocessing, and an old copy may lag behind.
    """
    raw = activate().raw / cases.parent.name
    now = {case.name: case.label for case in RawDataset.read(raw).cases} if raw.is_dir() else {}
    known = Provenance(provenance_path(cases)).cases
    before = {name: Path(known[name]["sources"][-1]["path"]) for name in names if name in known}
    return {name: now.get(name) or before.get(name) for name in names}
