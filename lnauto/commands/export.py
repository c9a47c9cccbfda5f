"""`lnauto_export MODEL -o NAME.lnauto`: a trained model as something to give away."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run

EXPLANATION = """\
MODEL is a model folder, .../TRAINER__PLANS__CONFIGURATION, or a .lnauto file; without it, -d and its like choose, as in
lnauto_predict. Without --stock, --onnx or --openvino everything lnauto_predict needs goes into one file, NAME.lnauto, which
it takes after -m. Names of patients and cases, and folders of this machine, stay here.

A MODEL_CARD.md comes along, in which some lines are left for you to fill in."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Give a trained model away: as one file, or for stock nnU-Net, ONNX or OpenVINO.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, nargs="?", metavar="MODEL", help="model folder, or .lnauto file (default: the only model there is)")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="file (.lnauto), or with the flags below a folder")
    form = parser.add_mutually_exclusive_group()
    for name, told in {
        "stock": "a model folder that stock nnU-Net runs without lnauto",
        "onnx": "each fold's network as ONNX, and a JSON that says how to run it",
        "openvino": "the same for OpenVINO",
    }.items():
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, default="file", help=told)
    add("-d", "--dataset", help="number or name of the data set whose model to export")
    add("-c", "--configuration", help="configuration of the model, where there are several")
    add("-tr", "--trainer", help="trainer of the model, where there are several")
    add("-f", "--folds", nargs="+", metavar="FOLD", help="folds to export (default: all that are trained)")
    add("--without-heads", action="store_true", help="leave patient heads out")
    add("--overwrite", action="store_true", help="replace an earlier export of that name")
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.export_model import Request, export
    from lnauto.workflow.predict import Request as Wanted

    wanted = Wanted(
        dataset=arguments.dataset,
        model=arguments.model,
        configuration=arguments.configuration,
        trainer=arguments.trainer,
        folds=arguments.folds,
    )
    export(wanted, arguments.output, Request(arguments.form, not arguments.without_heads, arguments.overwrite))
