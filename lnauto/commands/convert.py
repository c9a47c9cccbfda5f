"""`lnauto_convert SOURCE OUT/DatasetNNN_Name`: DICOM, or files that lie elsewhere, as a raw data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run

EXPLANATION = """\
SOURCE is a folder that holds a folder of DICOM for each case (image series, and the SEG or RTSTRUCT drawn on them), or a CSV of
paths with the columns case, image (or image_0, image_1, ...) and mask. Instead of it, --images and --masks name two folders of
files that are called alike. DICOM is written as .nii.gz: CT in HU, PET in SUV; other files are named where they are, not copied.

Exit codes: 0 done; 2 wrong input, nothing was converted; 3 some cases could not be converted, which is said in a line each. Run
it again to go on: what is done is not done again."""


def main(argv: Sequence[str] | None = None) -> int:
    return run(_parser(), _act, argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "Make a raw data set of DICOM series with SEG or RTSTRUCT, or of images and masks that lie elsewhere.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, nargs="?", metavar="SOURCE", help="folder with a folder for each case, or a CSV of paths")
    add("out", type=Path, metavar="OUT", help="folder to write, called DatasetNNN_Name")
    add("--images", type=Path, metavar="DIR", help="instead of SOURCE: folder of image files")
    add("--masks", type=Path, metavar="DIR", help="folder of mask files, called like the images")
    add(
        "--channels",
        nargs="+",
        default=(),
        metavar="NAME",
        help="what each channel is, like CT PET; chooses the series, too (default: of DICOM, as its modality says)",
    )
    add(
        "--series",
        nargs="+",
        default=(),
        metavar="WHICH",
        help="which series is each channel: a UID or its end, or a pattern on the description",
    )
    add("--roi", default="", metavar="PATTERN", help="names of the segments or ROIs to take, like 'LN.*|Node.*'")
    add(
        "--structures",
        default="",
        metavar="WHICH",
        help="which SEG or RTSTRUCT, if there are several: the end of a UID, or a pattern on description or file name",
    )
    add("--instances", action="store_true", help="each segment or ROI is one node, and keeps its number in the mask")
    add("--labels", nargs="+", default=("node",), metavar="NAME", help="what the values 1, 2, ... of masks are (default: node)")
    add("--annotation", choices=("full", "partial", "scribble", "patient"), help="how much is drawn, for dataset.json")
    add("--table", type=Path, metavar="FILE", help="table of patients, for patients.csv")
    add("--patient-column", default="", metavar="NAME", help="its column of patients (default: patient, else --id-column)")
    add("--id-column", default="", metavar="NAME", help="its column of case names (default: cases, else that of patients)")
    return parser


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.convert import Request, convert

    request = Request(
        source=arguments.source,
        out=arguments.out,
        images=arguments.images,
        masks=arguments.masks,
        channels=tuple(arguments.channels),
        series=tuple(arguments.series),
        roi=arguments.roi,
        structures=arguments.structures,
        labels=tuple(arguments.labels),
        instances=arguments.instances,
        annotation=arguments.annotation,
        table=arguments.table,
        patient_column=arguments.patient_column,
        id_column=arguments.id_column,
        quiet=arguments.quiet,
    )
    dataset = convert(request)
    if not arguments.quiet:
        drawn = len(dataset.annotated_cases)
        print(f"{dataset.folder}: {len(dataset.cases)} cases, {drawn} with a mask; {', '.join(dataset.channel_names.values())}")
