"""`lnauto_evaluate -r TRUTH -p OUT`: how good predicted masks are, by label and by node."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run

EXPLANATION = """\
Writes evaluation.json (everything, down to each node) and evaluation.csv (a row for each case and label) into the folder of
predictions, and prints a table. What the values of the masks mean is read from dataset.json in the reference's folder or
the one above; without it every value is a label.

Exit codes: 0 done; 2 wrong input, nothing was evaluated; 3 evaluated, but some cases failed or have no prediction, which is
said in a line each."""


def main(argv: Sequence[str] | None = None) -> int:
    return run(_parser(), _act, argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "Compare predicted masks with true ones: Dice, surface distances, and nodes found, missed and false.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-r", "--reference", type=Path, required=True, metavar="DIR", help="true masks, CASE.nii.gz")
    add("-p", "--predictions", type=Path, required=True, metavar="DIR", help="predicted masks, CASE.nii.gz")
    add("-o", "--output", type=Path, metavar="DIR", help="where the figures go (default: to the predictions)")
    add("--protocol", default="lnauto", metavar="NAME", help="lnauto (default), lnq2023, segrap, hntsmrg or wcode")
    add("--dataset-json", type=Path, metavar="FILE", help="dataset.json to use instead of the one found")
    add(
        "--instances",
        type=Path,
        metavar="DIR",
        help="true node instances, CASE.nii.gz; touching nodes count singly where the predictions have nodes/CASE.nii.gz too",
    )
    add(
        "--min-volume",
        type=float,
        default=15.0,
        metavar="MM3",
        help="smaller predicted components do not count as nodes, neither found nor false (default: 15)",
    )
    return parser


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.errors import CasesFailedError
    from lnauto.workflow.evaluate import evaluate

    evaluation, table = evaluate(
        arguments.reference,
        arguments.predictions,
        arguments.output,
        protocol=arguments.protocol,
        dataset_json=arguments.dataset_json,
        instances=arguments.instances,
        min_volume_mm3=arguments.min_volume,
        quiet=arguments.quiet,
    )
    if not arguments.quiet:
        print(table)
    if evaluation.problems:
        raise CasesFailedError(evaluation.problems)
