"""Files where folders belong, and the other way round; outputs that are inputs; links that lead nowhere."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.rows import Attempt, Place, Rows, partly, refused, works

ROWS = Rows("folders")


def everything(place: Place) -> None:
    """A file, an empty folder, a link to itself, and what commands read."""
    place.text("file", "mine")
    (place.here / "empty").mkdir()
    (place.here / "loop").symlink_to("loop")
    place.scan()
    place.copy(place.material.mask, "masks/case.nii.gz")
    place.copy(place.material.mask, "truth/case.nii.gz")
    place.copy(place.material.dicom, "dicom/anna")
    place.copy(place.material.measured, "measured")
    place.text("asked.csv", "patient,age,size\nq1,66.5,1.2\n")


MASKS = ("measure", "--no-report", "--quiet")
PLACES: dict[str, tuple[tuple[str, ...], str]] = {
    "masks to measure: not there": ((*MASKS, "-i", "nowhere", "-o", "out"), "nowhere"),
    "masks to measure: an empty folder": ((*MASKS, "-i", "empty", "-o", "out"), "empty"),
    "masks to measure: a file of something else": ((*MASKS, "-i", "file", "-o", "out"), "file"),
    "masks to measure: a link to itself": ((*MASKS, "-i", "loop", "-o", "out"), "loop"),
    "masks to measure: scans in the same folder": ((*MASKS, "-i", "masks", "--images", "masks", "-o", "out"), "masks"),
    "masks to measure: scans of other cases": ((*MASKS, "-i", "masks", "--images", "scans", "-o", "out"), "case"),
    "masks to measure: stations that are not there": ((*MASKS, "-i", "masks", "--stations", "nowhere", "-o", "out"), "nowhere"),
    "results of measuring: a file": ((*MASKS, "-i", "masks", "-o", "file"), "file"),
    "results of measuring: below a file": ((*MASKS, "-i", "masks", "-o", "file/out"), "file"),
    "results of measuring: a link to itself": ((*MASKS, "-i", "masks", "-o", "loop"), "loop"),
    "results of measuring: there already": ((*MASKS, "-i", "masks", "-o", "measured"), "--overwrite"),
    "masks to judge: not there": (("evaluate", "-r", "truth", "-p", "nowhere"), "nowhere"),
    "masks to judge: a file": (("evaluate", "-r", "truth", "-p", "file"), "file"),
    "masks to judge: an empty folder": (("evaluate", "-r", "truth", "-p", "empty"), "empty"),
    "masks to judge: a link to itself": (("evaluate", "-r", "loop", "-p", "masks"), "loop"),
    "masks to judge: of other cases": (("evaluate", "-r", "scans", "-p", "masks"), "no case is in both"),
    "masks to judge: instances that are not there": (
        ("evaluate", "-r", "truth", "-p", "masks", "-o", "out", "--instances", "nowhere"),
        "nowhere",
    ),
    "masks to judge: a dataset.json that is not there": (
        ("evaluate", "-r", "truth", "-p", "masks", "-o", "out", "--dataset-json", "nowhere.json"),
        "nowhere.json",
    ),
    "figures: into a file": (("evaluate", "-r", "truth", "-p", "masks", "-o", "file"), "file"),
    "figures: into a link to itself": (("evaluate", "-r", "truth", "-p", "masks", "-o", "loop"), "loop"),
    "a report: of nothing": (("report", "nowhere"), "nowhere"),
    "a report: of a file": (("report", "file"), "file"),
    "a report: of an empty folder": (("report", "empty"), "empty"),
    "a report: of a link to itself": (("report", "loop"), "loop"),
    "a report: of a folder and nothing": (("report", "measured", "nowhere"), "nowhere"),
    "a report: of two folders that were not evaluated": (("report", "measured", "masks"), "evaluation.json"),
    "a report: of one folder into another": (("report", "measured", "-o", "out"), "-o"),
    "a view: of nothing": (("view", "nowhere", "--no-browser"), "nowhere"),
    "a view: of a file": (("view", "file", "--no-browser"), "file"),
    "a view: of an empty folder": (("view", "empty", "--no-browser"), "empty"),
    "a phantom: where something is": (("make_phantom", "Dataset501_Full", "--quiet"), "Dataset501_Full"),
    "a phantom: below a file": (("make_phantom", "file/Dataset501_P", "--cases", "1", "--size", "32", "--quiet"), "file"),
    "a phantom: below a link to itself": (
        ("make_phantom", "loop/Dataset501_P", "--cases", "1", "--size", "32", "--quiet"),
        "loop",
    ),
    "the demo: in a file": (("demo", "file", "--quiet"), "file"),
    "the demo: in a link to itself": (("demo", "loop", "--quiet"), "loop"),
    "a conversion: of nothing": (("convert", "nowhere", "Dataset501_A"), "nowhere"),
    "a conversion: of an empty folder": (("convert", "empty", "Dataset501_A"), "empty"),
    "a conversion: of a link to itself": (("convert", "loop", "Dataset501_A"), "loop"),
    "a conversion: into its source": (("convert", "dicom", "dicom/Dataset501_A"), "inside its source"),
    "a conversion: round its source": (("convert", "Dataset501_Full/dicom", "Dataset501_Full"), "around it"),
    "a conversion: into a file": (("convert", "dicom", "Dataset502_File"), "Dataset502_File"),
    "a conversion: into a folder with something in it": (("convert", "dicom", "Dataset501_Full"), "Dataset501_Full"),
    "a conversion: called as no data set": (("convert", "dicom", "out"), "DatasetNNN_Name"),
    "a conversion: of images without their channel": (
        ("convert", "Dataset501_A", "--images", "scans"),
        "--channels",
    ),
    "a conversion: of masks of other names": (
        ("convert", "Dataset501_A", "--images", "scans", "--masks", "masks", "--channels", "CT"),
        "no mask is called like an image",
    ),
    "a conversion: of a source and images": (("convert", "dicom", "Dataset501_A", "--images", "scans"), "not clear"),
    "a model to import: not there": (("import_model", "nowhere", "--name", "theirs"), "nowhere"),
    "a model to import: a link to itself": (("import_model", "loop", "--name", "theirs"), "loop"),
    "a model to export: not there": (("export", "nowhere", "-o", "out.lnauto"), "nowhere"),
    "a model to export: a file of something else": (("export", "file", "-o", "out.lnauto"), "file"),
    "the log: in a folder that is not there": ((*MASKS, "-i", "masks", "-o", "out", "--log", "nowhere/log"), "nowhere/log"),
    "the log: a folder": ((*MASKS, "-i", "masks", "-o", "out", "--log", "empty"), "empty"),
    "the log: a file of something else": ((*MASKS, "-i", "masks", "-o", "out", "--log", "asked.csv"), "asked.csv"),
}


def of(arguments: tuple[str, ...], told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        everything(place)
        if "Dataset501_Full" in " ".join(arguments):
            place.copy(place.material.dicom, "Dataset501_Full/dicom/anna")
        place.text("Dataset502_File", "mine")
        return refused(*arguments, names=told)

    return make


for _fault, (_arguments, _told) in PLACES.items():
    ROWS.add(_fault)(of(_arguments, _told))

SCANS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "scans to predict: not there": ("nowhere", (), "nowhere"),
    "scans to predict: an empty folder": ("empty", (), "empty"),
    "scans to predict: a file of something else": ("file", (), "file"),
    "scans to predict: a link to itself": ("loop", (), "loop"),
    "scans to predict: into their own folder": ("scans", ("-o", "scans"), "one folder"),
    "masks: into a file": ("scans", ("-o", "file"), "file"),
    "masks: below a file": ("scans", ("-o", "file/out"), "file"),
    "masks: into a link to itself": ("scans", ("-o", "loop"), "loop"),
    "a table of patients: a folder": ("scans", ("--patients", "empty"), "--patients"),
}


def predicting(scans: str, more: tuple[str, ...], told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        everything(place)
        return refused("predict", *place.predict(*more, scans=scans), names=told)

    return make


for _fault, (_scans, _more, _told) in SCANS.items():
    ROWS.add(_fault)(predicting(_scans, _more, _told))


@ROWS.add("a single scan of a channel too many")
def channel_too_many(place: Place) -> Attempt:
    place.scan()
    place.scan("scans/other_0000.nii.gz")
    place.scan("scans/other_0001.nii.gz")

    def right() -> None:
        assert [path.name for path in Path("out").glob("*.nii.gz")] == ["scan.nii.gz"]

    return partly("predict", *place.predict(), names=("other", "channels"), right=right)


@ROWS.add("scans with spaces, Unicode and a line end in their names")
def odd_names(place: Place) -> Attempt:
    names = ("Frau Ä 淋巴", "a\nb", "'; rm -rf x; '")
    for name in names:
        place.scan(f"scans/{name}_0000.nii.gz")

    def right() -> None:
        assert {path.name for path in Path("out").glob("*.nii.gz")} == {f"{name}.nii.gz" for name in names}
        assert {path.name for path in Path().iterdir()} == {"scans", "out"}

    return works("predict", *place.predict(), right=right)


@ROWS.add("a results folder of a link to another folder")
def link_to_results(place: Place) -> Attempt:
    place.scan()
    (place.here / "elsewhere").mkdir()
    (place.here / "out").symlink_to("elsewhere")

    def right() -> None:
        assert Path("elsewhere/scan.nii.gz").is_file()

    return works("predict", *place.predict(), right=right)


@ROWS.add("a results folder of a link to the scans' own")
def link_to_scans(place: Place) -> Attempt:
    place.scan()
    (place.here / "out").symlink_to("scans")
    return refused("predict", *place.predict(), names="one folder")


@ROWS.add("a results folder with masks of one's own")
def own_masks(place: Place) -> Attempt:
    place.scan()
    place.copy(place.material.mask, "out/scan.nii.gz")
    return refused("predict", *place.predict(), names="nothing says that lnauto_predict made it")


@ROWS.add("a table to predict from that the results would replace")
def own_table(place: Place) -> Attempt:
    place.text("data/patients.csv", "patient,age,size\nq1,66.5,1.2\n")
    asked = ("--patients", "data/patients.csv", "-o", "data/../data", "-m", place.material.table_model)
    return refused("predict", *asked, "--overwrite", "--quiet", names="would be replaced")


@ROWS.add("nnU-Net's variables that name a file")
def variables(place: Place) -> Attempt:
    place.text("raw", "mine")
    return refused("plan_and_preprocess", "-d", "901", "--quiet", names="no data set 901")


@ROWS.add("two data sets of one number")
def two_of_one_number(place: Place) -> Attempt:
    for name in ("Dataset901_Balls", "Dataset901_Other"):
        place.text(f"raw/{name}/dataset.json", "{}")
    return refused("plan_and_preprocess", "-d", "901", "--quiet", names=("Dataset901_Balls", "Dataset901_Other"))


@ROWS.add("training what was not planned")
def not_planned(place: Place) -> Attempt:
    place.copy(place.material.planned / "raw", "raw")
    return refused("train", "901", "0", "--quiet", names="not planned yet")


@ROWS.add("a machine without a package that lnauto requires")
def without_package(place: Place) -> Attempt:
    def patch(monkey: pytest.MonkeyPatch) -> None:
        known = importlib.metadata.version

        def version(name: str) -> str:
            if name == "pydicom":
                raise importlib.metadata.PackageNotFoundError(name)
            return known(name)

        monkey.setattr(importlib.metadata, "version", version)

    return refused("doctor", "--quiet", names="pydicom", patch=patch)
