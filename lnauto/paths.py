"""Where data lie: nnU-Net's three variables where they are set, else `lnauto_data/` in the working directory."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lnauto.errors import InputError

log = logging.getLogger(__name__)

VARIABLES = {"raw": "nnUNet_raw", "preprocessed": "nnUNet_preprocessed", "results": "nnUNet_results"}
DEFAULT_ROOT = "lnauto_data"
DATASET_NAME = re.compile(r"Dataset(\d{3})_(\w+)")
PUT_IT_THERE = "put it there as DatasetNNN_Name, or set nnUNet_raw to where your data sets are"
TRAIN_IT = "train it (lnauto_train), or set nnUNet_results to where your models are"

_announced: set[Path] = set()


@dataclass(frozen=True)
class Paths:
    """The three folders everything lives in."""

    raw: Path
    preprocessed: Path
    results: Path


def activate() -> Paths:
    """Resolve the three folders, say once where the defaults are, and tell nnU-Net, which reads its own variables."""
    default = Path.cwd() / DEFAULT_ROOT
    chosen = {}
    for name, variable in VARIABLES.items():
        given = os.environ.get(variable)
        chosen[name] = Path(given) if given else default / name
        os.environ[variable] = str(chosen[name])
        if not given and default not in _announced:
            _announced.add(default)
            log.info("Data lie in %s (nnU-Net's variables, nnUNet_raw and its like, are not set).", default)
    return Paths(**chosen)


def find_dataset(identifier: str | int, *folders: Path, remedy: str = PUT_IT_THERE) -> str:
    """The full name (`Dataset501_Nodes`) of a data set given by number or name, looked for in `folders`."""
    wanted = str(identifier)
    names = sorted(
        {entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir() if DATASET_NAME.fullmatch(entry.name)}
    )
    if wanted.isascii() and wanted.isdigit():
        hits = [name for name in names if int(name[7:10]) == int(wanted)]
    else:
        hits = [name for name in names if name == wanted]
    if len(hits) == 1:
        return hits[0]
    where = " or ".join(str(folder) for folder in folders)
    if hits:
        raise InputError.of(
            f"number {wanted} belongs to several data sets ({', '.join(hits)})",
            where,
            "name the one you mean in full, or rename the others",
        )
    known = ", ".join(names) if names else "none"
    raise InputError.of(
        f"there is no data set {wanted} (there: {known})",
        where,
        remedy,
    )
