"""`lnauto_report` of a trained model: what the page shows is what `report.json` says, and that is what validation left."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.colors import same_color
from trainings import FOLDS, HEAD, Validated, history, one_case, rows_of, shown, told, viewers

from lnauto.errors import InputError
from lnauto.evaluation.folder import Evaluation
from lnauto.evaluation.over_cases import REPEATS
from lnauto.evaluation.patient_json import summary_of
from lnauto.evaluation.patients import Comparator, summarise_patients
from lnauto.nodes import label_components
from lnauto.report import curves
from lnauto.report.slices import SOFT_TISSUE, Detail, Drawn, Layer, draw_case
from lnauto.workflow import model_card
from lnauto.workflow.case_pictures import MOST_NODES, Wanted, looks_of, raw_of
from lnauto.workflow.evaluate import write_evaluation
from lnauto.workflow.pooled import is_of_these
from lnauto.workflow.report_any import report_any
from lnauto.workflow.report_training import Names, report_training, training_figures

Command = Callable[..., tuple[int, str, str]]


class TestThePage:
    def test_tables_show_what_report_json_holds(self, validated: Validated) -> None:
        page, figures = shown(validated[0])
        validation = figures["validation"]
        names = ("dice node", "recall", "precision", "f1", "false_per_case")
        expected = [
            [row["of"], f"{row['cases']}", f"{row['found']} of {row['true']}", *(told(row["figures"][name]) for name in names)]
            for row in validation["rows"]
        ]
        assert rows_of(page, "figures") == expected
        assert [row["of"] for row in validation["rows"]] == ["fold 0", "fold 1", "all folds"]
        assert f"{REPEATS} times with replacement (seed 0), 2.5th" in page
        assert [row[:2] for row in rows_of(page, "each-case")] == [
            [case["case"], case["fold"]] for case in validation["each_case"]
        ]
        assert [row[2] for row in rows_of(page, "each-case")] == [f"{case['dice']:.3f}" for case in validation["each_case"]]
        assert [row[2] for row in rows_of(page, "sizes")] == [told(size["recall"]) for size in validation["sizes"]]

    def test_figures_of_a_case_are_those_of_its_evaluation(self, validated: Validated) -> None:
        cases = {case["case"]: case for case in shown(validated[0])[1]["validation"]["each_case"]}
        for fold, results in validated[1].items():
            for result in results:
                counts, overlap = result.nodes["all nodes"].counts, result.labels["node"].overlap
                case = cases[result.case]
                assert (case["fold"], case["true"], case["found"], case["false"]) == (fold, *vars(counts).values())
                assert case["missed"] == counts.true - counts.found
                assert (case["true_ml"], case["predicted_ml"]) == (overlap.true_mm3 / 1000, overlap.predicted_mm3 / 1000)

    def test_the_plan_is_told_with_its_evidence(self, validated: Validated) -> None:
        page, figures = shown(validated[0])
        block = json.loads((validated[0] / "plans.json").read_text())["lnauto"]
        assert figures["plan"]["reasons"] == block["reasons"]
        for reason in block["reasons"].values():
            assert html.escape(reason, quote=True) in page
        assert html.escape(block["alternatives"]["strategy"]["chosen_unless"], quote=True) in page
        known = {name: how for name, _, how in rows_of(page, "evidence")}
        assert known["nodes"] == block["evidence"]["nodes"]["how"]
        assert "declared" not in known  # nothing is known of it

    def test_curves_are_those_of_the_history(self, validated: Validated) -> None:
        figures = shown(validated[0])[1]
        assert [fold["fold"] for fold in figures["folds"]] == ["0", "1"]
        drawn = curves.learning_curves(figures["folds"][1]["history"], figures["names"])
        losses, scores, false = drawn.axes
        lines = {line.get_label(): line.get_xydata().tolist() for place in (losses, scores, false) for line in place.lines}
        records = history(2.0)
        assert lines["training"] == [[one["iteration"], one["train_loss"]] for one in records]
        assert lines["validation patches"] == [[one["iteration"], one["val_loss"]] for one in records]
        assert np.array(lines["Dice, validation patches"])[1:].tolist() == [
            [one["iteration"], one["dice"]] for one in records[1:]
        ]
        assert np.isnan(lines["Dice, validation patches"][0][1])
        assert lines["nodes found, whole cases"] == [[30, 0.5]]
        assert false.lines[0].get_xydata().tolist() == [[30, 1.5]]

    def test_drawings_by_size_show_every_node(self, validated: Validated) -> None:
        validation = shown(validated[0])[1]["validation"]
        axes_mm = validation["short_axes_mm"]
        drawn = [
            curves.nodes_by_size(curves.axis_bars(axes_mm["found"], axes_mm["missed"])),
            curves.recall_by_size(validation["sizes"]),
            curves.false_nodes(curves.false_bars([case["false"] for case in validation["each_case"]])),
        ]
        nodes = [one.nodes["all nodes"] for fold in validated[1].values() for one in fold]
        found = [(node, any(match.true == node.number for match in one.matches)) for one in nodes for node in one.true]
        for kind, colour, there in (("found", curves.FOUND, True), ("missed", curves.MISSED, False)):
            axes = [node.short_axis_mm for node, is_found in found if is_found == there]
            assert validation["short_axes_mm"][kind] == axes
            bars = [bar for bar in drawn[0].axes[0].patches if same_color(bar.get_facecolor(), colour)]
            assert sum(bar.get_height() for bar in bars) == len(axes)
            assert all(
                any(bar.get_x() <= axis <= bar.get_x() + bar.get_width() for bar in bars if bar.get_height()) for axis in axes
            )
        points = [line.get_ydata()[0] for line in drawn[1].axes[0].lines if line.get_marker() == "o"]
        assert points == [size["recall"]["value"] for size in validation["sizes"] if size["true"]]
        bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in drawn[2].axes[0].patches]
        assert np.array(bars) == pytest.approx(np.array([[0, 3], [1, 1]]))  # one case of four has one

    def test_nothing_is_asked_for_outside_and_drawings_keep_to_themselves(self, validated: Validated) -> None:
        page, _ = shown(validated[0])
        assert "default-src 'none'" in page
        text = re.sub(r'xmlns(:xlink)?="[^"]+"', "", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))
        assert not re.search(r"https?://", text)
        drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
        assert len(drawings) == 2 + 3 + 3
        assert all('role="img" aria-label="' in one and "<style" not in one and "<g id=" not in one for one in drawings)

    def test_the_same_page_again(self, validated: Validated, own_model: Path) -> None:
        pages = [report_training(own_model, quiet=True).read_text() for _ in range(2)]
        assert pages[0] == pages[1]

    def test_what_files_say_stays_text(self, own_model: Path) -> None:
        evil = "<img src=x onerror=alert(1)>"
        plans = json.loads((own_model / "plans.json").read_text())
        plans["lnauto"]["reasons"]["strategy"] = evil
        plans["lnauto"]["evidence"]["nodes"]["how"] = evil
        plans["dataset_name"] = evil
        (own_model / "plans.json").write_text(json.dumps(plans))
        path = own_model / "fold_0/validation/evaluation.json"
        path.write_text(path.read_text().replace("ball_01", evil))
        page = report_training(own_model, quiet=True).read_text()
        assert "<img src=x" not in page
        assert page.count(html.escape(evil)) >= 5

    def test_anonymous(self, own_model: Path) -> None:
        report_training(own_model, anonymous=True, quiet=True)
        page, figures = shown(own_model)
        for text in (page, json.dumps(figures)):
            assert not re.search(r"ball_|Balls|LNTrainer__|" + re.escape(str(own_model.parent)), text)
        assert [case["case"] for case in figures["validation"]["each_case"]] == ["case 1", "case 2", "case 3", "case 4"]
        assert len(list(viewers(page))) == 4

    def test_nodes_that_were_not_counted_are_not_shown(self, own_model: Path, validated: Validated) -> None:
        for fold, results in validated[1].items():
            folder = own_model / f"fold_{fold}/validation"
            write_evaluation(Evaluation.of_cases([replace(one, nodes={}) for one in results], folder, folder), folder)
        report_training(own_model, quiet=True)
        page, figures = shown(own_model)
        assert list(figures["validation"]["rows"][-1]["figures"]) == ["dice node"]
        assert 'id="sizes"' not in page
        assert figures["looks"].startswith("4 of 4 cases, by Dice:")

    def test_a_case_in_two_folds_is_not_pooled(self, own_model: Path) -> None:
        shutil.copy(own_model / "fold_0/validation/evaluation.json", own_model / "fold_1/validation/evaluation.json")
        report_training(own_model, quiet=True)
        page, figures = shown(own_model)
        assert [row["of"] for row in figures["validation"]["rows"]] == ["fold 0", "fold 1"]
        assert "more than one fold" in page
        assert "by size its nodes count in each." in page

    @pytest.mark.parametrize(("labels", "both"), [({"node": [1, 2], "part": 2}, False), ({"node": 1, "part": 2}, True)])
    def test_a_volume_counts_once_whatever_labels_it_has(self, own_model: Path, labels: dict[str, Any], both: bool) -> None:
        """A region's part lies in it; labels that are apart are added."""
        description = json.loads((own_model / "dataset.json").read_text())
        (own_model / "dataset.json").write_text(json.dumps({**description, "labels": {"background": 0, **labels}}))
        path = own_model / "fold_0/validation/evaluation.json"
        content = json.loads(path.read_text())
        before = [case["labels"]["node"] for case in content["each_case"]]
        for case in content["each_case"]:
            case["labels"]["part"] = {"dice": 1.0, "true_mm3": 50.0, "predicted_mm3": 30.0, "shared_mm3": 30.0}
        path.write_text(json.dumps(content))
        cases = training_figures(own_model, Names(False))["validation"]["each_case"][: len(before)]
        for case, node in zip(cases, before, strict=True):
            assert case["true_ml"] == pytest.approx((node["true_mm3"] + 50 * both) / 1000)
            assert case["predicted_ml"] == pytest.approx((node["predicted_mm3"] + 30 * both) / 1000)

    def test_a_fold_that_trained_on_what_it_was_validated_on_says_so(
        self, own_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the one fold of a single patient does."""
        report_training(own_model, quiet=True)
        unseen, both = "each predicted by the fold that did not train on it", "Some cases are on both sides of a fold"
        assert [text in shown(own_model)[0] for text in (unseen, both)] == [True, False]
        monkeypatch.setenv("nnUNet_preprocessed", str(own_model.parent))
        (own_model.parent / "Dataset901_Balls").mkdir()
        splits = [{"train": list(cases), "val": list(cases)} for cases in FOLDS.values()]
        (own_model.parent / "Dataset901_Balls/splits_final.json").write_text(json.dumps(splits))
        report_training(own_model, quiet=True)
        assert [text in shown(own_model)[0] for text in (unseen, both)] == [False, True]

    def test_a_model_without_validation_has_its_plan_and_curves(self, own_model: Path) -> None:
        for fold in FOLDS:
            shutil.rmtree(own_model / f"fold_{fold}/validation")
        (own_model / "fold_1").rename(own_model / "fold_all")
        for fold, name in (("2", "checkpoint_final.pth"), ("3", "head.json")):  # as from elsewhere, and a head alone
            (own_model / f"fold_{fold}").mkdir()
            (own_model / f"fold_{fold}" / name).touch()
        report_training(own_model, quiet=True)
        page, figures = shown(own_model)
        assert [fold["fold"] for fold in figures["folds"]] == ["0", "2", "all"]
        assert "Fold 2 left no history.json." in page
        assert figures["validation"] is None
        assert "No fold was validated" in page

    def test_a_file_of_something_else_is_told(self, own_model: Path) -> None:
        for name, content in (
            ("validation/evaluation.json", '{"cases": 4}'),
            ("validation/evaluation.json", '{"each_case": []}'),
            ("history.json", '[{"loss": 1}]'),
        ):
            kept = (own_model / "fold_0" / name).read_text()
            (own_model / "fold_0" / name).write_text(content)
            with pytest.raises(InputError, match="as lnauto writes it"):
                report_training(own_model, quiet=True)
            (own_model / "fold_0" / name).write_text(kept)


class TestCasesToLookAt:
    def test_the_worst_come_first_then_the_best(self, validated: Validated) -> None:
        page, figures = shown(validated[0])
        assert (len(figures["looked_at"]), figures["looked_at"][0], figures["looked_at"][-1]) == (4, "ball_03", "ball_00")
        order = {case["case"]: case["f1"] for case in figures["validation"]["each_case"]}
        assert [order[name] for name in figures["looked_at"]] == sorted(order.values())
        for place, name in enumerate(figures["looked_at"], start=1):
            assert f'<a href="#look-{place}">{name}</a>' in page
        assert re.search(r"<h3>ball_03</h3><span class=quiet>worst: \d missed, 0 false", page)

    def test_many_cases_show_the_extremes(self, own_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = own_model / "fold_0/validation/evaluation.json"
        content = json.loads(path.read_text())
        content["each_case"] = [one_case(f"case_{number}", number / 10) for number in range(10)]
        path.write_text(json.dumps(content))
        shutil.rmtree(own_model / "fold_1")
        monkeypatch.setattr("lnauto.workflow.case_pictures.looks_of", lambda wanted, *_: iter(()))
        report_training(own_model, quiet=True)
        assert shown(own_model)[1]["looked_at"] == ["case_0", "case_1", "case_2", "case_9", "case_8"]

    def test_missed_and_false_nodes_have_buttons_that_lead_to_their_slices(self, validated: Validated) -> None:
        page, figures = shown(validated[0])
        place = figures["looked_at"].index("ball_01")
        viewer = list(viewers(page))[place]
        rows = rows_of(page, f"look-nodes-{place + 1}")
        [missed] = [row for row in rows if row[1] == "missed"]
        [false] = [row for row in rows if row[1] == "false"]
        assert f'data-drawn="{missed[0]}"' in page
        assert f'data-node="{false[0]}"' in page
        for kind, outlines, number in (("drawn", "drawn", missed[0]), ("nodes", "outlines", false[0])):
            [node] = [node for node in viewer[kind] if node["number"] == int(number)]
            for plane, at in zip(viewer["planes"], node["slices"], strict=True):
                assert int(number) in [one for one, _ in plane["slices"][at][outlines]]

    def test_a_mask_that_was_changed_gets_no_buttons(self, own_model: Path, balls: Path) -> None:
        path = own_model / "fold_0/validation/ball_01.nii.gz"
        image = sitk.ReadImage(str(path))
        mask = sitk.GetArrayFromImage(image)
        mask[:4, :4, :5] = 1  # what was false has grown
        changed = sitk.GetImageFromArray(mask)
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(path))
        [look] = looks(own_model, "ball_01")
        assert {node["is"]: node["shown"] for node in look.nodes} == {"missed": True, "false": False, "found": True}

    def test_of_nodes_of_one_volume_the_one_that_is_meant_is_shown(self, own_model: Path, balls: Path) -> None:
        """Figures of a case that was turned may number them in another order."""
        path = own_model / "fold_0/validation/ball_01.nii.gz"
        image = sitk.ReadImage(str(path))
        mask = np.zeros(image.GetSize()[::-1], np.uint8)
        mask[:4, :4, :4], mask[:4, -4:, -4:] = 1, 1
        changed = sitk.GetImageFromArray(mask)
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(path))
        numbers = label_components(mask)[0]
        figures = own_model / "fold_0/validation/evaluation.json"
        content = json.loads(figures.read_text())
        for corner, other in ((numbers[0, 0, 0], numbers[0, -1, -1]), (numbers[0, -1, -1], numbers[0, 0, 0])):
            index = np.argwhere(numbers == corner).mean(axis=0)
            false = {
                "number": int(other),
                "centroid_mm": image.TransformContinuousIndexToPhysicalPoint(index[::-1].tolist()),
                "volume_mm3": 64 * float(np.prod(image.GetSpacing())),
                "short_axis_mm": 5.0,
            }
            content["each_case"][1]["nodes"]["all nodes"]["false_nodes"] = [false]
            figures.write_text(json.dumps(content))
            [look] = looks(own_model, "ball_01")
            assert [(node["number"], node["shown"]) for node in look.nodes if node["is"] == "false"] == [(corner, True)]

    def test_no_more_nodes_are_led_to_than_can_be_looked_at(self, own_model: Path) -> None:
        path = own_model / "fold_0/validation/evaluation.json"
        content = json.loads(path.read_text())
        nodes = content["each_case"][1]["nodes"]["all nodes"]
        nodes["true_nodes"] = [dict(nodes["true_nodes"][0], found=False) for _ in range(MOST_NODES + 3)]
        path.write_text(json.dumps(content))
        [look] = looks(own_model, "ball_01")
        assert sum(node["shown"] for node in look.nodes) == MOST_NODES

    def test_without_the_raw_data_or_a_mask_a_sentence_says_so(self, own_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (own_model / "fold_0/validation/ball_01.nii.gz").unlink()
        page = report_training(own_model, quiet=True).read_text()
        assert "No pictures: its predicted mask is not there." in page
        assert len(list(viewers(page))) == 3
        monkeypatch.setenv("nnUNet_raw", str(own_model / "elsewhere"))
        page = report_training(own_model, quiet=True).read_text()
        assert "There are no pictures: the raw data set is not among the raw data." in page
        assert not list(viewers(page))

    def test_what_is_drawn_is_told_apart_and_only_if_it_is_given(self) -> None:
        predicted, truth = np.zeros((2, 16, 20, 20), np.int32)
        predicted[2:6, 2:8, 2:8], truth[9:14, 10:16, 10:16], truth[2:5, 12:15, 2:5] = 1, 2, 1
        layers = [Layer(np.zeros(truth.shape, np.float32), SOFT_TISSUE)]
        plain = draw_case(layers, predicted, (2, 1, 1), Detail(4, 2, 320, "jpeg"))
        assert set(plain) == {"kind", "windows", "planes", "nodes"}
        assert all(set(one) == {"at", "pictures", "outlines"} for plane in plain["planes"] for one in plane["slices"])
        beside = draw_case(
            layers, predicted, (2, 1, 1), Detail(2, 1, 320, "jpeg"), drawn=Drawn(truth, frozenset({2}), frozenset({1}))
        )
        assert [node["number"] for node in beside["nodes"]] == [1]
        [node] = beside["drawn"]
        assert node["number"] == 2
        at = beside["planes"][0]["slices"][node["slices"][0]]
        assert (at["at"] in range(10, 15), [number for number, _ in at["drawn"]], at["outlines"]) == (True, [2], [])


def looks(own_model: Path, *cases: str) -> Sequence[Any]:
    dataset, _ = raw_of("Dataset901_Balls")
    assert dataset is not None
    return list(looks_of([Wanted(case, case, "0", "") for case in cases], own_model, dataset))


class TestPatients:
    def test_a_summary_is_read_back_as_it_was_written(self) -> None:
        rng = np.random.default_rng(0)
        truth = np.arange(30) % 2
        score = 1 / (1 + np.exp(-rng.normal(truth, 1)))
        rules = [
            Comparator("axis", rng.normal(size=30), 0.0),
            Comparator("class", truth.astype(float)),
            Comparator("none", [np.nan] * 30),
        ]
        groups = {"centre": ["A"] * 5 + ["B"] * 25}
        summary = summarise_patients(truth, score, 0.5, groups, folds=["0"] * 15 + ["1"] * 15, comparators=rules, repeats=50)
        content = json.loads(json.dumps(summary.to_json()))
        assert summary_of(content).to_json() == content
        assert summary_of(content).fold_aucs == summary.fold_aucs

    def test_the_page_shows_the_figures_of_validation(self, validated: Validated) -> None:
        page, figures = shown(validated[0])
        [head] = figures["heads"]
        places = {"all folds": f"{HEAD}/crossvalidation", **{f"fold {fold}": f"fold_{fold}/{HEAD}/validation" for fold in FOLDS}}
        written = {of: json.loads((validated[0] / place / "patients.json").read_text()) for of, place in places.items()}
        assert {one["of"]: one["figures"] for one in head["judged"]} == written
        rows = rows_of(page, "head-1")
        assert [row[:3] for row in rows] == [[of, f"{one['patients']}", f"{one['positive']}"] for of, one in written.items()]
        assert [row[3] for row in rows] == [told(one["auc"], ".3f") for one in written.values()]
        assert [row[4] for row in rows] == [told(one["decisions"]["sensitivity"]) for one in written.values()]
        pooled = written["all folds"]
        [rule] = rows_of(page, "head-1-compared")
        assert rule[:3] == ["short axis", "40", told(pooled["comparisons"][0]["auc"], ".3f")]
        assert rule[3] == told(pooled["comparisons"][0]["difference"], "+.3f")
        assert [row[0] for row in rows_of(page, "head-1-groups")] == ["centre A", "centre B"]
        for title in ("ROC curve", "calibration", "decision curve"):
            assert f'aria-label="{title} of {HEAD}, all folds"' in page

    def test_a_validation_of_something_else_is_told(self, validated: Validated, tmp_path: Path) -> None:
        shutil.copytree(validated[0], tmp_path / "model")
        (tmp_path / f"model/fold_0/{HEAD}/validation/patients.json").write_text("[1]")
        with pytest.raises(InputError, match="no validation of patients"):
            report_training(tmp_path / "model", quiet=True)


class TestTheCommands:
    def test_a_folder_gets_the_page_of_what_it_holds(self, own_model: Path, tmp_path: Path, command: Command) -> None:
        code, out, _ = command("report", own_model)
        assert (code, f"A page to look at: {own_model / 'report.html'}" in out) == (0, True)
        code, _, complaints = command("report", own_model.parent)
        assert (code, "no folder of predicted or measured masks" in complaints) == (2, True)

    @pytest.mark.parametrize(
        ("folders", "flags", "complaint"),
        [
            (["gone"], [], "there is no such folder"),
            ([".", ".", "."], [], "3 folders are given"),
            (["."], ["-o", "x"], "the page of one folder is written into it"),
        ],
    )
    def test_what_is_asked_wrongly(
        self,
        folders: list[str],
        flags: list[str],
        complaint: str,
        tmp_path: Path,
        command: Command,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        code, _, complaints = command("report", *folders, *flags)
        assert (code, complaint in complaints) == (2, True)

    @pytest.mark.pictures
    def test_a_training_writes_it_unless_told_not_to(
        self, own_model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lnauto.workflow.train._train", lambda *_: own_model)
        assert command("train", "901", "0", "--no-report")[0] == 0
        assert not (own_model / "report.html").exists()
        assert command("train", "901", "0")[0] == 0
        assert (own_model / "report.html").is_file()

    @pytest.mark.pictures
    def test_a_training_does_not_fail_because_of_its_page(
        self, own_model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lnauto.workflow.train._train", lambda *_: own_model)
        (own_model / "fold_1/history.json").write_text("[{}]")
        code, out, _ = command("train", "901", "0")
        assert (code, "No page is written: this is no history" in out, "The model is in" in out) == (0, True, True)

    def test_no_page_is_asked_for_of_a_head_made_of_the_same(self) -> None:
        """What a head is made of is told by the request in words, in which the page must not appear."""
        from lnauto.workflow.fold import Request

        assert repr(Request(report=False)) == repr(Request())


def test_report_any_of_a_training_is_anonymous_too(own_model: Path) -> None:
    report_any([own_model], anonymous=True, quiet=True)
    assert "ball_" not in (own_model / "report.html").read_text()


def test_figures_over_all_folds_hold_for_the_folds_they_were_made_from(tmp_path: Path) -> None:
    rows = {"fold_0": "a,0.25", "fold_1": "b,0.75"}
    for name, row in rows.items():
        (tmp_path / name).write_text(f"patient,probability\n{row}\n")
    folds = [tmp_path / name for name in rows]
    assert not is_of_these(tmp_path / "all", folds)
    (tmp_path / "all").write_text("patient,probability\na,0.25\nb,0.75\n")
    assert is_of_these(tmp_path / "all", folds)
    folds[1].write_text("patient,probability\nb,0.5\n")  # trained again
    assert not is_of_these(tmp_path / "all", folds)


def trained_of(folder: Path, annotated: int = 4, **more: Any) -> Any:
    """A model as its card sees it."""
    description = json.loads((folder / "dataset.json").read_text())
    plans = {"lnauto": {"evidence": {"annotated_cases": {"value": annotated}}}}
    known = {"has_network": True, "head_folders": [], "dataset_json": description, "plans": plans}
    return SimpleNamespace(folder=folder, folds=list(FOLDS), **{**known, **more})


def test_a_model_card_tells_of_nodes_whatever_else_is_segmented(own_model: Path) -> None:
    path = own_model / "fold_0/validation/evaluation.json"
    content = json.loads(path.read_text())
    pooled = content["nodes"]["all nodes"]["pooled"]
    content["labels"]["gland"] = content["labels"]["node"]
    path.write_text(json.dumps(content))
    description = {"labels": {"background": 0, "gland": 1, "node": 2}}
    card = model_card._validation(trained_of(own_model, dataset_json=description))
    cells = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| fold 0 ")]
    rows = {row[2]: row[4:] for row in cells}
    assert rows["node"] == [f"{pooled['found']} of {pooled['true']}", f"{content['nodes']['all nodes']['false_per_case']:.3f}"]
    assert rows["gland"] == ["-", "-"]


def test_a_model_card_claims_no_held_out_case_where_there_is_one_alone(own_model: Path) -> None:
    told = {number: model_card._validation(trained_of(own_model, number)) for number in (1, 4)}
    assert ["was not trained on" in told[number] for number in (1, 4)] == [False, True]
    assert "say nothing about new ones" in told[1]


def test_a_model_card_has_figures_over_all_folds_as_long_as_they_hold(validated: Validated, tmp_path: Path) -> None:
    folder, results = tmp_path / "model", validated[1]
    shutil.copytree(validated[0], folder)
    together = [case for cases in results.values() for case in cases]
    write_evaluation(Evaluation.of_cases(together, folder, folder), folder / "crossvalidation")
    heads = [folder / f"fold_{fold}" / HEAD for fold in FOLDS]
    trained = trained_of(folder, head_folders=heads)
    assert model_card._validation(trained).count("| all folds |") == 2
    for path, place in (("validation/evaluation.csv", -1), (f"{HEAD}/validation/patients.csv", -1)):
        rows = (folder / "fold_0" / path).read_text().splitlines()
        rows[place] = rows[place] + "1"  # trained again
        (folder / "fold_0" / path).write_text("\n".join(rows))
    assert "| all folds |" not in model_card._validation(trained)
    assert "| fold 0 |" in model_card._validation(trained)
