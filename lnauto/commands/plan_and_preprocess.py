"""`lnauto_plan_and_preprocess -d 501`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lnauto.commands.common import add_device, make_parser, minutes, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("Check a data set, decide how to learn from it, say why, and preprocess it.")
    parser.add_argument(
        "-d", "--dataset", required=True, metavar="DATASET", help="number or full name of the data set, such as 501"
    )
    parser.add_argument("-c", "--configuration", default="3d_fullres", help="configuration of the plan (default: %(default)s)")
    parser.add_argument(
        "--budget", type=minutes, metavar="TIME", help="time that training one fold may take, such as 30min or 2h"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes to preprocess with (default: one, or more where that is faster)"
    )
    parser.add_argument("--no-preprocess", action="store_true", help="stop after the plan")
    add_device(parser)
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.plan import plan_and_preprocess

    plan_and_preprocess(
        arguments.dataset,
        configuration=arguments.configuration,
        minutes=arguments.budget,
        device=arguments.device,
        workers=arguments.workers,
        do_preprocess=not arguments.no_preprocess,
        quiet=arguments.quiet,
    )
