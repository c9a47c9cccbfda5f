"""Texts from a user's data cannot act where lnauto writes them: not in a page, not in a table, and not as a path."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from building import write_image
from pages import Reader
from trainings import Validated

from lnauto.data.patients import PatientTable
from lnauto.files import csv_text, plain_cell, safe_cell
from lnauto.workflow.convert_sources import safe_name

Command = Callable[..., tuple[int, str, str]]

# To a spreadsheet, each of these is a formula.
FORMULAS = (
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1", '=HYPERLINK("http://evil","x")', "=cmd|' /C calc'!A1",
    "-2+3+cmd|' /C calc'!A1", "\N{FULLWIDTH EQUALS SIGN}1+1", "\N{FULLWIDTH PLUS SIGN}1", "-", "--", "+49 30 1234", "-a",
)  # fmt: skip
NUMBERS = ("-5", "+5", "-0.5", "-.5", "-1,5", "-1e-05", "-2.", "-inf", "0", "12.5")
PLAIN = ("", "a", "O'Brien", "'quoted'", "a=b", "1-2", "Müller", "a,b;c\nd", "a; -b", "x, =y", "a;'b", "1,5")
EVIL = '"><img src=x onerror=alert(1)>'


def cells_of(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row]


def is_formula(cell: str) -> bool:
    """As a spreadsheet sees it: by its first sign, unless it is a number."""
    return re.match(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", cell) is not None and not re.fullmatch(
        r"[+-]?(\d+([.,]\d*)?|[.,]\d+|inf)(e[+-]?\d+)?", cell
    )


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text_and_back(text: str) -> None:
    assert not is_formula(safe_cell(text))
    assert plain_cell(safe_cell(text)) == text
    assert plain_cell(safe_cell(f"'{text}")) == f"'{text}", "a text that has our apostrophe already"


@pytest.mark.parametrize("text", [*NUMBERS, *PLAIN])
def test_numbers_and_other_texts_are_left_as_they_are(text: str) -> None:
    assert safe_cell(text) == text
    assert plain_cell(text) == text


# Texts that begin a formula where a spreadsheet with another separator than the table's would begin a cell.
INNER = (
    "x;=cmd|' /C calc'!A1", "x\t=1+1", "x\n=1+1", "x\r\n@a", 'x;"=1+1"', "x;'=1", "x;''=1", "x;;=1;-2;+3", "x,=1", "=1;=2",
    "\t=1", "x;\n=1", "'=1;'=2", "x;-5", "x;\N{FULLWIDTH EQUALS SIGN}1",
)  # fmt: skip


def cells_elsewhere(line: str) -> list[str]:
    """As spreadsheets split a row by a separator of their own: quotes count at the start of a row only, then they are dropped."""
    return [cell.lstrip('"') for cell in re.split(r"[;\t\r\n]", line)]


@pytest.mark.parametrize("text", INNER)
def test_no_part_of_a_text_is_a_formula_to_a_spreadsheet_with_another_separator(text: str) -> None:
    line = csv_text([["a", text, "b"]])
    assert [cell for cell in cells_elsewhere(line) if is_formula(cell) or re.match(r"[=+\-@]", cell)] == []
    line = csv_text([["a", text, "b"]], ";")
    assert [cell for cell in re.split(r"[,\t\r\n]", line) if re.match(r'"*[=+\-@]', cell)] == []
    [row] = csv.reader(line.splitlines(keepends=True), delimiter=";")
    assert plain_cell(row[1]) == text
    assert plain_cell(safe_cell(safe_cell(text))) == safe_cell(text)


def test_numbers_are_written_in_full_and_nothing_for_what_is_missing() -> None:
    rows = [[-0.1, np.float64(-1.5), np.float32(-2), -3, np.int64(-4), True, None, np.nan, "-5", "=6"]]
    assert csv_text(rows) == "-0.1,-1.5,-2.0,-3,-4,True,,,-5,'=6\n"


def test_every_table_is_written_by_the_one_writer() -> None:
    """A second one would have to know of formulas, too."""
    root = Path(__file__).parents[1]
    files = [path for folder in ("lnauto", "planners", "trainers") for path in (root / folder).rglob("*.py")]
    writers = [path.name for path in files if re.search(r"csv\.writer|DictWriter|to_csv", path.read_text(encoding="utf-8"))]
    assert set(writers) == {"files.py"}


def test_names_of_cases_in_the_node_table_and_the_evaluation(tmp_path: Path, command: Command) -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4:9, 4:9, 4:9] = 1
    names = ("=1+1", "+x", "-x", "@x", "-5")
    for name in names:
        write_image(tmp_path / f"masks/{name}.nii.gz", mask)
        write_image(tmp_path / f"truth/{name}.nii.gz", mask)
    assert command("measure", "-i", tmp_path / "masks", "-o", tmp_path / "out", "--no-report", "--quiet")[0] == 0
    assert command("evaluate", "-r", tmp_path / "truth", "-p", tmp_path / "masks", "--quiet")[0] == 0
    for path in (tmp_path / "out/nodes.csv", tmp_path / "masks/evaluation.csv"):
        cells = cells_of(path)
        assert [cell for cell in cells if is_formula(cell)] == [], path
        assert {plain_cell(cell) for cell in cells} >= set(names)
    assert "-3" in {cell.split(".")[0] for cell in cells_of(tmp_path / "out/nodes.csv")}, "a negative coordinate stays a number"


@pytest.fixture
def clinical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set that is a table, with patients called like formulas and negative numbers; the test runs beside it."""
    from lnauto.paths import VARIABLES

    for name, variable in VARIABLES.items():
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [[f"=p{number}", number % 2, f"{(number % 2) - 0.5 + rng.normal(0, 0.2):.3f}", "-x"] for number in range(40)]
    path = tmp_path / "raw/Dataset904_Formulas/patients.csv"
    path.parent.mkdir(parents=True)
    path.write_text(csv_text([["patient", "lnm", "score", "=site"], *rows]))
    return path


def test_patients_of_a_table_in_what_a_head_writes(clinical: Path, tmp_path: Path, command: Command) -> None:
    assert command("plan_and_preprocess", "-d", "904", "--quiet")[0] == 0
    assert command("train", "904", "0", "--device", "cpu", "--no-report", "--quiet")[0] == 0
    [model] = (tmp_path / "results/Dataset904_Formulas").iterdir()
    asked = tmp_path / "asked.csv"
    asked.write_text(csv_text([["patient", "score", "=site"], ["=1+1", "-0.7", "=elsewhere"], ["@x", "0.8", "-x"]]))
    assert command("predict", "--patients", asked, "-o", "out", "-m", model, "--quiet")[0] == 0
    written = [Path("out/patients.csv"), *model.rglob("patients.csv")]
    assert len(written) > 1
    for path in written:
        assert [cell for cell in cells_of(path) if is_formula(cell)] == [], path
    with Path("out/patients.csv").open(encoding="utf-8") as file:
        rows = {plain_cell(row["patient"]): row for row in csv.DictReader(file)}
    assert set(rows) == {"=1+1", "@x"}
    assert float(rows["=1+1"]["probability"]) < 0.5 < float(rows["@x"]["probability"]), "the negative score was read as one"


def test_a_converted_table_says_what_the_table_said(tmp_path: Path, command: Command) -> None:
    write_image(tmp_path / "scans/a.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32))
    write_image(tmp_path / "masks/a.nii.gz", np.eye(8, dtype=np.uint8)[None].repeat(8, 0))
    (tmp_path / "table.csv").write_text("patient,cases,lnm,score,note\n=A1,a,1,-1.5,@home\n")
    flags = ("--images", tmp_path / "scans", "--masks", tmp_path / "masks", "--channels", "CT", "--quiet")
    out = tmp_path / "Dataset501_A"
    assert command("convert", out, *flags, "--table", tmp_path / "table.csv")[0] == 0
    assert [cell for cell in cells_of(out / "patients.csv") if is_formula(cell)] == []
    frame = PatientTable.read(out / "patients.csv", ["a"]).frame
    assert frame.loc["=A1"].to_dict() == {"cases": ("a",), "lnm": 1.0, "score": -1.5, "note": "@home"}


# ---- pages


def nothing_acts(path: Path) -> Reader:
    """Whatever the texts: no element of theirs, no attribute that runs, nothing that is fetched."""
    reader = Reader(path.read_text(encoding="utf-8"))
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert tag not in ("iframe", "object", "embed", "base", "form"), tag
        assert str(attributes.get("src") or "data:").startswith("data:"), (tag, attributes)
        assert not str(attributes.get("href") or "").strip().lower().startswith("javascript:"), (tag, attributes)
    return reader


def test_nothing_in_a_page_of_masks_acts(tmp_path: Path, command: Command) -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4:9, 4:9, 4:9] = 1
    write_image(tmp_path / f"masks/{EVIL}.nii.gz", mask)
    write_image(tmp_path / f"scans/{EVIL}_0000.nii.gz", mask.astype(np.float32))
    flags = ("--images", tmp_path / "scans", "--channels", EVIL, "-o", tmp_path / "out", "--quiet")
    assert command("measure", "-i", tmp_path / "masks", *flags)[0] == 0
    row = {"patient": EVIL, "probability": EVIL, "branch": EVIL, "flags": f"{EVIL}; <script>alert(1)</script>", "class": "1"}
    (tmp_path / "out/patients.csv").write_text(csv_text([row, row.values()]))
    (tmp_path / "out/run.json").write_text(json.dumps({"model": f"a/{EVIL}/b", "failed": [f"{EVIL}"], "device": EVIL}))
    assert command("report", tmp_path / "out", "--quiet")[0] == 0
    reader = nothing_acts(tmp_path / "out/report.html")
    assert EVIL in reader.rows["patients"][1][0]


def test_nothing_in_a_page_of_a_training_or_a_comparison_acts(
    validated: Validated, prepared: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(prepared / name))
    model = tmp_path / f"{EVIL}__lnautoPlans__3d_fullres".replace("/", "_")
    shutil.copytree(validated[0], model, ignore=shutil.ignore_patterns("report.*"))
    for path in model.glob("fold_*/validation/evaluation.json"):
        path.write_text(path.read_text().replace('"ball_0', json.dumps(EVIL)[:-1] + "0").replace('"node"', json.dumps(EVIL)))
    plan = json.loads((model / "plans.json").read_text())
    plan["lnauto"]["reasons"] = dict.fromkeys(plan["lnauto"]["reasons"], EVIL)
    (model / "plans.json").write_text(json.dumps(plan))
    assert command("report", model, "--quiet")[0] == 0
    assert EVIL in str(nothing_acts(model / "report.html").rows)
    sides = [model / f"fold_0/validation{end}" for end in ("", "2")]
    shutil.copytree(sides[0], sides[1])
    assert command("report", *sides, "-o", tmp_path / "compared", "--quiet")[0] == 0
    assert EVIL in str(nothing_acts(tmp_path / "compared/comparison.html").rows)


# ---- paths


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "..", ".", "a/../../b", "C:\\evil", ".hidden", "a\0b", "a\nb", "~root", "$HOME"]
)
def test_the_name_of_a_case_stays_in_its_folder_and_in_sight(name: str) -> None:
    safe = safe_name(name)
    assert Path("folder", f"{safe}.nii.gz").resolve().parent == Path("folder").resolve()
    assert not re.search(r"[/\\\0\n$~]", safe)
    assert not safe.startswith(".")
