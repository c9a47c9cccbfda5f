"""Reporting checklists: what a run's files answer is found there, and nothing else is claimed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pages import Reader
from trainings import FOLDS, HEAD, judged_patients, told

from lnauto.report.checklists.fill import CHECKLISTS, FINDERS, NEEDS
from lnauto.report.checklists.item import STATUS
from lnauto.report.checklists.write import COLUMNS, anchor, counted, markdown
from lnauto.trainers.patient.clinical import LNMTrainerClinical
from lnauto.workflow import patient_figures
from lnauto.workflow.report_training import Names, report_training, training_figures

Item = dict[str, Any]
NAMES = ("TRIPOD+AI", "CLAIM 2024", "METRICS")


@pytest.fixture
def with_head(own_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One's own, with a head that was validated."""
    monkeypatch.setattr(patient_figures, "draw_patients", lambda *_: None)
    judged_patients(own_model)
    for fold in FOLDS:
        write(own_model / f"fold_{fold}/{HEAD}/head.json", head())
    return own_model


def head(**more: Any) -> dict[str, Any]:
    """What a head on nodes leaves, as far as a checklist reads it."""
    column = {"name": "age", "kind": "number", "mean": 61.5, "deviation": 8.0, "levels": [], "shares": [], "indicator": True}
    reader = {"columns": [column], "dropped": {"marker": "no training patient has an entry"}, "mean": [0.0] * 15}
    return {
        "trainer": HEAD,
        "members": [{"reader": reader, "settings": {}}] * 5,
        "calibrator": {"slope": 0.8, "intercept": 0.0, "why": "slope 0.80, from inner predictions of 20 patients"},
        "threshold": {"value": 0.437, "rule": "Youden"},
        "patients": [f"patient_{number:02d}" for number in range(20)],
        "inner": {"folds": 5},
        "provenance": {"lnauto": "0.1.0", "versions": {"torch": "2.99"}, "seed": 7},
        **more,
    }


def clinical_rows() -> tuple[pd.DataFrame, pd.Series]:
    """Numbers far out and missing, categories that are rare, missing often, and missing or unknown at use alone."""
    rng, names = np.random.default_rng(1), pd.Index([f"p{number}" for number in range(60)])
    rows = pd.DataFrame({"age": rng.normal(60, 9, 60), "weight": rng.normal(-7, 2, 60)}, index=names)
    rows.iloc[0, 0], rows.iloc[5:20, 1] = 2000.0, np.nan
    rows["hpv"] = pd.Series(rng.choice(["yes", "no", None], 60), index=names, dtype=object)
    rows["sex"] = pd.Series([None, "diverse", *rng.choice(["male", "female"], 58)], index=names, dtype=object)
    rows["site"] = pd.Series([*"abcdef", *["hilum"] * 20, *["neck"] * 34], index=names, dtype=object)
    return rows, pd.Series((rng.random(60) < 0.3 + 0.4 * (rows["sex"] == "male")).astype(int), index=names)


def computed(line: str, row: dict[str, Any]) -> float:
    """What a reader of the formula gets for a patient."""
    logit = float(re.match(r"logit = (\S+)", line)[1])  # type: ignore[index]
    for weight, name, mean, deviation in re.findall(r"([+-]\S+) \((\w+) ([+-]\S+)\) / (\S+)", line):
        if not pd.isna(row[name]):
            logit += float(weight) * float(np.clip((row[name] + float(mean)) / float(deviation), -4, 4))
    levels = re.findall(r"([+-]\S+) if (\w+) is (anything else|\(other\)|\w+)", line)
    for weight, name, entry in levels:
        written = "missing" if pd.isna(row[name]) else row[name]
        others = {one for _, of, one in levels if of == name}
        logit += float(weight) * (entry == written or (entry in ("anything else", "(other)") and written not in others))
    intercept, slope = re.search(r"exp\(-\((\S+) (\S+) logit", line).groups()  # type: ignore[union-attr]
    return float(1 / (1 + np.exp(-(float(intercept) + float(slope) * logit))))


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def change(path: Path, act: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    act(content)
    write(path, content)


def keep_one_case(model: Path, name: str) -> None:
    """Of all that was validated: in fold 0."""
    shutil.rmtree(model / "fold_1/validation")
    change(
        model / "fold_0/validation/evaluation.json",
        lambda content: content.update(each_case=[case for case in content["each_case"] if case["case"] == name]),
    )


def checklists(model: Path, anonymous: bool = False) -> dict[str, dict[str, Item]]:
    """By name, the items by number, as `report.json` will have them."""
    content = training_figures(model, Names(anonymous))["checklists"]
    return {one["name"]: {item["number"]: item for item in one["items"]} for one in content}


class TestTheLists:
    def test_items_are_as_many_as_the_sources_have_and_none_twice(self) -> None:
        numbers = {checklist.name: [item.number for item in checklist.items] for checklist in CHECKLISTS}
        assert {name: len(all_of) for name, all_of in numbers.items()} == dict(zip(NAMES, (52, 44, 30), strict=True))
        assert all(len(set(all_of)) == len(all_of) for all_of in numbers.values())
        assert {int(re.match(r"\d+", number)[0]) for number in numbers["TRIPOD+AI"]} == set(range(1, 28))  # type: ignore[index]
        assert numbers["CLAIM 2024"] == [str(number) for number in range(1, 45)]
        assert numbers["METRICS"] == [str(number) for number in range(1, 31)]
        assert len({item.section for item in CHECKLISTS[2].items}) == 9

    def test_every_item_names_finders_and_needs_that_there_are(self) -> None:
        items = [item for checklist in CHECKLISTS for item in checklist.items]
        assert {name for item in items for name in item.find} == set(FINDERS)
        assert {item.needs for item in items} == {"", *NEEDS}
        assert all(item.topic and item.yours for item in items)
        assert all(item.find for item in items if item.rest)

    def test_topics_are_short(self) -> None:
        """A sentence as long as the checklists' own would be theirs."""
        assert max(len(item.topic) for checklist in CHECKLISTS for item in checklist.items) <= 40


class TestFound:
    def test_each_status_appears(self, own_model: Path) -> None:
        for items in checklists(own_model).values():
            assert {item["status"] for item in items.values()} == set(STATUS)

    def test_figures_are_those_of_the_files(self, with_head: Path) -> None:
        known = checklists(with_head)
        masks = training_figures(with_head, Names(False))["validation"]["rows"][-1]
        patients = json.loads((with_head / HEAD / "crossvalidation/patients.json").read_text())
        text = known["CLAIM 2024"]["37"]["text"]
        assert f"All folds, 4 cases: Dice {told(masks['figures']['dice node'])}" in text
        assert f"40 patients, 20 with metastasis: AUC {told(patients['auc'])}" in text
        assert f"calibration slope {told(patients['calibration']['slope'])}" in known["METRICS"]["22"]["text"]
        assert f"short axis has AUC {told(patients['comparisons'][0]['auc'])}" in known["METRICS"]["24"]["text"]
        assert "centre A (30 patients, 20 with metastasis)" in known["TRIPOD+AI"]["23b"]["text"]
        curve = patients["decision_curve"]
        nets = zip(curve["model"], curve["treat_all"], strict=True)
        better = [net for net, everyone in nets if net is not None and net > max(everyone, 0.0)]
        assert f"at {len(better)} of {len(curve['thresholds'])} thresholds" in known["CLAIM 2024"]["38"]["text"]

    @pytest.mark.parametrize(
        ("file", "act", "item", "before", "after"),
        [
            ("plans.json", lambda c: c["lnauto"]["reasons"].update(training="ANOTHER"), "CLAIM 2024 25", "", "Training: ANOTHER"),
            ("plans.json", lambda c: c["lnauto"]["evidence"]["centres"].update(value=3), "METRICS 4", "", "3 different entries"),
            (
                "plans.json",
                lambda c: c["lnauto"]["evidence"]["missing_entries"].update(value={"age": 0.25, "sex": 0.0}),
                "TRIPOD+AI 11",
                "",
                "without an entry: age 25.0%.",
            ),
            (
                "dataset.json",
                lambda c: c["channel_names"].update({"0": "MR"}),
                "METRICS 23",
                "One channel: CT",
                "One channel: MR",
            ),
            (
                f"fold_1/{HEAD}/head.json",
                lambda c: c["threshold"].update(value=0.9),
                "TRIPOD+AI 15",
                "0.437",
                "fold 1: threshold 0.900",
            ),
            (f"fold_1/{HEAD}/head.json", lambda c: c["provenance"].update(seed=8), "CLAIM 2024 24", "seed 7", "fold 1: seed 8"),
            ("fold_1/history.json", lambda c: c.pop(), "CLAIM 2024 25", "40 iterations", "fold 1: 30 iterations"),
            (
                f"{HEAD}/crossvalidation/patients.json",
                lambda c: c["auc"].update(value=0.123),
                "METRICS 21",
                "AUC 0.",
                "AUC 0.12 (",
            ),
            ("fold_0/validation/evaluation.json", lambda c: c["made_by"].update(numpy="9.9"), "CLAIM 2024 23", "numpy", "9.9"),
            (
                "fold_0/adaptation.json",
                lambda c: c.update(target={"before": {"dice": 0.1}, "after": {"dice": 0.7}}),
                "CLAIM 2024 25",
                "",
                "Dice 0.100 before and 0.700 after",
            ),
        ],
    )
    def test_what_is_found_follows_its_file(
        self, with_head: Path, file: str, act: Callable[[Any], None], item: str, before: str, after: str
    ) -> None:
        name, _, number = item.rpartition(" ")
        first = checklists(with_head)[name][number]["text"]
        assert (before in first, after in first) == (True, False)
        if not (with_head / file).is_file():
            write(with_head / file, {})
        change(with_head / file, act)
        assert after in checklists(with_head)[name][number]["text"]

    def test_a_column_is_left_out_where_no_head_learned_it(self, with_head: Path) -> None:
        def learn(content: Any) -> None:
            reader = content["members"][0]["reader"]
            content["members"][0]["reader"] = {
                **reader,
                "columns": [*reader["columns"], {**reader["columns"][0], "name": "marker"}],
            }

        def left_out() -> str:
            return checklists(with_head)["CLAIM 2024"]["10"]["text"]

        assert "olumns left out: marker (no training patient has an entry)." in left_out()
        change(with_head / f"fold_0/{HEAD}/head.json", learn)
        assert "olumns left out: marker in fold 1 alone (no training patient has an entry)." in left_out()
        change(with_head / f"fold_1/{HEAD}/head.json", learn)
        assert "marker" not in left_out()

    def test_a_checkpoint_tells_seed_versions_and_size(self, own_model: Path) -> None:
        assert checklists(own_model)["CLAIM 2024"]["24"]["status"] == "yours"
        state = {"seed": 41, "precision": "fp32", "pretrained": None, "versions": {"torch": "2.98"}}
        weights = {"a": torch.zeros(3, 4), "b": torch.zeros(5)}
        content = {"network_weights": {**weights, "again": weights["a"][:]}, "trainer_name": "LNTrainer", "lnauto": state}
        torch.save(content, own_model / "fold_0/checkpoint_final.pth")
        (own_model / "fold_1/checkpoint_final.pth").write_text("spoilt")
        items = checklists(own_model)["CLAIM 2024"]
        assert items["24"]["text"] == "Weights began as random numbers. Networks: seed 41."
        assert "torch 2.98" in items["23"]["text"]
        assert " 17 weights." in items["22"]["text"]

    def test_folds_are_counted_and_kept_apart(self, own_model: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("raw", "preprocessed"):
            (own_model.parent / name / "Dataset901_Balls").mkdir(parents=True)
            monkeypatch.setenv(f"nnUNet_{name}", str(own_model.parent / name))
        splits = own_model.parent / "preprocessed/Dataset901_Balls/splits_final.json"
        keep_one_case(own_model, "ball_00")
        write(splits, [{"train": ["ball_01", "ball_02"], "val": ["ball_00"]}])
        table = own_model.parent / "raw/Dataset901_Balls/patients.csv"
        told = []
        for cases in (None, "ball_01;ball_02\nq,ball_00", "ball_00;ball_02\nq,ball_01"):
            if cases is not None:
                table.write_text(f"patient,cases\np,{cases}\n")
            told.append(checklists(own_model)["CLAIM 2024"]["20"]["text"])
        assert ["not known without" in text for text in told] == [True, False, False]
        assert "No patient is on both sides" in told[1]
        assert "the cases of some patient are on both sides" in told[2].lower()
        assert "fold 0: 2 and 1" in checklists(own_model)["METRICS"]["18"]["text"]
        write(splits, [{"train": ["ball_00", "ball_01"], "val": ["ball_00"]}])
        items = checklists(own_model)["CLAIM 2024"]
        assert (items["32"]["status"], "say nothing about new ones" in items["20"]["text"]) == ("yours", True)
        for other in (["ball_00", "ball_01"], ["ball_02"]):  # folds that were made again since
            write(splits, [{"train": ["ball_03"], "val": other}])
            items = checklists(own_model)["CLAIM 2024"]
            assert [items[number]["status"] for number in ("19", "20")] == ["yours", "yours"]
            assert "did not train on it" not in items["32"]["text"]

    def test_a_case_is_validated_where_any_fold_has_its_mask(self, own_model: Path) -> None:
        """`lnauto_evaluate` on a fold's masks tells of those that other folds have."""
        for fold, more in (("0", ["ball_02", "ball_03", "ball_04"]), ("1", ["ball_00", "ball_01", "ball_05"])):
            path = own_model / f"fold_{fold}/validation/evaluation.json"
            change(path, lambda content, more=more: content.update(without_prediction=more))
        assert "Not validated for want of a mask: 2 cases." in checklists(own_model)["CLAIM 2024"]["10"]["text"]
        change(own_model / "fold_0/validation/evaluation.json", lambda content: content.update(without_prediction=["ball_02"]))
        change(own_model / "fold_1/validation/evaluation.json", lambda content: content.update(without_prediction=["ball_00"]))
        assert "for want of a mask" not in checklists(own_model)["CLAIM 2024"]["10"]["text"]

    def test_a_network_of_all_cases_is_not_averaged_with_others(self, own_model: Path) -> None:
        content = {"network_weights": {"a": torch.zeros(3)}, "trainer_name": "LNTrainer", "lnauto": {}}
        (own_model / "fold_all").mkdir()
        for fold in ("0", "1", "all"):
            torch.save(content, own_model / f"fold_{fold}/checkpoint_final.pth")
        assert checklists(own_model)["CLAIM 2024"]["27"]["text"].startswith("2 networks, one for each fold,")

    def test_what_the_plan_says_of_another_head_is_not_told(self, with_head: Path) -> None:
        reason = f"{HEAD}, by lnm: 20 patients without and 20 with metastasis; it reads masks given, now and at use"
        for trainer, expected in ((HEAD, True), ("LNMTrainerRadiomics", False)):
            settings = {"patient_level": "image_level", "patient_head": {"trainer": trainer}}
            change(with_head / "plans.json", lambda plan, settings=settings: plan["lnauto"].update(settings))
            change(with_head / "plans.json", lambda plan: plan["lnauto"]["reasons"].update(patients=reason))
            item = checklists(with_head)["TRIPOD+AI"]["8a"]
            assert (item["status"], "by lnm" in item["text"], "yes or no" in item["text"]) == ("found", expected, True)

    def test_a_head_on_columns_alone_reads_no_masks(self, with_head: Path) -> None:
        change(with_head / "plans.json", lambda plan: plan["lnauto"].update(patient_head={"masks": "predicted"}))
        assert "masks of the fold's own network" in checklists(with_head)["METRICS"]["10"]["text"]
        for fold in FOLDS:
            (with_head / f"fold_{fold}/{HEAD}").rename(with_head / f"fold_{fold}/LNMTrainerClinical")
        (with_head / HEAD).rename(with_head / "LNMTrainerClinical")
        assert checklists(with_head)["METRICS"]["10"]["status"] == "yours"


class TestWhatIsMissing:
    def test_without_validation_its_items_are_the_authors(self, with_head: Path) -> None:
        before = checklists(with_head)
        for place in with_head.glob("**/validation"):
            shutil.rmtree(place)
        shutil.rmtree(with_head / HEAD)
        after = checklists(with_head)
        expected = {
            "TRIPOD+AI": ("12e", "23a", "23b"),
            "CLAIM 2024": ("28", "29", "32", "37", "38", "39"),
            "METRICS": ("9", "20", "21", "22", "24", "26"),
        }
        for name, numbers in expected.items():
            for number in set(numbers) & set(before[name]):
                assert (before[name][number]["status"], after[name][number]["status"]) == ("found", "yours"), (name, number)
                item = next(
                    one for checklist in CHECKLISTS if checklist.name == name for one in checklist.items if one.number == number
                )
                assert (after[name][number]["text"], after[name][number]["rest"]) == (item.yours, "")

    def test_a_segmentation_alone_predicts_nothing_about_patients(self, own_model: Path) -> None:
        known = checklists(own_model)
        for name, number in (
            ("TRIPOD+AI", "8a"),
            ("TRIPOD+AI", "15"),
            ("CLAIM 2024", "38"),
            ("METRICS", "22"),
            ("METRICS", "24"),
        ):
            assert known[name][number]["status"] == "not applicable"
            assert known[name][number]["text"] == "the model predicts nothing about patients"
        assert known["METRICS"]["12"]["text"] == "no patient head here reads measures of nodes"
        assert known["METRICS"]["9"]["status"] == "found"

    def test_a_head_on_given_masks_segments_nothing(self, with_head: Path) -> None:
        for fold in FOLDS:
            shutil.rmtree(with_head / f"fold_{fold}/validation")
            (with_head / f"fold_{fold}/history.json").unlink()
        known = checklists(with_head)["METRICS"]
        assert (known["9"]["status"], known["12"]["status"], known["17"]["status"]) == ("not applicable", "found", "yours")

    def test_a_table_alone_has_no_images(self, with_head: Path) -> None:
        """And its head is printed so that a reader can compute with it."""
        table = {"trainer": "LNMTrainerClinical"}
        rows, labels = clinical_rows()
        heads = {}
        change(with_head / "plans.json", lambda plan: (plan.update(configurations={}), plan["lnauto"].update(table)))
        for fold in FOLDS:
            shutil.rmtree(with_head / f"fold_{fold}")
            own = LNMTrainerClinical(seed=int(fold)).train(rows.iloc[int(fold) :], labels, list(rows))
            heads[fold] = own
            write(with_head / f"fold_{fold}/head.json", own.to_json())
        shutil.move(with_head / HEAD / "crossvalidation", with_head / "crossvalidation")
        shutil.copytree(with_head / "crossvalidation", with_head / "fold_0/validation")
        known = checklists(with_head)
        assert known["METRICS"]["11"]["text"] == "the model reads a table alone"
        assert known["METRICS"]["25"]["text"].startswith("LNMTrainerClinical is a logistic regression itself.")
        printed = dict(re.findall(r"[Ff]old (\d): (logit = .*?\)\)\))", known["TRIPOD+AI"]["22"]["text"]))
        assert set(printed) == set(FOLDS)
        for fold, line in printed.items():
            found = [computed(line, row) for row in rows.to_dict("records")]
            assert found == pytest.approx(heads[fold].probability(rows).tolist(), abs=1e-4)
        assert "LNMTrainerClinical, all folds, 40 patients" in known["CLAIM 2024"]["38"]["text"]


class TestFiles:
    def test_page_json_and_markdown_say_the_same(self, with_head: Path) -> None:
        report_training(with_head, quiet=True)
        content = json.loads((with_head / "report.json").read_text())["checklists"]
        page = Reader((with_head / "report.html").read_text())
        for checklist, one in zip(CHECKLISTS, content, strict=True):
            assert (with_head / checklist.file).read_text() == markdown(one)
            rest = {item["number"]: f" To add: {item['rest']}." if item["rest"] else "" for item in one["items"]}
            expected = [
                [item["number"], item["topic"], STATUS[item["status"]], item["text"] + rest[item["number"]]]
                for item in one["items"]
            ]
            assert page.rows[f"checklist-{anchor(checklist.name)}"][1:] == expected
            assert counted(one["items"]) in (with_head / "report.html").read_text()

    def test_markdown_is_a_table_whatever_is_in_it(self, own_model: Path) -> None:
        evil = "a|b <script>alert(1)</script> *c* `d` &lt; \\| x\ny"
        change(own_model / "plans.json", lambda plan: plan["lnauto"]["reasons"].update(training=evil))
        report_training(own_model, quiet=True)
        text = (own_model / "checklist_claim.md").read_text()
        assert "<script" not in text.replace("\\<script", "")
        assert r"a\|b \<script\>alert(1)\</script\> \*c\* \`d\` &amp;lt; \\\| x y" in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        cells = [re.split(r"(?<!\\)(?:\\\\)*\|", line) for line in rows]
        assert {len(row) for row in cells} == {len(COLUMNS) + 2}
        assert sum(line.startswith("| ---") for line in rows) == text.count("\n## ")
        assert "<script>alert" not in (own_model / "report.html").read_text()

    def test_no_name_and_no_path_where_they_are_hidden(self, with_head: Path) -> None:
        named = checklists(with_head)["CLAIM 2024"]["39"]["text"]
        hidden = checklists(with_head, anonymous=True)["CLAIM 2024"]["39"]["text"]
        report_training(with_head, anonymous=True, quiet=True)
        assert ("ball_03: " in named, "case 4: " in hidden) == (True, True)
        texts = [(with_head / checklist.file).read_text().replace("\\", "") for checklist in CHECKLISTS]
        for text in [*texts, (with_head / "report.html").read_text(), (with_head / "report.json").read_text()]:
            assert not re.search(rf"ball_|Balls|LNTrainer__|patient_\d|{re.escape(str(with_head.parent))}", text)


def test_a_head_that_cannot_be_read_keeps_nobody_from_the_page(with_head: Path) -> None:
    (with_head / f"fold_0/{HEAD}/head.json").write_text("{")
    text = checklists(with_head)["TRIPOD+AI"]["15"]["text"]
    assert "threshold 0.437" in text
