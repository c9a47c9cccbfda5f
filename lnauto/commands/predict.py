"""`lnauto_predict -i scans -o out`, `lnauto_predict --patients FILE -o out`"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from lnauto.commands.common import add_device, make_parser, run
from lnauto.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("Segment lymph nodes in scans with a trained model, or tell how likely metastasis is from a table.")
    parser.add_argument(
        "-i", "--input", type=Path, help="folder of scans (CASE_0000.nii.gz ...), one scan, or a folder of DICOM series"
    )
    parser.add_argument(
        "--patients", type=Path, metavar="FILE", help="clinical rows of the patients; without -i, for a model of a table alone"
    )
    parser.add_argument(
        "--masks", type=Path, metavar="DIR", help="masks of these scans, for a patient head that learned from given masks"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder for the masks and the node table")
    parser.add_argument(
        "-d", "--dataset", help="number or name of the data set whose model to use (default: the only model there is)"
    )
    parser.add_argument("-m", "--model", type=Path, help="model folder, .../LNTrainer__lnautoPlans__3d_fullres, or .lnauto file")
    parser.add_argument("-c", "--configuration", help="configuration of the model, where there are several")
    parser.add_argument("-tr", "--trainer", help="trainer of the model, where there are several")
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="folds to average (default: all that are trained)")
    parser.add_argument(
        "--tta", choices=("none", "fast", "full"), help="mirrored copies to average: none, left-right, all (default: the plan's)"
    )
    parser.add_argument(
        "--overlap", type=_share, metavar="SHARE", help="how far tiles overlap, from 0 to below 1 (default: the plan's)"
    )
    parser.add_argument(
        "--filter",
        choices=("auto", "none"),
        default="auto",
        help="leave out what is too small to be a node, as the plan says, or nothing (default: %(default)s)",
    )
    parser.add_argument(
        "--region",
        choices=("auto", "none"),
        default="auto",
        help="look at the part of a scan that the plan names, or at all of it (default: %(default)s)",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="what runs the network (default: on a CPU the faster that agrees, else PyTorch)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "int8"),
        default="auto",
        help="arithmetic; int8 is for CPUs, fast, and a little less exact (default: what is fastest and agrees)",
    )
    parser.add_argument(
        "--max-memory",
        type=_gigabytes,
        metavar="SIZE",
        help="refuse, before any work, a scan that may take more, such as 6GB (default: what the machine has left)",
    )
    parser.add_argument("--save-probabilities", action="store_true", help="a map of the probability of node, too, for each scan")
    parser.add_argument(
        "--series",
        nargs="+",
        default=[],
        metavar="WHICH",
        help="of DICOM, for each channel a series: the end of its UID, or a pattern on its description",
    )
    parser.add_argument(
        "--rtstruct", action="store_true", help="write an RTSTRUCT, too, beside the DICOM-SEG of what came as DICOM"
    )
    parser.add_argument("--no-report", action="store_true", help="write no page to look at (report.html)")
    parser.add_argument("--overwrite", action="store_true", help="make masks anew that are there already")
    add_device(parser)
    return run(parser, _act, argv)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1")
    return value


def _gigabytes(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|MB|G|M)?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 6GB or 800MB")
    return float(found[1]) / (1000 if (found[2] or "G")[0].upper() == "M" else 1)


def _act(arguments: argparse.Namespace) -> None:
    from lnauto.workflow.predict import Request, holds_images, predict

    if arguments.input is None:
        if arguments.patients is None or arguments.masks is not None:
            raise InputError.of(
                "there is nothing to predict", "the command line", "give scans with -i, or a table with --patients"
            )
        from lnauto.workflow.patient_predict import Request as PatientRequest
        from lnauto.workflow.patient_predict import predict_patients

        of_patients = PatientRequest(arguments.dataset, arguments.model, arguments.folds, arguments.overwrite)
        predict_patients(arguments.patients, arguments.output, of_patients)
        return
    request = Request(
        dataset=arguments.dataset,
        model=arguments.model,
        configuration=arguments.configuration,
        trainer=arguments.trainer,
        folds=arguments.folds,
        device=arguments.device,
        engine=arguments.engine,
        precision=arguments.precision,
        tta=arguments.tta,
        overlap=arguments.overlap,
        size_filter=arguments.filter == "auto",
        crop=arguments.region == "auto",
        patients=arguments.patients,
        probabilities=arguments.save_probabilities,
        series=tuple(arguments.series),
        rtstruct=arguments.rtstruct,
        max_memory_gb=arguments.max_memory,
        overwrite=arguments.overwrite,
        report=not arguments.no_report,
        quiet=arguments.quiet,
    )
    if arguments.masks is not None:
        from lnauto.workflow.predict_given import predict_given

        predict_given(arguments.input, arguments.masks, arguments.output, request)
        return
    if not holds_images(arguments.input):
        from lnauto.workflow.predict_dicom import predict_dicom

        predict_dicom(arguments.input, arguments.output, request)
        return
    predict(arguments.input, arguments.output, request)
