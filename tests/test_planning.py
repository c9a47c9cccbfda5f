"""Planning and preprocessing: the plan fits the machine, the data equal stock's, and nothing is done twice or half."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from building import write_balls, write_image

from lnauto.compat.storage import open_image
from lnauto.data import preprocess as preprocessing
from lnauto.data.prepare import prepare, read_images
from lnauto.data.raw import RawDataset
from lnauto.files import read_json
from lnauto.networks.build import build
from lnauto.planners.budget import Probe
from lnauto.planners.evidence import gather
from lnauto.planners.fingerprint import look_at_all, summarise
from lnauto.planners.machine import Machine
from lnauto.planners.plan import Plan
from lnauto.planners.planner import make_plan
from lnauto.planners.topology import LADDER, RESENC, SMALL, Preset, choose_preset, fit
from lnauto.planners.wishes import NONE, Wishes

Command = Callable[..., tuple[int, str, str]]
BASE = "preprocessed/Dataset901_Balls"
CASES = f"{BASE}/lnautoPlans_3d_fullres"
CPU = Machine("cpu", "2 cores", 24, 2)


@pytest.fixture
def own(folders: Path) -> Path:
    """A raw data set the test may spoil."""
    write_balls(folders / "raw/Dataset901_Balls", cases=4, side=24, test_cases=0)
    return folders


def planned(dataset: RawDataset, machine: Machine, wishes: Wishes = NONE, probe: Probe | None = None, **changes: Any) -> Plan:
    """The plan for a data set, as if its evidence had said what `changes` say."""
    cases = look_at_all(dataset, quiet=True)
    return make_plan(dataset, summarise(cases), replace(gather(dataset, cases), **changes), machine, wishes, probe)


def stock_plan(
    preset: str, memory: float, fingerprint: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What stock nnU-Net's planner of that preset makes of a fingerprint."""
    import nnunetv2.experiment_planning.experiment_planners.default_experiment_planner as stock
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as presets

    raw, preprocessed = folder / "raw/Dataset950_Parity", folder / "preprocessed/Dataset950_Parity"
    raw.mkdir(parents=True)
    preprocessed.mkdir(parents=True)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "node": 1},
        "numTraining": 100,
        "file_ending": ".nii.gz",
    }
    description["dataset"] = {"a": {"images": ["a.nii.gz"], "label": "a.nii.gz"}}
    (raw / "dataset.json").write_text(json.dumps(description))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    monkeypatch.setattr(stock.ExperimentPlanner, "determine_reader_writer", lambda self: int)
    planner = getattr(presets, f"nnUNetPlannerResEnc{preset}")("Dataset950_Parity", memory)
    return dict(planner.plan_experiment()["configurations"]["3d_fullres"])


@pytest.mark.parametrize(
    ("preset", "spacing", "shape"),
    [
        (RESENC[0], [3.0, 0.93, 0.93], [64, 220, 280]),
        (RESENC[0], [1.0, 1.0, 1.0], [40, 50, 36]),
        (RESENC[1], [5.0, 0.8, 0.8], [60, 512, 512]),
        (RESENC[2], [1.5, 1.5, 1.5], [220, 260, 300]),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_with_a_gpu_patch_batch_and_network_are_stocks(
    preset: Any, spacing: list[float], shape: list[int], folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = {
        "spacings": [spacing] * 3,
        "shapes_after_crop": [shape] * 3,
        "foreground_intensity_properties_per_channel": {"0": {}},
        "median_relative_size_after_cropping": 1.0,
    }
    expected = stock_plan(preset.name.split()[-1], preset.memory_gb, fingerprint, folders, monkeypatch)
    ours = fit(preset, np.array(spacing), np.array(shape, float), 2)
    assert ours.patch == [int(side) for side in expected["patch_size"]]
    assert ours.batch == expected["batch_size"]
    theirs = expected["architecture"]["arch_kwargs"]
    for key in ("strides", "kernel_sizes", "features_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder"):
        assert [np.asarray(one).tolist() for one in ours.architecture["arch_kwargs"][key]] == [
            np.asarray(one).tolist() for one in theirs[key]
        ]


@pytest.mark.parametrize("preset", LADDER, ids=lambda preset: preset.name)
@pytest.mark.parametrize(("spacing", "shape"), [([1.0, 1.0, 1.0], [90, 70, 81]), ([5.0, 0.8, 0.8], [20, 160, 130])])
def test_feature_maps_are_counted_as_the_network_counts_its_own(preset: Preset, spacing: list[float], shape: list[int]) -> None:
    ours = fit(preset, np.array(spacing), np.array(shape, float), 3)
    with torch.device("meta"):
        network = build(ours.architecture, 2, 3, allow_init=False)
    assert ours.feature_map_voxels == network.compute_conv_feature_map_size(ours.patch)


@pytest.mark.parametrize(
    ("memory", "expected"), [(6, "ResEnc M"), (11, "ResEnc M"), (23.7, "ResEnc L"), (39.4, "ResEnc XL"), (141, "ResEnc XL")]
)
def test_the_preset_is_the_largest_the_card_holds(memory: float, expected: str) -> None:
    assert choose_preset(Machine("cuda", "card", memory, 16)).name == expected
    assert choose_preset(CPU) is SMALL


def test_ignore_voxels_are_not_foreground_and_nodes_are_measured(folders: Path) -> None:
    folder = folders / "raw/Dataset905_Ignore"
    image = np.full((24, 24, 24), -300, np.int16)
    label = np.zeros((24, 24, 24), np.uint8)
    label[:, :, 12:] = 2
    label[4:10, 4:12, 2:10] = 1
    image[4:10, 4:12, 2:10] = 40
    write_image(folder / "imagesTr/a_0000.nii.gz", image)
    write_image(folder / "labelsTr/a.nii.gz", label)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "node": 1, "ignore": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    dataset = RawDataset.read(folder)
    cases = look_at_all(dataset)
    evidence = gather(dataset, cases)
    assert summarise(cases).foreground_intensity_properties_per_channel["0"]["mean"] == pytest.approx(40)
    assert evidence.nodes == 1
    assert evidence.node_volume_mm3 == pytest.approx([6 * 8 * 8 * 2.0 * 1.5 * 1.5] * 3)


def test_what_is_to_be_ignored_is_no_numbered_node(own: Path, command: Command) -> None:
    raw = own / "raw/Dataset901_Balls"
    for path in (raw / "labelsTr").iterdir():
        label = sitk.GetArrayFromImage(sitk.ReadImage(path))
        label[:, :, 20:] = 2
        write_image(path, label)
    labels = {"background": 0, "node": 1, "ignore": 2}
    description = {**read_json(raw / "dataset.json", ""), "labels": labels, "instances": True}
    (raw / "dataset.json").write_text(json.dumps(description))
    assert not RawDataset.read(raw).instances
    code, _, complaint = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    assert code == 0, complaint
    stored = open_image(next((own / CASES).glob("*_seg.b2nd")))[:]
    assert set(np.unique(stored)) == {0, 1, 2}


def test_masks_in_stripes_and_a_ct_that_is_not_in_hu_are_told(own: Path, command: Command) -> None:
    raw = own / "raw/Dataset901_Balls"
    for path in (raw / "labelsTr").iterdir():
        label = sitk.GetArrayFromImage(sitk.ReadImage(path))
        label[np.arange(len(label)) % 3 > 0] = 0
        write_image(path, label)
    asked = ("plan_and_preprocess", "-d", 901, "--device", "cpu", "--no-preprocess")
    code, out, complaint = command(*asked)
    assert code == 0, complaint
    assert "drawn nodes are one slice thick and lie above each other" in out
    assert "is not in HU" not in out
    for path in (raw / "imagesTr").iterdir():
        write_image(path, sitk.GetArrayFromImage(sitk.ReadImage(path)) + 1024)
    assert "Dataset901_Balls: the channel CT is not in HU" in command(*asked)[1]


def test_the_plan_says_what_it_decided_and_why(prepared: Path) -> None:
    plan = Plan.load(prepared / BASE / "lnautoPlans.json", "")
    assert {
        "strategy",
        "trainer",
        "patient_head",
        "completeness",
        "evidence",
        "reasons",
        "alternatives",
        "budget",
        "region",
        "version",
    } <= set(plan.lnauto)
    assert plan.lnauto["strategy"] == "full"
    assert plan.lnauto["budget"]["minutes"] == 30
    for name in ("strategy", "spacing", "network", "patch", "training", "optimizer"):
        assert plan.lnauto["reasons"][name] in plan.explain()


def test_without_a_gpu_the_network_is_small_and_a_budget_is_kept_in_the_plan(prepared: Path) -> None:
    dataset = RawDataset.read(prepared / "raw/Dataset901_Balls")
    plan = planned(dataset, CPU, Wishes(minutes=7))
    assert plan.lnauto["budget"]["minutes"] == 7
    kwargs = plan.configuration("3d_fullres")["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"][0] == 16
    with_gpu = planned(dataset, Machine("cuda", "card", 24, 8))
    assert with_gpu.lnauto["budget"] == {
        "device": "cuda",
        "minutes": None,
        "epochs": 1000,
        "iterations_per_epoch": 250,
        "validation_iterations": 50,
        "seconds_per_iteration": None,
        "expected_iterations": 250_000,
    }
    assert with_gpu.lnauto["optimizer"]["name"] == "SGD"
    assert (plan.lnauto["mirroring"], with_gpu.lnauto["mirroring"]) == ("left_right", "all")


def test_on_a_processor_tiles_overlap_by_the_length_of_a_large_node_and_the_plan_says_so(prepared: Path) -> None:
    dataset = RawDataset.read(prepared / "raw/Dataset901_Balls")
    wishes = replace(NONE, patch=(16, 32, 32), spacing=(2.0, 1.0, 1.0))  # 32 mm
    card = Machine("cuda", "card", 24, 8)
    for machine, longest, tta, overlap, told in (
        (CPU, 3.0, "fast", 0.25, "0.25 of a patch (8 mm or more; the 95th percentile node has 3 mm)"),
        (CPU, 10.0, "fast", 0.35, "0.35 of a patch (11 mm or more; the 95th percentile node has 10 mm)"),
        (CPU, 40.0, "fast", 0.5, "0.5 of a patch"),
        (CPU, None, "fast", 0.5, "how long nodes are is not known"),
        (card, 3.0, "full", 0.5, "as stock nnU-Net"),
    ):
        plan = planned(dataset, machine, wishes, node_long_axis_mm=None if longest is None else (2.0, 2.5, longest))
        assert (plan.lnauto["inference"]["tta"], plan.lnauto["inference"]["overlap"]) == (tta, overlap)
        assert told in plan.lnauto["reasons"]["tiles"]


def test_the_size_below_which_nothing_is_a_node_comes_from_the_nodes_drawn(prepared: Path) -> None:
    dataset = RawDataset.read(prepared / "raw/Dataset901_Balls")
    sizes: dict[str, Any] = {"node_volume_mm3": (600.0, 3000.0, 20000.0)}
    assert planned(dataset, CPU, nodes=20, **sizes).lnauto["inference"]["smallest_node_mm3"] == 300
    assert planned(dataset, CPU, nodes=19, **sizes).lnauto["inference"]["smallest_node_mm3"] is None
    partly = replace(dataset, description={**dataset.description, "annotation": "partial"})
    plan = planned(partly, CPU, nodes=20, **sizes)
    assert plan.lnauto["inference"]["smallest_node_mm3"] == 60
    assert "0.1 of the 5th percentile" in plan.lnauto["reasons"]["filter"]
    wishes = replace(NONE, strategy="few_shot")
    for declared, part in ((dataset, 300), (partly, 60)):
        assert (
            planned(declared, CPU, wishes, nodes=20, foundation_model=True, **sizes).lnauto["inference"]["smallest_node_mm3"]
            == part
        )
    strokes = replace(dataset, description={**dataset.description, "annotation": "scribble"})
    plan = planned(strokes, CPU, nodes=20, background_drawn=True, **sizes)
    assert plan.lnauto["inference"]["smallest_node_mm3"] is None
    assert "does not say how small nodes are" in plan.lnauto["reasons"]["filter"]


def test_preprocessed_data_equal_what_stock_makes_of_the_plan(prepared: Path) -> None:
    import blosc2
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(str(prepared / BASE / "lnautoPlans.json"))
    raw = prepared / "raw/Dataset901_Balls"
    data, seg, _ = DefaultPreprocessor(False).run_case(
        [str(raw / "imagesTr/ball_02_0000.nii.gz")],
        str(raw / "labelsTr/ball_02.nii.gz"),
        manager,
        manager.get_configuration("3d_fullres"),
        str(raw / "dataset.json"),
    )
    stored = blosc2.open(str(prepared / CASES / "ball_02.b2nd"))[:]
    assert np.allclose(stored, data, atol=1e-4)  # the order in which neighbours are added differs
    assert np.array_equal(blosc2.open(str(prepared / CASES / "ball_02_seg.b2nd"))[:], seg)
    image, properties = read_images([raw / "imagesTr/ball_02_0000.nii.gz"])
    chosen = manager.get_configuration("3d_fullres").configuration
    assert np.array_equal(prepare(image, properties, manager.plans, chosen, "none"), stored)


def modified(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.pkl")}


def test_a_second_run_makes_only_what_is_missing_or_stale(own: Path, command: Command) -> None:
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")[0] == 0
    before = modified(own / CASES)
    assert len(before) == 4
    (own / CASES / "ball_01.b2nd").unlink()
    code, out, _ = command("plan_and_preprocess", "-d", 901, "--device", "cpu")
    assert code == 0
    assert "Preprocessing 1 of 4 cases" in out
    after = modified(own / CASES)
    assert [name for name in after if after[name] != before[name]] == ["ball_01.pkl"]

    description = json.loads((own / "raw/Dataset901_Balls/dataset.json").read_text())
    description["labels"]["vessel"] = 2
    (own / "raw/Dataset901_Balls/dataset.json").write_text(json.dumps(description))
    _, out, _ = command("plan_and_preprocess", "-d", 901, "--device", "cpu")
    assert "4 preprocessed cases were made from other labels or under another plan; they are made again." in out


def test_a_plan_edited_by_hand_is_kept_when_planning_again(own: Path, command: Command) -> None:
    command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu", "--no-preprocess")
    path = own / BASE / "lnautoPlans.json"
    edited = json.loads(path.read_text())
    edited["configurations"]["3d_fullres"]["batch_size"] = 3
    path.write_text(json.dumps(edited))
    _, out, _ = command("plan_and_preprocess", "-d", 901, "--device", "cpu", "--no-preprocess")
    assert "it is kept as lnautoPlans_earlier_1.json" in out
    assert json.loads((own / BASE / "lnautoPlans_earlier_1.json").read_text())["configurations"]["3d_fullres"]["batch_size"] == 3


def test_planning_again_without_a_change_keeps_no_copy(own: Path, command: Command) -> None:
    plan = ("plan_and_preprocess", "-d", 901, "--device", "cpu", "--no-preprocess")
    assert command(*plan)[0] == 0
    before = (own / BASE / "lnautoPlans.json").read_bytes()
    assert command(*plan)[0] == 0
    assert (own / BASE / "lnautoPlans.json").read_bytes() == before
    assert list((own / BASE).glob("*earlier*")) == []


def test_cases_that_a_killed_run_did_not_record_are_made_again_without_a_word_of_other_labels(
    own: Path, command: Command
) -> None:
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")[0] == 0
    record = own / BASE / "lnautoPlans_3d_fullres_cases.json"
    known = json.loads(record.read_text())
    record.write_text(json.dumps({name: known[name] for name in sorted(known)[:3]}))
    code, out, complaint = command("plan_and_preprocess", "-d", 901, "--device", "cpu")
    assert (code, "Preprocessing 1 of 4 cases" in out, "they are made again" in out) == (0, True, False), complaint
    assert json.loads(record.read_text()).keys() == known.keys()


def test_a_record_of_cases_is_not_written_after_every_case(own: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one file: with many cases that would take longer than the cases."""
    from lnauto.data import provenance

    written = []
    monkeypatch.setattr(provenance, "write_json", lambda path, cases: written.append(len(cases)))
    monkeypatch.setattr(provenance, "SAVE_EVERY_SECONDS", 1000.0)
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")[0] == 0
    assert written == [1, 4]


def test_what_has_no_trainer_yet_is_told_before_anything_is_written(own: Path, command: Command) -> None:
    raw = own / "raw/Dataset901_Balls"
    description = json.loads((raw / "dataset.json").read_text()) | {"annotation": "patient"}
    (raw / "dataset.json").write_text(json.dumps(description))
    shutil.rmtree(raw / "labelsTr")
    (raw / "patients.csv").write_text("patient,lnm\n" + "".join(f"ball_{number:02d},{number % 2}\n" for number in range(4)))
    code, _, complaint = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    assert code == 2
    assert complaint.startswith("lnauto: there is nothing lnauto")
    assert "no case has a mask; whether there are metastases is known of 4 patients" in complaint
    assert not (own / BASE / "lnautoPlans.json").exists()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            lambda plan: plan["configurations"]["3d_fullres"].update(patch_size=[15, 16, 16]),
            "the network cannot pool a patch of [15, 16, 16]",
        ),
        (lambda plan: plan["lnauto"].pop("budget"), "the plan lacks budget, budget.minutes"),
        (lambda plan: plan.pop("lnauto"), 'this plan has no "lnauto" block, so lnauto did not make it'),
    ],
)
def test_a_plan_edited_wrongly_is_told(own: Path, command: Command, spoil: Callable[[Any], Any], line: str) -> None:
    command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu", "--no-preprocess")
    path = own / BASE / "lnautoPlans.json"
    plan = json.loads(path.read_text())
    spoil(plan)
    path.write_text(json.dumps(plan))
    code, _, complaint = command("train", 901, 0, "--quiet", "--device", "cpu")
    assert code == 2
    assert complaint.startswith(f"lnauto: {line}")
    assert complaint.count("\n") == 1


def test_a_case_that_fails_is_named_and_the_others_are_done(own: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    store = preprocessing._store

    def fail_on_one(target: Path, *rest: Any) -> None:
        if target.name == "ball_02":
            raise OSError(28, "No space left on device")
        store(target, *rest)

    monkeypatch.setattr(preprocessing, "_store", fail_on_one)
    code, _, complaint = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    assert code == 3
    told = "lnauto: the preprocessed case could not be written (No space left on device), in ball_02; "
    assert complaint == told + "check the disk, then run again\n"
    assert sorted(modified(own / CASES)) == ["ball_00.pkl", "ball_01.pkl", "ball_03.pkl"]


def test_a_kill_while_a_case_is_stored_leaves_nothing_that_looks_whole(
    own: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    def torn(data: Any, seg: Any, properties: Any, stem: str, **_: Any) -> None:
        Path(f"{stem}.b2nd").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(nnUNetDatasetBlosc2, "save_case", staticmethod(torn))
    code, _, _ = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    assert code == 130
    assert list((own / CASES).iterdir()) == []
    monkeypatch.undo()
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(own / name))
    (own / CASES / ".77.ball_00.b2nd").write_bytes(b"left by kill -9")
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")[0] == 0
    assert nnUNetDatasetBlosc2.get_identifiers(str(own / CASES)).__len__() == 4


def test_too_small_a_disk_is_told_before_the_work_starts(own: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    code, _, complaint = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    assert code == 2
    assert "only 0.0 GB are free" in complaint
    assert not (own / CASES).exists()


def test_worker_processes_make_the_same_files(own: Path, command: Command) -> None:
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")[0] == 0
    alone = (own / CASES / "ball_00.pkl").read_bytes()
    shutil.rmtree(own / CASES)
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu", "--workers", 2)[0] == 0
    assert len(modified(own / CASES)) == 4
    assert pickle.loads((own / CASES / "ball_00.pkl").read_bytes()).keys() == pickle.loads(alone).keys()


def test_a_worker_that_dies_is_a_named_error(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool

    class Dying:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> Dying:
            return self

        def __exit__(self, *_: Any) -> None: ...

        def submit(self, *_: Any) -> Future[None]:
            future: Future[None] = Future()
            future.set_exception(BrokenProcessPool("killed"))
            return future

    monkeypatch.setattr(preprocessing, "ProcessPoolExecutor", Dying)
    dataset = RawDataset.read(own / "raw/Dataset901_Balls")
    told: Iterator[Any] = preprocessing._in_workers(list(dataset.cases[:1]), preprocessing.Job({}, "", {}, own, ""), 2)
    ((case, problem),) = told
    assert str(problem) == (
        f"lnauto: a worker process died before this case was done, most likely for want of memory, in {case.name}; "
        "run again, with fewer --workers; what is finished stays"
    )


@pytest.mark.parametrize(("cases", "annotated"), [(1, 1), (2, 2), (3, 3), (4, 4), (21, 1)])
def test_few_cases_still_plan_and_train(folders: Path, command: Command, cases: int, annotated: int) -> None:
    raw = folders / "raw/Dataset901_Balls"
    write_balls(raw, cases=cases, side=24, test_cases=0)
    without = sorted((raw / "labelsTr").iterdir())[annotated:]
    description = json.loads((raw / "dataset.json").read_text())
    description["unannotated"] = [path.name.removesuffix(".nii.gz") for path in without]
    (raw / "dataset.json").write_text(json.dumps(description))
    for path in without:
        path.unlink()
    assert command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")[0] == 0
    code, _, complaint = command("train", 901, 0, "--iterations", 1, "--quiet", "--device", "cpu")
    assert code == 0, complaint


def test_faults_of_the_data_set_are_told_together_and_nothing_is_planned(own: Path, command: Command) -> None:
    raw = own / "raw/Dataset901_Balls"
    write_image(raw / "labelsTr/ball_00.nii.gz", np.zeros((24, 24, 23), np.uint8))
    (raw / "labelsTr/ball_01.nii.gz").unlink()
    (raw / "imagesTr/ball_02_0000.nii.gz").write_bytes(b"no image")
    code, _, complaint = command("plan_and_preprocess", "-d", 901, "--quiet", "--device", "cpu")
    assert code == 2
    lines = complaint.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("lnauto: ") for line in lines)
    for name in ("ball_00", "ball_01", "ball_02"):
        assert any(name in line for line in lines)
    assert not (own / BASE / "lnautoPlans.json").exists()
