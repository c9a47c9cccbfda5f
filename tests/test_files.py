"""Files take their names when they are whole, and on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lnauto import files


def test_what_was_written_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves the name, and nothing in it."""
    done: list[tuple[str, int]] = []
    reach, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(("on the disk", os.fstat(file).st_ino)), reach(file)))
    monkeypatch.setattr(os, "replace", lambda one, other: (done.append(("named", os.stat(one).st_ino)), rename(one, other)))
    files.write_json(tmp_path / "plan.json", {"a": 1})
    inode = (tmp_path / "plan.json").stat().st_ino
    assert done == [("on the disk", inode), ("named", inode)]
