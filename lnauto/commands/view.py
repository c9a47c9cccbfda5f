"""`lnauto_view FOLDER`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Look at whole scans with their masks in the browser, in three planes and in 3D. What is shown is served to this"
        " machine alone, until Ctrl-C. Needs the package ipyniivue: pip install 'lnauto[view]'."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what lnauto_predict or lnauto_measure wrote")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="where to serve (default: a port that is free)")
    parser.add_argument("--no-browser", action="store_true", help="open no browser, only say the address")
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.view import view

    view(arguments.folder, arguments.port, not arguments.no_browser)
