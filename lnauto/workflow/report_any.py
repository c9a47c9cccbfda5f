"""`lnauto_report`: which page a folder gets, by what it holds; two folders are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lnauto.errors import InputError
from lnauto.workflow.report import report
from lnauto.workflow.report_training import is_training, report_training


def report_any(
    folders: Sequence[Path], output: Path | None = None, anonymous: bool = False, quiet: bool = False, paper: bool = False
) -> Path:
    """Write the page of a folder, or of two beside each other; returns where it is.

    Args:
        output: of a comparison, the folder for its page; the first folder, if there is none.
        anonymous: cases are numbered instead of named, and no path is told.
        paper: also its tables and figures, in `paper/` beside the page.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError.of("there is no such folder", folder, "correct the path")
    if len(folders) > 2:
        raise InputError.of(f"{len(folders)} folders are given", "the command line", "give one, or two to compare")
    if len(folders) == 2:
        from lnauto.workflow.report_comparison import report_comparison

        return report_comparison(folders[0], folders[1], output, anonymous, paper)
    if output is not None:
        raise InputError.of("the page of one folder is written into it", "-o", "leave it out, or give two folders")
    if is_training(folders[0]):
        return report_training(folders[0], anonymous, quiet, paper)
    return report(folders[0], anonymous, quiet, paper)
