"""`lnauto_demo`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import LARGEST_SEED, add_device, at_least, make_parser, minutes, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("Show the whole way on chest CT phantoms: make them, plan, train, predict, evaluate.")
    parser.add_argument("output", nargs="?", type=Path, default=Path("lnauto_demo"), help="folder (default: %(default)s)")
    parser.add_argument("--cases", type=at_least(2), default=24, help="training cases (default: %(default)s)")
    parser.add_argument("--test-cases", type=at_least(1), default=4, help="test cases (default: %(default)s)")
    parser.add_argument("--size", type=at_least(32), default=96, help="voxels a side (default: %(default)s)")
    parser.add_argument(
        "--budget",
        type=minutes,
        metavar="TIME",
        help="time to train (default: 7.5min, less where all would take over ten)",
    )
    parser.add_argument("--seed", type=at_least(0, LARGEST_SEED), default=0, help="seed of the phantoms (default: %(default)s)")
    add_device(parser)
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.demo import Settings, run_demo

    settings = Settings(
        cases=arguments.cases,
        test_cases=arguments.test_cases,
        size=arguments.size,
        minutes=arguments.budget,
        seed=arguments.seed,
        device=arguments.device,
        quiet=arguments.quiet,
    )
    run_demo(arguments.output, settings)
