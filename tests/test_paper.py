"""`lnauto_report --paper`: every table and figure of every page has its files, with the numbers that JSON has beside the page."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pages import Reader, scan, typeset_rows
from trainings import HEAD, Validated

from lnauto.evaluation.patient_json import summary_of
from lnauto.paths import VARIABLES
from lnauto.report import curves, patient_picture
from lnauto.report.drawing import figure_of
from lnauto.report.patient_numbers import roc_numbers
from lnauto.workflow.measure import Request, measure
from lnauto.workflow.report_any import report_any

KINDS = ("measured", "training", "comparison")
FORMULA, SPECIAL = "=1+2", "-a_b & 50% {x} #1 $2 ~^"  # names of cases
# What tables of a page are called as files; any other by its own name.
FILES = {
    **{r"patients|each-case": "cases", r"nodes-\d+": "nodes", r"look-nodes-\d+": "nodes-of-worst-and-best-cases"},
    **{"sizes": "nodes-by-size", "side-by-side": "figures-compared", "sizes-compared": "nodes-by-size-compared"},
    **{f"head-1{part}": f"patients-{HEAD}{name}" for part, name in (("", ""), ("-compared",) * 2, ("-groups", "-subgroups"))},
}
NUMBER = r"[-+]?[\d,]*\.?\d+(?:e-?\d+)?"
NUMBERS = re.compile(rf"({NUMBER})(?: \(({NUMBER}) to ({NUMBER})\)| of ({NUMBER})|, ({NUMBER}), ({NUMBER}))?")


@dataclass(frozen=True)
class Shown:
    """A page, the JSON beside it, and its files for a paper."""

    page: Reader
    figures: dict[str, Any]
    paper: Path

    def csv(self, name: str) -> list[dict[str, str]]:
        return read_csv(self.paper / f"{name}.csv")


@pytest.fixture(scope="module")
def pages(validated: Validated, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    root = tmp_path_factory.mktemp("papers")
    for side in ("model", "rival"):
        shutil.copytree(validated[0], root / side, ignore=shutil.ignore_patterns("report.*"))
    spoil = root / "rival/fold_0/validation/evaluation.json"
    content = json.loads(spoil.read_text())
    content["each_case"][0]["labels"]["node"]["dice"] = 0.61
    spoil.write_text(json.dumps(content))
    folders = {"measured": measured(root), "training": root / "model", "comparison": root / "compared"}
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(prepared / name))
        report_any([folders["measured"]], quiet=True, paper=True)
        report_any([root / "model"], quiet=True, paper=True)
        report_any([root / "model", root / "rival"], root / "compared", quiet=True, paper=True)
    found = {}
    for kind, folder in folders.items():
        name = "comparison" if kind == "comparison" else "report"
        text, figures = (folder / f"{name}.html").read_text(), json.loads((folder / f"{name}.json").read_text())
        found[kind] = Shown(Reader(text), figures, folder / "paper")
    return found


def measured(root: Path) -> Path:
    """Three masks, one of them empty, and what a head might say."""
    image, instances = scan()
    for part in ("masks", "scans"):
        (root / part).mkdir()
    for name, mask in ((FORMULA, instances), (SPECIAL, instances * 0), ("plain", instances)):
        for folder, array, end in (("masks", (mask > 0).astype(np.uint8), ""), ("scans", image.astype(np.int16), "_0000")):
            written = sitk.GetImageFromArray(array)
            written.SetSpacing((0.7, 0.7, 2.0))
            sitk.WriteImage(written, str(root / folder / f"{name}{end}.nii.gz"))
    measure(root / "masks", root / "scans", root / "out", Request(kind="labels", channels=["CT"], quiet=True, report=False))
    said = ["patient,probability_calibrated,low,high,class,flags", f"{FORMULA},0.731,0.6,0.8,1,@age missing", "plain,0.25,,,0,"]
    (root / "out/patients.csv").write_text("\n".join(said))
    return root / "out"


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def numbers(rows: Sequence[dict[str, str]], *names: str) -> list[Any]:
    """Columns as JSON would have them."""
    found = [[None if row[name] == "" else float(row[name]) for name in names] for row in rows]
    return [row[0] for row in found] if len(names) == 1 else found


def told(estimate: dict[str, Any]) -> list[Any]:
    return [estimate[key] for key in ("value", "low", "high")]


def file_of(identifier: str) -> str:
    return next((name for known, name in FILES.items() if re.fullmatch(known, identifier)), identifier)


# ---- nothing is forgotten


@pytest.mark.parametrize("kind", KINDS)
def test_every_table_and_figure_of_a_page_has_its_files(pages: dict[str, Shown], kind: str) -> None:
    shown = pages[kind]
    tables = {f"{file_of(identifier)}.{kind}" for identifier in shown.page.rows for kind in ("csv", "tex")}
    assert {path.name for path in (shown.paper / "tables").iterdir()} == tables
    count = sum(tag == "figure" for tag, _ in shown.page.tags)
    assert count == {"measured": 0, "training": 8, "comparison": 2}[kind]
    names = [path.name for path in (shown.paper / "figures").iterdir()] if count else []
    assert len({name.split(".")[0] for name in names}) == count
    assert sorted(name.split(".")[1] for name in names) == sorted(["csv", "png", "svg"] * count)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_the_page_and_its_files_say_the_same(pages: dict[str, Shown], kind: str) -> None:
    """To the digits that the page shows; JSON has the same numbers as the CSV, see below."""
    rows: dict[str, list[list[str]]] = {}
    for identifier, (_, *body) in pages[kind].page.rows.items():
        rows.setdefault(file_of(identifier), []).extend(body)
    for name, shown in rows.items():
        numbers_, typeset = pages[kind].csv(f"tables/{name}"), typeset_rows(pages[kind].paper / f"tables/{name}.tex")
        of_cases = name.startswith("nodes-of") or name == "nodes"
        assert len(shown) == len(numbers_) == len(typeset) - 1
        for cells, known, printed in zip(shown, numbers_, typeset[1:], strict=True):
            values = list(known.values())[of_cases:]
            agree(cells, [value for value in values if value != ""])
            assert [re.sub(r"(?<=\d)\N{EN DASH}(?=\d)", " to ", cell) for cell in printed[of_cases:]] == cells


def agree(cells: Sequence[str], values: Sequence[str]) -> None:
    """What a row shows is what its values are, as far as it is shown."""
    left = iter(values)
    for cell in cells:
        parts = NUMBERS.fullmatch(cell)
        if cell == "\N{EN DASH}":
            continue
        if cell == "<0.001":
            assert float(next(left)) < 0.001
        elif parts is None:
            value = next(left)
            assert value == cell or (value == f"'{cell}" and cell[0] in "=+-@")
        else:
            for shown in filter(None, parts.groups()):
                plain = shown.replace(",", "").lstrip("+")
                digits = len(plain.partition(".")[2])
                assert float(plain) == pytest.approx(float(next(left)), abs=0.501 * 10.0**-digits)
    assert next(left, None) is None


# ---- numbers are those of the JSON


def test_numbers_of_measured_masks(pages: dict[str, Shown]) -> None:
    shown = pages["measured"]
    table = json.loads((shown.paper.parent / "nodes.json").read_text())["cases"]
    for case, known in zip(shown.figures["cases"], table, strict=True):
        nodes = known["each_node"]
        assert (case["case"], case["nodes"], len(case["each_node"])) == (known["case"], len(nodes), len(nodes))
        assert case["volume_ml"] == sum(node["volume_mm3"] for node in nodes) / 1000
        assert case["largest_short_axis_mm"] == max((node["short_axis_mm"] for node in nodes), default=None)
        for node, measured in zip(case["each_node"], nodes, strict=True):
            assert node.pop("centroid_mm") == [measured[f"centroid_{axis}_mm"] for axis in "xyz"]
            assert node.pop("volume_ml") == measured["volume_mm3"] / 1000
            assert node == {key: measured[key] for key in node}
            assert {"node", "short_axis_mm", "long_axis_mm", "mean_CT", "max_CT"} == set(node)
    names = ("nodes", "enlarged", "largest_short_axis_mm", "volume_ml")
    of_head = {"probability": "probability", "probability_low": "low", "probability_high": "high"}
    cases = shown.csv("tables/cases")
    assert [row["case"].lstrip("'") for row in cases] == [case["case"] for case in shown.figures["cases"]]
    for name, key in {**{name: name for name in names}, **of_head}.items():
        assert numbers(cases, name) == [case.get(key) for case in shown.figures["cases"]]
    said = numbers(cases, "probability", "probability_low", "probability_high")
    assert said == [[None] * 3, [0.731, 0.6, 0.8], [0.25, None, None]]
    assert [row["class"] for row in cases] == ["", "positive", "negative"]
    assert (cases[1]["case"], cases[1]["flags"]) == (f"'{FORMULA}", "'@age missing")
    assert shown.figures["made_by"].keys() == {"versions"}


def test_numbers_of_a_training(pages: dict[str, Shown]) -> None:
    shown = pages["training"]
    validation, [head] = shown.figures["validation"], shown.figures["heads"]
    rows = shown.csv("tables/figures")
    for name, key in {"dice": "dice node", "recall": "recall", "f1": "f1", "false_nodes_per_case": "false_per_case"}.items():
        assert numbers(rows, name, f"{name}_low", f"{name}_high") == [told(row["figures"][key]) for row in validation["rows"]]
    cases = shown.csv("tables/cases")
    for name, key in {"dice": "dice", "nodes": "true", "false": "false", "f1": "f1", "predicted_ml": "predicted_ml"}.items():
        assert numbers(cases, name) == [case[key] for case in validation["each_case"]]
    sizes = shown.csv("tables/nodes-by-size")
    assert numbers(sizes, "found", "found_of", "false") == [[s["found"], s["true"], s["false"]] for s in validation["sizes"]]
    assert numbers(sizes, "recall", "recall_low", "recall_high") == [told(size["recall"]) for size in validation["sizes"]]
    looks = [(look["case"], node) for look in shown.figures["looked_at_nodes"] for node in look["nodes"]]
    nodes = shown.csv("tables/nodes-of-worst-and-best-cases")
    assert [(row["case"], row["is"]) for row in nodes] == [(case, node["is"]) for case, node in looks]
    assert numbers(nodes, "short_axis_mm", "volume_ml") == [[node["short_axis_mm"], node["volume_ml"]] for _, node in looks]
    judged = shown.csv(f"tables/patients-{HEAD}")
    assert numbers(judged, "auc", "auc_low", "auc_high") == [told(one["figures"]["auc"]) for one in head["judged"]]
    assert numbers(judged, "brier", "brier_low", "brier_high") == [told(one["figures"]["brier"]) for one in head["judged"]]
    evidence = {row["what_was_found_out"]: row["figure"] for row in shown.csv("tables/evidence")}
    assert float(evidence["node_share"]) == shown.figures["plan"]["evidence"]["node_share"]["value"]


def test_numbers_of_drawings(pages: dict[str, Shown]) -> None:
    shown = pages["training"]
    validation, whole = shown.figures["validation"], shown.figures["heads"][0]["judged"][0]["figures"]
    for fold in shown.figures["folds"]:
        rows = shown.csv(f"figures/learning-curve-fold-{fold['fold']}")
        keys = ("iteration", "seconds", "train_loss", "val_loss", "dice")
        assert numbers(rows, *keys) == [[record[key] for key in keys] for record in fold["history"]]
        nodes = [record["nodes"] or {} for record in fold["history"]]
        expected = [[one.get("recall"), one.get("false_per_case")] for one in nodes]
        assert numbers(rows, "nodes_recall", "nodes_false_per_case") == expected
    sizes = shown.csv("figures/recall-by-size")
    assert numbers(sizes, "recall", "recall_low", "recall_high") == [told(size["recall"]) for size in validation["sizes"]]
    for row in shown.csv("figures/nodes-by-short-axis"):
        for fate, axes in validation["short_axes_mm"].items():
            assert int(row[fate]) == sum(float(row["from_mm"]) <= axis < float(row["to_mm"]) for axis in axes)
    false = [case["false"] for case in validation["each_case"]]
    assert [int(row["cases"]) for row in shown.csv("figures/false-nodes-per-case")] == [false.count(0), false.count(1)]
    parts: dict[str, list[dict[str, str]]] = {}
    for name in ("roc", "calibration", "decision-curve"):
        for row in shown.csv(f"figures/{name}-{HEAD}-all-folds"):
            parts.setdefault(f"{name} {row['part']}", []).append(row)
    roc, decided = whole["roc"], whole["decisions"]
    curve = numbers(parts["roc curve"], "false_positive_rate", "sensitivity")
    assert curve == [list(pair) for pair in zip(roc["false_positive_rate"], roc["sensitivity"], strict=True)]
    band = numbers(parts["roc band"], "false_positive_rate", "sensitivity_low", "sensitivity_high")
    assert band == [list(row) for row in zip(roc["grid"], roc["low"], roc["high"], strict=True)]
    [point] = parts["roc model, at its threshold"]
    assert [float(point[f"sensitivity{end}"]) for end in ("", "_low", "_high")] == told(decided["sensitivity"])
    spared = [1 - float(point[f"false_positive_rate{end}"]) for end in ("", "_high", "_low")]
    assert spared == pytest.approx(told(decided["specificity"]))
    assert len(parts["roc short axis"]) == 1
    groups = numbers(parts["calibration group"], "predicted", "observed", "observed_low", "observed_high", "patients")
    assert groups == [[one["predicted"], *told(one["observed"]), one["patients"]] for one in whole["calibration_groups"]]
    assert numbers(parts["calibration patients"], "with_metastasis") == whole["spread"]["positive"]
    lines, net = parts["decision-curve curve"], whole["decision_curve"]
    for name, key in (("threshold", "thresholds"), ("model", "model"), ("treat_all", "treat_all"), ("treat_none", "treat_none")):
        assert numbers(lines, name) == net[key]
    assert numbers(parts["decision-curve threshold in use"], "threshold") == [0.5, 0.5]


def test_numbers_of_a_comparison(pages: dict[str, Shown]) -> None:
    shown = pages["comparison"]
    rows = shown.csv("tables/figures-compared")
    for name, side in {"a": "first", "b": "second", "difference": "difference"}.items():
        assert numbers(rows, name, f"{name}_low", f"{name}_high") == [told(row[side]) for row in shown.figures["rows"]]
    drawn = shown.csv("figures/differences")
    expected = [told(row["difference"]) for row in shown.figures["rows"] if row["figure"] != "false_per_case"]
    assert numbers(drawn, "difference", "difference_low", "difference_high") == expected
    cases = shown.csv("tables/cases-compared")
    assert numbers(cases, "dice_a", "dice_b") == [case["dice"] for case in shown.figures["each_case"]]
    assert numbers(cases, "found_a", "found_b") == [case["found"] for case in shown.figures["each_case"]]
    assert numbers(cases, "difference") == [case["difference"] for case in shown.figures["each_case"]]
    assert any(numbers(cases, "difference"))
    assert numbers(shown.csv("figures/dice-compared"), "dice_a", "dice_b") == [c["dice"] for c in shown.figures["each_case"]]
    sizes = numbers(shown.csv("tables/nodes-by-size-compared"), "recall_b", "recall_b_low", "recall_b_high")
    assert sizes == [told(size["second"]["recall"]) for size in shown.figures["sizes"]]


def test_what_is_drawn_is_what_the_file_says(pages: dict[str, Shown]) -> None:
    summary = summary_of(pages["training"].figures["heads"][0]["judged"][0]["figures"])
    figure = figure_of((4, 4))
    patient_picture.draw_roc(figure, summary)
    rows = roc_numbers(summary)
    [line] = [line for line in figure.axes[0].lines if line.get_label() == "model"]
    assert line.get_xydata().tolist() == [
        [row["false_positive_rate"], row["sensitivity"]] for row in rows if row["part"] == "curve"
    ]
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert all([row["false_positive_rate"], row["sensitivity_low"]] in band.tolist() for row in rows if row["part"] == "band")
    assert sum(bar["cases"] for bar in curves.false_bars([0, 0, 3, 99])) == 4
    axes = [3.2, 10.0, 60.0]
    bars = curves.axis_bars(axes, [])
    assert (sum(bar["found"] for bar in bars), bars[-1]["to_mm"], len(bars)) == (3, 60.0, curves.BINS)
