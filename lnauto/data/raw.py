"""`RawDataset`: what `dataset.json` says, the cases on disk, and the patients they belong to."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnauto.data.description import EXAMPLE, Description, drop_faulty_keys, foreground
from lnauto.data.patients import PatientTable, examine_beside
from lnauto.errors import InputError, Problem
from lnauto.nodes import names_nodes
from lnauto.paths import DATASET_NAME

LAYOUT_KEYS = {"channel_names", "file_ending", "dataset"}  # without these no case can be listed


@dataclass(frozen=True)
class Case:
    """One scan: a file per channel, and its label file if it has one."""

    name: str
    images: tuple[Path, ...]
    label: Path | None = None


@dataclass(frozen=True, eq=False)
class RawDataset:
    """An nnU-Net raw folder, or an explicit `dataset` block, with lnauto's extra keys and `patients.csv`."""

    folder: Path
    description: Description
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]
    patients: PatientTable | None

    @classmethod
    def read(cls, folder: Path) -> RawDataset:
        """Read what can be known without opening an image; every fault found so far is reported at once."""
        dataset, problems = survey(folder)
        if problems or dataset is None:
            raise InputError(problems)
        return dataset

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def id(self) -> int:
        match = DATASET_NAME.fullmatch(self.name)
        if match is None:
            raise InputError.of("the folder is not called DatasetNNN_Name", self.folder, "rename it, like Dataset501_Nodes")
        return int(match[1])

    @property
    def channel_names(self) -> dict[str, str]:
        """As in `dataset.json`, in the order of the channels."""
        named = self.description.get("channel_names", {})
        return {str(number): named[str(number)] for number in range(len(named))}

    @property
    def file_ending(self) -> str:
        return str(self.description.get("file_ending", ""))

    @property
    def labels(self) -> dict[str, int | list[int]]:
        return dict(self.description.get("labels", {}))

    @property
    def ignore_label(self) -> int | None:
        return self.description.get("labels", {}).get("ignore")

    @property
    def foreground_labels(self) -> tuple[int, ...]:
        """Every declared value that is neither background nor `ignore`."""
        return tuple(sorted(foreground(self.labels)))

    @property
    def node_labels(self) -> tuple[int, ...]:
        """The values that are lymph nodes: as declared, else those whose name says so, else every foreground label."""
        if "node_labels" in self.description:
            return tuple(sorted(set(self.description["node_labels"])))
        named = foreground({name: entry for name, entry in self.labels.items() if names_nodes(name)})
        return tuple(sorted(named)) or self.foreground_labels

    @property
    def instances(self) -> bool:
        """Whether the values in a label file number single nodes. With an ignore label they are those that are declared."""
        return bool(self.description.get("instances", False)) and self.ignore_label is None

    @property
    def annotation(self) -> str | None:
        """What `dataset.json` declares about the annotation; None: to be estimated."""
        return self.description.get("annotation")

    @property
    def annotated_cases(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.label is not None)

    @property
    def unannotated_cases(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.label is None)

    @property
    def patient_of(self) -> dict[str, str]:
        """Every case's patient; a case that `patients.csv` does not name is a patient of its own."""
        known = self.patients.patient_of if self.patients else {}
        return {case.name: known.get(case.name, case.name) for case in self.cases}


def shown(path: Path, folder: Path) -> str:
    """A path as the user reads it: from the data set's folder on, where it lies inside."""
    return str(path.relative_to(folder.parent)) if path.is_relative_to(folder) else str(path)


def survey(folder: Path) -> tuple[RawDataset | None, list[Problem]]:
    """What can be made out of the folder (None: nothing), and every fault that shows without opening an image.

    A data set that comes with problems serves further checks only: its faulty keys and files are left out.
    """
    folder = Path(os.path.abspath(folder))
    try:
        description = _load(folder)
    except InputError as error:
        return None, error.problems
    problems, faulty = drop_faulty_keys(description, shown(folder / "dataset.json", folder))
    annotation = description.get("annotation")
    cases, test_cases = list[Case](), list[Case]()
    if annotation != "table":
        if faulty & LAYOUT_KEYS:
            return None, problems
        listing = _Listing(folder, description)
        cases, test_cases = listing.cases(), listing.test_cases()
        if not faulty & {"annotation", "unannotated"}:  # else it is not known who should have a label
            listing.check_labels(cases)
        problems += listing.problems
    names, test_names = {case.name for case in cases}, {case.name for case in test_cases}
    patients, found = examine_beside(folder, annotation, names, test_names)
    return RawDataset(folder, description, tuple(cases), tuple(test_cases), patients), problems + found


def is_table_alone(folder: Path, description: Description) -> bool:
    """A patients.csv and nothing that speaks of images; such a data set need not say so."""
    speaks = {"annotation", "dataset", "labels", "channel_names", "file_ending", "modality"} & set(description)
    images = any((folder / name).exists() for name in ("imagesTr", "imagesUn"))
    return not speaks and not images and (folder / "patients.csv").is_file()


def _load(folder: Path) -> Description:
    path = folder / "dataset.json"
    where = shown(path, folder)
    if not path.is_file() and is_table_alone(folder, {}):
        return {"annotation": "table"}
    if not path.is_file():
        raise InputError.of("there is no dataset.json", folder, f"check the path, or write one like {EXAMPLE}")
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        what = f"the file is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        raise InputError.of(what, where, "correct it at that place") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError.of(f"the file cannot be read ({error})", where, "correct it") from error
    if not isinstance(description, dict):
        raise InputError.of("the file does not hold a JSON object", where, f"write it like {EXAMPLE}")
    if "channel_names" not in description and "modality" in description:
        description["channel_names"] = description["modality"]  # the older spelling, which nnU-Net still reads
    if is_table_alone(folder, description):
        description["annotation"] = "table"
    return description


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON's last-one-wins would drop a label or a case without a word."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise ValueError(f'"{key}" stands {times} times in one object')
    return dict(pairs)


class _Listing:
    """Lists the cases, and collects what is wrong with the names and the number of their files."""

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder = folder
        self.description = description
        named = description["channel_names"]
        self.channels = {f"{number:04d}": named[str(number)] for number in range(len(named))}
        self.ending = description["file_ending"]
        self.problems: list[Problem] = []
        self.excused: set[str] = set()  # from a label: un-annotated by their place, or told of already

    def add(self, what: str, where: Path | str, remedy: str) -> None:
        self.problems.append(Problem(what, shown(where, self.folder) if isinstance(where, Path) else where, remedy))

    def cases(self) -> list[Case]:
        block = self.description.get("dataset")
        found = self.of_folder("imagesTr", "labelsTr") if block is None else self.of_block(block)
        beside = self.of_folder("imagesUn")
        self.excused |= {case.name for case in beside}
        for name in sorted({case.name for case in found} & {case.name for case in beside}):
            self.add(f"case {name} is there already, among the training cases", self.folder / "imagesUn", "keep it in one place")
        if not found and not beside and not self.problems:
            others = list(self.files("imagesTr", ending=""))
            hint = f" ({others[0]} does not end in {self.ending})" if others else ""
            self.add(f"there is no case at all{hint}", self.folder / "imagesTr", f"put images there, as CASE_0000{self.ending}")
        return sorted({case.name: case for case in [*beside, *found]}.values(), key=lambda case: case.name)

    def test_cases(self) -> list[Case]:
        """Listed only: a fault there hinders no training, and prediction checks its own input."""
        apart = _Listing(self.folder, self.description)
        return [case for case in apart.of_folder("imagesTs", "labelsTs") if len(case.images) == len(self.channels)]

    def of_folder(self, images: str, labels: str = "") -> list[Case]:
        files: dict[str, dict[str, Path]] = {}
        for stem, path in self.files(images).items():
            match = re.fullmatch(r"(.+)_(\d{4})", stem)
            if match is None:
                self.add("the file's name does not say which channel it is", path, f"call it {stem}_0000{self.ending}")
                continue
            files.setdefault(match[1], {})[match[2]] = path
        masks = self.files(labels) if labels else {}
        for name in sorted(set(masks) - set(files)):
            self.add("this label has no image", masks[name], f"add {images}/{name}_0000{self.ending}, or remove the label")
        cases = []
        for name, found in files.items():
            for number in sorted(set(self.channels) - set(found)):
                missing = f"channel {number} ({self.channels[number]}) is missing"
                self.add(missing, f"case {name}", f"add {images}/{name}_{number}{self.ending}")
            for number in sorted(set(found) - set(self.channels)):
                surplus = f'channel {number} is surplus: "channel_names" does not declare it'
                self.add(surplus, found[number], "declare it, or remove the file")
            cases.append(Case(name, tuple(found[n] for n in self.channels if n in found), masks.get(name)))
        return cases

    def files(self, folder: str, ending: str | None = None) -> dict[str, Path]:
        """Files of one ending (as declared) by their name without it; hidden ones are left by file managers."""
        place, ending = self.folder / folder, self.ending if ending is None else ending
        names = sorted(os.listdir(place)) if place.is_dir() else []
        return {name.removesuffix(ending): place / name for name in names if name.endswith(ending) and not name.startswith(".")}

    def of_block(self, block: dict[str, Any]) -> list[Case]:
        cases = []
        for name, entry in block.items():
            listed, declared = len(entry["images"]), len(self.channels)
            if listed != declared:
                what = f'{listed} images are listed, but "channel_names" declares {declared}'
                self.add(what, f"case {name} of dataset.json", "list one image per channel, in their order")
            images = [self.from_block(file, name) for file in entry["images"]]
            label = self.from_block(entry["label"], name) if entry.get("label") else None
            self.excused |= {name} if entry.get("label") and not label else set()
            cases.append(Case(name, tuple(path for path in images if path), label))
        return cases

    def from_block(self, file: str, case: str) -> Path | None:
        """Absolute or relative to the data set, with `$VAR` expanded, as nnU-Net reads it."""
        expanded = os.path.expandvars(file)
        path = Path(os.path.abspath(self.folder / expanded))
        if path.is_file():
            return path
        unset = re.search(r"\$\{?(\w+)", expanded)
        remedy = f"set the variable {unset[1]}" if unset else "correct the path"
        self.add(f"there is no file {file}", f"case {case} of dataset.json", remedy)
        return None

    def check_labels(self, cases: list[Case]) -> None:
        """Who has a label, who has none, and whether that was said."""
        json_file = self.folder / "dataset.json"
        annotation = self.description.get("annotation")
        named = set(self.description.get("unannotated", []))
        labelled = {case.name for case in cases if case.label}
        for name in sorted(named - {case.name for case in cases}):
            self.add(f'"unannotated" names {name}, of which there is no image', json_file, "correct the name, or remove it")
        for name in sorted(named & labelled):
            self.add(f'"unannotated" names {name}, which has a label', json_file, "remove the name, or the label")
        if annotation == "patient":
            for name in sorted(labelled):
                self.add('there is a label, but "annotation" is "patient"', f"case {name}", 'remove it, or "annotation"')
            return
        without = sorted({case.name for case in cases} - labelled - named - self.excused)
        for name in without:
            remedy = f'add labelsTr/{name}{self.ending}, or name the case in "unannotated" of dataset.json'
            self.add("the label is missing", f"case {name}", remedy)
        if annotation and cases and not labelled and not without:
            self.add(f'"annotation" is "{annotation}", but no case has a label', json_file, 'add labels, or remove "annotation"')
