"""`lnauto_predict` on DICOM: series in, a mask and a DICOM-SEG for each case out.

The series are read into plain images beside the results, and go through the same prediction as any other; these images go when it
is done.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from lnauto.dicom.choosing import MODALITIES, choose
from lnauto.dicom.damage import quiet_pydicom
from lnauto.dicom.listing import Contents, Series, read_folder
from lnauto.dicom.write_rtstruct import write_rtstruct
from lnauto.dicom.write_seg import write_seg
from lnauto.errors import CasesFailedError, InputError, NoSpaceError, Problem
from lnauto.evaluation.labels import LabelScheme
from lnauto.files import ANY, read_json, replacing
from lnauto.locks import locked
from lnauto.nodes import label_components
from lnauto.workflow.convert_case import on_one_grid
from lnauto.workflow.convert_sources import check_names, safe_name
from lnauto.workflow.predict import Request, check_places, model_folder, predict
from lnauto.workflow.prediction_record import RTSTRUCT, SEG, Record

log = logging.getLogger(__name__)

SCANS = ".scans"  # in the folder of results: what was read, while it is needed


def predict_dicom(inputs: Path, output: Path, request: Request) -> None:
    """Masks, SEG objects and the node table of every case in a folder of DICOM."""
    check_places(inputs, output)
    with locked(output), quiet_pydicom():
        _predict_dicom(inputs, output, request)


def _predict_dicom(inputs: Path, output: Path, request: Request) -> None:
    request = replace(request, model=model_folder(request))
    assert request.model is not None
    description = read_json(request.model / "dataset.json", "give the whole result folder with -m", {"channel_names": {ANY: str}})
    channels = list(description["channel_names"].values())
    found = find_dicom(inputs)
    scans = output / SCANS
    shutil.rmtree(scans, ignore_errors=True)  # of a run that was killed
    is_new = not output.exists()
    scans.mkdir(parents=True)
    try:
        series, problems = _read_all(found, channels, request, scans)
        if not series:
            raise InputError(problems)
        try:
            predict(scans, output, request, {name: [one.uid for one in chosen] for name, chosen in series.items()})
        except CasesFailedError as error:
            problems += error.problems
        problems += _write_objects({name: chosen[0] for name, chosen in series.items()}, output, description, request)
    finally:
        shutil.rmtree(scans, ignore_errors=True)
        if is_new and not any(output.iterdir()):
            output.rmdir()
    if problems:
        raise CasesFailedError(problems)


def find_dicom(inputs: Path) -> dict[str, Contents]:
    """What each case holds: the folder itself if it is of one study or has images of its own, else each folder in it."""
    whole = read_folder(inputs)
    if not whole.series:
        what = "there is no image in it, neither DICOM nor one that SimpleITK reads"
        raise InputError.of(what, inputs, "check the path given with -i")
    paths = {frame.path for series in whole.series for frame in series.frames}
    if len({series.study for series in whole.series}) == 1 or any(path.parent == inputs for path in paths):
        name = safe_name(inputs.resolve().name)
        check_names([name], inputs)
        return {name: whole}
    folders = sorted({path.relative_to(inputs).parts[0] for path in paths})
    check_names([safe_name(name) for name in folders], inputs)
    return {safe_name(name): read_folder(inputs / name) for name in folders}


def _read_all(
    found: dict[str, Contents], channels: Sequence[str], request: Request, scans: Path
) -> tuple[dict[str, list[Series]], list[Problem]]:
    """The series of each case, one for each channel, which are written as files."""
    wanted = list(request.series) or [name if len(channels) > 1 or name.upper() in MODALITIES else "" for name in channels]
    if len(wanted) != len(channels):
        what = f"{len(wanted)} series are named, and the model takes {len(channels)} channels ({', '.join(channels)})"
        raise InputError.of(what, "--series", "name one for each")
    series: dict[str, list[Series]] = {}
    problems: list[Problem] = []
    for name, contents in tqdm(found.items(), "Reading DICOM", unit="case", disable=request.quiet, delay=2):
        try:
            chosen = [choose(contents.series, which, contents.folder) for which in wanted]
            for number, image in enumerate(on_one_grid(chosen)):
                with replacing(scans / f"{name}_{number:04d}.nii") as temporary:
                    sitk.WriteImage(image, str(temporary))
        except NoSpaceError:
            raise
        except InputError as error:
            problems += error.problems
        else:
            series[name] = chosen
    return series, problems


def _write_objects(series: dict[str, Series], output: Path, description: dict[str, Any], request: Request) -> list[Problem]:
    """A SEG of each mask, numbered as the node table numbers its nodes, and an RTSTRUCT if it is wished for."""
    values = [value for label in LabelScheme.of_description(description).nodes for value in label.values]
    writers = {SEG: write_seg, **({RTSTRUCT: write_rtstruct} if request.rtstruct else {})}
    problems: list[Problem] = []
    record = Record.read(output)
    for name, source in series.items():
        if not record.accounts_for(name):
            continue
        mask = record.mask(name)
        todo = {pattern: write for pattern, write in writers.items() if _is_due(output / pattern.format(name), mask)}
        if not todo:
            continue
        image = sitk.ReadImage(str(mask))
        instances, count = label_components(np.isin(sitk.GetArrayFromImage(image), values))
        if not count:
            log.info("%s: no node was found, and there is no DICOM object without one.", name)
        numbered = sitk.GetImageFromArray(instances)
        numbered.CopyInformation(image)  # so that it is looked at whether the mask lies on the series
        for pattern, write in todo.items() if count else ():
            try:
                write(numbered, source, output / pattern.format(name))
            except InputError as error:
                problems += error.problems
    return problems


def _is_due(path: Path, mask: Path) -> bool:
    return not path.is_file() or path.stat().st_mtime < mask.stat().st_mtime
