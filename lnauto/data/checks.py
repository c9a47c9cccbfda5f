"""Is the data set fit to work with? Every file is opened once, and all that is wrong with it is told together."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnauto.data.file_facts import FileFacts, read_facts
from lnauto.data.grids import differences, times
from lnauto.data.raw import Case, RawDataset, shown, survey
from lnauto.errors import InputError, Problem
from lnauto.files import write_json, write_text
from lnauto.image_files import UnreadableError, quiet_itk

log = logging.getLogger(__name__)

MOST_LINES = 50  # more go to a file
SAVE_EVERY_SECONDS = 10.0
CACHE_VERSION = 2  # to be raised when `FileFacts` or what is measured for it changes


@dataclass(frozen=True)
class DatasetFacts:
    """What the checks came to know of a sound data set."""

    cases: int
    annotated: int
    label_values: dict[str, tuple[int, ...]]  # per annotated case: the values in its label file
    empty_labels: tuple[str, ...]  # annotated cases without foreground
    files_read: int
    files_remembered: int  # not read again, because nothing changed since an earlier check


def read_and_check(folder: Path, **options: Any) -> tuple[RawDataset, DatasetFacts]:
    """Read a data set and `check` it with these options; faults of its layout and of its files are told together."""
    dataset, problems = survey(folder)
    if dataset is None:
        raise InputError(problems)
    return dataset, check(dataset, known_problems=problems, **options)


def check(
    dataset: RawDataset,
    *,
    progress: bool = True,
    workers: int = 1,
    cache: Path | None = None,
    known_problems: Sequence[Problem] = (),
) -> DatasetFacts:
    """Open every training file once; raise `InputError` with everything that is wrong, `known_problems` first.

    `workers` are threads (SimpleITK lets go of Python's lock); each holds one file at a time. `cache` is a file that
    remembers what was found, so that only new and changed files are read again, and beside which `problems.txt` is
    written where there are too many to show.
    """
    problems = list(known_problems)
    values: dict[str, tuple[int, ...] | None] = {}
    memory = _Memory(cache)
    with quiet_itk(), memory.saved():
        for case, found, label_values in _look_at_cases(dataset, memory, progress, workers):
            problems += found
            if case.label is not None:
                values[case.name] = label_values
    background = {0, dataset.ignore_label}
    empty = tuple(name for name, found in values.items() if found is not None and not set(found) - background)
    if values and len(empty) == len(values) and dataset.labels and dataset.annotation != "patient":
        what = f"no label holds any foreground ({len(empty)} of {len(values)} are empty)"
        if not {value for found in values.values() for value in found or ()} - {dataset.ignore_label}:
            what = f'all {len(values)} labels hold nothing but "ignore"'
        problems.append(Problem(what, dataset.name, 'draw nodes in at least one case, or declare "annotation": "patient"'))
    if problems:
        raise InputError(_at_most(problems, dataset.name, cache))
    sound = {name: found for name, found in values.items() if found is not None}
    return DatasetFacts(len(dataset.cases), len(sound), sound, empty, len(memory.read), len(memory.remembered))


def _at_most(problems: list[Problem], where: str, cache: Path | None) -> list[Problem]:
    """As many as one can take in; all of them where there is no place for the full list."""
    if len(problems) <= MOST_LINES or cache is None:
        return problems
    full = cache.with_name("problems.txt")
    write_text(full, "".join(f"{problem}\n" for problem in problems))
    rest = f"there are more problems than these ({len(problems)} in all)"
    return [*problems[:MOST_LINES], Problem(rest, where, f"see {full} for all of them")]


Look = tuple[Case, list[Problem], tuple[int, ...] | None]


def _look_at_cases(dataset: RawDataset, memory: _Memory, progress: bool, workers: int) -> Iterator[Look]:
    def look(case: Case) -> Look:
        return _look_at_case(dataset, case, memory)

    bar = tqdm(total=len(dataset.cases), desc="Checking", unit="case", delay=2, disable=None if progress else True)
    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        for looked in pool.map(look, dataset.cases):
            bar.update()
            memory.save_now_and_then()
            yield looked
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)  # else an interrupted check would go on to its end


def case_problems(dataset: RawDataset, case: Case) -> list[Problem]:
    """What `check` would say of one case; it need not be among those of the data set."""
    with quiet_itk():
        return _look_at_case(dataset, case, _Memory(None))[1]


def _look_at_case(dataset: RawDataset, case: Case, memory: _Memory) -> Look:
    """A case's problems, and its label's values (None: no label, or it cannot be read)."""
    problems: list[Problem] = []
    opened: list[tuple[str, FileFacts]] = []
    channels = [f"channel {number:04d} ({name})" for number, name in enumerate(dataset.channel_names.values())]
    names = channels if len(channels) > 1 and len(case.images) == len(channels) else ["image"] * len(case.images)
    files = [*zip(case.images, names, strict=True), *([(case.label, "label")] if case.label else [])]
    values = None
    for path, noun in files:
        where = shown(path, dataset.folder)
        try:
            facts = memory.facts(path, is_label=noun == "label")
        except UnreadableError as error:
            problems.append(Problem(f"the file cannot be read ({error})", where, "replace it with an intact copy"))
            continue
        opened.append((noun, facts))
        faults = [*_shape_faults(facts, noun), *(_label_faults(facts, dataset) if noun == "label" else _image_faults(facts))]
        problems += [Problem(what, where, remedy) for what, remedy in faults]
        values = facts.values if noun == "label" else values
    comparable = [(noun, facts) for noun, facts in opened if facts.is_volume and facts.has_spacing]
    for noun, facts in comparable[1:] if comparable and comparable[0][0] != "label" else []:
        problems += [Problem(what, f"case {case.name}", remedy) for what, remedy in _differences(*comparable[0], noun, facts)]
    return case, problems, values


Faults = Iterator[tuple[str, str]]  # what is wrong, what to do about it


def scan_faults(path: Path) -> list[str]:
    """What is wrong with a scan to be predicted; SimpleITK alone fills a cut-off file with zeros and takes NaN for zero."""
    try:
        facts = read_facts(path, is_label=False)
    except UnreadableError as error:
        return [f"the scan cannot be read: {error}"]
    return [what for what, _ in [*_shape_faults(facts, "scan"), *_image_faults(facts)]]


def mask_faults(path: Path) -> list[str]:
    """The same of a mask given with a scan; one without a node is none."""
    try:
        facts = read_facts(path, is_label=True)
    except UnreadableError as error:
        return [f"the mask cannot be read: {error}"]
    return [what for what, _ in _shape_faults(facts, "mask")]


def _shape_faults(facts: FileFacts, noun: str) -> Faults:
    one_per = "save one volume (3D, one value per voxel) per file"
    if len(facts.size) != 3:
        yield f"the {noun} has {len(facts.size)} dimensions ({times(facts.size)})", one_per
    elif min(facts.size) == 1:
        yield f"the {noun} is a single slice ({times(facts.size)} voxels)", one_per
    if facts.components != 1:
        yield f"the {noun} holds {facts.components} values per voxel", one_per
    if not facts.has_spacing:
        yield f"the {noun} has a spacing of {times(facts.spacing)} mm", "write the true spacing into its header"


def _image_faults(facts: FileFacts) -> Faults:
    if facts.not_finite:
        voxels = "1 voxel that is" if facts.not_finite == 1 else f"{facts.not_finite} voxels that are"
        yield f"the image holds {voxels} NaN or infinite", "replace them, for example by the value of air"
    elif facts.lowest is not None and facts.lowest == facts.highest:
        yield f"the image is constant (every voxel is {facts.lowest:g})", "replace it, or leave the case out"


def _label_faults(facts: FileFacts, dataset: RawDataset) -> Faults:
    if facts.not_finite:
        yield f"the label holds NaN or infinity ({facts.not_finite} voxels)", "give those voxels a label"
    if facts.fractions:
        some = ", ".join(f"{value:g}" for value in facts.fractions)
        yield f"the label holds values that are no whole numbers ({some})", "save it as whole numbers, without interpolation"
    ignore = dataset.ignore_label
    allowed = {0, *dataset.foreground_labels, *([] if ignore is None else [ignore])}
    strange = [value for value in facts.values if value not in allowed and not (dataset.instances and value > 0)]
    if strange and dataset.labels:
        some = ", ".join(map(str, strange[:5])) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
        declared = ", ".join(map(str, sorted(allowed)))
        yield f"the label holds {some}, but dataset.json declares only {declared}", 'add it to "labels", or correct the mask'


def _differences(first: str, a: FileFacts, second: str, b: FileFacts) -> Faults:
    if second == "label":
        first, second, remedy = "the image", "its label", "draw or resample the label on the image's grid"
    else:
        remedy = "resample the channels to one grid"
    yield from ((what, remedy) for what in differences(first, a, second, b))


class _Memory:
    """What was found in files earlier, valid as long as a file's size and time stay the same."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, Any] = {}
        self.read: dict[str, Any] = {}
        self.remembered: dict[str, Any] = {}
        self.last_save = time.monotonic()
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path else {}
            self.known = content["files"] if content.get("version") == CACHE_VERSION else {}
        except (OSError, ValueError, AttributeError, KeyError):
            log.debug("There is no usable memory of an earlier check in %s.", path)

    def facts(self, path: Path, is_label: bool) -> FileFacts:
        key = f"{'label' if is_label else 'image'} {path}"
        stamp = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None
        entry = self.known.get(key)
        if entry and entry["stamp"] == stamp:
            self.remembered[key] = entry
            return FileFacts.from_json(entry["facts"])
        facts = read_facts(path, is_label)
        self.read[key] = {"stamp": stamp, "facts": asdict(facts)}
        return facts

    def save(self, others: dict[str, Any]) -> None:
        self.last_save = time.monotonic()
        if self.path is not None and self.read:
            write_json(self.path, {"version": CACHE_VERSION, "files": {**others, **self.remembered, **self.read}})

    def save_now_and_then(self) -> None:
        if time.monotonic() - self.last_save > SAVE_EVERY_SECONDS:
            self.save(self.known)

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Whatever ends the check, what was read is kept; after a whole check, files that are gone are forgotten."""
        try:
            yield
        except BaseException:
            self.save(self.known)
            raise
        self.save({})
