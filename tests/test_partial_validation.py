"""Validation where not every node is drawn: what nobody judged is neither found nor false, and Dice decides nothing."""

from __future__ import annotations

import json
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
from scipy.ndimage import distance_transform_edt

from lnauto.data.trusted_background import adding_ignore
from lnauto.evaluation.cases import ALL_NODES, evaluate_case
from lnauto.evaluation.labels import LabelScheme
from lnauto.files import read_json
from lnauto.inference.predictor import Predictor
from lnauto.nodes import label_components
from lnauto.paths import VARIABLES
from lnauto.planners.wishes import Wishes
from lnauto.trainers import validation
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.options import Options
from lnauto.trainers.schedule import Length
from lnauto.trainers.yardstick import COMPLETE, PARTIAL, STROKES, judged, yardstick_of
from lnauto.workflow.plan import Request, plan_and_preprocess

Command = Callable[..., tuple[int, str, str]]
NAME = "Dataset904_Part"
MODEL = f"results/{NAME}/LNTrainerPartial__lnautoPlans__3d_fullres"
PREPROCESSED = f"preprocessed/{NAME}"
TRAIN = ("train", 904, 0, "--device", "cpu", "--workers", 0)
SCHEME = LabelScheme.of({"background": 0, "node": 1, "ignore": 2})
VOXEL = (2.0, 2.0, 2.0)


def counts(truth: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int]:
    found = evaluate_case(truth, predicted, VOXEL, SCHEME).nodes[ALL_NODES].counts
    return found.true, found.found, found.false


def volume(*boxes: tuple[slice, slice, slice], value: int = 1) -> np.ndarray:
    array = np.zeros((20, 20, 20), np.uint8)
    for box in boxes:
        array[box] = value
    return array


CUBE = (slice(5, 10), slice(5, 10), slice(5, 10))
INNER = (slice(5, 9), slice(5, 9), slice(5, 9))  # 64 of its 125 voxels: more than half
CORNER = (slice(5, 8), slice(5, 8), slice(5, 8))


def test_the_rim_of_what_lies_mostly_where_nobody_judged_is_no_false_node() -> None:
    assert counts(volume(INNER, value=2), volume(CUBE)) == (0, 0, 0)


def test_what_lies_mostly_where_it_was_judged_is_a_false_node() -> None:
    assert counts(volume(CORNER, value=2), volume(CUBE)) == (0, 0, 1)
    assert counts(volume(), volume(CUBE)) == (0, 0, 1)


def test_a_drawn_node_is_found_by_a_component_that_runs_into_the_unknown() -> None:
    truth = volume((slice(5, 10), slice(5, 10), slice(7, 20)), value=2)
    truth[5:10, 5:10, 5:7] = 1
    assert counts(truth, volume((slice(5, 10), slice(5, 10), slice(5, 20)))) == (1, 1, 0)


def test_dice_counts_every_judged_voxel_whatever_becomes_of_nodes() -> None:
    truth = volume(INNER, value=2)
    truth[15:18, 15:18, 15:18] = 1
    predicted = volume(CUBE)
    predicted[15:18, 15:18, 15:18] = 1
    result = evaluate_case(truth, predicted, VOXEL, SCHEME)
    assert result.labels["node"].scores["dice"] == pytest.approx(2 * 27 / (27 + 27 + 61))
    assert result.nodes[ALL_NODES].counts.false == 0


# ---- on a data set


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls of which each case shows one drawn and two that are not; the whole truth in truth/; read-only."""
    root = tmp_path_factory.mktemp("part")
    raw = root / "raw" / NAME
    write_balls(raw, side=28, test_cases=0)
    (raw / "truth").mkdir()
    for path in (raw / "labelsTr").iterdir():
        image = sitk.ReadImage(str(path))
        whole = sitk.GetArrayFromImage(image)
        shutil.copy(path, raw / "truth" / path.name)
        part = sitk.GetImageFromArray((label_components(whole)[0] == 1).astype(np.uint8))
        part.CopyInformation(image)
        sitk.WriteImage(part, str(path))
    description = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, "annotation": "partial"}))
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("904", Request(wishes=Wishes(patch=[16, 16, 16]), device="cpu", quiet=True))
    return root


@pytest.fixture
def own(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, variable in VARIABLES.items():
        if (planned / name).is_dir():
            shutil.copytree(planned / name, tmp_path / name)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def masks(root: Path, folder: str) -> dict[str, np.ndarray]:
    found = (root / "raw" / NAME / folder).iterdir()
    return {path.name.removesuffix(".nii.gz"): sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in found}


def told(root: Path, fold: int = 0) -> dict[str, Any]:
    [path] = root.glob(f"results/{NAME}/*/fold_{fold}/validation/evaluation.json")
    return dict(read_json(path, ""))


def validation_cases(root: Path) -> list[str]:
    return sorted(read_json(root / PREPROCESSED / "splits_final.json", "")[0]["val"])


def edit_plan(root: Path, **changes: Any) -> None:
    path = root / PREPROCESSED / "lnautoPlans.json"
    plan = json.loads(path.read_text())
    plan["lnauto"] |= changes
    path.write_text(json.dumps(plan))


def trust_what_is_dark(root: Path) -> None:
    """Every voxel that is not as bright as a ball is background for certain; a ball that is not drawn is unknown."""
    trusted = read_json(root / PREPROCESSED / "lnautoPlans.json", "")["lnauto"]["trusted_background"]
    edit_plan(root, trusted_background={**trusted, "low": [100.0], "air_below": None, "depth_mm": None})


def predict(monkeypatch: pytest.MonkeyPatch, *predicted: np.ndarray) -> None:
    """A network that answers with these masks, one after the other."""
    answers = iter(predicted)
    monkeypatch.setattr(Predictor, "predict_prepared", lambda *_: next(answers))


def train_and_look(root: Path, command: Command) -> tuple[str, dict[str, Any]]:
    code, out, complaint = command(*TRAIN, "--iterations", 2)
    assert code == 0, complaint
    return out, dict(
        read_json(root / f"results/{NAME}/LNTrainerPartial__lnautoPlans__3d_fullres/fold_0/validation/evaluation.json", "")
    )


def blob_far_from(mask: np.ndarray) -> np.ndarray:
    inner = distance_transform_edt(mask == 0)
    inner[[0, 1, -1, -2]] = inner[:, [0, 1, -1, -2]] = inner[:, :, [0, 1, -1, -2]] = 0
    middle = np.unravel_index(inner.argmax(), mask.shape)
    blob = np.zeros_like(mask)
    blob[tuple(slice(place - 1, place + 2) for place in middle)] = 1
    return blob


def test_a_node_that_nobody_drew_is_not_false_but_one_in_trusted_background_is(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust_what_is_dark(own)
    truth, drawn, cases = masks(own, "truth"), masks(own, "labelsTr"), validation_cases(own)
    undrawn = sum(label_components(truth[case])[1] - label_components(drawn[case])[1] for case in cases)
    assert undrawn >= len(cases)
    predict(monkeypatch, *(truth[case] | blob_far_from(truth[case]) for case in cases))
    out, figures = train_and_look(own, command)
    assert "Validation of fold 0, against what is drawn: what lies where nobody judged counts neither as found nor" in out
    pooled = figures["nodes"][ALL_NODES]["pooled"]
    assert (pooled["true"], pooled["found"], pooled["false"]) == (len(cases), len(cases), len(cases))


def test_against_strokes_no_node_is_counted(own: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_plan(own, strategy="scribble")
    predict(monkeypatch, *(masks(own, "labelsTr")[case] for case in validation_cases(own)))
    out, figures = train_and_look(own, command)
    assert "Validation of fold 0, against strokes: " in out
    assert "recall" not in out
    assert figures["nodes"] == {}
    history = read_json(own / MODEL / "fold_0/history.json", "")
    assert [record["nodes"] for record in history] == [None]


def test_while_training_too_what_nobody_judged_is_neither_found_nor_false(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(own)
    check = validation.NodeCheck(trainer)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(check.cases))
    labels = [np.asarray(dataset.load_case(case)[1][0]) for case in check.cases]
    for predicted in (iter([label > 0 for label in labels]), iter([label == 1 for label in labels])):
        answers = SimpleNamespace(predict_grid=lambda _, predicted=predicted: next(predicted).astype(np.uint8))
        monkeypatch.setattr(validation, "predictor_of", lambda *_, answers=answers, **__: answers)
        assert check.run() == {"cases": len(labels), "recall": 1.0, "false_per_case": 0.0, "f1": 1.0}


def test_axes_of_nodes_are_those_in_the_patients_axial_slices(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rod from left to right, in a data set of sagittal slices; in these it is a dot."""
    edit_plan(own, trusted_background=None, inference={"orientation": "PIR"})
    sagittal, rod = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0), np.zeros((28, 28, 28), np.uint8)
    rod[4:24, 10:13, 10:13] = 1
    for case in validation_cases(own):
        path = own / "raw" / NAME / f"labelsTr/{case}.nii.gz"
        label = sitk.GetImageFromArray(rod)
        label.SetSpacing(sitk.ReadImage(str(path)).GetSpacing())
        label.SetDirection(sagittal)
        sitk.WriteImage(label, str(path))
    trainer = make(own)
    load = trainer.dataset_class.load_case

    def turned(dataset: Any, name: str) -> Any:
        *arrays, properties = load(dataset, name)
        return *arrays, {**properties, "sitk_stuff": {**properties["sitk_stuff"], "direction": sagittal}}

    monkeypatch.setattr(trainer.dataset_class, "load_case", turned)
    predict(monkeypatch, *(rod for _ in validation_cases(own)))
    trainer.options = Options(Length(1, None, 1, 1), 0, workers=0, quiet=True)
    for result in validation.validate_fold(trainer):
        [node] = result.nodes[ALL_NODES].true
        assert node.long_axis_mm == pytest.approx(20 * 2, abs=1)


def make(root: Path) -> LNTrainer:
    plan, description = (read_json(root / PREPROCESSED / name, "") for name in ("lnautoPlans.json", "dataset.json"))
    trainer = LNTrainer(plan, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.initialize()
    return trainer


def test_dice_decides_nothing(own: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever validation says, the last weights are kept, and no others."""
    budget = read_json(own / PREPROCESSED / "lnautoPlans.json", "")["lnauto"]["budget"]
    edit_plan(own, budget={**budget, "iterations_per_epoch": 2})
    kept = []
    for scores in ([1, 9, 9], [9, 1, 1], [1, 1, 1]):
        told = iter(scores * 20)

        def step(_: LNTrainer, __: Any, told: Any = told) -> dict[str, Any]:
            return {"loss": 0.0, "tp_hard": [next(told)], "fp_hard": [1], "fn_hard": [1]}

        monkeypatch.setattr(LNTrainer, "validation_step", step)
        monkeypatch.setattr(validation.NodeCheck, "run", lambda _: None)
        assert command(*TRAIN, "--epochs", 3, "--overwrite", "--quiet")[0] == 0
        [checkpoint] = (own / "results").rglob("*.pth")
        content = torch.load(checkpoint, weights_only=True)
        assert checkpoint.name == "checkpoint_final.pth"
        assert len({record["dice"] for record in content["lnauto"]["history"]}) == len(set(scores))
        kept.append(content["network_weights"])
    for other in kept[1:]:
        assert all(torch.equal(kept[0][name], other[name]) for name in other)


# ---- what is judged


def properties(shape: tuple[int, ...], box: list[list[int]]) -> dict[str, Any]:
    sides = [stop - start for start, stop in box]
    return {"shape_before_cropping": shape, "bbox_used_for_cropping": box, "shape_after_cropping_and_before_resampling": sides}


def test_what_is_unknown_goes_back_to_the_image_and_what_is_drawn_stays_exact() -> None:
    drawn = np.zeros((6, 8, 10), int)
    drawn[1, 2, 5] = 1
    learned = np.zeros((4, 3, 4), bool)  # (x, z, y): x from 2 to 10 at half the voxels, z from 0 to 3, y from 4 to 8
    learned[1:3, 1, :2] = True
    about = properties((10, 6, 8), [[2, 10], [0, 3], [4, 8]])
    plain = LabelScheme.of({"background": 0, "node": 1})
    truth, scheme = judged(drawn, learned, about, [1, 2, 0], plain)
    expected = drawn.copy()
    expected[1, 4:6, 4:8] = 2
    np.testing.assert_array_equal(truth, expected)
    assert scheme.ignore == 2
    drawn[1, 4, 4] = 1
    assert judged(drawn, learned, about, [1, 2, 0], plain)[0][1, 4, 4] == 1


def test_the_value_of_the_unknown_is_no_nodes_number_nor_an_own_ignore() -> None:
    about, learned = properties((2, 2, 2), [[0, 2]] * 3), np.ones((2, 2, 2), bool)
    numbered = np.array([0, 0, 1, 2, 3, 4, 0, 7]).reshape(2, 2, 2)
    truth, scheme = judged(numbered, learned, about, [0, 1, 2], LabelScheme.of({"background": 0, "node": 1}, instances=True))
    assert truth.ravel().tolist() == [8, 8, 1, 2, 3, 4, 8, 7]
    assert scheme.ignore == 8
    own = np.array([0, 0, 1, 1, 2, 2, 2, 2]).reshape(2, 2, 2)
    learned[1, 1] = False  # trusted after all
    truth, scheme = judged(own, learned, about, [0, 1, 2], SCHEME)
    assert truth.ravel().tolist() == [0, 0, 1, 1, 3, 3, 0, 0]
    assert scheme.ignore == 3


def test_figures_are_called_what_they_are() -> None:
    plain, ignored = {"labels": {"background": 0, "node": 1}}, {"labels": {"background": 0, "node": 1, "ignore": 2}}
    assert yardstick_of({"lnauto": {"strategy": "full"}}, plain) is COMPLETE
    assert yardstick_of({"lnauto": {"strategy": "partial_instance"}}, ignored) is PARTIAL
    assert yardstick_of({"lnauto": {"strategy": "ignore_label"}}, ignored) is PARTIAL
    assert yardstick_of({"lnauto": {"strategy": "scribble"}}, ignored) is STROKES
    assert yardstick_of({}, plain) is COMPLETE


def test_an_ignore_label_that_only_rounds_of_pseudo_labels_need_hides_nothing_of_the_truth() -> None:
    """Where the masks are complete they are validated against as such, whatever scans without masks are given."""
    added = adding_ignore({"labels": {"background": 0, "node": 1}})
    assert yardstick_of({"lnauto": {"strategy": "full", "trusted_background": None}}, added) is COMPLETE
    assert yardstick_of({"lnauto": {"strategy": "partial_instance", "trusted_background": {}}}, added) is PARTIAL
