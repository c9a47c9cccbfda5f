"""`lnauto_report FOLDER`, `lnauto_report FIRST SECOND`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Write a page to look at, report.html: of predicted or measured masks, or of a trained model. Two folders that were"
        " evaluated on the same cases are compared, in comparison.html. A page is one file, which needs no network."
    )
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="what lnauto_predict or lnauto_measure wrote, or a model's folder, .../LNTrainer__lnautoPlans__3d_fullres",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder for the page of a comparison (default: the first folder)"
    )
    parser.add_argument("--anonymous", action="store_true", help="number the cases instead of naming them, and tell no path")
    parser.add_argument(
        "--paper",
        action="store_true",
        help="also write every table as CSV and LaTeX and every figure as SVG, PNG and CSV, in paper/",
    )
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.report_any import report_any

    report_any(arguments.folders, arguments.output, arguments.anonymous, arguments.quiet, arguments.paper)
