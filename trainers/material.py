"""What one network learns from and where it is left, where that is not the fold's own cases and folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnauto.data.gathered import Gathered


@dataclass(frozen=True)
class Material:
    """Cases to train on and to look at meanwhile."""

    training: Gathered
    validation: tuple[str, ...]  # of the fold's preprocessed cases, as they were drawn
    output: Path | None = None  # None: the fold's own folder
    to_label: Gathered | None = None  # what the network is for, if it is not validated in the end
