"""Figures with intervals over cases, and `lnauto_report` of two evaluations of the same cases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainings import Validated, one_case, rows_of, shown, told

from lnauto.errors import InputError
from lnauto.evaluation.cases import CaseResult
from lnauto.evaluation.folder import Evaluation
from lnauto.evaluation.over_cases import OverCases, differences
from lnauto.workflow.evaluate import write_evaluation
from lnauto.workflow.report_comparison import report_comparison

Command = Callable[..., tuple[int, str, str]]


def counted(name: str, dice: float | None, true: int, found: int) -> dict[str, Any]:
    return {**one_case(name, dice), "nodes": {"all nodes": {"true": true, "found": found, "false": 0}}}


class TestOverCases:
    def cases(self, validated: Validated) -> OverCases:
        return OverCases.of([case.to_json() for fold in validated[1].values() for case in fold], "here")

    def test_values_are_those_of_the_evaluation(self, validated: Validated) -> None:
        together = Evaluation.of_cases(
            [case for fold in validated[1].values() for case in fold], validated[0], validated[0]
        ).summary
        nodes, found = together.nodes["all nodes"], self.cases(validated).estimates()
        expected = {
            "dice node": together.labels["node"].scores["dice"].mean,
            **{name: getattr(nodes.counts, name) for name in ("recall", "precision", "f1")},
            "false_per_case": nodes.false_per_case,
        }
        assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(expected)
        sizes = self.cases(validated).sizes()
        counts = [(size["true"], size["found"], size["false"]) for size in sizes]
        assert counts == [(size.true, size.found, size.false) for size in nodes.by_size.values()]
        assert sum(true for true, _, _ in counts) == nodes.counts.true > nodes.counts.found > 0 < nodes.counts.false

    def test_a_case_drawn_twice_counts_twice_and_one_not_drawn_not(self, validated: Validated) -> None:
        each = [case.to_json() for fold in validated[1].values() for case in fold]
        drawn = OverCases.of(each, "here").figures(np.array([[2.0, 0, 1, 1]]))
        repeated = OverCases.of([each[0], {**each[0], "case": "again"}, each[2], each[3]], "here").estimates()
        assert {name: values[0] for name, values in drawn.items()} == pytest.approx({n: e.value for n, e in repeated.items()})

    def test_the_interval_is_as_wide_as_theory_has_it(self) -> None:
        dice = np.random.default_rng(1).normal(0.7, 0.1, 200)
        found = OverCases.of([one_case(f"{n}", value) for n, value in enumerate(dice)], "here").estimates()["dice node"]
        reach = 1.96 * dice.std() / np.sqrt(200)
        assert (found.value - found.low, found.high - found.value) == pytest.approx((reach, reach), rel=0.1)
        assert found.value == pytest.approx(dice.mean())

    def test_a_case_without_dice_is_left_out_and_one_case_has_no_interval(self) -> None:
        some = OverCases.of([one_case("a", 0.5), one_case("b", None), one_case("c", 0.7)], "here").estimates()["dice node"]
        assert some.value == pytest.approx(0.6)
        alone = OverCases.of([one_case("a", 0.5)], "here").estimates()["dice node"]
        assert alone.value == 0.5
        assert np.isnan([alone.low, alone.high]).all()

    def test_what_one_of_many_cases_alone_tells_has_no_interval(self) -> None:
        """Every draw would have the same figure, or none."""
        each = [counted(f"{n}", 0.8 if n == 3 else None, 4 * (n == 3), 2 * (n == 3)) for n in range(9)]
        found = OverCases.of(each, "here").estimates()
        assert (found["dice node"].value, found["recall"].value, found["precision"].value) == (0.8, 0.5, 1.0)
        for name in ("dice node", "recall", "precision", "f1"):
            assert np.isnan([found[name].low, found[name].high]).all(), name
        assert (found["false_per_case"].low, found["false_per_case"].high) == (0, 0)
        several = OverCases.of([counted(f"{n}", 0.1 * n, 1, n % 2) for n in range(9)], "here")
        for name in ("dice node", "recall", "precision"):
            assert np.isnan(differences(OverCases.of(each, "here"), several)[name].low), name
        assert not np.isnan(differences(several, several)["recall"].low)

    def test_differences_are_paired(self) -> None:
        dice = np.random.default_rng(2).uniform(0.1, 0.8, 30)
        first, second = (OverCases.of([one_case(f"{n}", v + more) for n, v in enumerate(dice)], "here") for more in (0, 0.05))
        found = differences(first, second)["dice node"]
        assert (found.value, found.low, found.high) == pytest.approx((0.05, 0.05, 0.05))
        with pytest.raises(ValueError, match="same cases"):
            differences(first, second.only(list(reversed(second.names))))

    def test_something_else_is_told(self) -> None:
        with pytest.raises(InputError, match="no evaluation of cases"):
            OverCases.of([{"case": "a"}], "here")


class TestComparison:
    @pytest.fixture
    def better(self, own_model: Path, validated: Validated) -> Path:
        """A folder of predictions of three of the cases, by their Dice all of them right."""
        folder = own_model.parent / "rival"
        folder.mkdir()
        each = [case for fold in validated[1].values() for case in fold if case.case != "ball_01"]
        perfect = next(case for case in each if case.case == "ball_00")
        same = [perfect if case is perfect else replace(case, labels=_right(case)) for case in each]
        write_evaluation(Evaluation.of_cases(same, folder, folder), folder)
        return folder

    def test_the_page_shows_paired_differences(self, own_model: Path, better: Path) -> None:
        assert report_comparison(own_model, better) == own_model / "comparison.html"
        page, figures = shown(own_model, "comparison")
        assert figures["cases"] == 3
        assert "1 cases are in A only, and left out." in page
        rows = {row["figure"]: row for row in figures["rows"]}
        expected = [[told(row["first"]), told(row["second"]), told(row["difference"], "+.3f")] for row in rows.values()]
        assert [row[1:] for row in rows_of(page, "side-by-side")] == expected
        dice = rows["dice node"]
        assert dice["second"]["value"] == 1
        assert dice["difference"]["value"] == pytest.approx(1 - dice["first"]["value"])
        assert dice["difference"]["value"] == pytest.approx(np.mean([case["difference"] for case in figures["each_case"]]))
        assert rows["recall"]["difference"] == {"value": 0, "low": 0, "high": 0}
        assert [row[0] for row in rows_of(page, "cases-compared")] == ["ball_00", "ball_02", "ball_03"]

    def test_means_over_different_cases_are_told(self, tmp_path: Path) -> None:
        """Of a case without nodes, one that predicts nothing has no Dice, and one that does has 0."""
        figures = {}
        for name, last in (("right", None), ("wrong", 0.0), ("empty", None)):
            (tmp_path / name).mkdir()
            each = [one_case("a", 0.5), one_case("b", 0.7), one_case("c", last, 0.0)]
            (tmp_path / name / "evaluation.json").write_text(json.dumps({"each_case": each}))
        for second in ("wrong", "empty"):
            report_comparison(tmp_path / "right", tmp_path / second)
            figures[second] = shown(tmp_path / "right", "comparison")
        note = "Dice of node is over 2 of 3 cases in A and 3 in B"
        assert [note in figures[second][0] for second in ("wrong", "empty")] == [True, False]
        assert figures["wrong"][1]["rows"][0]["difference"]["value"] == pytest.approx(-0.2)

    def test_order_of_the_cases_does_not_matter(self, own_model: Path, better: Path) -> None:
        path = better / "evaluation.json"
        before = json.loads((report_comparison(own_model, better).parent / "comparison.json").read_text())
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "each_case": content["each_case"][::-1]}))
        assert json.loads((report_comparison(own_model, better).parent / "comparison.json").read_text()) == before

    def test_anonymous_and_elsewhere(self, own_model: Path, better: Path, tmp_path: Path, command: Command) -> None:
        code, out, _ = command("report", own_model, better, "--anonymous", "-o", tmp_path / "out")
        assert (code, "comparison.html" in out) == (0, True)
        for path in (tmp_path / "out").iterdir():
            assert not re.search(r"ball_|rival|" + re.escape(str(own_model)), path.read_text())

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda content: content["protocol"].update(name="other"), "under another protocol"),
            (lambda content: content.update(node_found="otherwise"), "another definition of a found node"),
            (
                lambda content: content["each_case"][0]["labels"]["node"].update(true_mm3=1.0),
                "ball_00 was evaluated against another truth",
            ),
            (lambda content: [case.update(case=f"x{case['case']}") for case in content["each_case"]], "no case is in both"),
            (lambda content: content.pop("each_case"), "as lnauto writes it"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(
        self, own_model: Path, better: Path, change: Callable[[dict[str, Any]], Any], complaint: str, command: Command
    ) -> None:
        content = json.loads((better / "evaluation.json").read_text())
        change(content)
        (better / "evaluation.json").write_text(json.dumps(content))
        code, _, complaints = command("report", own_model, better)
        assert (code, complaint in complaints) == (2, True), complaints
        assert not (own_model / "comparison.html").exists()

    def test_a_folder_that_was_not_evaluated(self, own_model: Path, tmp_path: Path, command: Command) -> None:
        (tmp_path / "empty").mkdir()
        code, _, complaints = command("report", own_model, tmp_path / "empty")
        assert (code, "there is no evaluation.json to compare" in complaints) == (2, True)


def _right(case: CaseResult) -> dict[str, Any]:
    label = case.labels["node"]
    return {"node": replace(label, scores={**label.scores, "dice": 1.0})}
