"""A foundation model and a few cases: planned under the model, started from it, adapted, compared with what it was before."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from foundations import make_foundation
from stock_models import PATCH, stock_plans, train_stock

from lnauto.compat.storage import open_image
from lnauto.errors import InputError
from lnauto.files import read_json
from lnauto.inference.foundation import Foundation, store_foundation
from lnauto.networks.build import build
from lnauto.paths import VARIABLES
from lnauto.planners.adaptation import intensities_told, map_labels
from lnauto.planners.few_shot import few_shot_budget, few_shot_recipe
from lnauto.planners.machine import Machine
from lnauto.trainers.warm_start import check_planned, start_from_foundation

Command = Callable[..., tuple[int, str, str]]
CPU, GPU = Machine("cpu", "2 cores", 24, 2), Machine("cuda", "a card", 24, 8)
HEAD = "decoder.seg_layers.0.weight"


# ---- planning


def test_the_plan_is_the_foundations_and_lies_beside_the_data_sets_own(own: Path, command: Command) -> None:
    flags = ("plan_and_preprocess", "-d", 901, "--device", "cpu", "--quiet")
    assert command(*flags)[0] == 0
    code, _, complaint = command(*flags, "--pretrained", "FM")
    assert code == 0, complaint
    folder = own / "preprocessed/Dataset901_Balls"
    plain, under = (read_json(folder / f"{name}.json", "") for name in ("lnautoPlans", "lnautoPlans_FM"))
    chosen = under["configurations"]["3d_fullres"]
    assert (chosen["spacing"], chosen["patch_size"]) == ([2.5, 2.0, 2.0], [16, 16, 16])
    assert under["foreground_intensity_properties_per_channel"]["0"]["median"] == 55.0
    assert plain["foreground_intensity_properties_per_channel"]["0"]["median"] != 55.0
    assert (under["lnauto"]["strategy"], under["lnauto"]["trainer"]) == ("few_shot", "LNTrainerDGST")
    assert under["lnauto"]["foundation"]["labels"] == {"background": "background", "node": "LN"}
    assert "node as its LN" in under["lnauto"]["reasons"]["foundation"]
    assert plain["lnauto"]["foundation"] is None
    assert (folder / "lnautoPlans_3d_fullres").is_dir()
    assert (folder / "lnautoPlans_FM_3d_fullres").is_dir()


def test_what_nobody_drew_is_no_background_where_nodes_are_drawn_in_part(own: Path, command: Command) -> None:
    raw = own / "raw/Dataset901_Balls"
    described = read_json(raw / "dataset.json", "")
    (raw / "dataset.json").write_text(json.dumps({**described, "annotation": "partial"}))
    flags = ("--pretrained", "FM", "--device", "cpu", "--quiet")
    assert command("plan_and_preprocess", "-d", 901, *flags)[0] == 0
    folder = own / "preprocessed/Dataset901_Balls"
    block = read_json(folder / "lnautoPlans_FM.json", "")["lnauto"]
    assert (block["strategy"], block["trainer"]) == ("few_shot", "LNTrainerDGST")
    assert "what cannot be node is learned as background, and nothing from the rest" in block["reasons"]["strategy"]
    assert block["trusted_background"] is not None
    label = open_image(next((folder / "lnautoPlans_FM_3d_fullres").glob("*_seg.b2nd")))[:]
    assert set(np.unique(label)) == {0, 1, 2}
    code, _, complaint = command("train", 901, 0, *flags, "--iterations", 2)
    assert code == 0, complaint
    trained = own / "results/Dataset901_Balls/LNTrainerDGST__lnautoPlans_FM__3d_fullres"
    assert read_json(trained / "dataset.json", "")["labels"] == {"background": 0, "node": 1, "ignore": 2}
    assert (trained / "fold_0/checkpoint_final.pth").is_file()


def test_what_does_not_go_with_a_foundation_model_is_refused(own: Path, command: Command, balls_plans: dict[str, Any]) -> None:
    make_foundation(own / "results", balls_plans, {"background": 0, "LN": 1}, "PET", ("CT", "PET"))
    make_foundation(own / "results", balls_plans, {"background": 0, "LN": 1}, "MR", ("T2",))
    plan = ("plan_and_preprocess", "-d", 901, "--device", "cpu", "--quiet", "--no-preprocess")
    train = ("train", 901, 0, "--iterations", 1, "--device", "cpu", "--quiet")
    told = {
        (*plan, "--pretrained", "PET"): "takes 2 channels (CT, PET), and Dataset901_Balls has 1 channel (CT)",
        (*plan, "--pretrained", "MR"): 'call the channel "T2" in dataset.json if it is that',
        (*plan, "--pretrained", "FM", "--spacing", 1, 1, 1): "has its own spacing",
        (*plan, "--pretrained", "XY"): "there is no foundation model XY (there: FM, MR, PET)",
        (*train, "--tune", "head"): "only a foundation model is adapted, in --tune",
        (*train, "--pretrained", "FM", "--tune", "heads"): "there is no way of tuning called heads",
        (*train, "--pretrained", "FM", "--tune", "dgst:1.5"): "1.5 weights of an output cannot move",
        (*train, "--pretrained", "FM", "--tune", "head:2"): "head has no number of weights",
        (*train, "--pretrained", "FM", "--tune", "dgst:x"): "'x' is no number",
        (*train, "--pretrained", "FM", "--pretrain"): "--pretrain and --pretrained do not go together",
        (*train, "--pretrained", "FM", "--tune", "head", "-tr", "LNTrainer"): "--tune chooses the trainer",
    }
    for words, line in told.items():
        code, _, complaint = command(*words)
        assert code == 2
        assert line in complaint
        assert complaint.count("\n") == 1
    assert not list((own / "preprocessed").rglob("lnautoPlans_FM.json"))


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        (("background", "lymph_node"), ("background", "Lymph nodes"), {"background": "background", "Lymph nodes": "lymph_node"}),
        (("background", "tumour"), ("background", "node"), {"background": "background", "node": "tumour"}),
        (
            ("background", "GTVp", "GTVn"),
            ("background", "LN", "vein"),
            {"background": "background", "LN": "GTVn", "vein": None},
        ),
        (
            ("background", "LN", "GTVn"),
            ("background", "LN", "GTVn"),
            {"background": "background", "LN": "LN", "GTVn": "GTVn"},
        ),
        (
            ("background", "lymph node", "node"),
            ("background", "LN", "Lymph_Node"),
            {"background": "background", "LN": "node", "Lymph_Node": "lymph node"},
        ),
        (
            ("background", "LN", "tumour"),
            ("background", "nodes", "LN"),
            {"background": "background", "nodes": None, "LN": "LN"},
        ),
    ],
)
def test_labels_are_mapped_by_name_and_lone_ones_to_each_other(
    theirs: tuple[str, ...], ours: tuple[str, ...], expected: dict[str, str | None]
) -> None:
    assert map_labels({name: n for n, name in enumerate(theirs)}, {name: n for n, name in enumerate(ours)}) == expected


def test_regions_are_not_taken_for_classes() -> None:
    classes, lone = {"background": 0, "LN": 1}, {"background": 0, "LN": [1]}
    regions, others = {"background": 0, "lymph node": [1, 2]}, {"background": 0, "node": [1, 2]}
    assert map_labels(classes, regions) == {"background": None, "lymph node": None}
    assert map_labels(regions, classes) == {"background": None, "LN": None}
    assert map_labels(regions, others) == {"background": "background", "node": "lymph node"}
    assert map_labels(classes, lone) == {"background": "background", "LN": "LN"}


def test_intensities_that_do_not_fit_are_told(own: Path) -> None:
    foundation = Foundation.load(own / "results/foundations/FM")
    near, far, wide = ({"0": {"median": m, "std": s}} for m, s in ((60.0, 12.0), (90.0, 12.0), (55.0, 40.0)))
    assert "far apart" not in intensities_told(foundation, near, ["CT"])
    assert "far apart" in intensities_told(foundation, far, ["CT"])
    assert "far apart" in intensities_told(foundation, wide, ["CT"])


def test_more_cases_are_adapted_longer_and_a_cpu_only_as_long_as_there_is_time() -> None:
    lengths = [few_shot_budget(GPU, None, cases, 0.01)[0] for cases in (1, 5, 10, 20, 200)]
    assert [budget.expected_iterations for budget in lengths] == [500, 1500, 3000, 6000, 6000]
    assert all(budget.minutes is None and budget.epochs for budget in lengths)
    slow, why = few_shot_budget(CPU, None, 10, 3.0)
    assert slow.minutes == 30
    assert slow.expected_iterations is not None
    assert slow.expected_iterations < 3000
    assert "3000 would be better" in why
    assert few_shot_budget(CPU, None, 1, 0.1)[0].minutes is None


def test_few_cases_are_varied_in_intensity_too() -> None:
    budget, _ = few_shot_budget(GPU, None, 5, 0.01)
    assert few_shot_recipe(budget, 2, 5).settings["augmentation"] == "full"
    assert few_shot_recipe(budget, 2, 200).settings["augmentation"] == "geometry"


# ---- starting


def test_everything_is_loaded_and_outputs_follow_their_names(own: Path, balls_plans: dict[str, Any]) -> None:
    results = own / "results"
    labels = {"background": 0, "tumour": 1, "LN": 2}
    foundation = make_foundation(results, balls_plans, labels, "Three")
    ours = {"background": 0, "node": 1, "vein": 2}
    mapping = map_labels(labels, ours)
    network = build(balls_plans["configurations"]["3d_fullres"]["architecture"], 1, 3, deep_supervision=True)
    before = network.state_dict()[HEAD].clone()
    start_from_foundation(network, foundation, mapping, ours)
    theirs, now = foundation.weights(), network.state_dict()
    assert all(torch.equal(now[name], theirs[name]) for name in now if "seg_layers" not in name)
    assert torch.equal(now[HEAD][0], theirs[HEAD][0])
    assert torch.equal(now[HEAD][1], theirs[HEAD][2])
    assert torch.equal(now[HEAD][2], before[2])
    assert not torch.equal(before[2], theirs[HEAD][2])


@pytest.mark.parametrize(
    ("theirs", "ours", "rows"),
    [
        ({"background": 0, "LN": [1]}, {"background": 0, "node": [1]}, 2),
        ({"background": 0, "LN": [1]}, {"background": 0, "node": 1}, 2),
        ({"background": 0, "LN": [1, 2]}, {"background": 0, "node": [1, 2]}, 1),
    ],
)
def test_a_list_of_one_value_is_no_region(
    own: Path, balls_plans: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any], rows: int
) -> None:
    from lnauto.compat.plans import read_plans
    from lnauto.inference.model import build_network

    description = {"labels": theirs, "regions_class_order": [1], "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
    of_theirs = build_network(read_plans(balls_plans), "3d_fullres", description, deep_supervision=True)
    stored = {"name": "List", "trainer": "nnUNetTrainer", "configuration": "3d_fullres"}
    folder = own / "results/foundations/List"
    foundation = store_foundation(folder, stored, balls_plans, description, of_theirs.state_dict())
    network = build_network(read_plans(balls_plans), "3d_fullres", {**description, "labels": ours}, deep_supervision=True)
    start_from_foundation(network, foundation, map_labels(theirs, ours), ours)
    assert len(network.state_dict()[HEAD]) == rows
    assert torch.equal(network.state_dict()[HEAD], of_theirs.state_dict()[HEAD])


def test_a_tensor_that_does_not_fit_is_an_error_and_nothing_is_loaded(own: Path, balls_plans: dict[str, Any]) -> None:
    foundation = Foundation.load(own / "results/foundations/FM")
    architecture = json.loads(json.dumps(balls_plans["configurations"]["3d_fullres"]["architecture"]))
    architecture["arch_kwargs"]["features_per_stage"][-1] += 8
    network = build(architecture, 1, 2, deep_supervision=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match="does not fit"):
        start_from_foundation(network, foundation, {"background": "background", "node": "LN"}, {"background": 0, "node": 1})
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# ---- adapting


def test_one_command_plans_adapts_and_compares(own: Path, command: Command) -> None:
    source = own / "raw/Dataset902_Source"
    shutil.copytree(own / "raw/Dataset901_Balls", source)
    description = read_json(source / "dataset.json", "")
    (source / "dataset.json").write_text(json.dumps({**description, "labels": {"background": 0, "LN": 1}}))
    flags = ("--pretrained", "FM", "--tune", "head", "--source", "902", "--iterations", 2, "--device", "cpu")
    code, out, complaint = command("train", 901, 0, *flags)
    assert code == 0, complaint
    model = own / "results/Dataset901_Balls/LNTrainerTune__lnautoPlans_FM__3d_fullres/fold_0"
    found = read_json(model / "adaptation.json", "")
    assert set(found) == {"foundation", "target", "source"}
    assert set(found["target"]["before"]) == {"dice", "node_f1"}
    assert found["source"]["cases"] == 4
    assert "Starts from the foundation model FM" in out
    trained = torch.load(model / "checkpoint_final.pth", weights_only=True)["network_weights"]
    theirs = Foundation.load(own / "results/foundations/FM").weights()
    assert all(torch.equal(trained[name], theirs[name]) for name in theirs if "seg_layers" not in name)
    assert any(not torch.equal(trained[name], theirs[name]) for name in theirs)


def test_a_resenc_folder_of_stock_s_is_imported_adapted_and_predicts(own: Path, tmp_path: Path, command: Command) -> None:
    stock = train_stock(tmp_path / "stock", stock_plans(residual=True))
    assert command("import_model", stock, "--name", "ResEncM")[0] == 0
    flags = ("--pretrained", "ResEncM", "--tune", "dgst:1", "--iterations", 2, "--device", "cpu", "--quiet")
    code, _, complaint = command("train", 901, 0, *flags)
    assert code == 0, complaint
    model = own / "results/Dataset901_Balls/LNTrainerDGST__lnautoPlans_ResEncM__3d_fullres"
    plan = read_json(model / "plans.json", "")["configurations"]["3d_fullres"]
    assert plan["architecture"]["network_class_name"].endswith("ResidualEncoderUNet")
    assert (plan["patch_size"], plan["spacing"]) == (PATCH, [2.0, 1.5, 1.5])
    theirs = Foundation.load(own / "results/foundations/ResEncM").weights()
    tuned = torch.load(model / "fold_0/checkpoint_final.pth", weights_only=True)["network_weights"]
    assert theirs.keys() == tuned.keys()
    kept = [(tuned[name] == theirs[name]).float().mean().item() for name in theirs if theirs[name].dim() == 5]
    assert 0.5 < sum(kept) / len(kept) < 1  # some of a filter's weights moved, and most did not
    images = own / "raw/Dataset901_Balls/imagesTr"
    code, _, complaint = command("predict", "-i", images, "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--quiet")
    assert code == 0, complaint
    for scan in images.iterdir():
        mask = sitk.ReadImage(tmp_path / "out" / scan.name.replace("_0000", ""))
        assert mask.GetSize() == sitk.ReadImage(scan).GetSize()


@pytest.mark.parametrize(
    ("reader", "orientation", "turned"), [("SimpleITKIO", "RPS", "RPS"), ("NibabelIOWithReorient", None, "RAS")]
)
def test_cases_are_turned_to_the_way_the_foundation_model_was_trained(
    own: Path, tmp_path: Path, command: Command, balls_plans: dict[str, Any], reader: str, orientation: str | None, turned: str
) -> None:
    """A model of ours says which way that is, nnU-Net's by its reader; the balls lie in another (LPS), and so do their masks."""
    block = {**balls_plans["lnauto"], "inference": {**balls_plans["lnauto"]["inference"], "orientation": orientation}}
    plans = {**balls_plans, "image_reader_writer": reader, "lnauto": block}
    make_foundation(own / "results", plans, {"background": 0, "LN": 1}, "Turned")
    flags = ("--pretrained", "Turned", "--tune", "head", "--iterations", 1, "--device", "cpu", "--quiet")
    code, _, complaint = command("train", 901, 0, *flags)
    assert code == 0, complaint
    [stored] = (own / "preprocessed/Dataset901_Balls/lnautoPlans_Turned_3d_fullres").glob("ball_00_seg.b2nd")
    raw = own / "raw/Dataset901_Balls"
    label = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(raw / "labelsTr/ball_00.nii.gz"), turned))
    there, expected = (np.argwhere(found > 0).mean(axis=0) / found.shape for found in (open_image(stored)[0], label))
    assert np.allclose(there, expected, atol=0.02)

    [model] = (own / "results/Dataset901_Balls").glob("*lnautoPlans_Turned*")
    plan = read_json(model / "plans.json", "")
    assert plan["lnauto"]["inference"]["orientation"] == turned
    assert plan["image_reader_writer"] == ("SimpleITKIO" if orientation else "SimpleITKIOWithReorient")
    code, _, complaint = command(
        "predict", "-i", raw / "imagesTr", "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--quiet"
    )
    assert code == 0, complaint
    for validated in (model / "fold_0/validation").glob("*.nii.gz"):
        mask, predicted = sitk.ReadImage(validated), sitk.ReadImage(tmp_path / "out" / validated.name)
        assert (mask.GetDirection(), mask.GetOrigin()) == (predicted.GetDirection(), predicted.GetOrigin())
        assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(predicted))
    by_hand = [dice(path, raw / "labelsTr" / path.name) for path in sorted((model / "fold_0/validation").glob("*.nii.gz"))]
    with (model / "fold_0/validation/evaluation.csv").open() as table:
        judged = [float(row["dice"]) for row in csv.DictReader(table)]
    assert judged == pytest.approx(by_hand, abs=1e-4)
    assert min(by_hand) > 0


def dice(*paths: Path) -> float:
    one, other = (sitk.GetArrayFromImage(sitk.ReadImage(path)) > 0 for path in paths)
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_what_was_begun_with_one_number_goes_on_with_it(own: Path, command: Command) -> None:
    train = ("train", 901, 0, "--pretrained", "FM", "--device", "cpu", "--quiet")
    assert command(*train, "--tune", "dgst:2", "--iterations", 1)[0] == 0
    code, _, complaint = command(*train, "--continue", "--iterations", 2)
    assert code == 0, complaint
    content = torch.load(next((own / "results").rglob("checkpoint_final.pth")), weights_only=True)["lnauto"]
    assert (content["iteration"], content["more"]["tune"]) == (2, {"method": "dgst", "k": 2.0})
    assert "begun with dgst" in command(*train, "--continue", "--tune", "dgst:3", "--iterations", 3)[2]


def test_before_means_the_foundation_itself(own: Path, command: Command) -> None:
    """Zero learning rate: nothing changes, so before and after agree."""
    assert command("plan_and_preprocess", "-d", 901, "--device", "cpu", "--quiet", "--pretrained", "FM")[0] == 0
    path = own / "preprocessed/Dataset901_Balls/lnautoPlans_FM.json"
    plan = read_json(path, "")
    plan["lnauto"]["optimizer"]["learning_rate"] = 0.0
    path.write_text(json.dumps(plan))
    flags = ("--pretrained", "FM", "--tune", "full", "--iterations", 2, "--device", "cpu", "--quiet")
    assert command("train", 901, 0, *flags)[0] == 0
    found = read_json(next((own / "results").rglob("adaptation.json")), "")
    assert found["target"]["before"] == found["target"]["after"]


def test_another_model_of_the_same_name_is_noticed(own: Path, command: Command, balls_plans: dict[str, Any]) -> None:
    assert command("plan_and_preprocess", "-d", 901, "--device", "cpu", "--quiet", "--pretrained", "FM")[0] == 0
    shutil.rmtree(own / "results/foundations/FM")
    make_foundation(own / "results", balls_plans, {"background": 0, "LN": 1, "more": 2})
    code, _, complaint = command("train", 901, 0, "--pretrained", "FM", "--iterations", 1, "--device", "cpu", "--quiet")
    assert code == 2
    assert "is another one than that of the plan" in complaint


def test_moved_data_start_from_the_model_that_moved_with_them(
    own: Path, command: Command, balls_plans: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they were, another model of that name may lie by now."""
    assert command("plan_and_preprocess", "-d", 901, "--device", "cpu", "--quiet", "--pretrained", "FM")[0] == 0
    theirs = Foundation.load(own / "results/foundations/FM").weights()
    (tmp_path / "moved").mkdir()
    for name, variable in VARIABLES.items():
        shutil.move(own / name, tmp_path / "moved" / name)
        monkeypatch.setenv(variable, str(tmp_path / "moved" / name))
    make_foundation(own / "results", balls_plans, {"background": 0, "LN": 1}, seed=6)
    flags = ("--pretrained", "FM", "--tune", "head", "--iterations", 1, "--device", "cpu", "--quiet")
    code, _, complaint = command("train", 901, 0, *flags)
    assert code == 0, complaint
    trained = next((tmp_path / "moved/results").rglob("checkpoint_final.pth"))
    weights = torch.load(trained, weights_only=True)["network_weights"]
    assert all(torch.equal(weights[name], theirs[name]) for name in theirs if "seg_layers" not in name)


def test_a_model_that_is_replaced_between_two_folds_is_noticed(own: Path, balls_plans: dict[str, Any]) -> None:
    foundation = Foundation.load(own / "results/foundations/FM")
    planned = foundation.description["sha256"]
    check_planned(foundation, planned)
    replaced = make_foundation(own / "results", balls_plans, {"background": 0, "LN": 1}, seed=6)
    with pytest.raises(InputError, match="FM is another one than that of the plan"):
        check_planned(replaced, planned)
