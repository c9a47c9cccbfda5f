"""Full disks, and places that may not be written to or read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from faults.breaking import denied, full, unreadable
from faults.rows import Attempt, Patch, Place, Rows, partly, refused

ROWS = Rows("disks")
FULL, DENIED = "the disk is full", "Permission denied"
TRAIN = ("train", "901", "0", "--device", "cpu", "--iterations", "1", "--workers", "0", "--no-report", "--quiet")
PLAN = ("plan_and_preprocess", "-d", "901", "--device", "cpu", "--quiet")


def nothing(place: Place) -> None:
    pass


def raw(place: Place) -> None:
    place.copy(place.material.planned / "raw", "raw")


def planned(place: Place) -> None:
    for name in ("raw", "preprocessed"):
        place.copy(place.material.planned / name, name)


def mask(place: Place) -> None:
    place.copy(place.material.mask, "masks/case.nii.gz")


def both(place: Place) -> None:
    for side in ("truth", "masks"):
        place.copy(place.material.mask, f"{side}/case.nii.gz")


def measured(place: Place) -> None:
    place.copy(place.material.measured, "measured")


def evaluated(place: Place) -> None:
    for name in ("first", "second"):
        place.copy(place.material.evaluated, name)


def dicom(place: Place) -> None:
    place.copy(place.material.dicom, "in/anna")


def paths(place: Place) -> None:
    place.copy(place.material.scan, "in/scan.nii.gz")
    place.text("in/paths.csv", "case,image\na,scan.nii.gz\n")


def table(place: Place) -> None:
    from faults.material import write_patients

    write_patients(place.here / "raw/Dataset902_Table/patients.csv")


def asked(place: Place) -> None:
    place.text("asked.csv", "patient,age,size\nq1,66.5,1.2\n")


LEAVES = {"measured/paper": "measured/report.*", "results": "results/*"}  # which are whole, and a begun log

MEASURE = ("measure", "-i", "masks", "-o", "out", "--no-report", "--quiet")
EVALUATE = ("evaluate", "-r", "truth", "-p", "masks", "-o", "out", "--quiet")
CONVERT = ("convert", "in/paths.csv", "to/Dataset501_A", "--channels", "CT", "--quiet")
PHANTOM = ("make_phantom", "to/Dataset501_P", "--cases", "1", "--size", "32", "--quiet")
WRITING: dict[str, tuple[Callable[[Place], None], tuple[str, ...], str]] = {
    "measured tables": (mask, MEASURE, "out"),
    "figures of an evaluation": (both, EVALUATE, "out"),
    "the page of measured masks": (measured, ("report", "measured", "--quiet"), "measured"),
    "the page of a comparison": (evaluated, ("report", "first", "second", "-o", "out", "--quiet"), "out"),
    "what is for a paper": (measured, ("report", "measured", "--paper", "--quiet"), "measured/paper"),
    "a plan": (raw, (*PLAN, "--no-preprocess"), "preprocessed"),
    "a plan for a table": (table, ("plan_and_preprocess", "-d", "902", "--quiet"), "preprocessed"),
    "a conversion by reference": (paths, CONVERT, "to"),
    "a phantom": (nothing, PHANTOM, "to"),
    "the demo": (nothing, ("demo", "to", "--cases", "2", "--test-cases", "1", "--size", "32", "--quiet"), "to"),
    "a training": (planned, TRAIN, "results"),
    "the log": (mask, (*MEASURE, "--log", "logs/lnauto.log"), "logs"),
}


def attempt(
    prepare: Callable[[Place], None], command: tuple[str, ...], where: str, how: Callable[..., Patch], told: str
) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        prepare(place)
        (place.here / where.split("/")[0]).mkdir(exist_ok=True)
        return refused(*command, names=(where.split("/")[0], told), patch=how(where), leaves=LEAVES.get(where, "preprocessed/*"))

    return make


for _fault, (_prepare, _command, _where) in WRITING.items():
    if _fault != "the log":
        ROWS.add(f"full disk under {_fault}")(
            attempt(_prepare, _command, _where, full, FULL if _fault != "a phantom" else "could not write")
        )
    ROWS.add(f"no permission to write {_fault}")(attempt(_prepare, _command, _where, denied, DENIED))


def no_mask_is_there() -> None:
    assert not list(Path("out").glob("*.nii.gz"))


@ROWS.add("full disk under a predicted mask")
def full_prediction(place: Place) -> Attempt:
    place.scan()
    (place.here / "out").mkdir()
    return refused("predict", *place.predict(), names=("out", FULL), patch=full("out"))


@ROWS.add("a disk that fills up with the first of two masks")
def filling_up(place: Place) -> Attempt:
    place.scan()
    place.scan("scans/second_0000.nii.gz")

    def right() -> None:
        assert [path.name for path in Path("out").glob("*.nii.gz")] == ["second.nii.gz"]

    return partly("predict", *place.predict(), names=("scan", "could not write"), right=right, patch=full("out/scan.nii.gz"))


@ROWS.add("no permission to write predicted masks")
def denied_prediction(place: Place) -> Attempt:
    place.scan()
    return refused("predict", *place.predict(), names=("out", DENIED), patch=denied("out"))


@ROWS.add("full disk under probabilities of a table")
def full_answers(place: Place) -> Attempt:
    asked(place)
    wanted = ("--patients", "asked.csv", "-o", "out", "-m", place.material.table_model, "--quiet")
    return refused("predict", *wanted, names=("out", FULL), patch=full("out"))


@ROWS.add("full disk under an export")
def full_export(place: Place) -> Attempt:
    return refused(
        "export", place.material.model, "-o", "out/model.lnauto", "--quiet", names=("out", FULL), patch=full("out"), leaves="out"
    )


@ROWS.add("full disk under an export for stock nnU-Net")
def full_stock(place: Place) -> Attempt:
    return refused(
        "export", place.material.model, "--stock", "-o", "out/model", "--quiet", names=("out", "written"), patch=full("out")
    )


@ROWS.add("full disk under an imported model")
def full_import(place: Place) -> Attempt:
    wanted = (place.material.model, "--name", "theirs", "-f", "0", "--quiet")
    return refused("import_model", *wanted, names=("results", "written"), patch=full("results"))


@ROWS.add("full disk under a conversion of DICOM")
def full_conversion(place: Place) -> Attempt:
    dicom(place)
    return refused("convert", "in", "to/Dataset501_A", "--quiet", names=("to", "written"), patch=full("to"))


@ROWS.add("full disk under preprocessed cases")
def full_preprocessed(place: Place) -> Attempt:
    planned(place)
    for path in (place.here / "preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres").glob("ball_01*"):
        path.unlink()

    def right() -> None:
        folder = Path("preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres")
        assert not list(folder.glob(".*"))
        assert (folder / "ball_00.pkl").is_file()

    patch = full("preprocessed/Dataset901_Balls/lnautoPlans_3d_fullres")
    return replace(refused(*TRAIN, names=("ball_01", FULL), patch=patch), right=right)


READING: dict[str, tuple[Callable[[Place], None], tuple[object, ...], str]] = {
    "a folder of masks": (mask, MEASURE, "masks"),
    "a folder of masks to judge": (both, EVALUATE, "truth"),
    "a folder of DICOM": (dicom, ("convert", "in", "to/Dataset501_A", "--quiet"), "in"),
    "a table of paths": (paths, CONVERT, "in/paths.csv"),
    "a folder of raw data": (raw, PLAN, "raw/Dataset901_Balls/imagesTr"),
    "a dataset.json": (raw, PLAN, "raw/Dataset901_Balls/dataset.json"),
    "a table of patients": (table, ("plan_and_preprocess", "-d", "902", "--quiet"), "raw/Dataset902_Table/patients.csv"),
    "a plan": (planned, TRAIN, "preprocessed/Dataset901_Balls/lnautoPlans.json"),
    "all raw data": (raw, PLAN, "raw"),
    "a node table": (measured, ("report", "measured", "--quiet"), "measured/nodes.json"),
    "an evaluation": (evaluated, ("report", "first", "second", "--quiet"), "second/evaluation.json"),
}


def reading(prepare: Callable[[Place], None], command: tuple[object, ...], where: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        prepare(place)
        return refused(*map(str, command), names=(where.split("/")[-1], DENIED), patch=unreadable(where), leaves="preprocessed/*")

    return make


for _fault, (_prepare, _command, _where) in READING.items():
    ROWS.add(f"no permission to read {_fault}")(reading(_prepare, _command, _where))


@ROWS.add("no permission to read a scan")
def unreadable_scan(place: Place) -> Attempt:
    place.scan()
    place.scan("scans/bad_0000.nii.gz")

    def right() -> None:
        assert [path.name for path in Path("out").glob("*.nii.gz")] == ["scan.nii.gz"]

    return partly("predict", *place.predict(), names=("bad", DENIED), right=right, patch=unreadable("scans/bad_0000.nii.gz"))


@ROWS.add("no permission to read scans")
def unreadable_scans(place: Place) -> Attempt:
    place.scan()
    return refused("predict", *place.predict(), names=("scans", DENIED), patch=unreadable("scans"))


@ROWS.add("no permission to read a model")
def unreadable_model(place: Place) -> Attempt:
    place.scan()
    place.copy(place.material.model, "model")
    return refused("predict", *place.predict(model="model"), names=("plans.json", DENIED), patch=unreadable("model/plans.json"))


@ROWS.add("no permission to read a model file")
def unreadable_file(place: Place) -> Attempt:
    place.scan()
    place.copy(place.material.packed, "model.lnauto")
    return refused(
        "predict", *place.predict(model="model.lnauto"), names=("model.lnauto", DENIED), patch=unreadable("model.lnauto")
    )


@ROWS.add("a log on a disk that is full")
def full_log(place: Place) -> Attempt:
    mask(place)
    return refused(*MEASURE, "--log", "/dev/full", names=("/dev/full", "No space left on device"))
