"""Tables of patients, and tables of paths."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from faults.rows import Attempt, Place, Rows, refused, works

ROWS = Rows("tables")

# ---- a data set that is a table

GOOD = "patient,lnm,age\n" + "".join(f"p{number:02d},{number % 2},{50 + number}\n" for number in range(20))
LARGE = 200_000  # beyond what Python's csv module takes for a cell


def rows_of(text: str, **changed: str) -> str:
    """The good table with other cells: `p03="p03,1,inf"`."""
    return "".join(changed.get(line.split(",")[0], line) + "\n" for line in text.splitlines())


TABLES: dict[str, tuple[bytes, str]] = {
    "no byte in it": (b"", "cannot be read"),
    "nothing but a BOM": (b"\xef\xbb\xbf", "cannot be read"),
    "nothing but line ends": (b"\n\n\n", ""),
    "a header and no row": (b"patient,lnm,age\n", "no rows"),
    "no column of patients": (GOOD.replace("patient", "name").encode(), '"patient"'),
    "two columns of one name": (GOOD.replace("lnm,age", "lnm,lnm").encode(), '"lnm"'),
    "a patient twice": ((GOOD + "p03,1,60\n").encode(), "p03 is repeated"),
    "a row that names no patient": ((GOOD + ",1,60\n").encode(), "row 22"),
    "a row with more cells than columns": ((GOOD + "p99,1,60,7,8\n").encode(), "cannot be read"),
    "a cell in quotes that never end": ((GOOD + 'p99,1,"60\n').encode(), ""),
    "a header in quotes that never end": (b'"patient,lnm,age\np01,1,60\n', ""),
    "a workbook of Excel, called .csv": (b"PK\x03\x04" + bytes(range(256)) * 4, ""),
    "NUL bytes": (GOOD.replace("p03", "p\x0003").encode(), "NUL"),
    "a header of a cell that no reader takes": (b"patient" + b"x" * LARGE + b",lnm\n", "cannot be read"),
    "a status of metastasis that is a word": (rows_of(GOOD, p03="p03,maybe,60").encode(), '"maybe"'),
    "a status of metastasis of 2": (rows_of(GOOD, p03="p03,2,60").encode(), '"2"'),
    "an infinite age": (rows_of(GOOD, p03="p03,1,inf").encode(), "infinite"),
    "no status of metastasis known": (("patient,lnm,age\n" + "p1,NaN,60\np2,,61\n").encode(), "lnm"),
    "metastasis in every patient": (("patient,lnm,age\n" + "".join(f"p{n},1,{n}\n" for n in range(9))).encode(), ""),
    "one patient": (b"patient,lnm,age\np1,1,60\n", ""),
    "a status and nothing to tell it by": (("patient,lnm\n" + "".join(f"p{n},{n % 2}\n" for n in range(9))).encode(), ""),
}


def planning(content: bytes, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        folder = place.here / "raw/Dataset903_Rows"
        folder.mkdir(parents=True)
        (folder / "patients.csv").write_bytes(content)
        return refused("plan_and_preprocess", "-d", "903", "--quiet", names=("Dataset903_Rows", told))

    return make


for _fault, (_content, _told) in TABLES.items():
    ROWS.add(f"table to learn from: {_fault}")(planning(_content, _told))


@ROWS.add("table to learn from: a folder of its name")
def folder_of_its_name(place: Place) -> Attempt:
    (place.here / "raw/Dataset903_Rows/patients.csv").mkdir(parents=True)
    return refused("plan_and_preprocess", "-d", "903", "--quiet", names="Dataset903_Rows")


@ROWS.add("table beside scans: a case that is given to two patients, and one that is not there")
def beside_scans(place: Place) -> Attempt:
    place.copy(place.material.planned / "raw", "raw")
    place.text("raw/Dataset901_Balls/patients.csv", "patient,cases\nA,ball_00;ball_01\nB,ball_01\nC,../../secret\n")
    names = ("ball_01 is given to two patients", "../../secret")
    return refused("plan_and_preprocess", "-d", "901", "--quiet", names=names, leaves="preprocessed*")


# ---- clinical rows for a head that was trained on a table

ASKED = "patient,age,size\nq1,66.5,1.2\nq2,48,-0.5\n"


def answers(path: str = "out/patients.csv") -> dict[str, tuple[float, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return {row["patient"]: (float(row["probability"]), row["flags"]) for row in csv.DictReader(file)}


def asking(place: Place, name: str, content: bytes | None = None, out: str = "out") -> tuple[object, ...]:
    if content is not None:
        (place.here / name).write_bytes(content)
    return "--patients", name, "-o", out, "-m", place.material.table_model, "--quiet"


def the_same_as_plain(place: Place) -> Callable[[], None]:
    def right() -> None:
        from lnauto.commands.predict import main

        place.text("plain.csv", ASKED)
        assert main([str(one) for one in asking(place, "plain.csv", out="plain")]) == 0
        assert answers() == answers("plain/patients.csv")
        assert set(answers()) == {"q1", "q2"}

    return right


SPELLINGS: dict[str, bytes] = {
    "a BOM": b"\xef\xbb\xbf" + ASKED.encode(),
    "semicolons and decimal commas": ASKED.replace(",", ";").replace(".", ",").encode(),
    "UTF-16, as Excel's Unicode text": ASKED.replace(",", "\t").encode("utf-16"),
    "tabs and the line ends of Windows": ASKED.replace(",", "\t").replace("\n", "\r\n").encode(),
    "blanks round every cell, and empty rows": ASKED.replace(",", " , ").replace("\n", "\n\n").encode(),
}


def spelled(content: bytes) -> Callable[[Place], Attempt]:
    return lambda place: works("predict", *asking(place, "asked.csv", content), right=the_same_as_plain(place))


for _fault, _content in SPELLINGS.items():
    ROWS.add(f"table to predict from: {_fault}")(spelled(_content))


@ROWS.add("table to predict from: a row of nothing but NaN, and umlauts in the code page of Windows")
def nan_row(place: Place) -> Attempt:
    def right() -> None:
        found = answers()
        assert found["Jörg"][1] == "age missing; size missing"
        assert 0 < found["Jörg"][0] < 1

    content = (ASKED + "Jörg,NaN,nan\n").encode("cp1252")
    return works("predict", *asking(place, "asked.csv", content), right=right)


@ROWS.add("table to predict from: without a column that the head reads")
def without_column(place: Place) -> Attempt:
    def right() -> None:
        assert answers()["q1"][1] == "size missing"

    return works("predict", *asking(place, "asked.csv", b"patient,age\nq1,66\n"), right=right)


UNASKABLE: dict[str, tuple[bytes, str]] = {
    "a patient twice": ((ASKED + "q1,50,1\n").encode(), "q1 is repeated"),
    "no row": (b"patient,age,size\n", "no rows"),
    "no byte in it": (b"", "asked.csv"),
    "an infinite size": (b"patient,age,size\nq1,60,-inf\n", "infinite"),
}


def unaskable(content: bytes, told: str) -> Callable[[Place], Attempt]:
    return lambda place: refused("predict", *asking(place, "asked.csv", content), names=("asked.csv", told))


for _fault, (_content, _told) in UNASKABLE.items():
    ROWS.add(f"table to predict from: {_fault}")(unaskable(_content, _told))


@ROWS.add("table to predict from: not there")
def not_there(place: Place) -> Attempt:
    return refused(
        "predict", "--patients", "asked.csv", "-o", "out", "-m", place.material.table_model, names=("asked.csv", "no such file")
    )


# ---- tables of paths, to convert

PATHS: dict[str, tuple[bytes, str]] = {
    "no byte in it": (b"", "no column case"),
    "a header and no row": (b"case,image,mask\n", "no rows"),
    "semicolons": (b"case;image;mask\na;scan.nii.gz;mask.nii.gz\n", "commas"),
    "an image that is not there": (b"case,image,mask\na,nowhere.nii.gz,\n", "nowhere.nii.gz"),
    "a row without its image": (b"case,image,mask\na,,mask.nii.gz\n", "row 2"),
    "a case twice": (b"case,image\na,scan.nii.gz\na,scan.nii.gz\n", "several cases are called a"),
    "two cases that are one to a file system": (
        b"case,image\na b,scan.nii.gz\na/b,scan.nii.gz\n",
        "several cases are called a_b",
    ),
    "a case called /": (b"case,image\n/,scan.nii.gz\n", "row 2"),
    "a case called ..": (b"case,image\n..,scan.nii.gz\n", "row 2"),
    "no encoding that is known": (b"case,image\n\xff\xfe\x81,scan.nii.gz\n", "paths.csv"),
    "NUL bytes": (b"case,image\na\x00,scan\x00.nii.gz\n", "paths.csv"),
    "a cell that no reader takes": (b"case,image\n" + b"a" * LARGE + b",scan.nii.gz\n", "paths.csv"),
}


def of_paths(content: bytes, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        place.copy(place.material.scan, "scan.nii.gz")
        place.copy(place.material.mask, "mask.nii.gz")
        (place.here / "paths.csv").write_bytes(content)
        return refused("convert", "paths.csv", "Dataset501_A", "--channels", "CT", "--quiet", names=told)

    return make


for _fault, (_content, _told) in PATHS.items():
    ROWS.add(f"table of paths: {_fault}")(of_paths(_content, _told))


@ROWS.add("table of paths: cases called ../../out and -x")
def escaping(place: Place) -> Attempt:
    place.copy(place.material.dicom / "ct", "ct")
    place.text("in/paths.csv", "case,image\n../../out,../ct\n-x,../ct\n")

    def right() -> None:
        images = {path.name for path in Path("to/Dataset501_A/imagesTr").iterdir()}
        assert images == {"out_0000.nii.gz", "-x_0000.nii.gz"}
        assert {path.name for path in Path().iterdir()} == {"ct", "in", "to"}

    return works("convert", "in/paths.csv", "to/Dataset501_A", "--quiet", right=right)


# ---- tables of patients for a conversion

OF_CONVERSION: dict[str, tuple[bytes, str]] = {
    "no byte in it": (b"", "patients.csv"),
    "nobody who was converted": (b"patient,lnm\nzoe,1\n", "anna"),
    "no column of patients": (b"who,lnm\nanna,1\n", '"patient"'),
    "rows of a patient that differ": (b"patient,cases,lnm\nA,anna,1\nA,anna,0\n", "differ"),
    "NUL bytes": (b"patient,lnm\nan\x00na,1\n", ""),
}


def converting(content: bytes, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        place.copy(place.material.dicom, "in/anna")
        (place.here / "patients.csv").write_bytes(content)
        return refused("convert", "in", "Dataset501_A", "--table", "patients.csv", "--quiet", names=("patients.csv", told))

    return make


for _fault, (_content, _told) in OF_CONVERSION.items():
    ROWS.add(f"table of patients to convert: {_fault}")(converting(_content, _told))
