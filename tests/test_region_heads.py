"""Scans and a table without any mask, from the commands: a head on blocks, planned, trained, predicted; and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from building import copied, write_image
from sklearn.metrics import roc_auc_score

from lnauto.data.raw import RawDataset
from lnauto.files import read_json
from lnauto.paths import VARIABLES
from lnauto.planners.plan import Plan
from lnauto.trainers.patient.crops import CropPlan, Scene, region_bag
from lnauto.workflow.bags import BagMaker, Grid
from lnauto.workflow.block_attention import paint_blocks
from lnauto.workflow.blocks import BlockStore, bring_blocks_up_to_date, joined

Command = Callable[..., tuple[int, str, str]]
NAME, CASES, TESTED, SIDE = "Dataset903_Scans", 24, 8, 32
MODEL = f"results/{NAME}/LNMTrainerABMIL__lnautoPlans__3d_fullres"
STEPS = ("--iterations", 40, "--device", "cpu", "--quiet")
PLAN = ("plan_and_preprocess", "-d", 903, "--device", "cpu", "--quiet")


@pytest.fixture(autouse=True)
def _without_pictures_of_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnauto.workflow.patient_figures.draw_patients", lambda *_: None)


def write_scans(raw: Path) -> None:
    """Noise, and, in every other patient, a bright ball anywhere; nothing is drawn."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.arange(SIDE),) * 3, indexing="ij"))
    for number in range(CASES + TESTED):
        image = rng.normal(0, 40, (SIDE,) * 3).astype(np.float32)
        if number % 2:
            centre = rng.uniform(6, SIDE - 6, 3)
            image[np.linalg.norm(grid - centre[:, None, None, None], axis=0) < 5] += 200
        part = "Tr" if number < CASES else "Ts"
        write_image(raw / f"images{part}" / f"scan_{number:02d}_0000.nii.gz", image)
    described = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "annotation": "patient"}
    (raw / "dataset.json").write_text(json.dumps(described))
    rows = [f"scan_{number:02d},{number % 2},{rng.normal(number % 2, 2):.2f}" for number in range(CASES)]
    (raw / "patients.csv").write_text("\n".join(["patient,lnm,marker", *rows]) + "\n")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only."""
    from lnauto.workflow.plan import Request, plan_and_preprocess

    root = tmp_path_factory.mktemp("scans")
    write_scans(root / "raw" / NAME)
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("903", Request(device="cpu", quiet=True))
    return root


@pytest.fixture
def own(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copied(planned, tmp_path, monkeypatch)


def label(root: Path, *lines: str) -> None:
    (root / "raw" / NAME / "patients.csv").write_text("\n".join(lines) + "\n")


def predicted(root: Path, command: Command, *more: object) -> pd.DataFrame:
    scans, out = root / "raw" / NAME / "imagesTs", root / "out"
    code, _, complaint = command("predict", "-i", scans, "-o", out, "--device", "cpu", "--quiet", *more)
    assert (code, complaint) == (0, "")
    return pd.read_csv(out / "patients.csv", keep_default_na=False)


def test_the_plan_has_a_head_on_blocks_and_no_network(planned: Path) -> None:
    folder = planned / "preprocessed" / NAME
    plan = read_json(folder / "lnautoPlans.json", "")
    block = plan["lnauto"]
    assert block["patient_head"] == {"trainer": "LNMTrainerABMIL", "columns": ["marker"], "sensitivity": None, "masks": "none"}
    assert "there are no masks to find nodes by" in block["reasons"]["patients"]
    assert "so no segmentation is planned" in block["reasons"]["strategy"]
    assert plan["configurations"]["3d_fullres"]["architecture"] is None
    assert len(list((folder / "lnautoPlans_3d_fullres_blocks").glob("*.npz"))) == CASES
    assert not (folder / "lnautoPlans_3d_fullres").exists()
    splits = read_json(folder / "splits_final.json", "")
    assert sorted(case for split in splits for case in split["val"]) == [f"scan_{number:02d}" for number in range(CASES)]


def test_a_bright_block_tells_the_label(own: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # what was cut at planning is all that training reads
        patch.setattr(BagMaker, "scene", None)
        code, _, complaint = command("train", 903, 0, *STEPS)
    assert (code, complaint) == (0, "")
    folder = own / MODEL / "fold_0" / "LNMTrainerABMIL"
    assert not list((own / "results").rglob("checkpoint_*.pth"))
    held_out = read_json(own / "preprocessed" / NAME / "splits_final.json", "")[0]["val"]
    assert sorted(pd.read_csv(folder / "validation/patients.csv")["patient"]) == sorted(held_out)
    figures = read_json(folder / "validation/patients.json", "")
    assert [one["name"] for one in figures["comparisons"]] == ["most suspicious block", "clinical columns alone"]
    (own / "new.csv").write_text("patient,marker\nscan_24,0.5\n")
    table = predicted(own, command, "--patients", own / "new.csv")
    assert roc_auc_score(np.arange(TESTED) % 2, table["probability"]) == 1
    assert table["branch"].tolist() == ["scan and clinical", *["scan"] * (TESTED - 1)]
    assert table["flags"].tolist() == ["", *["clinical missing"] * (TESTED - 1)]
    assert not [path for path in (own / "out").iterdir() if path.name == "nodes.csv" or path.name.endswith(".nii.gz")]
    scan = sitk.ReadImage(str(own / "raw" / NAME / "imagesTs/scan_25_0000.nii.gz"))
    painted = sitk.ReadImage(str(own / "out/attention/scan_25.nii.gz"))
    assert (painted.GetSize(), painted.GetOrigin(), painted.GetSpacing()) == (
        scan.GetSize(),
        scan.GetOrigin(),
        scan.GetSpacing(),
    )
    shares = np.unique(sitk.GetArrayFromImage(painted))
    assert shares.min() > 0
    assert shares.sum() == pytest.approx(1, abs=1e-4)


def test_a_scan_saved_while_it_is_cut_is_cut_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scans = own / "preprocessed" / NAME, own / "raw" / NAME / "imagesTr"
    dataset, plan = RawDataset.read(own / "raw" / NAME), Plan.load(folder / "lnautoPlans.json", "")
    store, maker = BlockStore.of_plan(plan, "3d_fullres", folder), BagMaker.of_plan(plan, {}, "3d_fullres", True)
    store.file("scan_00").unlink()
    cut, blocks = list[str](), BagMaker.blocks

    def save_meanwhile(self: BagMaker, case: str, images: Any) -> Any:
        cut.append(case)
        bag = blocks(self, case, images)
        if len(cut) == 1:
            shutil.copyfile(scans / "scan_01_0000.nii.gz", scans / "scan_00_0000.nii.gz")
        return bag

    monkeypatch.setattr(BagMaker, "blocks", save_meanwhile)
    for _ in range(3):
        bring_blocks_up_to_date(dataset, plan, maker, store, own / "results", quiet=True)
    assert cut == ["scan_00", "scan_00"]


def test_blocks_of_scans_that_are_turned_another_way_are_cut_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own / "preprocessed" / NAME
    dataset, plan = RawDataset.read(own / "raw" / NAME), Plan.load(folder / "lnautoPlans.json", "")
    store, cut, blocks = BlockStore.of_plan(plan, "3d_fullres", folder), list[str](), BagMaker.blocks

    def told(self: BagMaker, case: str, images: Any) -> Any:
        cut.append(case)
        return blocks(self, case, images)

    monkeypatch.setattr(BagMaker, "blocks", told)
    for inference, times in (({}, 0), ({"orientation": "RAS"}, CASES), ({"orientation": "RAS"}, CASES)):
        plan.lnauto["inference"] = inference  # as somebody may write it into the plan
        maker = BagMaker.of_plan(plan, {}, "3d_fullres", True)
        bring_blocks_up_to_date(dataset, plan, maker, store, own / "results", quiet=True)
        assert len(cut) == times


def test_labels_that_the_scans_do_not_bear_are_not_learned(own: Path, command: Command) -> None:
    rows = [f"scan_{number:02d},{number // 2 % 2},0" for number in range(CASES)]  # of the bright ones half, of the others half
    label(own, "patient,lnm,marker", *rows)
    assert command(*PLAN)[0] == 0
    assert command("train", 903, 0, *STEPS)[0] == 0
    assert roc_auc_score(np.arange(TESTED) % 2, predicted(own, command)["probability"]) < 0.95


def test_every_patient_is_predicted_once_by_a_head_that_had_not_seen_it(own: Path, command: Command) -> None:
    assert command("train", 903, "cv", "-tr", "LNMTrainerClinical", *STEPS)[0] == 0
    pooled = pd.read_csv(own / MODEL / "LNMTrainerClinical/crossvalidation/patients.csv")
    assert sorted(pooled["patient"]) == [f"scan_{number:02d}" for number in range(CASES)]
    for fold, patients in pooled.groupby("fold")["patient"]:
        seen = read_json(own / MODEL / f"fold_{fold}/LNMTrainerClinical/head.json", "")["patients"]
        assert not set(seen) & set(patients)
    table = predicted(own, command, "-m", own / MODEL, "-tr", "LNMTrainerClinical")
    assert set(table["branch"]) == {"none"}
    assert not (own / "out/attention").exists()


def test_blocks_are_cut_again_when_their_scan_changes(own: Path, command: Command) -> None:
    raw, kept = own / "raw" / NAME / "imagesTr", own / "preprocessed" / NAME / "lnautoPlans_3d_fullres_blocks"
    before = {path.name: path.read_bytes() for path in kept.glob("*.npz")}
    shutil.copy(raw / "scan_01_0000.nii.gz", raw / "scan_00_0000.nii.gz")
    code, out, _ = command("train", 903, 0, "-tr", "LNMTrainerClinical", "--device", "cpu")
    assert code == 0
    assert "Cut the blocks of 1 scans" in out
    changed = [path.name for path in kept.glob("*.npz") if path.read_bytes() != before[path.name]]
    assert changed == ["scan_00.npz"]
    assert (kept / "scan_00.npz").read_bytes() == (kept / "scan_01.npz").read_bytes()


def test_all_scans_of_a_patient_are_read_and_stay_in_one_fold(own: Path, command: Command) -> None:
    rows = ["one,scan_00;scan_02,0", *(f"scan_{number:02d},scan_{number:02d},{number % 2}" for number in range(3, CASES))]
    label(own, "patient,cases,lnm", *rows, "two,scan_01,")
    (own / "preprocessed" / NAME / "splits_final.json").unlink()
    assert command(*PLAN)[::2] == (0, "")
    splits = read_json(own / "preprocessed" / NAME / "splits_final.json", "")
    assert all(("scan_00" in split[side]) == ("scan_02" in split[side]) for split in splits for side in ("train", "val"))
    assert not any("scan_01" in split[side] for split in splits for side in ("train", "val"))  # nobody knows its label
    store = BlockStore(own / "preprocessed" / NAME / "lnautoPlans_3d_fullres_blocks")
    bags = [store.load(case) for case in ("scan_00", "scan_02")]
    together = joined("one", [bag for bag in bags if bag is not None])
    assert {case for case, _ in together.sources} == {"scan_00", "scan_02"}
    assert len(together) == len(together.crops) == len(together.points) == 16


def test_thick_slices_are_not_blurred_into_one() -> None:
    plan = Plan({"configurations": {"3d_fullres": {"spacing": [5, 1, 1]}}, "lnauto": {"patient_head": {"masks": "none"}}})
    crops = BagMaker.of_plan(plan, {}, "3d_fullres").crops
    image = np.zeros((1, 32, 32, 32), np.float32)
    image[:, 20] = 1
    bag = region_bag("p", [Scene("c", image, image[0].astype(int), (5, 1, 1), np.eye(4), {})], crops, {}, 0, with_view=False)
    assert bag.crops.max() == 1


def test_attention_lies_where_the_block_was_cut(tmp_path: Path) -> None:
    """In an image that is turned, and of which a part is looked at."""
    crops = CropPlan((8, 8, 8), (1, 1, 1), False)
    image = sitk.Image(20, 24, 16, sitk.sitkFloat32)
    image.SetSpacing((2.0, 1.0, 3.0))
    image.SetOrigin((5.0, -7.0, 11.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    to_mm = np.eye(4)  # of a prepared image: the scan from voxel (z 4, y 2, x 1) on, twice as fine along z
    turned = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    first = np.array([1.0, 2.0, 4.0 - 0.25])
    to_mm[:3, :3] = turned[:, ::-1] @ np.diag([0.5, 1, 1])
    to_mm[:3, 3] = turned @ first + image.GetOrigin()
    shape = (24, 20, 16)
    empty = np.zeros(shape, np.float32)
    bag = region_bag("p", [Scene("c", empty[None], empty.astype(int), (1.5, 1.0, 2.0), to_mm, {})], crops, {}, 0, with_view=False)
    middle = (to_mm @ [*((np.array(shape) - 1) / 2), 1])[:3]
    for place, (_, number) in enumerate(bag.sources):
        paint_blocks({number: 0.5}, tmp_path / "scan.nii.gz", Grid(to_mm, shape), crops, tmp_path / "painted.nii.gz")
        painted = sitk.ReadImage(str(tmp_path / "painted.nii.gz"))
        voxels = np.argwhere(sitk.GetArrayFromImage(painted) == 0.5)
        there = np.array(painted.TransformContinuousIndexToPhysicalPoint(voxels.mean(axis=0)[::-1].tolist()))
        assert np.abs(there - (middle + bag.points[place])).max() < 2


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("-tr", "LNMTrainerMaskGate"), "LNMTrainerMaskGate reads nodes, and the plan is for scans without masks, in -tr"),
        (("-tr", "LNTrainer"), "LNTrainer is no trainer of patients, and the plan is for scans without masks, in -tr"),
        (("--masks", "given"), "no case has a mask to learn from, in --masks; leave it out"),
        (("--patch", 16, 16, 16), "no case has a mask to learn from, in --patch; leave it out"),
    ],
)
def test_what_needs_masks_is_refused_in_planning(own: Path, command: Command, flags: tuple[object, ...], line: str) -> None:
    code, _, complaint = command(*PLAN, *flags)
    assert code == 2
    assert complaint.startswith(f"lnauto: {line}")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("-tr", "LNMTrainerMaskGate"), "LNMTrainerMaskGate reads nodes"),
        (("-tr", "LNMTrainerWeGA"), "LNMTrainerWeGA reads nodes"),
        (("-tr", "LNTrainer"), "LNTrainer is no trainer of patients"),
        (("--pretrain",), "no case has a mask to learn from, in --pretrain"),
    ],
)
def test_what_needs_masks_is_refused_in_training(own: Path, command: Command, flags: tuple[object, ...], line: str) -> None:
    code, _, complaint = command("train", 903, 0, "--quiet", *flags)
    assert code == 2
    assert complaint.startswith(f"lnauto: {line}")
    assert not (own / "results").exists() or not list((own / "results").rglob("*.json"))


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([f"scan_{number:02d},1" for number in range(CASES)], "all 24 patients with a label are with metastasis"),
        ([f"scan_{number:02d},{number % 2}" for number in range(6)], "too few patients have a label: 3 without and 3 with"),
    ],
)
def test_a_table_that_cannot_carry_a_head_leaves_nothing_to_train(
    own: Path, command: Command, rows: list[str], line: str
) -> None:
    listed = [f"scan_{number:02d}," for number in range(CASES) if not any(row.startswith(f"scan_{number:02d}") for row in rows)]
    label(own, "patient,lnm", *rows, *listed)
    code, _, complaint = command(*PLAN)
    assert code == 2
    assert line in complaint


def test_masks_for_a_head_on_blocks_are_refused(own: Path, command: Command) -> None:
    assert command("train", 903, 0, "-tr", "LNMTrainerClinical", *STEPS)[0] == 0
    scans = own / "raw" / NAME / "imagesTs"
    code, _, complaint = command("predict", "-i", scans, "--masks", scans, "-o", own / "out")
    assert code == 2
    assert "the model has no patient head that learned from given masks, in --masks; leave it out" in complaint
    (scans / "scan_24_0000.nii.gz").write_bytes(b"no image")
    code, _, complaint = command("predict", "-i", scans, "-o", own / "out")
    assert code == 3
    assert "case scan_24" in complaint
    assert len(pd.read_csv(own / "out/patients.csv")) == TESTED - 1
