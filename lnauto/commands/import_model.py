"""`lnauto_import_model SOURCE --name NAME`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import make_parser, run

EXPLANATION = """\
SOURCE is a result folder of nnU-Net v2 or lnauto (TRAINER__PLANS__CONFIGURATION), a folder that holds one, a file made by
lnauto_export (.lnauto), or a checkpoint (.pth), whose plans and labels are taken from --plans and --dataset-json, else from
beside it, else from within it.

A checkpoint can run any code when it is unpickled. It is read as plain numbers; what would have to be unpickled is refused."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Store a model from elsewhere, so that it can be adapted to a data set.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="result folder, .lnauto file, or checkpoint")
    add("--name", required=True, help="what it is to be called: letters, digits, - and single underscores")
    add("-c", "--configuration", help="configuration of the model, where it cannot be told (default: 3d_fullres)")
    add("-f", "--fold", metavar="FOLD", help="fold to take (default: all, else the lowest)")
    add("--plans", type=Path, metavar="FILE", help="plans of the model")
    add("--dataset-json", type=Path, metavar="FILE", help="dataset.json of the model")
    add(
        "--trust-checkpoint",
        action="store_true",
        help="unpickle the checkpoint if need be: whatever its maker put into it then runs with your rights",
    )
    add("--overwrite", action="store_true", help="replace the model of that name")
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.import_model import Request, import_model

    request = Request(
        name=arguments.name,
        configuration=arguments.configuration,
        fold=arguments.fold,
        plans=arguments.plans,
        dataset_json=arguments.dataset_json,
        trust=arguments.trust_checkpoint,
        overwrite=arguments.overwrite,
    )
    import_model(arguments.source, request)
