"""`lnauto_train 501 0`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import LARGEST_SEED, add_device, at_least, make_parser, minutes, run, share


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("Train what the plan chose.")
    parser.add_argument("dataset", metavar="DATASET", help="number or full name of the data set, such as 501")
    parser.add_argument(
        "folds",
        metavar="FOLD",
        nargs="+",
        help="fold number or numbers; `cv` for every fold and the pooled table; `all` for one model on every case",
    )
    parser.add_argument("-c", "--configuration", default="3d_fullres", help="configuration of the plan (default: %(default)s)")
    parser.add_argument("-tr", "--trainer", help="train with this trainer instead of the plan's")
    parser.add_argument(
        "--rounds",
        type=at_least(1),
        metavar="N",
        help="rounds of pseudo labels: two more networks each label what is not annotated (default: none)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--budget", type=minutes, metavar="TIME", help="time for the whole command, validation included, such as 10min"
    )
    length.add_argument("--epochs", type=at_least(1), metavar="N", help="train for so many epochs")
    length.add_argument("--iterations", type=at_least(1), metavar="N", help="train for so many iterations")
    parser.add_argument(
        "--pretrain", action="store_true", help="first learn from all images, without labels; done once, used by every fold"
    )
    parser.add_argument("--pretrained", metavar="NAME", help="adapt this foundation model (see lnauto_import_model)")
    parser.add_argument(
        "--tune",
        metavar="HOW",
        help="how it is adapted: full, head, decoder, bitfit, norm, lora, static, random, dgst (also dgst:2, dgst:0.01), or auto,"
        " which tries some of them on the cases (default: as the plan has it)",
    )
    parser.add_argument("--source", metavar="DATASET", help="data set it comes from, to tell what it forgets")
    parser.add_argument(
        "--sensitivity",
        type=share,
        metavar="SHARE",
        help="patient head: choose the threshold that finds so many of the patients with metastasis, such as 0.9 (default:"
        " Youden's)",
    )
    parser.add_argument(
        "--dino-weights", type=Path, metavar="FILE", help="LNMTrainerWeGA: weights of a DINOv2 ViT-S/14 for its global branch"
    )
    parser.add_argument(
        "--seed", type=at_least(0, LARGEST_SEED), default=0, help="seed of weights and batches (default: %(default)s)"
    )
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="arithmetic (default: what is fastest and agrees)"
    )
    parser.add_argument(
        "--workers",
        type=at_least(0),
        metavar="N",
        help="processes that make batches (default: most cores for a GPU, at most one on a CPU)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--continue", dest="proceed", action="store_true", help="go on with a training that was stopped")
    again.add_argument("--overwrite", action="store_true", help="start anew even if there is a training already")
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        choices=("tensorboard", "mlflow"),
        help="send the learning curves there, too; may be given twice (default: neither)",
    )
    parser.add_argument("--no-report", action="store_true", help="write no page to look at (report.html)")
    add_device(parser)
    return run(parser, _act, argv)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.train import Request, train

    request = Request(
        configuration=arguments.configuration,
        minutes=arguments.budget,
        epochs=arguments.epochs,
        iterations=arguments.iterations,
        seed=arguments.seed,
        device=arguments.device,
        precision=arguments.precision,
        trainer=arguments.trainer,
        workers=arguments.workers,
        rounds=arguments.rounds,
        proceed=arguments.proceed,
        overwrite=arguments.overwrite,
        pretrain=arguments.pretrain,
        pretrained=arguments.pretrained,
        tune=arguments.tune,
        source=arguments.source,
        sensitivity=arguments.sensitivity,
        dino_weights=arguments.dino_weights,
        report=not arguments.no_report,
        track=tuple(arguments.track),
        quiet=arguments.quiet,
    )
    model = train(arguments.dataset, arguments.folds, request)
    if not arguments.quiet:
        print(f"The model is in {model}")
