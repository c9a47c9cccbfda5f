"""Pseudo-label rounds: who labels what, what is learned from it, and that nothing held back is ever read."""

from __future__ import annotations

import csv
import hashlib
import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from building import write_balls

from lnauto.compat.plans import LabelManager
from lnauto.data.gathered import Gathered
from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.paths import VARIABLES
from lnauto.workflow import labelling, rounds
from lnauto.workflow.fold import Request
from lnauto.workflow.labelling import Round
from lnauto.workflow.round_cases import RoundCases, choose_cases, deal
from lnauto.workflow.rounds import Shares

Command = Callable[..., tuple[int, str, str]]
NAME = "Dataset931_Rounds"
MODEL = f"results/{NAME}/LNTrainer__lnautoPlans__3d_fullres"
FOLD = f"{MODEL}/fold_0"
TRAIN = ("train", 931, 0, "--device", "cpu", "--workers", 0, "-tr", "LNTrainer")
DRAWN, UNDRAWN = 6, 2  # cases
IGNORE = 2


def write_partly_drawn(folder: Path) -> None:
    """Balls of which one is drawn and the others may be node or not; two cases have no label at all."""
    write_balls(folder, cases=DRAWN + UNDRAWN, test_cases=1)
    for number in range(DRAWN + UNDRAWN):
        path = folder / f"labelsTr/ball_{number:02d}.nii.gz"
        if number >= DRAWN:
            path.unlink()
            image = folder / f"imagesTr/ball_{number:02d}_0000.nii.gz"
            (folder / "imagesUn").mkdir(exist_ok=True)
            image.rename(folder / "imagesUn" / image.name)
            continue
        label = sitk.ReadImage(str(path))
        truth = sitk.GetArrayFromImage(label)
        (folder / "truth").mkdir(exist_ok=True)
        shutil.copy(path, folder / "truth")
        z = int(np.argwhere(truth == 1)[0, 0])
        known = np.where(truth == 1, IGNORE, 0)
        known[: z + 4] = truth[: z + 4]
        known[: z + 4, :, :6] = IGNORE  # of this nobody said anything, though there may be nothing
        drawn = sitk.GetImageFromArray(known.astype(np.uint8))
        drawn.CopyInformation(label)
        sitk.WriteImage(drawn, str(path))
    description = read_json(folder / "dataset.json", "")
    description["labels"]["ignore"] = IGNORE
    (folder / "dataset.json").write_text(json.dumps(description))


def plan(root: Path, identifier: str) -> None:
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, plan_and_preprocess

    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess(identifier, Request(wishes=Wishes(minutes=2), device="cpu", quiet=True))
    [path] = (root / "preprocessed").glob("*/lnautoPlans.json")
    content = read_json(path, "")
    content["lnauto"]["budget"]["validation_iterations"] = 1
    network = content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["features_per_stage"] = [4] * network["n_stages"]  # a small one: here it matters who learns what, not how well
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rounds")
    write_partly_drawn(root / "raw" / NAME)
    plan(root, "931")
    return root


def copy_of(planned: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, variable in VARIABLES.items():
        if (planned / name).is_dir():
            shutil.copytree(planned / name, to / name)
        monkeypatch.setenv(variable, str(to / name))
    monkeypatch.chdir(to)
    return to


@pytest.fixture
def own(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The planned balls for a test to spoil; it runs beside them."""
    return copy_of(planned, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def trained(planned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One round of ten iterations a network, left alone; read-only for tests."""
    from lnauto.commands.train import main

    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        copy_of(planned, root, patch)
        assert main([str(word) for word in (*TRAIN[1:], "--rounds", 1, "--iterations", 10, "--no-report", "--quiet")]) == 0
    return root


def split_of(root: Path) -> dict[str, list[str]]:
    splits: list[dict[str, list[str]]] = read_json(root / f"preprocessed/{NAME}/splits_final.json", "")
    return splits[0]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(checkpoint, weights_only=True)["network_weights"])


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return all(torch.equal(one[name], other[name]) for name in one)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def label_in(folder: Path, case: str, labels: Path | None = None) -> np.ndarray:
    _, seg, _, _ = Gathered({case: folder}, labels).load_case(case)
    return np.asarray(seg[:])


class TestOneRound:
    """What a round leaves behind."""

    def test_the_table_says_of_every_case_how_far_the_labellers_agree_and_whether_it_is_kept(self, trained: Path) -> None:
        folder = trained / FOLD / "rounds"
        table = read_json(folder / "round_1/agreement.json", "")
        rows = {row["case"]: row for row in table["cases"]}
        assert set(rows) == {*split_of(trained)["train"], "ball_06", "ball_07"}
        kept = [name for name, row in rows.items() if row["kept"]]
        assert table["kept"] == len(kept) == len(rows) * 4 // 5
        scores = [row["agreement"] for row in rows.values()]
        assert all(score is not None and 0 <= score <= 1 for score in scores)
        left = [row["agreement"] for row in rows.values() if not row["kept"]]
        assert max(left) <= min(rows[name]["agreement"] for name in kept)
        assert {name for name, row in rows.items() if row["annotation"] == "none"} == {"ball_06", "ball_07"}
        listed = list(csv.DictReader((folder / "round_1/agreement.csv").open()))
        assert [row["case"] for row in listed] == sorted(rows)
        assert all(float(row["agreement"]) == pytest.approx(rows[row["case"]]["agreement"], abs=1e-4) for row in listed)
        assert {row["labeller_2"] for row in listed} == {"round_1/labeller_2/checkpoint_final.pth"}
        assert (folder / listed[0]["labeller_1"]).is_file()

    def test_the_labellers_have_no_case_and_no_seed_in_common(self, trained: Path) -> None:
        folder = trained / FOLD / "rounds"
        first, second = read_json(folder / "round_1/agreement.json", "")["labellers"]
        assert sorted([*first["trained_on"], *second["trained_on"]]) == sorted(split_of(trained)["train"])
        assert first["trained_on"]
        assert second["trained_on"]
        paths = [folder / first["checkpoint"], folder / second["checkpoint"], trained / FOLD / "checkpoint_final.pth"]
        assert len({torch.load(path, weights_only=True)["lnauto"]["seed"] for path in paths}) == 3
        assert not same(paths[0], paths[1])

    def test_pseudo_labels_fill_in_only_what_nobody_knew(self, trained: Path) -> None:
        base = trained / f"preprocessed/{NAME}"
        made = trained / FOLD / "rounds/round_1/labels"
        rows = read_json(made.parent / "agreement.json", "")["cases"]
        changed = 0
        for row in rows:
            case = row["case"]
            ending = "_unannotated" if row["annotation"] == "none" else ""
            folder = base / f"lnautoPlans_3d_fullres{ending}"
            if row["annotation"] == "none":
                assert (made / f"{case}.pkl").is_file() == row["kept"]
                if not row["kept"]:
                    continue
            after = label_in(folder, case, made)
            before = np.full(after.shape, IGNORE) if row["annotation"] == "none" else label_in(folder, case)
            assert np.array_equal(after[before != IGNORE], before[before != IGNORE])
            if not row["kept"]:
                assert np.array_equal(after, before)
            else:
                changed += int((after != before).sum())
                assert (after[before == IGNORE] == 1).sum() == pytest.approx(row["added_mm3"] / voxel(base), abs=1)
        assert changed > 0

    def test_neither_raw_nor_preprocessed_files_are_touched(self, planned: Path, trained: Path) -> None:
        assert digests(planned / "raw") == digests(trained / "raw")
        before, after = digests(planned / "preprocessed"), digests(trained / "preprocessed")
        assert {name: after.get(name) for name in before} == before
        assert all("lnautoPlans_3d_fullres_unannotated" in name for name in set(after) - set(before))

    def test_the_model_stands_where_it_always_does_and_predicts(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
    ) -> None:
        monkeypatch.setenv("nnUNet_results", str(trained / "results"))
        assert (trained / FOLD / "validation/evaluation.json").is_file()
        scans = trained / f"raw/{NAME}/imagesTs"
        code, _, complaint = command("predict", "-d", 931, "-i", scans, "-o", tmp_path / "out", "--device", "cpu", "--quiet")
        assert code == 0, complaint
        assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1


def voxel(base: Path) -> float:
    return float(np.prod(read_json(base / "lnautoPlans.json", "")["configurations"]["3d_fullres"]["spacing"]))


def test_without_any_truth_and_with_spoiled_validation_labels_the_same_cases_are_kept(
    own: Path, trained: Path, command: Command
) -> None:
    raw = own / "raw" / NAME
    shutil.rmtree(raw / "truth")
    shutil.rmtree(raw / "labelsTs")
    for case in split_of(own)["val"]:
        path = raw / f"labelsTr/{case}.nii.gz"
        label = sitk.ReadImage(str(path))
        spoiled = sitk.GetImageFromArray(1 - (sitk.GetArrayFromImage(label) == 1).astype(np.uint8))
        spoiled.CopyInformation(label)
        sitk.WriteImage(spoiled, str(path))
    code, _, complaint = command(*TRAIN, "--rounds", 1, "--iterations", 10, "--quiet")
    assert code == 0, complaint
    table = "rounds/round_1/agreement.json"
    assert (own / FOLD / table).read_text() == (trained / FOLD / table).read_text()
    assert same(own / FOLD / "checkpoint_final.pth", trained / FOLD / "checkpoint_final.pth")
    evaluation = "validation/evaluation.json"  # which does read the validation labels
    assert (own / FOLD / evaluation).read_text() != (trained / FOLD / evaluation).read_text()


def test_a_run_stopped_in_every_stage_ends_like_one_left_alone(
    own: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    from lnauto.trainers.lntrainer import LNTrainer

    step, label_case = LNTrainer.train_step, Round._label_case
    steps, labelled = list[str](), list[str]()
    stop_at = 14  # in the second labeller

    def counted_step(self: LNTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        steps.append(self.output_folder)
        return step(self, batch)

    def counted_label(self: Round, name: str, *rest: Any) -> dict[str, Any]:
        if len(labelled) == 2 and stop_at == 99:
            raise KeyboardInterrupt
        labelled.append(name)
        return label_case(self, name, *rest)

    monkeypatch.setattr(LNTrainer, "train_step", counted_step)
    monkeypatch.setattr(Round, "_label_case", counted_label)
    assert command(*TRAIN, "--rounds", 1, "--iterations", 10, "--quiet")[0] == 130
    assert not (own / FOLD / "checkpoint_final.pth").exists()
    code, _, complaint = command(*TRAIN, "--quiet")  # nor may a plain training take their place
    assert (code, complaint.startswith("lnauto: rounds of pseudo labels were begun there already, in ")) == (2, True)
    code, _, complaint = command(*TRAIN, "--rounds", 2, "--continue", "--quiet")
    assert (code, complaint.startswith("lnauto: this fold was begun with --rounds 1, not 2, in ")) == (2, True)
    stop_at = 99
    assert command(*TRAIN, "--continue", "--quiet")[0] == 130
    assert len(labelled) == 2
    stop_at = 25
    assert command(*TRAIN, "--continue", "--quiet")[0] == 130
    stop_at = 1000
    code, out, complaint = command(*TRAIN, "--continue")
    assert code == 0, complaint
    assert "Labeller 1 of round 1, fold 0 is trained already." in out
    assert len(steps) == 30
    assert sorted(set(labelled)) == sorted(labelled)
    table = "rounds/round_1/agreement.json"
    assert (own / FOLD / table).read_text() == (trained / FOLD / table).read_text()
    assert same(own / FOLD / "checkpoint_final.pth", trained / FOLD / "checkpoint_final.pth")


def test_every_network_learns_from_the_labels_of_the_round_before(
    own: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    from lnauto.trainers.lntrainer import LNTrainer

    seen: dict[str, tuple[Any, list[str], list[str]]] = {}
    start = LNTrainer.on_train_start

    def looked_at(self: LNTrainer) -> None:
        start(self)
        training, validation = self.get_tr_and_val_datasets()
        folder = Path(self.output_folder).relative_to(own / FOLD).as_posix()
        labels = training.labels and training.labels.relative_to(own / FOLD).as_posix()
        seen[folder] = labels, training.identifiers, validation.identifiers
        assert validation.source_folder == self.preprocessed_dataset_folder

    monkeypatch.setattr(LNTrainer, "on_train_start", looked_at)
    code, out, complaint = command(*TRAIN, "--rounds", 2, "--iterations", 1)
    assert code == 0, complaint
    assert "Fold 0 in rounds (2): 5 networks are trained" in out
    assert [(folder, labels) for folder, (labels, _, _) in seen.items()] == [
        ("rounds/round_1/labeller_1", None),
        ("rounds/round_1/labeller_2", None),
        ("rounds/round_2/labeller_1", "rounds/round_1/labels"),
        ("rounds/round_2/labeller_2", "rounds/round_1/labels"),
        (".", "rounds/round_2/labels"),
    ]
    split = split_of(own)
    scans = {"ball_06", "ball_07"}
    first, second = (read_json(own / FOLD / f"rounds/round_{number}/agreement.json", "") for number in (1, 2))
    kept = [{row["case"] for row in table["cases"] if row["kept"]} for table in (first, second)]
    trained_on = [set(training) for _, training, _ in seen.values()]
    assert [set(labeller["trained_on"]) for table in (first, second) for labeller in table["labellers"]] == trained_on[:4]
    assert trained_on[2] & trained_on[3] == set()
    assert trained_on[2] | trained_on[3] == {*split["train"], *(kept[0] & scans)}
    assert trained_on[4] == {*split["train"], *(kept[1] & scans)}
    assert [set(split["val"]) & set(looked) for _, _, looked in seen.values()] == [set()] * 4 + [set(split["val"])]
    assert all({labelled["case"] for labelled in table["cases"]} == {*split["train"], *scans} for table in (first, second))


def test_what_is_drawn_wholly_stays_and_scans_without_masks_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    raw = tmp_path / "planned/raw/Dataset932_Whole"
    write_balls(raw, cases=6, test_cases=2)
    (raw / "imagesTs").rename(raw / "imagesUn")
    shutil.rmtree(raw / "labelsTs")
    plan(tmp_path / "planned", "932")
    copy_of(tmp_path / "planned", tmp_path, monkeypatch)
    code, out, complaint = command("train", 932, "all", "--rounds", 1, "--iterations", 3, "--device", "cpu", "--workers", 0)
    assert code == 0, complaint
    assert "labelled are 0 cases that are annotated in part, and 2 without annotation" in out
    model = tmp_path / "results/Dataset932_Whole/LNTrainer__lnautoPlans__3d_fullres"
    rows = read_json(model / "fold_all/rounds/round_1/agreement.json", "")["cases"]
    assert [row["case"] for row in rows] == ["ball_06", "ball_07"]
    assert sum(row["kept"] for row in rows) == 1
    assert read_json(model / "dataset.json", "")["labels"]["ignore"] == 2
    for case in sorted(path.name[:-4] for path in (model / "fold_all/rounds/round_1/labels").glob("ball_0[0-5].pkl")):
        folder = tmp_path / "preprocessed/Dataset932_Whole/lnautoPlans_3d_fullres"
        assert np.array_equal(label_in(folder, case, model / "fold_all/rounds/round_1/labels"), label_in(folder, case))


def test_patches_of_a_case_preprocessed_without_an_ignore_label_lie_anywhere() -> None:
    """Where scans without masks are added to cases that are wholly drawn: these list no drawn voxels to centre patches at."""
    from lnauto.trainers.patches import PatchLoader

    labels = LabelManager({"background": 0, "node": 1, "ignore": IGNORE}, None)
    loader = PatchLoader(SimpleNamespace(identifiers=["a"]), 2, (8, 8, 8), (8, 8, 8), labels)
    np.random.seed(0)
    starts = np.array([loader.get_bbox((40, 40, 40), False, {1: np.empty((0, 4))})[0] for _ in range(50)])
    assert (starts.min(axis=0) < 8).all()
    assert (starts.max(axis=0) > 24).all()


def test_each_fold_has_rounds_of_its_own(own: Path, command: Command) -> None:
    code, _, complaint = command("train", 931, 0, 1, *TRAIN[3:], "--rounds", 1, "--iterations", 1, "--quiet")
    assert code == 0, complaint
    splits = read_json(own / f"preprocessed/{NAME}/splits_final.json", "")
    for fold in (0, 1):
        rows = read_json(own / MODEL / f"fold_{fold}/rounds/round_1/agreement.json", "")["cases"]
        assert {row["case"] for row in rows} == {*splits[fold]["train"], "ball_06", "ball_07"}


def make_case(folder: Path, name: str, label: np.ndarray, image: np.ndarray) -> None:
    from lnauto.compat.storage import nnUNetDatasetBlosc2

    folder.mkdir(exist_ok=True)
    shape = dict.fromkeys(("chunks", "blocks", "chunks_seg", "blocks_seg"), (1, 8, 8, 8))
    locations = {"class_locations": {1: np.argwhere(label[None] == 1)}}
    nnUNetDatasetBlosc2.save_case(image[None], label[None].astype(np.int16), locations, str(folder / name), **shape)


def in_one_folder(folder: Path, annotated: list[str], unannotated: list[str]) -> RoundCases:
    names = [*annotated, *unannotated]
    return RoundCases(tuple(annotated), (), tuple(annotated), tuple(unannotated), dict.fromkeys(names, folder), {})


def test_cases_whose_pseudo_labels_are_spoiled_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten cases, of which one labeller gets two wrong: those two, one of them never annotated, keep what they had."""
    rng = np.random.default_rng(1)
    names = [f"case_{number}" for number in range(10)]
    spoiled, truths = ["case_2", "case_8"], {}
    for number, name in enumerate(names):
        truth = np.zeros((16, 16, 16), int)
        truth[tuple(slice(start, start + 4) for start in rng.integers(0, 6, 3))] = 1
        truth[10:14, 10:14, 10:14] = 1
        label = np.full(truth.shape, IGNORE)
        if number < 6:
            label[10:14, 10:14, 10:14] = 1
        truths[name] = truth
        make_case(tmp_path / "data", name, label, np.full(truth.shape, number, np.float32))

    def labeller(path: Path, *_: Any) -> SimpleNamespace:
        def predict(image: np.ndarray) -> np.ndarray:
            name = names[int(image[0, 0, 0, 0])]
            wrong = path.name == "second" and name in spoiled
            return np.roll(truths[name], 5, axis=0) if wrong else truths[name]

        labels = LabelManager({"background": 0, "node": 1, "ignore": IGNORE}, None)
        configuration = SimpleNamespace(patch_size=(8, 8, 8), spacing=(1.0, 2.0, 2.0))
        return SimpleNamespace(predict_grid=predict, labels=labels, configuration=configuration)

    monkeypatch.setattr(labelling, "_predictor", labeller)
    cases = in_one_folder(tmp_path / "data", names[:6], names[6:])
    current = Round(tmp_path / "rounds/round_1", cases)
    halves = {tmp_path / "rounds/first": names[:3], tmp_path / "rounds/second": names[3:6]}
    current.label(halves, torch.device("cpu"), "fp32", quiet=True)
    rows = {row["case"]: row for row in read_json(current.table, "")["cases"]}
    assert [name for name, row in rows.items() if not row["kept"]] == spoiled
    assert current.training == [name for name in names if name != "case_8"]
    for name in current.training:
        label = label_in(tmp_path / "data", name, current.labels)[0]
        if name == "case_2":
            assert np.array_equal(label, label_in(tmp_path / "data", name)[0])
        else:
            assert np.array_equal(label, truths[name])
            assert rows[name]["nodes_added"] == (1 if name < "case_6" else 2)
    assert not current.begun.exists()
    _, _, _, properties = Gathered({"case_9": tmp_path / "data"}, current.labels).load_case("case_9")
    assert {1, (-1, 0, 1)} == set(properties["class_locations"])
    assert len(properties["class_locations"][1]) == truths["case_9"].sum()


def test_what_is_likely_a_node_comes_along_where_a_trainer_asks_for_it(tmp_path: Path) -> None:
    """LNTrainerPartial does. A scan without annotation has none, and a folder without any gives no second label."""
    from lnauto.compat.storage import nnUNetDatasetBlosc2
    from lnauto.data.preprocess import likely_folder

    folder, label = tmp_path / "data", np.full((8, 8, 8), IGNORE)
    for name in ("a", "b"):
        make_case(folder, name, label, np.zeros(label.shape, np.float32))
    cases = Gathered(dict.fromkeys("ab", folder))
    assert cases.with_likely().load_case("a")[2] is None
    likely = np.zeros(label.shape, np.int8)
    likely[2:4] = 1
    likely_folder(folder).mkdir()
    nnUNetDatasetBlosc2.save_seg(likely, str(likely_folder(folder) / "a"))
    assert cases.load_case("a")[2] is None
    second = [np.asarray(cases.with_likely().load_case(name)[2][:]) for name in ("a", "b")]
    assert np.array_equal(second[0], likely)
    assert second[1].shape == label.shape
    assert not second[1].any()


class TestChoosingCases:
    """Who is labelled, and who learns from whom."""

    LABELS = LabelManager({"background": 0, "node": 1, "ignore": IGNORE}, None)

    def choose(self, folder: Path, unknown: dict[str, bool], scans: list[str], patient_of: dict[str, str]) -> RoundCases:
        for name, has_unknown in unknown.items():
            label = np.zeros((8, 8, 8), int)
            label[2:4, 2:4, 2:4] = 1
            label[6] = IGNORE if has_unknown else 0
            make_case(folder, name, label, np.zeros(label.shape, np.float32))
        split = {"train": [*unknown], "val": ["held_back"]}
        return choose_cases(split, scans, patient_of, (folder, folder), self.LABELS, "fold 0", quiet=True)

    def test_scans_of_a_patient_the_fold_validates_on_stay_out(self, tmp_path: Path) -> None:
        patient_of = {"held_back": "p1", "scan_1": "p1", "scan_2": "p2"}
        cases = self.choose(tmp_path / "data", {"a": True, "b": True}, ["scan_1", "scan_2", "scan_3"], patient_of)
        assert cases.to_label == ("a", "b", "scan_2", "scan_3")
        assert "held_back" not in cases.folders

    def test_a_case_without_unknown_voxels_is_not_labelled(self, tmp_path: Path) -> None:
        cases = self.choose(tmp_path / "data", {"a": True, "b": False, "c": True}, [], {})
        assert (cases.partly, cases.annotated) == (("a", "c"), ("a", "b", "c"))

    def test_the_scans_of_a_patient_go_to_one_labeller_and_both_get_about_as_much(self) -> None:
        drawn = {"a1": 50, "a2": 40, "b": 60, "c": 20, "d": 10, "e": 5}
        half_of = deal(drawn, ["a3", "f", "g"], {"a1": "a", "a2": "a", "a3": "a"})
        assert half_of == {"a1": 1, "a2": 1, "a3": 1, "b": 2, "c": 2, "d": 1, "e": 1, "f": 2, "g": 2}

    @pytest.mark.parametrize(
        ("unknown", "scans", "patients", "line"),
        [
            ({"a": False, "b": False}, [], {}, "there is nothing to label"),
            ({"a": True}, ["s"], {}, "two labellers need drawn nodes of two patients to learn from, and there are 1"),
            ({"a": True, "b": True}, ["s"], {"a": "p", "b": "p"}, "two labellers need drawn nodes of two patients"),
            ({"a": False, "b": False}, ["s"], {}, "of 1 case to label the rounds would keep none"),
        ],
    )
    def test_too_little_is_told(
        self, tmp_path: Path, unknown: dict[str, bool], scans: list[str], patients: dict[str, str], line: str
    ) -> None:
        with pytest.raises(InputError, match=line):
            self.choose(tmp_path / "data", unknown, scans, patients)


def test_where_everything_is_drawn_there_is_nothing_to_label(balls: Path, command: Command) -> None:
    code, _, complaint = command("train", 901, 0, "--rounds", 1, "--iterations", 1, "--device", "cpu", "--quiet")
    assert (code, complaint.count("\n")) == (2, 1)
    assert complaint.startswith("lnauto: there is nothing to label: every training case is taken as wholly annotated")
    assert not Path("results").exists()


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_no_rounds_or_fewer_are_refused(command: Command, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command("train", 931, 0, "--rounds", number)
    assert ended.value.code == 2
    assert f"argument --rounds: '{number}' is not a whole number from 1" in capsys.readouterr().err


def test_rounds_and_plain_training_are_not_mixed_up(own: Path, command: Command) -> None:
    short = (*TRAIN, "--iterations", 1, "--quiet")
    assert command(*short)[0] == 0
    code, _, complaint = command(*short, "--rounds", 1)
    assert (code, complaint.startswith("lnauto: a training of fold 0 is finished there already, in ")) == (2, True)
    code, _, complaint = command(*short, "--rounds", 1, "--continue")
    assert (code, complaint.startswith("lnauto: this fold was begun without rounds of pseudo labels, in ")) == (2, True)
    plain = (own / FOLD / "checkpoint_final.pth").read_bytes()
    code, _, complaint = command(*TRAIN, "--quiet", "--rounds", 1, "--overwrite", "--budget", "1s")
    assert (code, "the budget leaves" in complaint, "for labeller 1 of round 1, fold 0" in complaint) == (2, True, True)
    assert (own / FOLD / "checkpoint_final.pth").read_bytes() == plain
    assert command(*short, "--rounds", 1, "--overwrite")[0] == 0
    assert (own / FOLD / "rounds/round_1/agreement.json").is_file()
    label = own / f"raw/{NAME}/labelsTr/{split_of(own)['train'][0]}.nii.gz"
    image = sitk.ReadImage(str(label))
    image[1, 1, 1] = 1
    sitk.WriteImage(image, str(label))
    code, _, complaint = command(*TRAIN, "--quiet", "--continue")
    assert (code, complaint.startswith("lnauto: labels, images, plan or folds have changed since the rounds")) == (2, True)
    assert command(*short, "--overwrite")[0] == 0
    assert not (own / FOLD / "rounds").exists()


def test_a_fold_whose_rounds_were_deleted_is_not_trained_further_without_their_labels(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    own = copy_of(trained, tmp_path, monkeypatch)
    shutil.rmtree(own / FOLD / "rounds")
    before = digests(own / FOLD)
    for longer in (("--iterations", 12), ("--budget", "1h")):
        code, _, complaint = command(*TRAIN, "--quiet", "--no-report", "--continue", *longer)
        assert code == 2
        assert complaint.startswith("lnauto: fold 0 was trained on pseudo labels that are no longer there, in ")
        assert complaint.endswith("; leave it as it is, or start anew with --overwrite\n")
    assert digests(own / FOLD) == before
    assert command(*TRAIN, "--quiet", "--no-report", "--continue")[0] == 0  # it is only validated again


def test_rounds_need_the_raw_data(own: Path, command: Command) -> None:
    shutil.rmtree(own / "raw" / NAME)
    code, _, complaint = command(*TRAIN, "--quiet", "--rounds", 1)
    assert (code, complaint.startswith("lnauto: rounds of pseudo labels need the raw data set, in ")) == (2, True)


def test_a_budget_is_shared_by_the_networks_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("lnauto.workflow.rounds.time.monotonic", lambda: now)
    shares = Shares(300.0, 3)
    assert shares.next() == 100
    now += 120  # it took longer
    assert shares.next() == 90
    now += 10
    assert shares.next() == 170
    assert Shares(None, 3).next() is None


@pytest.mark.slow
def test_what_two_labellers_agree_on_teaches_more_than_what_one_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a phantom, against all labels of one labeller: the filter by voxel and case is what makes the difference."""
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, str(tmp_path))  # the benchmark sets its own; these are put back
    for name in ("pseudo_labels", "keep_best"):
        monkeypatch.setattr(labelling, name, getattr(labelling, name))
    alone = "first labeller alone, no case left out"
    measure = runpy.run_path(str(Path(__file__).parent / "benchmarks/rounds.py"))["measure"]
    found = measure(tmp_path, ways=("rounds", alone))
    assert found["rounds"]["f1"] > found[alone]["f1"]


def test_rounds_that_begin_anew_do_not_take_the_length_of_those_before(tmp_path: Path) -> None:
    asked = {"minutes": None, "epochs": None, "iterations": 5}
    (tmp_path / "rounds.json").write_text(json.dumps(asked))
    work: Any = SimpleNamespace(request=Request(rounds=1), record=tmp_path / "rounds.json", networks=3)
    lengths = [rounds._request(work, tmp_path / "labeller_1", 0, None, begun)[0].iterations for begun in (False, True)]
    assert lengths == [None, 5]
