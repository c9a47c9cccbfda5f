"""`lnauto_plan_and_preprocess -d 501`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lnauto.commands.common import add_device, at_least, make_parser, minutes, positive, run


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
        "--strategy", metavar="NAME", help="learn from the annotation in this way, instead of the planner's choice"
    )
    parser.add_argument("-tr", "--trainer", help="train with this trainer, instead of the strategy's")
    parser.add_argument("--spacing", nargs=3, type=positive, metavar=("Z", "Y", "X"), help="resample to so many mm, slices first")
    parser.add_argument("--patch", nargs=3, type=at_least(1), metavar=("Z", "Y", "X"), help="train on patches of so many voxels")
    parser.add_argument(
        "--masks", choices=("predicted", "given"), help="a patient head learns from these masks (default: predicted, as at use)"
    )
    parser.add_argument("--pretrained", metavar="NAME", help="plan under this foundation model (see lnauto_import_model)")
    parser.add_argument("--explain", action="store_true", help="print every figure the decisions rest on, and what came second")
    parser.add_argument(
        "--workers",
        type=at_least(1),
        metavar="N",
        help="processes to preprocess with (default: one, or more where that is faster)",
    )
    parser.add_argument("--no-preprocess", action="store_true", help="stop after the plan")
    add_device(parser)
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, plan_and_preprocess

    wishes = Wishes(
        strategy=arguments.strategy,
        trainer=arguments.trainer,
        spacing=tuple(arguments.spacing) if arguments.spacing else None,
        patch=tuple(arguments.patch) if arguments.patch else None,
        minutes=arguments.budget,
        masks=arguments.masks,
    )
    request = Request(
        configuration=arguments.configuration,
        wishes=wishes,
        device=arguments.device,
        pretrained=arguments.pretrained,
        workers=arguments.workers,
        explain=arguments.explain,
        do_preprocess=not arguments.no_preprocess,
        quiet=arguments.quiet,
    )
    plan_and_preprocess(arguments.dataset, request)
