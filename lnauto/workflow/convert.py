"""Scans from elsewhere as a raw data set: DICOM is converted, plain files are named where they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnauto import __version__
from lnauto.data.checks import case_problems
from lnauto.data.description import Description, drop_faulty_keys
from lnauto.data.raw import Case, RawDataset
from lnauto.dicom.choosing import compiled
from lnauto.dicom.damage import quiet_pydicom
from lnauto.errors import CasesFailedError, InputError, NoSpaceError, Problem
from lnauto.files import ANY, read_json, resolved, write_json
from lnauto.locks import locked
from lnauto.paths import DATASET_NAME
from lnauto.workflow.convert_case import Wishes, convert_case
from lnauto.workflow.convert_sources import SourceCase, ending_of, find_cases
from lnauto.workflow.convert_table import PatientRows, read_table

log = logging.getLogger(__name__)

STATE = "conversion.json"
CHANGED = (
    "The source of %d converted cases has changed since (such as %s). They stay as they are; to have them converted again, "
    "remove their files from imagesTr and labelsTr."
)
GONE = (
    "%d converted cases are not in the source any more (such as %s). Their files are still there and will be trained on; if they "
    "should not, remove them from imagesTr and labelsTr."
)
# Of dataset.json; what else is in it was added by hand, such as a licence.
WRITTEN = ("channel_names", "labels", "file_ending", "instances", "unannotated", "numTraining", "dataset")
STATE_FORM = {"settings": dict, "channels": [str], "cases": {ANY: {"images": [str], "label": (str, type(None))}}}


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    source: Path | None
    out: Path
    images: Path | None = None
    masks: Path | None = None
    channels: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    roi: str = ""
    structures: str = ""
    labels: tuple[str, ...] = ("node",)
    instances: bool = False
    annotation: str | None = None
    table: Path | None = None
    patient_column: str = ""
    id_column: str = ""
    quiet: bool = False

    def settings(self) -> dict[str, Any]:
        """What shapes the cases; a conversion goes on only with the same."""
        left_out = {"out", "quiet", "table", "patient_column", "id_column"}
        return {
            name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in left_out
        }


def convert(request: Request) -> RawDataset:
    """Convert what is not yet; raise CasesFailedError with a line for each case that could not be."""
    request = _with_full_paths(request)
    _check_place(request)
    with locked(request.out):
        return _convert(request)


def _convert(request: Request) -> RawDataset:
    sources = find_cases(request.source, request.images, request.masks)
    _check_choices(request, sources)
    table = _table(request, sources)
    conversion = _Conversion(request, sources)
    with quiet_pydicom():
        problems = conversion.run()
    if not conversion.done:
        raise CasesFailedError(problems)
    dataset = conversion.finish(table)
    if problems:
        raise CasesFailedError(problems)
    return dataset


def _with_full_paths(request: Request) -> Request:
    paths = {name: getattr(request, name) for name in ("source", "out", "images", "masks", "table")}
    whole: dict[str, Any] = {name: resolved(path) for name, path in paths.items() if path is not None}
    return replace(request, **whole)


def _check_place(request: Request) -> None:
    out = request.out
    if not DATASET_NAME.fullmatch(out.name):
        raise InputError.of("the folder to write is not called DatasetNNN_Name", out, "call it like Dataset501_Nodes")
    for given in (request.source, request.images, request.masks):
        if given is not None and (out == given or out.is_relative_to(given) or given.is_relative_to(out)):
            raise InputError.of("the data set would lie inside its source, or around it", out, "write it somewhere else")
    if out.exists() and not out.is_dir():
        raise InputError.of("there is a file of that name", out, "name another folder")
    if not out.is_dir() or all(path.name.startswith(".") for path in out.iterdir()):  # a killed run may have left its lock
        return
    if not (out / STATE).is_file():
        what = "the folder is not empty, and it was not begun by lnauto_convert"
        raise InputError.of(what, out, "name another folder")
    earlier = _read_state(out)["settings"]
    now = request.settings()
    different = [name for name in now if now[name] != earlier.get(name)]
    if different:
        names = ", ".join(f"{name} was {earlier.get(name)!r} and is {now[name]!r}" for name in different)
        raise InputError.of(f"it was begun with other settings ({names})", out, "name another folder, or remove this one")


def _check_choices(request: Request, sources: Sequence[SourceCase]) -> None:
    if request.series and request.channels and len(request.series) != len(request.channels):
        what = f"{len(request.series)} series are chosen, but {len(request.channels)} channels are named"
        raise InputError.of(what, "--series and --channels", "name one channel for each series")
    if any(not case.is_dicom for case in sources) and not request.channels:
        raise InputError.of("it is not said what the images are", "--channels", "name the channels, like --channels CT")
    for pattern, flag in (
        (request.roi, "--roi"),
        (request.structures, "--structures"),
        *((one, "--series") for one in request.series),
    ):
        compiled(pattern, flag)
    if request.annotation == "patient" and request.table is None:
        raise InputError.of("there are to be patient labels but no masks, and no table", "--annotation", "give a --table")


def _table(request: Request, sources: Sequence[SourceCase]) -> PatientRows | None:
    if request.table is None:
        return None
    table = read_table(request.table, request.patient_column, request.id_column)
    table.check([case.name for case in sources])
    return table


class _Conversion:
    """Goes through the cases, and remembers in `conversion.json` what is done."""

    def __init__(self, request: Request, sources: Sequence[SourceCase]) -> None:
        self.request, self.sources, self.out = request, sources, request.out
        self.ending = ending_of(sources)
        self.by_reference = any(not case.is_dicom or case.has_plain_mask for case in sources)
        state = _read_state(self.out) if (self.out / STATE).is_file() else {}
        self.done: dict[str, dict[str, Any]] = state.get("cases", {})
        self.channels: list[str] = list(request.channels) or state.get("channels", [])
        self._check_description()

    def run(self) -> list[Problem]:
        """The cases that are not done; what is wrong with those that cannot be."""
        problems: list[Problem] = []
        self._follow_source()
        self._save()
        bar = tqdm(self.sources, desc="Converting", unit="case", disable=True if self.request.quiet else None)
        for case in bar:
            if case.name in self.done:
                continue
            try:
                entry = self._convert(case)
            except NoSpaceError:
                raise
            except InputError as error:
                problems += [replace(one, where=_naming(case.name, one.where)) for one in error.problems]
                continue
            except Exception as error:  # files break the standard in ways that nobody can list, and the other cases go on
                log.debug("Case %s.", case.name, exc_info=True)
                what = f"the case cannot be converted ({type(error).__name__})"  # a library's text may quote who the patient is
                problems.append(Problem(what, f"case {case.name}", "look at its files, or leave it out"))
                continue
            self.done[case.name] = entry
            self._save()
        return problems

    def _follow_source(self) -> None:
        """What was converted stays, as somebody may have corrected it since; but what its source says now is told."""
        here = {case.name: case for case in self.sources}
        changed, gone = [], []
        for name, entry in list(self.done.items()):
            is_written = not Path(entry["images"][0]).is_absolute()
            if not self._is_there(entry) or (name not in here and not is_written):
                del self.done[name]
            elif name not in here:
                gone.append(name)
            elif entry.get("made_of") not in (None, here[name].looks()):
                if is_written:
                    changed.append(name)
                else:
                    del self.done[name]  # its files were only named, and are named anew
        if changed:
            log.warning(CHANGED, len(changed), changed[0])
        if gone:
            log.warning(GONE, len(gone), gone[0])

    def _convert(self, case: SourceCase) -> dict[str, Any]:
        request = self.request
        wishes = Wishes(
            channels=request.channels,
            series=request.series,
            roi=request.roi,
            structures=request.structures,
            instances=request.instances,
            masks=request.annotation != "patient",
        )
        made = convert_case(case, wishes, self.out, self.ending)
        channels = self.channels or made.channels
        dataset = RawDataset(self.out, self._description(channels), (), (), None)
        problems = case_problems(dataset, Case(case.name, made.images, made.label))
        if list(made.channels) != list(channels):
            what = f"it holds {', '.join(made.channels)}, the cases before it {', '.join(channels)}"
            problems.append(Problem(what, f"case {case.name}", "choose the series (--series), or leave the case out"))
        if problems:
            made.remove_written(self.out)
            raise InputError(problems)
        self.channels = list(channels)
        return {
            "images": [self._shown(path) for path in made.images],
            "label": made.label and self._shown(made.label),
            "series": list(made.series),
            "objects": list(made.objects),
            "made_of": case.looks(),
        }

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.out).as_posix() if path.is_relative_to(self.out) else str(path)

    def _is_there(self, entry: dict[str, Any]) -> bool:
        files = [*entry["images"], *([entry["label"]] if entry["label"] else [])]
        return all((self.out / file).is_file() for file in files)

    def _save(self) -> None:
        state = {"made_by": f"lnauto {__version__}", "settings": self.request.settings()}
        write_json(self.out / STATE, {**state, "channels": self.channels, "cases": self.done})

    def _check_description(self) -> None:
        """Faults of what was asked for are told before any case is converted."""
        problems, _ = drop_faulty_keys(self._description(self.channels or ["CT"]), "what was asked for")
        if problems:
            raise InputError(problems)

    def _description(self, channels: Sequence[str]) -> Description:
        description: Description = {
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": {"background": 0, **{name: number for number, name in enumerate(self.request.labels, start=1)}},
            "file_ending": self.ending,
        }
        if self.request.annotation:
            description["annotation"] = self.request.annotation
        if self.request.instances:
            description["instances"] = True
        return description

    def finish(self, table: PatientRows | None) -> RawDataset:
        """Write dataset.json and patients.csv, and read the data set as planning will."""
        description = self._description(self.channels)
        without = sorted(name for name, entry in self.done.items() if not entry["label"])
        if self.request.annotation == "patient":
            del description["labels"]
        elif without:
            description["unannotated"] = without
        description["numTraining"] = len(self.done)
        if self.by_reference:
            description["dataset"] = {
                name: {"images": entry["images"], **({"label": entry["label"]} if entry["label"] else {})}
                for name, entry in sorted(self.done.items())
            }
        if table is not None:
            here = {case.name for case in self.sources}
            table.write(self.out / "patients.csv", [name for name in self.done if name in here])
        path = self.out / "dataset.json"
        earlier = read_json(path, "remove it; it is written anew") if path.is_file() else {}
        added = {key: value for key, value in earlier.items() if key not in WRITTEN}
        write_json(path, {**added, **description})
        return RawDataset.read(self.out)


def _read_state(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = read_json(out / STATE, "remove the folder to begin anew", STATE_FORM)
    return state


def _naming(case: str, where: str) -> str:
    return where if where == f"case {case}" else f"case {case} ({where})"
