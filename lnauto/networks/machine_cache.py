"""What was measured on this machine once, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FOLDER = Path.home() / ".cache" / "lnauto"


def key_of(*facts: Any) -> str:
    """A short hash of `facts`, this machine and its Torch."""
    machine = (platform.node(), platform.processor(), os.cpu_count(), version("torch"))
    return hashlib.blake2b(json.dumps([*facts, machine]).encode(), digest_size=12).hexdigest()


def read(name: str) -> dict[str, Any]:
    """Everything measured of one kind."""
    try:
        return dict(json.loads(_file(name).read_text()))
    except (OSError, ValueError):
        return {}


def write(name: str, known: dict[str, Any]) -> None:
    path = _file(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(known))
        temporary.replace(path)
    except OSError as error:  # a read-only home costs a second measurement, nothing else
        log.debug("What was measured could not be kept in %s: %s", path, error)


def _file(name: str) -> Path:
    return FOLDER / f"{name}.json"
