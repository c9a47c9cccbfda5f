"""`lnauto_report FOLDER`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Write a page to look at, report.html, into a folder of predicted or measured masks: one file, which needs no network."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what lnauto_predict or lnauto_measure wrote")
    parser.add_argument("--anonymous", action="store_true", help="number the cases instead of naming them, and tell no path")
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.report import report

    report(arguments.folder, arguments.anonymous, arguments.quiet)
