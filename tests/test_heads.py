"""Patient heads beside masks, from the commands: planned, trained on masks by networks that never saw the patient, predicted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from building import copied, write_balls
from pages import Reader

from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.paths import VARIABLES, activate
from lnauto.planners.plan import Plan
from lnauto.trainers.patient.head import Head
from lnauto.workflow import heads
from lnauto.workflow.bags import BagMaker
from lnauto.workflow.choose_tuner import parts_of
from lnauto.workflow.fold import Request as FoldRequest
from lnauto.workflow.inner_networks import InnerNetworks
from lnauto.workflow.plan import bring_up_to_date

Command = Callable[..., tuple[int, str, str]]
NAME, CASES = "Dataset902_Patients", 24
MODEL = f"results/{NAME}/LNTrainer__lnautoPlans__3d_fullres"
BRIEF = ("--iterations", 2, "--device", "cpu")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls of 24 patients, every other one with metastasis and a marker that half knows; read-only."""
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, plan_and_preprocess

    root = tmp_path_factory.mktemp("patients")
    raw = root / "raw" / NAME
    write_balls(raw, cases=CASES, side=24)
    rng = np.random.default_rng(0)
    rows = [f"ball_{n:02d},{n % 2},{rng.normal(n % 2, 1):.2f}" for n in range(CASES)]
    (raw / "patients.csv").write_text("\n".join(["patient,lnm,marker", *rows]) + "\n")
    described = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**described, "annotation": "full"}))
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("902", Request(wishes=Wishes(masks="given"), device="cpu", quiet=True))
    return root


@pytest.fixture
def own(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copied(planned, tmp_path, monkeypatch)


def change_plan(root: Path, **settings: Any) -> None:
    path = root / "preprocessed" / NAME / "lnautoPlans.json"
    plan = json.loads(path.read_text())
    plan["lnauto"]["patient_head"].update(settings)
    path.write_text(json.dumps(plan))


def test_the_plan_says_which_head_and_on_which_masks(own: Path) -> None:
    block = read_json(own / "preprocessed" / NAME / "lnautoPlans.json", "")["lnauto"]
    assert block["patient_head"] == {
        "trainer": "LNMTrainerRadiomics",
        "columns": ["marker"],
        "sensitivity": None,
        "masks": "given",
    }
    assert block["decided_by"]["masks"] == "--masks"
    assert "12 patients without and 12 with metastasis" in block["reasons"]["patients"]


def test_given_masks_train_and_predict_without_a_network(own: Path, command: Command) -> None:
    code, _, complaint = command("train", 902, 0, "-tr", "LNMTrainerABMIL", *BRIEF)
    assert (code, complaint.count("lnauto:")) == (0, 0)
    folder = own / MODEL / "fold_0" / "LNMTrainerABMIL"
    assert not (own / MODEL / "fold_0" / "checkpoint_final.pth").exists()
    figures = read_json(folder / "validation" / "patients.json", "")
    assert [one["name"] for one in figures["comparisons"]] == [
        "short axis",
        "number of nodes",
        "most suspicious node",
        "clinical columns alone",
    ]
    scans, masks = own / "raw" / NAME / "imagesTs", own / "raw" / NAME / "labelsTs"
    (own / "new.csv").write_text("patient,marker\nball_24,1.5\nball_25,\n")
    wanted = ("-i", scans, "--masks", masks, "--patients", own / "new.csv", "-o", own / "out")
    assert command("predict", *wanted)[0] == 0
    table = pd.read_csv(own / "out/patients.csv", keep_default_na=False)
    assert set(table) >= {"patient", "probability", "probability_calibrated", "class", "branch", "flags", "low", "high"}
    assert table["branch"].tolist() == ["nodes and clinical", "nodes"]
    assert table["flags"].tolist() == ["", "clinical missing"]
    assert table["probability_calibrated"].between(0, 1).all()
    nodes = pd.read_csv(own / "out/nodes.csv")
    assert nodes["probability"].notna().all()
    assert nodes.groupby("case")["attention"].sum().tolist() == pytest.approx([1, 1], abs=1e-3)
    painted = sitk.ReadImage(str(own / "out/attention/ball_24.nii.gz"))
    scan = sitk.ReadImage(str(scans / "ball_24_0000.nii.gz"))
    assert (painted.GetSize(), painted.GetOrigin()) == (scan.GetSize(), scan.GetOrigin())
    values = np.unique(sitk.GetArrayFromImage(painted))
    assert values[values > 0] == pytest.approx(sorted(nodes.loc[nodes["case"] == "ball_24", "attention"]), abs=1e-3)
    assert not list((own / "out").glob("*.nii.gz"))
    shown = Reader((own / "out/report.html").read_text(encoding="utf-8")).rows["patients"][1:]
    assert [(row[0], row[5]) for row in shown] == [
        (patient, f"{probability:.2f}")
        for patient, probability in zip(table["patient"], table["probability_calibrated"], strict=True)
    ]
    (own / "new.csv").write_text("patient,marker\nball_24,high\nball_25,2\n")
    code, _, complaint = command(*("predict", *wanted[:-1], own / "bad"))
    assert (code, (own / "bad/patients.csv").exists()) == (2, False)
    assert 'lnauto: "marker" of patient ball_24 is "high", among numbers, in new.csv; write a number' in complaint
    empty = sitk.Image(24, 24, 24, sitk.sitkUInt8)
    empty.CopyInformation(scan)
    (own / "masks").mkdir()
    shutil.copy(masks / "ball_25.nii.gz", own / "masks")
    sitk.WriteImage(empty, str(own / "masks/ball_24.nii.gz"))
    assert command("predict", "-i", scans, "--masks", own / "masks", "-o", own / "none")[0] == 0
    table = pd.read_csv(own / "none/patients.csv", keep_default_na=False)
    assert table["flags"].tolist() == ["no node found; clinical missing", "clinical missing"]
    assert table["branch"].tolist() == ["none", "nodes"]


def test_given_masks_that_number_nodes_are_read_by_their_numbers(own: Path, command: Command) -> None:
    """In training and at use; two nodes that touch stay two."""
    raw = own / "raw" / NAME
    described = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**described, "instances": True}))
    rng, numbers = np.random.default_rng(0), (1, 3, 4)
    for path in sorted(raw.glob("labels*/*.nii.gz")):
        drawn = np.zeros((24, 24, 24), np.uint8)
        drawn[4:9, 4:9, 4:8], drawn[4:9, 4:9, 8:13], drawn[14:19, 14:19, 14:19] = numbers
        mask = sitk.GetImageFromArray(drawn)
        image = path.parent.with_name(path.parent.name.replace("labels", "images")) / path.name.replace(".nii", "_0000.nii")
        scan = sitk.ReadImage(str(image))
        mask.CopyInformation(scan)
        sitk.WriteImage(mask, str(path))
        shown = sitk.GetImageFromArray((rng.normal(0, 60, drawn.shape) + 200 * (drawn > 0)).astype(np.float32))
        shown.CopyInformation(scan)
        sitk.WriteImage(shown, str(image))
    dataset = RawDataset.read(raw)
    plan = Plan.load(own / f"preprocessed/{NAME}/lnautoPlans.json", "")
    request = FoldRequest(device="cpu", quiet=True)
    work = heads.HeadWork(plan, dataset.description, dataset, [], own, own, request, "LNMTrainerRadiomics")
    bag = heads.bags_of(work, {"ball_00": ["ball_00"]}, heads.given_masks(dataset))[0]
    assert bag.sources == tuple(("ball_00", number) for number in numbers)

    assert command("train", 902, 0, "-tr", "LNMTrainerRadiomics", *BRIEF)[0] == 0
    wanted = ("predict", "-i", raw / "imagesTs", "--device", "cpu", "--quiet")
    assert command(*wanted, "--masks", raw / "labelsTs", "-o", own / "out")[0] == 0
    nodes = pd.read_csv(own / "out/nodes.csv").query("case == 'ball_24'").set_index("node")
    assert nodes.index.tolist() == list(numbers)
    assert nodes["probability"].notna().all()
    painted = sitk.GetArrayFromImage(sitk.ReadImage(str(own / "out/attention/ball_24.nii.gz")))
    shares = [float(painted[place]) for place in ((5, 5, 5), (5, 5, 10), (15, 15, 15))]
    assert shares == pytest.approx(nodes["attention"].tolist(), abs=1e-3)
    assert read_json(own / "out/sources.json", "")["nodes"]["each value is a node"]

    (own / "binary").mkdir()
    for path in (raw / "labelsTs").glob("*.nii.gz"):
        sitk.WriteImage(sitk.ReadImage(str(path)) > 0, str(own / "binary" / path.name))
    assert command(*wanted, "--masks", own / "binary", "-o", own / "alike")[0] == 0
    assert pd.read_csv(own / "alike/nodes.csv")["node"].tolist() == [1, 2, 1, 2]
    assert not read_json(own / "alike/sources.json", "")["nodes"]["each value is a node"]


def test_latents_of_the_most_suspicious_held_out_patients_are_drawn(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnauto.trainers.patient.node_vae import VAESchedule
    from lnauto.trainers.patient.vae import LNMTrainerVAE
    from lnauto.workflow import latent_pictures

    shown = []
    draw = latent_pictures.draw_traversal

    def watch(member: Any, bag: Any, path: Path, node: int, probability: float) -> None:
        shown.append((bag, path, node, probability))
        if len(shown) == 1:  # drawing takes a second or two
            draw(member, bag, path, node, probability)

    monkeypatch.setattr(latent_pictures, "draw_traversal", watch)
    brief = partial(LNMTrainerVAE, vae=VAESchedule(steps=2, crops=8))
    monkeypatch.setattr(heads, "find_bag_trainer", lambda name: brief)
    folder = own / MODEL / "fold_0/LNMTrainerVAE/validation"
    folder.mkdir(parents=True)
    (folder / "latents_gone.png").touch()
    assert command("train", 902, 0, "-tr", "LNMTrainerVAE", *BRIEF)[0] == 0
    table = pd.read_csv(folder / "patients.csv").sort_values(["probability", "patient"], ascending=[False, True])
    assert len(table) > 3
    assert [bag.patient for bag, *_ in shown] == table["patient"].tolist()[:3]
    assert [probability for *_, probability in shown] == pytest.approx(table["probability"].tolist()[:3])
    assert [path for _, path, *_ in shown] == [folder / f"latents_{name}.png" for name in table["patient"][:3]]
    assert list(folder.glob("latents_*")) == [shown[0][1]]
    assert shown[0][1].read_bytes().startswith(b"\x89PNG")
    head = Head.load(folder.parent)
    for bag, _, node, _ in shown:
        assert node == head.read([bag])[0].instance_logits.argmax()


def test_masks_that_are_missing_or_do_not_fit_are_told(own: Path, command: Command) -> None:
    assert command("train", 902, 0, "-tr", "LNMTrainerABMIL", *BRIEF)[0] == 0
    scans, masks = own / "raw" / NAME / "imagesTs", own / "masks"
    code, _, complaint = command("predict", "-i", scans, "-o", own / "out")
    assert code == 2
    assert "has no network to predict any" in complaint
    masks.mkdir()
    sitk.WriteImage(sitk.Image(5, 5, 5, sitk.sitkUInt8), str(masks / "ball_24.nii.gz"))
    code, _, complaint = command("predict", "-i", scans, "--masks", masks, "-o", own / "out")
    assert code == 2
    assert "the mask has another grid (size 5 x 5 x 5" in complaint
    assert "there is no mask of this case, in masks, case ball_25" in complaint
    shutil.copy(own / "raw" / NAME / "labelsTs/ball_24.nii.gz", masks / "ball_24.nii.gz")
    code, _, complaint = command("predict", "-i", scans, "--masks", masks, "-o", own / "out")
    assert code == 3
    assert pd.read_csv(own / "out/patients.csv")["patient"].tolist() == ["ball_24"]


def test_predicted_masks_are_by_networks_that_never_saw_the_patient(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_plan(own, masks="predicted")
    read: list[tuple[str, Path]] = []
    make = BagMaker.bags

    def watch(self: BagMaker, cases_of: Mapping[str, Sequence[str]], images: Any, masks: Mapping[str, Path], *rest: Any) -> Any:
        read.extend((case, masks[case]) for cases in cases_of.values() for case in cases)
        return make(self, cases_of, images, masks, *rest)

    monkeypatch.setattr(BagMaker, "bags", watch)
    assert command("train", 902, 0, *BRIEF)[0] == 0
    fold = own / MODEL / "fold_0"
    split = read_json(own / "preprocessed" / NAME / "splits_final.json", "")[0]
    records = [read_json(fold / f"inner_networks/part_{number}/predicted.json", "") for number in (0, 1)]
    assert sorted(records[0]["predicted"] + records[1]["predicted"]) == sorted(split["train"])
    for record in records:
        assert not set(record["trained_on"]) & set(record["predicted"])
        assert not set(record["trained_on"]) & set(split["val"])
    assert {case for case, _ in read} == {*split["train"], *split["val"]}
    for case, path in read:
        assert "labelsTr" not in path.parts
        if case in split["train"]:
            part = next(number for number, record in enumerate(records) if case in record["predicted"])
            assert path == fold / f"inner_networks/part_{part}/validation/{case}.nii.gz"
        else:
            assert path == fold / f"validation/{case}.nii.gz"
    code, _, complaint = command(
        "predict", "-i", own / "raw" / NAME / "imagesTs", "-o", own / "out", "--device", "cpu", "--quiet"
    )
    assert (code, complaint) == (0, "")
    assert (own / "out/ball_24.nii.gz").is_file()
    assert len(pd.read_csv(own / "out/patients.csv")) == 2

    # the same networks give LNMTrainerMaskGate its features: each to a head on the patients it never saw
    assert command("train", 902, 0, "-tr", "LNMTrainerMaskGate", *BRIEF)[0] == 0
    folder = fold / "LNMTrainerMaskGate"
    learned: list[str] = []
    for number, network in enumerate(read_json(folder / "head.json", "")["networks"]):
        patients = read_json(folder / f"part_{number}/head.json", "")["patients"]
        record = read_json((folder / network).resolve().parent / "predicted.json", "")
        assert sorted(patients) == sorted(record["predicted"])
        learned += patients
    assert sorted(learned) == sorted(split["train"])
    wanted = ("-i", own / "raw" / NAME / "imagesTs", "-o", own / "gated", "--device", "cpu", "--quiet")
    assert command("predict", *wanted, "-tr", "LNMTrainerMaskGate")[0] == 0
    assert pd.read_csv(own / "gated/patients.csv")["probability"].between(0, 1).all()


def test_a_head_that_is_there_is_kept_and_made_again_only_when_told(own: Path, command: Command) -> None:
    same = ("train", 902, 0, "-tr", "LNMTrainerClinical", *BRIEF)
    assert command(*same)[0] == 0
    before = (own / MODEL / "fold_0/LNMTrainerClinical/head.json").read_bytes()
    assert command(*same)[0] == 0
    assert (own / MODEL / "fold_0/LNMTrainerClinical/head.json").read_bytes() == before
    code, _, complaint = command(*same, "--seed", 5)
    assert code == 2
    assert "a head of fold 0 is there already, made from other data or settings" in complaint
    assert command(*same, "--seed", 5, "--overwrite")[0] == 0


def test_a_head_trained_after_planning_anew_is_read_under_the_new_plan(own: Path, command: Command) -> None:
    head = ("train", 902, "-tr", "LNMTrainerRadiomics", *BRIEF, "--overwrite")
    assert command(*head, 0)[0] == 0
    path, model = own / f"preprocessed/{NAME}/lnautoPlans.json", own / MODEL
    content = json.loads(path.read_text())
    chosen = content["configurations"]["3d_fullres"]
    chosen["spacing"] = [1.3 * side for side in chosen["spacing"]]
    path.write_text(json.dumps(content))
    assert command(*head, 1)[0] == 0
    assert read_json(model / "plans.json", "")["configurations"]["3d_fullres"]["spacing"] == chosen["spacing"]
    scans, masks = own / "raw" / NAME / "imagesTs", own / "raw" / NAME / "labelsTs"
    wanted = ("predict", "-i", scans, "--masks", masks, "--device", "cpu", "--quiet", "-o", own / "out")
    code, _, complaint = command(*wanted)
    assert code == 2
    assert "this head was trained under another plan than that of its model" in complaint
    assert command(*wanted, "-f", 1)[0] == 0
    described = model / "fold_0/LNMTrainerRadiomics/head.json"
    stored = read_json(described, "")
    del stored["provenance"]["bags_made_of"], stored["provenance"]["configuration"]
    described.write_text(json.dumps(stored))
    assert command(*wanted, "--overwrite")[0] == 0  # as earlier versions left heads


def test_a_head_is_not_put_beside_networks_of_another_plan(own: Path, command: Command) -> None:
    assert command("train", 902, 0, "-tr", "LNMTrainerRadiomics", *BRIEF)[0] == 0
    path, model = own / f"preprocessed/{NAME}/lnautoPlans.json", own / MODEL
    (model / "fold_0/checkpoint_final.pth").touch()
    content = json.loads(path.read_text())
    before = (model / "plans.json").read_bytes()
    path.write_text(json.dumps({**content, "lnauto": {**content["lnauto"], "reasons": {}}}))  # scans are prepared as they were
    head = ("train", 902, 0, "-tr", "LNMTrainerRadiomics", *BRIEF, "--overwrite")
    assert command(*head)[0] == 0
    content["foreground_intensity_properties_per_channel"]["0"]["mean"] += 200
    path.write_text(json.dumps(content))
    code, _, complaint = command(*head)
    assert code == 2
    assert "the networks there were trained under another plan, which prepares scans differently" in complaint
    assert (model / "plans.json").read_bytes() == before


def test_a_patient_in_two_folds_is_told(own: Path, command: Command) -> None:
    table = own / "raw" / NAME / "patients.csv"
    lines = table.read_text().splitlines()
    joined = ["patient,cases,lnm,marker", "one,ball_00;ball_01,0,1"] + [f"{line.split(',')[0]},{line}" for line in lines[3:]]
    table.write_text("\n".join(joined) + "\n")
    splits = own / "preprocessed" / NAME / "splits_final.json"
    names = [f"ball_{number:02d}" for number in range(CASES)]
    kept = [names[0], *names[20:]]
    splits.write_text(json.dumps([{"train": [name for name in names if name not in kept], "val": kept}]))
    code, _, complaint = command("train", 902, 0, "-tr", "LNMTrainerABMIL", *BRIEF)
    assert code == 2
    assert "fold 0 trains and validates on one" in complaint


def test_a_table_that_went_bad_does_not_stop_the_segmentation(own: Path, command: Command) -> None:
    table = own / "raw" / NAME / "patients.csv"
    table.write_text("patient,lnm,marker\n" + "".join(f"ball_{n:02d},1,2\n" for n in range(CASES)))
    code, out, _ = command("train", 902, 0, *BRIEF)
    assert code == 0
    assert "No patient head is trained" in out
    assert (own / MODEL / "fold_0/checkpoint_final.pth").is_file()
    code, _, complaint = command("train", 902, 0, "-tr", "LNMTrainerABMIL", *BRIEF)
    assert code == 2
    assert "all 24 patients with a label are with metastasis" in complaint


def test_a_head_on_given_masks_does_not_stop_a_segmentation(own: Path, command: Command) -> None:
    assert command("train", 902, 0, *BRIEF)[0] == 0
    scans = ("predict", "-i", own / "raw" / NAME / "imagesTs", "--device", "cpu")
    code, out, _ = command(*scans, "-o", own / "out")
    assert code == 0
    assert "No probability of metastasis: LNMTrainerRadiomics learned from masks that were given" in out
    assert (own / "out/ball_24.nii.gz").is_file()
    assert not (own / "out/patients.csv").exists()
    code, _, complaint = command(*scans, "-o", own / "asked", "-tr", "LNMTrainerRadiomics")
    assert code == 2
    assert "would meet others here, in --masks; name the folder of masks for these scans" in complaint


def test_masks_of_inner_networks_go_stale_with_the_cases_they_were_learned_from(own: Path) -> None:
    preprocessed = own / f"preprocessed/{NAME}/lnautoPlans_3d_fullres"
    plan = Plan.load(preprocessed.parent / "lnautoPlans.json", "")
    cases = [f"ball_{number:02d}" for number in range(6)]
    networks = InnerNetworks(plan, {}, "0", FoldRequest(), preprocessed, own, cases, {case: case for case in cases})
    dataset, before = RawDataset.read(own / "raw" / NAME), networks._made_of(networks.parts[0])
    label = own / f"raw/{NAME}/labelsTr/ball_03.nii.gz"
    shutil.copy(own / f"raw/{NAME}/labelsTr/ball_04.nii.gz", label)
    assert networks._made_of(networks.parts[0]) == before  # the preprocessed cases are still those of the old mask
    bring_up_to_date(dataset, plan, "3d_fullres", activate(), quiet=True)
    assert networks._made_of(networks.parts[0]) != before


def test_a_budget_too_short_for_the_head_does_not_undo_the_segmentation(
    own: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_short(*_: object) -> None:
        raise InputError.of("the budget leaves 3 s for inner network 1 of 2", "--budget", "give at least 2min for it")

    monkeypatch.setattr("lnauto.workflow.train.train_heads", too_short)
    code, out, _ = command("train", 902, 0, *BRIEF)
    assert code == 0
    assert "No patient head is trained: the budget leaves 3 s" in out
    assert command("train", 902, 0, "-tr", "LNMTrainerRadiomics", *BRIEF)[0] == 2


def test_without_a_head_in_the_plan_none_can_be_asked_for(balls: Path, command: Command) -> None:
    for asked, flag in ((("-tr", "LNMTrainerABMIL"), "-tr"), (("--sensitivity", 0.9), "--sensitivity")):
        code, _, complaint = command("train", 901, 0, *asked, *BRIEF)
        assert code == 2
        assert complaint.startswith("lnauto: Dataset901_Balls has no patient head (no head: there is no patients.csv")
        assert f"in {flag};" in complaint


def test_comparators_are_of_the_held_out_patients_alone(own: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    scores = heads._scores
    monkeypatch.setattr(
        heads, "_scores", lambda work, train, bags, nodes: seen.append(len(bags)) or scores(work, train, bags, nodes)
    )
    assert command("train", 902, "cv", "-tr", "LNMTrainerClinical", *BRIEF)[0] == 0
    assert sum(seen) == CASES
    pooled = pd.read_csv(own / MODEL / "LNMTrainerClinical/crossvalidation/patients.csv")
    assert sorted(pooled["patient"]) == [f"ball_{number:02d}" for number in range(CASES)]


def test_fold_all_learns_from_whom_folds_by_hand_train_on_and_validate() -> None:
    folds = [{"train": ["a", "b"], "val": ["c"]}]
    assert heads.HeadWork.cases(SimpleNamespace(splits=folds), "all", "train") == ["a", "b", "c"]  # type: ignore[arg-type]
    parts = parts_of(folds, "all", {})
    assert {name for part in parts for name in part["val"]} == {"a", "b", "c"}
