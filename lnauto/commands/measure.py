"""`lnauto_measure -i MASKS --images SCANS -o OUT`: where nodes in masks lie, and how large they are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run

MOST_VALUE = 65535  # what masks hold
EXPLANATION = """\
Writes nodes.csv and nodes.json (a row for each node: place, volume, long and short axis, and with --images intensities), and
overlays/ with a picture of each case; prints how many nodes there are and how large. What values mean is read from a
dataset.json beside the masks, if there is one; else it is decided by how they look, and said.

Exit codes: 0 done; 2 wrong input, nothing was measured; 3 measured, but some cases failed, which is said in a line each."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Measure the lymph nodes of masks that are there already, drawn or predicted.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-i", "--input", type=Path, required=True, metavar="MASKS", help="folder of masks (CASE.nii.gz, .nrrd, .mha), or one")
    add("--images", type=Path, metavar="SCANS", help="their scans: folder (CASE_0000.nii.gz or CASE.nii.gz), or one file")
    add("-o", "--output", type=Path, default=Path("measured"), metavar="DIR", help="for the tables (default: %(default)s)")
    add("--labels", type=_values, metavar="VALUES", help="values that are nodes, such as 2-11 or 1,4 (default: all from 1)")
    add(
        "--kind",
        choices=("auto", "labels", "instances"),
        default="auto",
        help="labels: connected voxels are one node; instances: each value is one (default: %(default)s, says what it decided)",
    )
    add("--channels", nargs="+", metavar="NAME", help="what the scans' channels are (default: as dataset.json says, else image)")
    add(
        "--stations", type=Path, metavar="MAPS", help="label maps of lymph-node stations on the masks' grids: folder, or one file"
    )
    add("--no-report", action="store_true", help="write no page to look at (report.html)")
    add("--overwrite", action="store_true", help="replace tables and pictures that are there")
    return run(parser, _act, argv)


def _values(text: str) -> tuple[int, ...]:
    """`2-11` or `1,4,7-9`."""
    values: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and 0 < int(first) <= int(last or first) <= MOST_VALUE):
            raise argparse.ArgumentTypeError(f"{text!r} are no values; write them like 2-11 or 1,4,7-9")
        values.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(values))


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.errors import CasesFailedError
    from lnauto.workflow.measure import Request, measure, summary

    request = Request(
        kind=arguments.kind,
        labels=arguments.labels,
        channels=arguments.channels,
        stations=arguments.stations,
        overwrite=arguments.overwrite,
        report=not arguments.no_report,
        quiet=arguments.quiet,
    )
    table, problems = measure(arguments.input, arguments.images, arguments.output, request)
    if not arguments.quiet:
        print(summary(table))
    if problems:
        raise CasesFailedError(problems)
