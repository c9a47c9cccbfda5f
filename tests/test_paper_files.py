"""The files of `lnauto_report --paper` by themselves: what CSV, LaTeX, SVG and PNG hold, and what happens to those there."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import typeset_rows
from PIL import Image
from trainings import HEAD

from lnauto.report.drawing import Drawing, figure_of
from lnauto.report.page import Page, Section
from lnauto.report.paper import LONG_TABLE, csv_of, latex_of, write_paper
from lnauto.report.tables import Column, Html, Interval, Place, Share, Table, joined

Command = Callable[..., tuple[int, str, str]]
SPECIAL = r"""& % _ # $ { } ~ ^ \ < > | [ ] * " --x"""


def typeset(table: Table, folder: Path) -> list[list[str]]:
    (folder / "t.tex").write_text(latex_of(table, "t"), encoding="utf-8")
    return typeset_rows(folder / "t.tex")


def page_of(*pieces: Any) -> Page:
    return Page("title", "", [Section("one", "One", pieces)])


def drawing(name: str) -> Drawing:
    figure = figure_of((2, 1))
    figure.subplots().plot([0, 1], [0.1, 0.7])
    numbers = [{"x": 0, "y": 0.1}, {"x": 1, "y": 0.1 + 0.2, "name": "=1"}]
    return Drawing(name, figure, "A & line", "It <rises>.", numbers)


# ---- CSV


def test_cells_become_plain_numbers_in_columns_of_their_own() -> None:
    columns = [Column("case"), Column("Dice, A", ".2f"), Column("AUC"), Column("found"), Column("at", name="mm"), Column("p")]
    rows = [
        [Html("<a href='#x'>b &amp; c</a>", "b & c"), 2 / 3, Interval(0.1, None, 0.3), Share(1, 3), Place(1.5, -2, 3), None],
        ["d", float("nan"), Interval(None), Share(0, 0), None, Html("&lt;0.001", 0.00012)],
    ]
    table = Table("t", columns, rows)
    assert csv_of(table.records()).splitlines() == [
        "case,dice_a,auc,auc_low,auc_high,found,found_of,mm_x,mm_y,mm_z,p",
        "b & c,0.6666666666666666,0.1,,0.3,1,3,1.5,-2,3,",
        "d,,,,,0,0,,,,0.00012",
    ]


def test_headings_stand_once_and_without_rows() -> None:
    table = Table("t", [Column("Dice, a b"), Column("Dice, a_b"), Column("%")], [])
    assert csv_of(table.records(), table.headings()) == "dice_a_b,dice_a_b_2,column\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_is_a_formula_and_numbers_stay_numbers(start: str) -> None:
    text = f'{start}1+2"\n,x'
    columns = [Column("a"), Column("b"), Column("n", ".1f"), Column("i")]
    table = Table("t", columns, [[text, Html("<b>x</b>", text), -1.5, Interval(-0.5, -1.0, 0.0)]])
    [[*texts, number, value, low, _]] = list(csv.reader(io.StringIO(csv_of(table.records()), newline="")))[1:]
    assert texts == [f"'{text}"] * 2
    assert (number, value, low) == ("-1.5", "-0.5", "-1.0")


def test_tables_of_cases_are_one_with_every_column() -> None:
    one = Table("n-1", [Column("node", "d"), Column("station")], [[1, "2R"]], name="nodes", case="=a")
    two = Table("n-2", [Column("node", "d"), Column("mean CT", ".1f")], [[1, 40.0], [2, 41.0]], name="nodes", case="b")
    assert csv_of(joined([one, two]).records()) == "case,node,station,mean_ct\n'=a,1,2R,\nb,1,,40.0\nb,2,,41.0\n"


# ---- LaTeX


def test_special_characters_are_text(tmp_path: Path) -> None:
    table = Table("t", [Column(SPECIAL, how=f"{SPECIAL}\nx"), Column("n", ".1f")], [[SPECIAL, 1.0], ["* [x]", 2.0]], SPECIAL)
    assert typeset(table, tmp_path) == [[SPECIAL, "n"], [SPECIAL, "1.0"], ["* [x]", "2.0"]]
    caption = re.search(r"\\caption\{(.*)\}\n", latex_of(table, "t"))
    assert caption is not None
    escaped = r"\& \% \_ \# \$ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{} \textgreater{} \textbar{}"
    assert caption[1] == escaped + " {[} {]} {*} {''} -{}-x."
    assert r"\label{tab:t}" in latex_of(table, "t")


def test_numbers_are_those_of_the_page() -> None:
    columns = [Column("case"), Column("n", ".2f"), Column("interval"), Column("p"), Column("found")]
    rows = [
        ["-a", -1.234, Interval(0.714, 0.658, 0.75), Html("&lt;0.001", 1e-5), Share(3, 5)],
        [Html("<a>-b</a>", "-b"), None, Interval(-0.1, -0.2, 0.004, "+.3f"), None, Share(0, 0)],
        [None, 1.0, Interval(0.5), Html("0.5", 0.5), Share(1, 1)],
        ["d", 1, Interval(None), None, None],
    ]
    lines = [line for line in latex_of(Table("t", columns, rows), "t").splitlines() if line.endswith(r"\\")][1:]
    assert lines == [
        r"-a & $-$1.23 & 0.71 (0.66--0.75) & \textless{}0.001 & 3 of 5 \\",
        r"-b & -- & $-$0.100 ($-$0.200 to +0.004) & -- & 0 of 0 \\",
        r"-- & 1.00 & 0.50 & 0.5 & 1 of 1 \\",
        r"d & 1.00 & -- & -- & -- \\",
    ]


def test_long_tables_run_over_pages_and_long_texts_over_lines(tmp_path: Path) -> None:
    rows = [[f"case {number}", float(number), "word " * 20] for number in range(LONG_TABLE + 1)]
    table = Table("t", [Column("case"), Column("n", ".0f"), Column("text")], rows, "Long", notes=["A note."])
    text = latex_of(table, "t")
    assert text.startswith("% needs \\usepackage{booktabs,longtable}\n")
    assert r"\begin{longtable}{lrp{0.3\linewidth}}" in text
    assert r"\caption{Long. A note.}\label{tab:t}\\" in text
    assert text.index(r"\endfirsthead") < text.index(r"\endhead") < text.index(r"\endfoot") < text.index("case 0 ")
    assert len([line for line in text.splitlines() if line.startswith("case ")]) == LONG_TABLE + 1 + 2  # and two headings
    short = Table("t", table.columns, rows[:LONG_TABLE])
    assert [row[0] for row in typeset(short, tmp_path)][-1] == f"case {LONG_TABLE - 1}"


# ---- drawings


def test_a_drawing_is_vector_picture_and_numbers(tmp_path: Path) -> None:
    page = page_of(drawing("a line"))
    before = page.html()
    write_paper(page, tmp_path)
    assert page.html() == before
    figures = tmp_path / "figures"
    assert sorted(path.name for path in figures.iterdir()) == ["a-line.csv", "a-line.png", "a-line.svg"]
    root = ET.parse(figures / "a-line.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = (figures / "a-line.svg").read_text(encoding="utf-8")
    assert "A &amp; line" in text
    assert re.search(r"<text [^>]*>0.*?</text>", text)  # of an axis: text stays text
    with Image.open(figures / "a-line.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert picture.size == (600, 300)
    assert (figures / "a-line.csv").read_text() == "x,y,name\n0,0.1,\n1,0.30000000000000004,'=1\n"


# ---- the folder


def test_files_are_replaced_one_by_one_and_names_do_not_meet(tmp_path: Path) -> None:
    for name in ("tables/mine.csv", "tables/a-b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    tables = [Table(name, [Column("n", "d")], [[number]]) for number, name in enumerate(("a/b", "../a b", "\u00e4"))]
    write_paper(page_of(*tables, drawing("x"), drawing("x?")), tmp_path)
    found = {path.name: path.read_text() for path in (tmp_path / "tables").glob("*.csv")}
    assert found == {"mine.csv": "mine", "a-b.csv": "n\n0\n", "a-b-2.csv": "n\n1\n", "untitled.csv": "n\n2\n"}
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"x", "x-2"}
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    write_paper(page_of(*tables, drawing("x"), drawing("x?")), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == first


def test_the_command_writes_them_where_they_are_asked_for(own_model: Path, command: Command) -> None:
    assert command("report", own_model, "--quiet")[0] == 0
    assert not (own_model / "paper").exists()
    code, out, _ = command("report", own_model, "--paper", "--anonymous")
    assert (code, f"For a paper: {own_model / 'paper'}" in out) == (0, True)
    files = [path for path in (own_model / "paper").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".csv", ".tex", ".svg", ".png"}
    for path in files:
        assert not re.search(rb"ball_|Balls|LNTrainer__", path.read_bytes()), path
        assert not path.name.startswith(".")


def test_a_comparison_leaves_the_files_of_the_model_beside_it_alone(own_model: Path, tmp_path: Path, command: Command) -> None:
    assert command("report", own_model, "--paper", "--quiet")[0] == 0
    before = {path: path.read_bytes() for path in (own_model / "paper").rglob("*.*")}
    assert command("report", own_model, own_model / "fold_0/validation", "--paper", "--quiet")[0] == 0
    after = {path: path.read_bytes() for path in (own_model / "paper").rglob("*.*")}
    assert before.items() < after.items()
    assert HEAD not in str(sorted(after))  # it was not copied along


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_half(own_model: Path, command: Command) -> None:
    (own_model / "paper").write_text("a file")
    code, _, complaint = command("report", own_model, "--paper", "--quiet")
    assert code == 2
    assert re.match(rf"lnauto: what is for a paper cannot be written \(.*\), in {own_model / 'paper'}; check the disk", complaint)
    assert (own_model / "report.html").is_file()


def test_a_dollar_sign_in_a_name_begins_no_formula(tmp_path: Path) -> None:
    one = drawing("one")
    one.figure.axes[0].set_title(r"$_\x$")
    assert r"$_\x$" in one.svg()
    one.save_png(tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size == (600, 300)
