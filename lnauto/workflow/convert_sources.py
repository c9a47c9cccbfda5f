"""Where cases come from: a folder for each, two folders of files, or a table of paths."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnauto.data.patients import decoded
from lnauto.errors import InputError, Problem
from lnauto.planners.plan import hash_of

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".nhdr")
DICOM_ENDING = ".nii.gz"  # what DICOM is converted to


@dataclass(frozen=True)
class SourceCase:
    """Images as files, one for each channel, or as folders of DICOM; the mask a file, or within such a folder."""

    name: str
    images: tuple[Path, ...]
    mask: Path | None = None

    @property
    def is_dicom(self) -> bool:
        return self.images[0].is_dir()

    @property
    def has_plain_mask(self) -> bool:
        """Whether its mask is a file that is only named, as opposed to DICOM."""
        return self.mask is not None and bool(file_ending(self.mask))

    def looks(self) -> str:
        """What tells its files from what they were before, or from others: names, sizes and times."""
        told = []
        for path in (*self.images, *([self.mask] if self.mask else [])):
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path] * path.is_file()
            for file in files:
                name, state = str(file.relative_to(path) if path.is_dir() else file), file.stat()
                told.append([name, state.st_size, state.st_mtime_ns])
        return hash_of(told)


def safe_name(name: str) -> str:
    """A case's name as a file may be called."""
    return re.sub(r"[^\w.+-]+", "_", name.strip()).strip("_").lstrip("._")  # a leading dot would hide it


def check_names(names: Sequence[str], where: object) -> None:
    """Refuse cases that are called nothing, or the same, once their names are `safe_name`s."""
    if "" in names:
        what = "there is a case whose name has no letter and no digit"
        raise InputError.of(what, where, "give it a name that files can be called after")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError.of(f"several cases are called {', '.join(twice)}", where, "give each a name of its own")


def find_cases(source: Path | None, images: Path | None, masks: Path | None) -> tuple[SourceCase, ...]:
    """Every case, sorted by name."""
    for path in (source, images, masks):
        if path is not None and not path.exists():
            raise InputError.of("there is no such file or folder", path, "check the path")
    if (source is None) == (images is None) or (masks is not None and images is None):
        raise InputError.of("it is not clear where the scans are", "the command", "give SOURCE, or --images DIR with --masks DIR")
    if images is not None:
        cases = _from_two_folders(images, masks)
    elif source is not None:
        cases = _from_table(source) if source.is_file() else _from_folders(source)
    check_names([case.name for case in cases], images or source)
    return tuple(sorted(cases, key=lambda case: case.name))


def ending_of(cases: Sequence[SourceCase]) -> str:
    """The one ending of all files that are named where they are, and of what DICOM is converted to."""
    found: dict[str, Path] = {}
    for case in cases:
        for path in (*case.images, *([case.mask] if case.mask else [])):
            ending = DICOM_ENDING if path.is_dir() else file_ending(path)
            if ending or path in case.images:
                found.setdefault(ending, path)
    if len(found) > 1:
        some = "; ".join(f"{path.name} ends in {ending or 'nothing known'}" for ending, path in found.items())
        raise InputError.of(f"the files end differently ({some})", "the images and masks", "store all of them in one format")
    return next(iter(found))


def file_ending(path: Path) -> str:
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def _from_folders(source: Path) -> list[SourceCase]:
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        raise InputError.of("there is no folder in it", source, "give the folder that holds a folder for each case")
    return [SourceCase(safe_name(path.name), (path,)) for path in folders]


def _from_two_folders(images: Path, masks: Path | None) -> list[SourceCase]:
    scans, drawn = _files(images), _files(masks) if masks else {}
    if not scans:
        raise InputError.of(f"there is no image in it (known endings: {', '.join(ENDINGS)})", images, "check the path")
    numbered = {stem: re.fullmatch(r"(.+)_(\d{4})", stem) for stem in scans}
    if all(numbered.values()):  # nnU-Net's way of naming channels
        by_case: dict[str, list[Path]] = {}
        for stem in sorted(scans):
            by_case.setdefault(stem[:-5], []).append(scans[stem])
        _check_channels(by_case)
    else:
        by_case = {stem: [path] for stem, path in scans.items()}
    alone = sorted(set(drawn) - set(by_case))
    if drawn and len(alone) == len(drawn):
        what = f"no mask is called like an image (an image is {min(by_case)}, a mask is {alone[0]})"
        raise InputError.of(what, masks, "give both the same name")
    if alone:
        raise InputError(
            [Problem("this mask has no image", str(drawn[stem]), "add the image, or remove the mask") for stem in alone]
        )
    return [SourceCase(safe_name(stem), tuple(paths), drawn.get(stem)) for stem, paths in by_case.items()]


def _check_channels(by_case: dict[str, list[Path]]) -> None:
    """Whether each case's files are numbered from 0 without a gap: else they would become other channels than they are called."""
    problems = []
    for case, paths in by_case.items():
        there = [path.name[: -len(file_ending(path))][-4:] for path in paths]
        if there != [f"{number:04d}" for number in range(len(there))]:
            what = f"its channels are numbered {', '.join(there)}, not from 0000 without a gap"
            problems.append(Problem(what, f"case {case}", "add the missing file, or number the files anew"))
    if problems:
        raise InputError(problems)


def _files(folder: Path) -> dict[str, Path]:
    """By name without its ending; of a header and its data (.mhd, .nhdr) only the header has a known one."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = file_ending(path)
        if not ending or path.name.startswith("."):
            continue
        other = found.setdefault(path.name[: -len(ending)], path)
        if other != path:
            raise InputError.of(f"{other.name} and {path.name} are called alike", folder, "leave the one that is meant")
    return found


def _from_table(source: Path) -> list[SourceCase]:
    """Columns `case`, `image` or `image_0`, `image_1`, ..., and `mask`; paths as seen from the table."""
    try:
        reader = csv.DictReader(io.StringIO(decoded(source.read_bytes()), newline=""))
        columns = [name.strip() for name in reader.fieldnames or []]
        rows = [{str(name).strip(): (value or "").strip() for name, value in row.items() if name} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError.of(
            f"the table cannot be read ({error})", source, "save it as CSV again, with one header line"
        ) from error
    channels = sorted((name for name in columns if re.fullmatch(r"image(_\d+)?", name)), key=lambda name: (len(name), name))
    if "case" not in columns or not channels:
        there = ", ".join(columns) or "none"
        remedy = "give it the columns case, image (or image_0, image_1, ...), and mask, separated by commas"
        raise InputError.of(f"the table has no column case, or none of images (there: {there})", source, remedy)
    if not rows:
        raise InputError.of("the table has no rows", source, "add a row for each case")
    cases, problems = [], []
    for number, row in enumerate(rows, start=2):
        images = tuple(source.parent / row[name] for name in channels if row.get(name))
        mask = source.parent / row["mask"] if row.get("mask") else None
        missing = [path for path in (*images, *([mask] if mask else [])) if not path.exists()]
        problems += [Problem(f"there is no {path}", f"row {number} of {source}", "correct the path") for path in missing]
        if not safe_name(row["case"]) or len(images) != len(channels):
            problems.append(Problem("the row lacks its case or an image", f"row {number} of {source}", "fill it in"))
        elif not missing and len({path.is_dir() for path in images}) > 1:
            what = "the images are partly files and partly folders of DICOM"
            problems.append(Problem(what, f"row {number} of {source}", "give all of a case in one form"))
        else:
            cases.append(SourceCase(safe_name(row["case"]), images, mask))
    if problems:
        raise InputError(problems)
    return cases
