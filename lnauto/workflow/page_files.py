"""A page on disk: beside it what it shows in numbers and, where asked for, its tables and figures for a paper."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.errors import InputError
from lnauto.files import write_json, write_text

if TYPE_CHECKING:
    from lnauto.report.page import Page

log = logging.getLogger(__name__)


def write_page(page: Page, figures: Mapping[str, Any], path: Path, paper: bool = False) -> Path:
    """Write `path` and the JSON of its name; with `paper` also the folder of that name beside it. Returns where the page is."""
    where = path
    try:
        write_text(path, page.html())
        write_json(path.with_suffix(".json"), figures)
        if paper:
            from lnauto.report.paper import PAPER, write_paper

            where = path.parent / PAPER
            write_paper(page, where)
    except OSError as error:
        what = f"{'the page' if where == path else 'what is for a paper'} cannot be written ({error.strerror or error})"
        raise InputError.of(what, where, "check the disk") from error
    log.info("A page to look at: %s", path)
    if paper:
        log.info("For a paper: %s", where)
    return path
