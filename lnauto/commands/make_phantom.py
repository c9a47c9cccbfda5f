"""`lnauto_make_phantom`: write a phantom data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Make a phantom data set: chest CT with lymph nodes, drawn, in nnU-Net's raw layout, with the whole truth beside it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder to write, called DatasetNNN_Name")
    parser.add_argument("--cases", type=int, default=16, help="training cases")
    parser.add_argument("--test-cases", type=int, default=0, help="test cases, fully annotated")
    parser.add_argument("--annotation", default="full", help="full, partial, scribble or none")
    parser.add_argument("--fraction", type=float, default=0.3, help="part of the nodes that is annotated, if partial")
    parser.add_argument("--size", type=int, default=96, help="rows and columns; below 96 the view closes in on the mediastinum")
    parser.add_argument("--style", default="a", help="family of scans, a or b: contrast, kernel and texture differ")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    parser.add_argument("--declare", action="store_true", help='write "annotation": "full" or "partial" into dataset.json')
    return run(parser, _make, argv)


def _make(arguments: argparse.Namespace) -> None:
    from lnauto.data.phantom import make_phantom  # late: --help should not wait for SimpleITK

    out = make_phantom(
        arguments.out,
        cases=arguments.cases,
        annotation=arguments.annotation,
        fraction=arguments.fraction,
        size=arguments.size,
        seed=arguments.seed,
        style=arguments.style,
        test_cases=arguments.test_cases,
        declare=arguments.declare,
        workers=os.cpu_count() or 1,
        quiet=arguments.quiet,
    )
    if not arguments.quiet:
        print(f"{out}: {arguments.cases} training and {arguments.test_cases} test cases; the whole truth is in truth/")
