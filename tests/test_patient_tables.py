"""A data set that is a table alone, through the three commands; and what is told of a table that cannot carry a head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnauto.data.patient_labels import PatientLabels
from lnauto.data.patients import PatientTable
from lnauto.evaluation.patients import auc
from lnauto.workflow import patient_figures

Command = Callable[..., tuple[int, str, str]]
NAME = "Dataset701_Table"
MODEL = f"results/{NAME}/LNMTrainerClinical__lnautoPlans__table"


def patients(number: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    t_stage, marker = rng.integers(1, 5, number), np.round(rng.lognormal(1, 0.6, number), 2)
    chance = 1 / (1 + np.exp(-1.6 * (t_stage - 2.5)))
    frame = pd.DataFrame(
        {
            "patient": [f"s{seed}p{place:03d}" for place in range(number)],
            "lnm": (rng.random(number) < chance).astype(int).astype(object),
            "centre": rng.choice(["Basel", "Bern"], number),
            "t_stage": t_stage,
            "marker": marker.astype(object),
            "sex": rng.choice(["male", "female"], number),
            "tumour_side": rng.choice(["L", "R"], number),
            "empty": "",
        }
    )
    frame.loc[rng.random(number) < 0.2, "marker"] = ""
    return frame


def write(frame: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def table(folders: Path) -> Path:
    return write(patients(), folders / "raw" / NAME / "patients.csv")


def lines_of(answer: tuple[int, str, str]) -> list[str]:
    code, _, complaints = answer
    assert code == 2
    return complaints.splitlines()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planned, trained with `cv`, and predicted; read-only."""
    from lnauto.commands.plan_and_preprocess import main as plan
    from lnauto.commands.predict import main as predict
    from lnauto.commands.train import main as train
    from lnauto.paths import VARIABLES

    root = tmp_path_factory.mktemp("table")
    frame = patients()
    frame.loc[3, "lnm"] = ""
    write(frame, root / "raw" / NAME / "patients.csv")
    new = patients(30, seed=1).drop(columns="lnm").astype({"sex": object})
    new.loc[0, "sex"], new.loc[1, "marker"] = "diverse", ""
    new.loc[2, "patient"] = "s0p000"
    write(new, root / "new.csv")
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        assert plan(["-d", "701", "--quiet"]) == 0
        assert train(["701", "cv", "--quiet"]) == 0
        assert predict(["--patients", str(root / "new.csv"), "-o", str(root / "out"), "--quiet"]) == 0
    return root


class TestTheThreeCommands:
    def test_the_plan_says_what_is_learned_from_what(self, done: Path) -> None:
        plan = json.loads((done / "preprocessed" / NAME / "lnautoPlans.json").read_text())
        block = plan["lnauto"]
        assert (block["strategy"], block["trainer"]) == ("image_level", "LNMTrainerClinical")
        assert block["patient_head"]["columns"] == ["empty", "marker", "sex", "t_stage", "tumour_side"]
        assert "lnm of 59 patients" in block["reasons"]["label"]
        assert "no column to learn from" in block["reasons"]["centre"]

    def test_the_training_leaves_a_page_with_the_figures_of_its_validation(self, done: Path) -> None:
        [head] = json.loads((done / MODEL / "report.json").read_text())["heads"]
        assert [one["of"] for one in head["judged"]] == ["all folds", *(f"fold {fold}" for fold in range(5))]
        assert head["judged"][0]["figures"] == json.loads((done / MODEL / "crossvalidation/patients.json").read_text())
        assert "Patient head: the table alone" in (done / MODEL / "report.html").read_text()

    def test_folds_hold_each_labelled_patient_once_and_both_kinds(self, done: Path) -> None:
        splits = json.loads((done / "preprocessed" / NAME / "splits_final.json").read_text())
        labels = PatientTable.read(done / "raw" / NAME / "patients.csv").frame["lnm"]
        assert sorted(name for fold in splits for name in fold["val"]) == sorted(labels.dropna().index)
        for fold in splits:
            assert not set(fold["train"]) & set(fold["val"])
            assert abs(labels[fold["val"]].mean() - labels.mean()) < 0.15

    def test_pooled_figures_are_those_of_the_table_of_out_of_fold_probabilities(self, done: Path) -> None:
        rows = pd.read_csv(done / MODEL / "crossvalidation/patients.csv")
        figures = json.loads((done / MODEL / "crossvalidation/patients.json").read_text())
        assert len(rows) == rows["patient"].nunique() == figures["patients"] == 59
        assert figures["auc"]["value"] == pytest.approx(auc(rows["lnm"], rows["probability"]).value)
        assert figures["auc"]["value"] > 0.7
        assert [group["column"] for group in figures["subgroups"]] == ["centre", "centre"]
        assert (done / MODEL / "crossvalidation/patients.png").stat().st_size > 10_000
        per_fold = [pd.read_csv(done / MODEL / f"fold_{fold}/validation/patients.csv") for fold in range(5)]
        pd.testing.assert_frame_equal(pd.concat(per_fold, ignore_index=True), rows)

    def test_heads_know_their_own_training_patients_only(self, done: Path) -> None:
        splits = json.loads((done / "preprocessed" / NAME / "splits_final.json").read_text())
        for fold, split in enumerate(splits):
            head = json.loads((done / MODEL / f"fold_{fold}/head.json").read_text())
            assert head["patients"] == sorted(split["train"])
            assert head["dropped"] == {"empty": "no training patient has an entry"}

    def test_a_prediction_is_the_mean_of_the_folds_heads(self, done: Path) -> None:
        from lnauto.trainers.patient.clinical import ClinicalHead

        found = pd.read_csv(done / "out/patients.csv", index_col="patient")
        rows = PatientTable.read(done / "new.csv").frame
        heads = [ClinicalHead.from_json(json.loads((done / MODEL / f"fold_{fold}/head.json").read_text())) for fold in range(5)]
        given = np.stack([head.probability(rows) for head in heads])
        np.testing.assert_allclose(found["probability_calibrated"], given.mean(axis=0))
        np.testing.assert_allclose(found["low"], given.min(axis=0))
        np.testing.assert_allclose(found["high"], given.max(axis=0))
        threshold = np.mean([head.threshold.value for head in heads])
        assert (found["class"] == (found["probability"] >= threshold)).all()

    def test_flags_say_what_weakens_a_prediction(self, done: Path) -> None:
        found = pd.read_csv(done / "out/patients.csv", index_col="patient", keep_default_na=False)["flags"]
        assert 'sex "diverse" unknown' in found.iloc[0]
        assert "marker missing" in found.iloc[1]
        assert found["s0p000"].endswith("trained on")
        assert not found.iloc[3:].str.contains("trained on").any()


class TestTraining:
    def test_one_fold_and_all(self, table: Path, folders: Path, command: Command) -> None:
        assert command("plan_and_preprocess", "-d", "701")[0] == 0
        code, said, _ = command("train", "701", "0")
        assert code == 0
        assert "Validation of fold 0\n" in said
        assert "calibration slope" in said
        assert 'Column "empty" is left out: no training patient has an entry.' in said
        code, said, _ = command("train", "701", "all", "--sensitivity", "0.9")
        assert code == 0
        assert "no held-out patient" in said
        head = json.loads((folders / MODEL / "fold_all/head.json").read_text())
        assert len(head["patients"]) == 60
        assert head["threshold"]["rule"] == "sensitivity 0.9"

    def test_a_head_of_other_settings_is_not_replaced_unasked(self, table: Path, folders: Path, command: Command) -> None:
        command("plan_and_preprocess", "-d", "701")
        assert command("train", "701", "0")[0] == 0
        before = (folders / MODEL / "fold_0/head.json").read_bytes()
        assert command("train", "701", "0")[0] == 0  # the same again
        assert (folders / MODEL / "fold_0/head.json").read_bytes() == before
        (line,) = lines_of(command("train", "701", "0", "--sensitivity", "0.9"))
        assert "a head of fold 0 is there already, made from other data or settings" in line
        assert (folders / MODEL / "fold_0/head.json").read_bytes() == before
        assert command("train", "701", "0", "--sensitivity", "0.9", "--overwrite")[0] == 0

    def test_columns_may_be_taken_out_of_the_plan(self, table: Path, folders: Path, command: Command) -> None:
        command("plan_and_preprocess", "-d", "701")
        path = folders / "preprocessed" / NAME / "lnautoPlans.json"
        plan = json.loads(path.read_text())
        plan["lnauto"]["patient_head"]["columns"] = ["t_stage", "marker"]
        path.write_text(json.dumps(plan))
        assert command("train", "701", "0")[0] == 0
        head = json.loads((folders / MODEL / "fold_0/head.json").read_text())
        assert [column["name"] for column in head["columns"]] == ["marker", "t_stage"]

    def test_rules_that_the_table_carries_are_compared_with(self, folders: Path, command: Command) -> None:
        frame = patients().assign(short_axis_mm=np.linspace(4, 16, 60), node_count=7)
        write(frame, folders / "raw" / NAME / "patients.csv")
        command("plan_and_preprocess", "-d", "701")
        assert command("train", "701", "cv")[0] == 0
        figures = json.loads((folders / MODEL / "crossvalidation/patients.json").read_text())
        assert [(one["name"], one["threshold"]) for one in figures["comparisons"]] == [
            ("short axis mm", 10.0),
            ("node count", None),
        ]

    @pytest.mark.parametrize("flag", [["--pretrain"], ["--rounds", "1"], ["--epochs", "2"], ["--iterations", "3"]])
    def test_flags_that_speak_of_images_are_refused(self, flag: list[str], table: Path, command: Command) -> None:
        command("plan_and_preprocess", "-d", "701")
        (line,) = lines_of(command("train", "701", "0", *flag))
        assert line == f"lnauto: the data set is a table alone, without images, in {flag[0]}; leave it out"

    def test_without_a_patient_head_there_is_no_threshold_to_choose(self, balls: Path, command: Command) -> None:
        (line,) = lines_of(command("train", "901", "0", "--sensitivity", "0.9"))
        assert "has no patient head (no head: there is no patients.csv; add the table), in --sensitivity" in line

    def test_folds_made_by_hand_are_kept_and_must_train_on_both_classes(
        self, table: Path, folders: Path, command: Command
    ) -> None:
        labels = PatientTable.read(table).frame["lnm"]
        splits = [{"train": sorted(labels.index[labels == 1]), "val": sorted(labels.index[labels == 0])}]
        path = folders / "preprocessed" / NAME / "splits_final.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(splits))
        code, said, _ = command("plan_and_preprocess", "-d", "701")
        assert code == 0
        assert "The folds that were already there are kept" in said
        (line,) = lines_of(command("train", "701", "0"))
        assert "fold 0 trains on 0 patients without metastasis, and 2 are needed" in line

    def test_patients_whom_folds_made_by_hand_leave_out_are_told_and_not_trained_on(
        self, table: Path, folders: Path, command: Command
    ) -> None:
        names = sorted(PatientTable.read(table).frame.index)
        path = folders / "preprocessed" / NAME / "splits_final.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps([{"train": names[:40], "val": names[40:50]}]))
        assert "10 patients with a label are in no fold" in command("plan_and_preprocess", "-d", "701")[1]
        code, said, complaint = command("train", "701", "all")
        assert code == 0, complaint
        assert "10 patients with a label are in no fold, such as" in said
        assert len(json.loads((folders / MODEL / "fold_all/head.json").read_text())["patients"]) == 50

    def test_a_corrected_label_leaves_the_folds_and_a_new_patient_makes_them_anew(
        self, table: Path, folders: Path, command: Command
    ) -> None:
        path, frame = folders / "preprocessed" / NAME / "splits_final.json", patients()
        command("plan_and_preprocess", "-d", "701")
        before = path.read_bytes()
        for row in range(4):
            frame.loc[row, "lnm"] = 1 - frame.loc[row, "lnm"]
        write(frame, table)
        said = command("plan_and_preprocess", "-d", "701")[1]
        assert "made anew" not in said
        assert path.read_bytes() == before
        write(pd.concat([frame, frame.iloc[:1].assign(patient="new")]), table)
        assert "The patients changed, so the folds are made anew" in command("plan_and_preprocess", "-d", "701")[1]
        assert command("train", "701", "0")[0] == 0
        assert "new" in {name for fold in json.loads(path.read_text()) for name in fold["val"]}

    def test_repeated_folds_are_not_taken_together(self, table: Path, folders: Path, command: Command) -> None:
        command("plan_and_preprocess", "-d", "701")
        path = folders / "preprocessed" / NAME / "splits_final.json"
        path.write_text(json.dumps(2 * json.loads(path.read_text())[:2]))
        code, said, complaint = command("train", "701", "cv")
        assert code == 0, complaint
        assert "validated in more than one fold, so that the folds are not taken together" in said
        assert not (folders / MODEL / "crossvalidation").exists()

    @pytest.mark.pictures
    def test_figures_over_all_folds_go_when_a_fold_is_trained_again(
        self, table: Path, folders: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patient_figures, "draw_patients", lambda *_: None)
        command("plan_and_preprocess", "-d", "701")
        splits = folders / "preprocessed" / NAME / "splits_final.json"
        splits.write_text(json.dumps(json.loads(splits.read_text())[:2]))
        command("train", "701", "cv")
        columns = folders / "preprocessed" / NAME / "lnautoPlans.json"
        plan = json.loads(columns.read_text())
        plan["lnauto"]["patient_head"]["columns"] = ["t_stage"]
        columns.write_text(json.dumps(plan))
        assert command("train", "701", "0", "--overwrite")[0] == 0
        [head] = json.loads((folders / MODEL / "report.json").read_text())["heads"]
        assert [one["of"] for one in head["judged"]] == ["fold 0", "fold 1"]
        assert command("train", "701", "cv", "--overwrite")[0] == 0
        [head] = json.loads((folders / MODEL / "report.json").read_text())["heads"]
        assert head["judged"][0]["of"] == "all folds"


class TestTables:
    def test_a_dataset_json_may_be_there_and_say_nothing_of_images(self, table: Path, command: Command) -> None:
        table.with_name("dataset.json").write_text('{"name": "a table"}')
        assert command("plan_and_preprocess", "-d", "701")[0] == 0

    def test_a_stage_above_0_is_a_label_where_lnm_is_not_known(self, folders: Path, command: Command) -> None:
        frame = patients()
        frame["n_stage"] = frame["lnm"].map({0: 0, 1: 2})
        frame.loc[:29, "lnm"] = ""
        path = write(frame, folders / "raw" / NAME / "patients.csv")
        code, said, _ = command("plan_and_preprocess", "-d", "701")
        assert code == 0
        assert "lnm of 30 patients, n_stage above 0 of 30 whose lnm is not known" in said
        labels = PatientLabels.of(PatientTable.read(path))
        assert labels.values.tolist() == (frame["n_stage"] > 0).astype(float).tolist()

    def test_lnm_counts_where_the_stage_says_otherwise(self, tmp_path: Path) -> None:
        path = tmp_path / "patients.csv"
        path.write_text("patient,lnm,n_stage\na,0,2\nb,1,1\nc,,0\nd,,\n")
        labels = PatientLabels.of(PatientTable.read(path))
        assert labels.known.to_dict() == {"a": 0, "b": 1, "c": 0}
        assert (labels.by_lnm, labels.by_stage, labels.disagreeing) == (2, 1, 1)

    @pytest.mark.parametrize("word", ["?", "-", "unknown", "Missing", "n.a.", "#N/A", "<NA>", "not known", "."])
    def test_spellings_of_missing_are_missing(self, word: str, tmp_path: Path) -> None:
        path = tmp_path / "patients.csv"
        path.write_text(f"patient,lnm,age,sex\na,{word},{word},{word}\nb,0,61,f\n")
        frame = PatientTable.read(path).frame
        assert frame.loc["a", ["lnm", "age", "sex"]].isna().all()
        assert frame.loc["b", "age"] == 61


def spoilt(**changes: object) -> pd.DataFrame:
    frame = patients().astype(object)
    for name, values in changes.items():
        frame[name] = values
    return frame


WHERE = f"in {NAME}/patients.csv"
UNFIT = {
    "constant label": (spoilt(lnm=1), "all 60 patients with a label are with metastasis"),
    "too few": (spoilt(lnm=[1] * 9 + [0] * 51), "too few patients have a label: 51 without and 9 with metastasis"),
    "no label": (spoilt(lnm=""), "no patient has a label"),
    "nothing to learn from": (patients()[["patient", "lnm", "centre"]], "there is no clinical column to learn from"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_a_table_that_cannot_carry_a_head_says_why(fault: str, folders: Path, command: Command) -> None:
    frame, told = UNFIT[fault]
    write(frame, folders / "raw" / NAME / "patients.csv")
    (line,) = lines_of(command("plan_and_preprocess", "-d", "701"))
    assert line.startswith(f"lnauto: {told}, {WHERE}; ")
    assert not (folders / "preprocessed" / NAME / "lnautoPlans.json").exists()


def test_all_faults_are_told_together(folders: Path, command: Command) -> None:
    frame = patients().astype(object)
    frame.loc[4, "lnm"], frame.loc[5, "patient"] = 2, "s0p006"
    frame.loc[7, "tumour_side"] = "both"
    frame["age"] = [*range(40, 99), "old"]
    write(frame, folders / "raw" / NAME / "patients.csv")
    lines = lines_of(command("plan_and_preprocess", "-d", "701"))
    assert [line.split(", in ")[0] for line in lines] == [
        "lnauto: patient s0p006 is repeated (rows 7, 8)",
        'lnauto: "lnm" of patient s0p004 is "2"',
        'lnauto: "tumour_side" of patient s0p007 is "both"',
        'lnauto: "age" of patient s0p059 is "old", among numbers',
    ]


def test_slips_in_clinical_columns_are_told_together(folders: Path, command: Command) -> None:
    frame = patients().astype(object)
    frame["marker"] = np.linspace(1, 9, 60).astype(object)
    frame["age"] = (np.arange(60) % 40 + 40).astype(object)
    frame.loc[3, "marker"], frame.loc[9, "marker"] = "high", "4.3 ng"
    frame.loc[[5, 8], "age"] = -999
    write(frame, folders / "raw" / NAME / "patients.csv")
    lines = lines_of(command("plan_and_preprocess", "-d", "701"))
    assert [line.split(", in ")[0] for line in lines] == [
        'lnauto: "marker" of patient s0p003 is "high", among numbers',
        'lnauto: "marker" of patient s0p009 is "4.3 ng", among numbers',
        'lnauto: "age" is -999 of s0p005, s0p008, which looks like a code for missing',
    ]


def test_planning_warns_of_a_column_that_may_be_the_label(folders: Path, command: Command) -> None:
    frame = patients()
    write(frame.assign(pN=frame["lnm"], ene=frame["lnm"] * 3), folders / "raw" / NAME / "patients.csv")
    code, said, complaint = command("plan_and_preprocess", "-d", "701")
    assert code == 0
    assert f'"pN" is learned from, and looks like the label "n_stage", in {NAME}/patients.csv; call it' in said + complaint
    assert '"ene" alone tells who has metastasis (AUC 1.00)' in said + complaint


def test_slips_in_clinical_columns_hinder_no_segmentation(prepared: Path, tmp_path: Path) -> None:
    """Who learns from images does not mind them, nor too few labels."""
    import shutil

    from lnauto.data.raw import RawDataset

    folder = tmp_path / "Dataset901_Balls"
    shutil.copytree(prepared / "raw" / "Dataset901_Balls", folder)
    names = [case.name for case in RawDataset.read(folder).cases]
    rows = "".join(f"{name},0,{place}.5\n" for place, name in enumerate(names[1:]))
    (folder / "patients.csv").write_text(f"patient,lnm,marker\n{names[0]},1,-9999\n{rows}")
    dataset = RawDataset.read(folder)
    assert dataset.patients is not None
    assert len(dataset.patients.doubts) == 1


class TestPrediction:
    @pytest.fixture
    def trained(self, table: Path, command: Command) -> Path:
        command("plan_and_preprocess", "-d", "701", "--quiet")
        command("train", "701", "0", "--quiet")
        return table

    def predict(self, command: Command, frame: pd.DataFrame, *flags: object) -> tuple[int, str, str]:
        return command("predict", "--patients", write(frame, Path("new.csv")), "-o", "out", *flags)

    def test_a_column_that_is_not_there_is_missing_of_everybody(self, trained: Path, command: Command) -> None:
        code, said, _ = self.predict(command, patients(20, 1).drop(columns="marker"))
        assert code == 0
        assert "new.csv has no column marker: missing of every patient." in said
        found = pd.read_csv("out/patients.csv")
        assert found["flags"].str.contains("marker missing").all()

    def test_labels_in_the_table_are_compared_with(self, trained: Path, command: Command) -> None:
        code, said, _ = self.predict(command, pd.concat([patients(80, 1), patients().head(3)]))
        assert code == 0
        figures = json.loads(Path("out/evaluation.json").read_text())
        head = json.loads(Path(MODEL, "fold_0/head.json").read_text())
        assert figures["patients"] == 80 + len({"s0p000", "s0p001", "s0p002"} - set(head["patients"]))
        assert figures["auc"]["value"] > 0.7
        assert "patients no head was trained on" in said
        assert figures["trained_on_them"] is False

    def test_of_a_model_that_names_no_patients_nobody_knows_whom_it_was_trained_on(self, trained: Path, command: Command) -> None:
        path = Path(MODEL, "fold_0/head.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "patients": []}))
        code, said, _ = self.predict(command, patients())
        assert code == 0
        assert "labels of 60 patients of whom it is not known whether heads were trained on them" in said
        assert json.loads(Path("out/evaluation.json").read_text())["trained_on_them"] is None

    def test_words_where_the_head_knows_numbers(self, trained: Path, command: Command) -> None:
        frame = patients(8, 1).astype(object)
        frame.loc[2, "t_stage"], frame.loc[5, "t_stage"] = "T2", "T4"
        lines = lines_of(self.predict(command, frame))
        assert [line.split(", in ")[0] for line in lines] == [
            'lnauto: "t_stage" of patient s1p002 is "T2", among numbers',
            'lnauto: "t_stage" of patient s1p005 is "T4", among numbers',
        ]
        assert not Path("out").exists()

    def test_a_table_of_something_else(self, trained: Path, command: Command) -> None:
        (line,) = lines_of(self.predict(command, pd.DataFrame({"patient": ["a"], "height": [1.8]})))
        assert "the table has none of the columns the head knows (marker, sex, t_stage, tumour_side), in new.csv" in line

    def test_predictions_are_not_replaced_unasked(self, trained: Path, command: Command) -> None:
        assert self.predict(command, patients(20, 1))[0] == 0
        before = Path("out/patients.csv").read_bytes()
        (line,) = lines_of(self.predict(command, patients(20, 2)))
        assert "there are predictions already, in out" in line
        assert Path("out/patients.csv").read_bytes() == before
        assert self.predict(command, patients(20, 2), "--overwrite")[0] == 0

    def test_a_head_that_does_not_exist(self, trained: Path, command: Command) -> None:
        (line,) = lines_of(self.predict(command, patients(20, 1), "-f", "3"))
        assert "fold 3 is not trained (there: 0)" in line

    def test_a_file_that_is_no_head(self, trained: Path, command: Command) -> None:
        Path(MODEL, "fold_0/head.json").write_text('{"columns": []}')
        (line,) = lines_of(self.predict(command, patients(20, 1)))
        assert "this is no head that lnauto" in line


def test_the_raw_table_is_never_written_to(table: Path, command: Command) -> None:
    before = table.read_bytes()
    command("plan_and_preprocess", "-d", "701", "--quiet")
    command("train", "701", "0", "--quiet")
    assert table.read_bytes() == before
    assert sorted(path.name for path in table.parent.iterdir()) == ["patients.csv"]


def test_planning_again_without_the_table_is_refused(folders: Path, command: Command) -> None:
    (folders / "raw" / NAME).mkdir()
    (folders / "raw" / NAME / "dataset.json").write_text('{"annotation": "table"}')
    lines = lines_of(command("plan_and_preprocess", "-d", "701"))
    assert "there is no patients.csv" in lines[0]
