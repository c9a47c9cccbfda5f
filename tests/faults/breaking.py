"""Disks that are full and places that may not be written to or read, without needing either: what lnauto calls is told so."""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.rows import Patch

FULL, DENIED = errno.ENOSPC, errno.EACCES


class Unwritable:
    """A file that is opened, and whose disk is full when something is written."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, content: Any) -> int:
        self.file.write(content[: len(content) // 2])  # as much as there was room for
        raise OSError(FULL, os.strerror(FULL))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Unwritable:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def full(*places: str) -> Patch:
    """Whatever is written below these folders (those of the row; default: all) meets a full disk."""

    def patch(monkey: pytest.MonkeyPatch) -> None:
        below = _below(places)
        opened = builtins.open

        def opening(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            file = opened(path, mode, *rest, **options)
            return Unwritable(file) if set(mode) & set("wax+") and below(path) else file

        _replace_open(monkey, opening)
        _fail_in_libraries(monkey, below)

    return patch


def denied(*places: str) -> Patch:
    """Nothing may be made or changed below these folders."""

    def patch(monkey: pytest.MonkeyPatch) -> None:
        below = _below(places)
        opened = builtins.open

        def opening(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if set(mode) & set("wax+") and below(path):
                raise _denied(path)
            return opened(path, mode, *rest, **options)

        _replace_open(monkey, opening)
        for name in ("mkdir", "replace", "rename"):
            monkey.setattr(os, name, _refusing(getattr(os, name), below))
        _fail_in_libraries(monkey, below, number=DENIED)

    return patch


def unreadable(*places: str) -> Patch:
    """These files cannot be opened, and these folders cannot be listed."""

    def patch(monkey: pytest.MonkeyPatch) -> None:
        below = _below(places)
        opened = builtins.open

        def opening(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if below(path):
                raise _denied(path)
            return opened(path, mode, *rest, **options)

        _replace_open(monkey, opening)
        for name in ("listdir", "scandir"):
            monkey.setattr(os, name, _refusing(getattr(os, name), below))

    return patch


def _below(places: tuple[str, ...]) -> Callable[[Any], bool]:
    roots = [os.path.realpath(place) for place in places or (".",)]

    def below(path: Any) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        folder, name = os.path.split(os.path.realpath(path))
        place = os.path.join(folder, re.sub(r"^\.\d+\.", "", name))  # lnauto's temporary names count as what they become
        return any(place == root or place.startswith(root + os.sep) for root in roots)

    return below


def _replace_open(monkey: pytest.MonkeyPatch, opening: Callable[..., Any]) -> None:
    monkey.setattr(builtins, "open", opening)
    monkey.setattr(io, "open", opening)


def _denied(path: Any) -> PermissionError:
    return PermissionError(DENIED, os.strerror(DENIED), str(path))


def _refusing(function: Callable[..., Any], below: Callable[[Any], bool]) -> Callable[..., Any]:
    def refusing(path: Any = ".", *rest: Any, **options: Any) -> Any:
        if below(path):
            raise _denied(path)
        return function(path, *rest, **options)

    return refusing


def _fail_in_libraries(monkey: pytest.MonkeyPatch, below: Callable[[Any], bool], number: int = FULL) -> None:
    """As SimpleITK and PyTorch say it, which write without Python; with a full disk something of the file is there."""
    import SimpleITK
    import torch

    written: Callable[..., Any] = SimpleITK.WriteImage
    saved: Callable[..., Any] = torch.save

    def begin(path: Any) -> None:
        if number == FULL:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))

    def write(image: Any, path: Any, *rest: Any, **options: Any) -> None:
        if not below(path):
            return written(image, path, *rest, **options)
        begin(path)
        raise RuntimeError(
            f"Exception thrown in SimpleITK ImageFileWriter_Execute\nsitk::ERROR: could not write {Path(path).name}"
        )

    def save(content: Any, path: Any, *rest: Any, **options: Any) -> None:
        if not below(path):
            return saved(content, path, *rest, **options)
        begin(path)
        raise RuntimeError(
            "[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/0: file write failed"
        )

    monkey.setattr(SimpleITK, "WriteImage", write)
    monkey.setattr(torch, "save", save)
