"""`run.json` beside predicted masks: what made each of them, and of which scan, so that none passes for another's.

A case is written into it before its mask is there, and after an earlier mask of it has gone: a mask that is there and is listed
was made as the list says, whenever a run is stopped.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnauto.data.raw import Case
from lnauto.errors import InputError, Problem
from lnauto.files import sha256_of, write_json
from lnauto.image_files import UnreadableError, check_there, itk_reason
from lnauto.workflow.head_predict import ATTENTION
from lnauto.workflow.report import PATIENTS, PROBABILITIES, RUN, read_run

log = logging.getLogger(__name__)

ENDING = ".nii.gz"
SEG, RTSTRUCT = "{}.seg.dcm", "{}.rtstruct.dcm"
BESIDE = (SEG, RTSTRUCT, f"{PROBABILITIES}/{{}}{ENDING}", f"{ATTENTION}/{{}}{ENDING}")  # what is made from a mask or with it
MODEL = ("model", "folds", "plan_hash", "weights")
SETTINGS = {  # that change a mask, and what they are called where they are told
    "tta": "--tta",
    "overlap": "--overlap",
    "smallest_node_mm3": "--filter (mm3)",
    "region": "--region",
    "skips_air": "--region (tiles of air left out)",
    "engine": "--engine",
    "precision": "--precision",
}
MOST_NAMED = 5  # in a line
ANEW = "give another folder with -o, or add --overwrite"


@dataclass(eq=False)
class Record:
    """What is known of the masks in a folder.

    Attributes:
        run: what the last run said of itself; empty: there was none.
        cases: of each mask what made it and what it was made from.
        making: what makes the masks of this run.
        head: the patient head that `patients.csv` there is of; None: that table is nobody's.
        series: of scans that came as DICOM the UIDs of their series.
    """

    output: Path
    run: dict[str, Any]
    cases: dict[str, dict[str, Any]]
    making: dict[str, Any] = field(default_factory=dict)
    head: Any = None
    series: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, output: Path, series: Mapping[str, Sequence[str]] | None = None) -> Record:
        path = output / RUN
        run = read_run(path, "remove the folder, or give another one with -o") if path.is_file() else {}
        cases = run.pop("cases", None)
        if cases is None:  # an earlier version's, whose masks were all of one model; with a "head" alone there are none
            known = {key: run[key] for key in (*MODEL, *SETTINGS) if key in run}
            masks = [] if "head" in run or not run else sorted(output.glob(f"*{ENDING}"))
            cases = {path.name.removesuffix(ENDING): {**known, "images": []} for path in masks}
        return cls(output, run, cases, head=run.pop("head", None), series=series or {})

    def mask(self, case: str) -> Path:
        return self.output / f"{case}{ENDING}"

    def accounts_for(self, case: str) -> bool:
        """Whether there is a mask of the case, and it is known what made it."""
        return case in self.cases and self.mask(case).is_file()

    def check(self, cases: Sequence[Case], model: Mapping[str, Any]) -> None:
        """Masks that are there are kept, so they must be this model's, and of these scans."""
        if self.run or (self.output / RUN).is_file():
            _check_model(self.run, model, self.output)
        problems: list[Problem] = []
        for case in cases:
            if not (mask := self.mask(case.name)).is_file():
                continue
            if case.name not in self.cases:
                what = "there is something of this name already, and nothing says that lnauto_predict made it"
                raise InputError.of(what, mask, f"{ANEW} to replace it")
            _check_model(self.cases[case.name], model, mask)
            if self._is_of_another_scan(case):
                problems.append(Problem("the mask that is there was made of another scan", str(mask), ANEW))
        if problems:
            raise InputError(problems)

    def _is_of_another_scan(self, case: Case) -> bool:
        known = self.cases[case.name]
        if not known["images"]:  # an earlier version did not say
            return False
        series = self._series_of(case.name)
        return known["images"] != [looks_of(image) for image in case.images] or known.get("series", series) != series

    def _series_of(self, case: str) -> list[str]:
        """Hashes, as UIDs lead to a patient."""
        return [hashlib.sha256(uid.encode()).hexdigest() for uid in self.series.get(case, ())]

    def check_settings(self, kept: Sequence[Case], wanted: Mapping[str, Any], with_probability: bool) -> None:
        """Masks that are kept must have been made with what is wanted, as far as it is known of them."""
        for case in kept:
            if with_probability and not (self.output / PROBABILITIES / f"{case.name}{ENDING}").is_file():
                what = "the mask that is there was made without --save-probabilities"
                raise InputError.of(what, self.mask(case.name), ANEW)
            for key, value in wanted.items():
                if (known := self.cases[case.name].get(key, value)) != value:
                    what = f"the mask that is there was made with another {SETTINGS[key]} ({known}, and now {value})"
                    raise InputError.of(what, self.mask(case.name), ANEW)

    @contextmanager
    def owned(self, waiting: Sequence[Case], making: Mapping[str, Any]) -> Iterator[None]:
        """Says whose the masks are before the first of them is there; those that are made anew are taken away first, with all
        that was made from them."""
        is_new = not self.run
        for case in waiting:
            self._remove(case.name)
        self.making = dict(making)
        self.run = {key: making[key] for key in MODEL}
        self.write()
        try:
            yield
        except BaseException:
            if is_new and not self.cases:
                (self.output / RUN).unlink(missing_ok=True)
            raise

    def begin(self, case: str, images: Sequence[Mapping[str, Any]]) -> None:
        """Write down a case whose mask is about to be written."""
        self.mask(case).unlink(missing_ok=True)  # one that nobody accounted for, and that may be replaced
        self.cases[case] = {**self.making, "images": list(images)}
        if case in self.series:
            self.cases[case]["series"] = self._series_of(case)
        self.write()

    def write(self) -> None:
        head = {} if self.head is None else {"head": self.head}
        write_json(self.output / RUN, {**self.run, **head, "cases": self.cases})

    def drop_patients(self) -> None:
        """Take away the table of an earlier head, which says nothing of masks that were made anew."""
        if self.head is not None:
            (self.output / PATIENTS).unlink(missing_ok=True)
            self.head = None

    def tell_left_out(self, cases: Collection[str]) -> None:
        """Say which masks the tables, which are of these cases, leave out."""
        if others := [case for case in sorted(self.cases) if case not in cases and self.accounts_for(case)]:
            named = ", ".join(others[:MOST_NAMED]) + (", ..." if len(others) > MOST_NAMED else "")
            what = "The tables are of the scans given now, and leave out %d masks of other scans that are in %s (%s)."
            log.warning(what, len(others), self.output, named)

    def _remove(self, case: str) -> None:
        """A mask that a run made, and what was made from it; a user's own stays until its place is needed."""
        if case in self.cases:
            for pattern in BESIDE:
                (self.output / pattern.format(case)).unlink(missing_ok=True)
            self.mask(case).unlink(missing_ok=True)
            del self.cases[case]


def looks_of(image: Path) -> dict[str, Any]:
    """By what a scan is known again."""
    try:
        check_there(image)
        digest = _sha256_with_voxels(image) if image.suffix == ".mhd" else sha256_of(image)
        return {"bytes": image.stat().st_size, "sha256": digest}
    except (UnreadableError, OSError, RuntimeError) as error:
        why = itk_reason(error) if isinstance(error, RuntimeError) else error
        raise InputError.of(f"the scan cannot be read: {why}", image.name, "check that it is a whole 3D image") from error


def _sha256_with_voxels(header: Path) -> str:
    """Of a header whose voxels lie in another file."""
    import SimpleITK as sitk

    digest = hashlib.sha256(header.read_bytes())
    digest.update(sitk.GetArrayFromImage(sitk.ReadImage(str(header))).tobytes())
    return digest.hexdigest()


def _check_model(known: Mapping[str, Any], model: Mapping[str, Any], where: Path) -> None:
    told = {"weights": model["weights"], **known}  # an earlier version did not say
    if differing := [key for key in MODEL if told.get(key) != model[key]]:
        theirs = f"{Path(known.get('model', '?')).name}, fold {', '.join(known.get('folds', '?'))}"
        masks = "masks that are there were" if where.is_dir() else "mask that is there was"
        made = "before this model was trained anew" if differing == ["weights"] else "by another model"
        raise InputError.of(f"the {masks} made {made} ({theirs})", where, ANEW)
