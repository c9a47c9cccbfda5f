"""Some nodes drawn, others not: what is planned, preprocessed and learned from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lnauto.compat.plans import LabelManager
from lnauto.data.phantom import make_phantom
from lnauto.data.preprocess import Job, case_files, pending, preprocess_case
from lnauto.data.raw import Case, RawDataset
from lnauto.errors import CasesFailedError
from lnauto.files import read_json
from lnauto.nodes import label_components
from lnauto.paths import VARIABLES, activate
from lnauto.planners.case_facts import CaseFacts, NodeFacts
from lnauto.planners.evidence import Evidence
from lnauto.planners.plan import Plan
from lnauto.planners.sampling import RANDOM_AMONG_STROKES, choose_sampling
from lnauto.planners.trust import choose_trust, in_hu
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.options import Options
from lnauto.trainers.patches import PatchLoader
from lnauto.trainers.schedule import Length
from lnauto.workflow.plan import bring_up_to_date, make_job

Command = Callable[..., tuple[int, str, str]]
NAME = "Dataset911_Partial"
MODEL = f"results/{NAME}/LNTrainerPartial__lnautoPlans__3d_fullres"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small chests, declared to be drawn in part, planned and preprocessed; read-only for tests."""
    from lnauto.planners.wishes import Wishes
    from lnauto.workflow.plan import Request, plan_and_preprocess

    root = tmp_path_factory.mktemp("partial")
    make_phantom(root / "raw" / NAME, cases=3, annotation="partial", fraction=0.35, size=40, seed=6, declare=True, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("911", Request(wishes=Wishes(minutes=5), device="cpu", quiet=True))
    return root


@pytest.fixture
def own(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for a test to spoil."""
    for name, variable in VARIABLES.items():
        if (planned / name).is_dir():
            shutil.copytree(planned / name, tmp_path / name)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def preprocessed(root: Path) -> Path:
    return root / "preprocessed" / NAME


def labels_of(root: Path, case: str) -> np.ndarray:
    return np.asarray(blosc2.open(str(preprocessed(root) / f"lnautoPlans_3d_fullres/{case}_seg.b2nd"))[0])


def test_the_plan_trusts_what_cannot_be_node_and_ignores_the_rest(planned: Path) -> None:
    plan = read_json(preprocessed(planned) / "lnautoPlans.json", "")["lnauto"]
    assert plan["strategy"] == "partial_instance"
    assert plan["trusted_background"]["low"][0] < 0 < 100 < plan["trusted_background"]["high"][0]
    assert plan["sampling"] == {"random": 1.0}
    assert "what else is not drawn is ignored" in plan["reasons"]["background"]
    assert read_json(preprocessed(planned) / "dataset.json", "")["labels"] == {"background": 0, "node": 1, "ignore": 2}


def test_nodes_that_nobody_drew_are_ignored_and_air_is_background(planned: Path) -> None:
    """Compared voxel by voxel with the truth, in the preprocessed cases' own grid."""

    plan = read_json(preprocessed(planned) / "lnautoPlans.json", "")
    truth_only = {**plan, "lnauto": {**plan["lnauto"], "trusted_background": None}}
    raw, folder = planned / "raw" / NAME, planned / "truth"
    folder.mkdir(exist_ok=True)
    undrawn, air = [], []
    for label in sorted((raw / "labelsTr").iterdir()):
        case = label.name.removesuffix(".nii.gz")
        image = raw / f"imagesTr/{case}_0000.nii.gz"
        job = Job(truth_only, "3d_fullres", read_json(raw / "dataset.json", ""), folder, "")
        assert preprocess_case(Case(case, (image,), raw / f"truth/labelsTr/{label.name}"), job) is None
        truth = np.asarray(blosc2.open(str(case_files(folder / case)[1]))[0])
        taught = labels_of(planned, case)
        undrawn.append(taught[(truth == 1) & (taught != 1)])
        data = np.asarray(blosc2.open(str(case_files(folder / case)[0]))[0])
        air.append(taught[data == data.min()])  # clipped there: air, lung, and the darkest fat
    assert np.mean(np.concatenate(undrawn) == 2) > 0.95
    assert np.mean(np.concatenate(air) == 0) > 0.8
    assert 0.2 < np.mean([np.mean(labels_of(planned, path.name[:-7]) == 0) for path in (raw / "labelsTr").iterdir()]) < 0.9


def test_locations_are_few_however_much_is_known(planned: Path) -> None:
    from lnauto.compat.storage import nnUNetDatasetBlosc2

    dataset = nnUNetDatasetBlosc2(str(preprocessed(planned) / "lnautoPlans_3d_fullres"), ["phantom_000"])
    locations = dataset.load_case("phantom_000")[3]["class_locations"]
    assert set(locations) == {1, (-1, 0, 1)}
    assert (labels_of(planned, "phantom_000") < 2).sum() > len(locations[(-1, 0, 1)]) > 5000
    assert max(len(rows) for rows in locations.values()) <= 10_000


def test_the_bound_on_locations_is_lnautos(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnauto.compat.storage import nnUNetDatasetBlosc2
    from lnauto.data import locations

    monkeypatch.setattr(locations, "MOST", 300)
    dataset = RawDataset.read(own / "raw" / NAME)
    plan = Plan.load(preprocessed(own) / "lnautoPlans.json", "")
    job = make_job(dataset, plan, "3d_fullres", preprocessed(own))
    assert preprocess_case(dataset.cases[0], job) is None
    stored = nnUNetDatasetBlosc2(str(job.folder), ["phantom_000"]).load_case("phantom_000")[3]["class_locations"]
    assert 250 < len(stored[(-1, 0, 1)]) <= 300


def test_it_trains_and_validates_against_what_was_drawn(own: Path, command: Command) -> None:
    """Node by node, where masks number them: the second node has the number of the ignore label."""
    raw = own / "raw" / NAME
    description = read_json(raw / "dataset.json", "")
    (raw / "dataset.json").write_text(json.dumps(description | {"instances": True}))
    drawn = {}
    for path in sorted((raw / "labelsTr").iterdir()):
        label = sitk.ReadImage(str(path))
        numbers, drawn[path.name[:-7]] = label_components(sitk.GetArrayFromImage(label))
        numbered = sitk.GetImageFromArray(numbers.astype(np.uint8))
        numbered.CopyInformation(label)
        sitk.WriteImage(numbered, str(path))
    most = max(drawn, key=lambda case: drawn[case])
    splits = [{"train": [case for case in drawn if case != most], "val": [most]}]
    (preprocessed(own) / "splits_final.json").write_text(json.dumps(splits))
    code, _, complaint = command("train", 911, 0, "--iterations", 2, "--quiet", "--device", "cpu")
    assert code == 0, complaint
    assert read_json(own / MODEL / "dataset.json", "")["labels"]["ignore"] == 2
    evaluation = read_json(own / MODEL / "fold_0/validation/evaluation.json", "")
    assert evaluation["nodes"]["all nodes"]["pooled"]["true"] == drawn[most] > 1
    checkpoint = torch.load(own / MODEL / "fold_0/checkpoint_final.pth", weights_only=True)
    assert checkpoint["init_args"]["dataset_json"]["labels"]["ignore"] == 2


def test_other_rules_or_organ_masks_make_the_cases_anew(own: Path) -> None:
    """A case with an organ mask is made again, alone; its organ is background, whatever its intensity."""
    plan = Plan.load(preprocessed(own) / "lnautoPlans.json", "")
    dataset = RawDataset.read(own / "raw" / NAME)

    def waiting() -> list[str]:
        return [case.name for case in pending(list(dataset.cases), make_job(dataset, plan, "3d_fullres", preprocessed(own)))]

    assert waiting() == []
    plan.lnauto["trusted_background"] |= {"organs": "organsTr", "shell_mm": 4.0}
    assert waiting() == ["phantom_000", "phantom_001", "phantom_002"]
    bring_up_to_date(dataset, plan, "3d_fullres", activate(), quiet=True)
    assert waiting() == []
    before = (labels_of(own, "phantom_001") == 2).mean()
    label = sitk.ReadImage(str(own / f"raw/{NAME}/labelsTr/phantom_001.nii.gz"))
    organs = sitk.GetImageFromArray(np.ones(label.GetSize()[::-1], np.uint8))
    organs.CopyInformation(label)
    (own / f"raw/{NAME}/organsTr").mkdir()
    sitk.WriteImage(organs, str(own / f"raw/{NAME}/organsTr/phantom_001.nii.gz"))
    assert waiting() == ["phantom_001"]
    bring_up_to_date(dataset, plan, "3d_fullres", activate(), quiet=True)
    assert before > 0.1
    assert (labels_of(own, "phantom_001") == 2).sum() == 0
    sitk.WriteImage(organs[:-1], str(own / f"raw/{NAME}/organsTr/phantom_001.nii.gz"))
    with pytest.raises(CasesFailedError, match=r"the organ mask phantom_001.nii.gz has the shape"):
        bring_up_to_date(dataset, plan, "3d_fullres", activate(), quiet=True)


def test_ignored_voxels_have_no_gradient(own: Path) -> None:
    base = preprocessed(own)
    plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
    trainer = LNTrainer(plan, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.configure(Options(Length(1, None, 1, 1), 0, quiet=True))
    trainer.initialize()
    scales = trainer._get_deep_supervision_scales()
    rng = torch.Generator().manual_seed(0)
    targets = [torch.randint(0, 3, (2, 1, *(int(16 * side) for side in scale)), generator=rng) for scale in scales]
    logits = [torch.randn((2, 2, *target.shape[2:]), generator=rng, requires_grad=True) for target in targets]
    trainer.loss(logits, targets).backward()
    finest = logits[0].grad
    assert finest is not None
    ignored = (targets[0] == 2).expand_as(finest)
    assert ignored.any()
    assert (finest[ignored] == 0).all()
    assert (finest[~ignored] != 0).all()


def centres(share: float, draws: int = 400) -> np.ndarray:
    """Where a loader cuts patches that need not hold foreground, if one corner of the case is known."""
    loader = PatchLoader(
        SimpleNamespace(identifiers=["a"]), 2, (8, 8, 8), (8, 8, 8), LabelManager({"background": 0, "node": 1, "ignore": 2}, None)
    )
    loader.random_share = share
    corner = np.array([[0, z, y, x] for z in range(6) for y in range(6) for x in range(6)])
    np.random.seed(0)
    boxes = [loader.get_bbox((40, 40, 40), False, {1: [], (-1, 0, 1): corner}) for _ in range(draws)]
    return np.array([start for start, _ in boxes])


def test_patches_lie_anywhere_if_the_plan_says_so() -> None:
    """Stock keeps to what is known; a share of 1 spreads patches over the whole case, 0.33 a third of them."""
    assert centres(0.0).max() < 6
    spread = centres(1.0)
    for axis in range(3):
        counts, _ = np.histogram(spread[:, axis], bins=4, range=(0, 33))
        assert counts.min() > 60
    away = (centres(0.33) > 6).any(axis=1).mean()
    assert 0.25 < away < 0.4


def test_patches_with_foreground_are_still_forced() -> None:
    loader = PatchLoader(
        SimpleNamespace(identifiers=["a"]), 2, (8, 8, 8), (8, 8, 8), LabelManager({"background": 0, "node": 1, "ignore": 2}, None)
    )
    loader.random_share = 1.0
    start, _ = loader.get_bbox((40, 40, 40), True, {1: np.array([[0, 20, 21, 22]]), (-1, 0, 1): np.array([[0, 0, 0, 0]])})
    assert list(start) == [16, 17, 18]
    assert loader.has_ignore


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"region": "knee"}, "there is no region knee (there: none, body, lungs, neck)"),
        ({}, "the plan lacks trusted_background.low"),
    ],
)
def test_rules_edited_wrongly_are_told(own: Path, command: Command, change: dict[str, Any], line: str) -> None:
    plan = Plan.load(preprocessed(own) / "lnautoPlans.json", "")
    plan.lnauto["trusted_background"] |= change
    if not change:
        del plan.lnauto["trusted_background"]["low"]
    plan.save(preprocessed(own) / "lnautoPlans.json")
    code, _, complaint = command("train", 911, 0, "--device", "cpu", "--quiet")
    assert (code, complaint.startswith(f"lnauto: {line}"), complaint.count("\n")) == (2, True, 1)


def test_the_loader_of_a_training_obeys_the_plan(own: Path) -> None:
    base = preprocessed(own)
    plan, description = read_json(base / "lnautoPlans.json", ""), read_json(base / "dataset.json", "")
    for share in (0.25, 1.0):
        plan["lnauto"]["sampling"]["random"] = share
        trainer = LNTrainer(plan, "3d_fullres", 0, description, torch.device("cpu"))
        trainer.configure(Options(Length(1, None, 1, 1), 0, quiet=True))
        trainer.initialize()
        trainer.get_dataloaders()
        assert trainer.validation_batches.loader.random_share == share


def drawn(low: float, high: float, short: float = 12.0) -> CaseFacts:
    node = NodeFacts(500.0, 14.0, short, False, 1.0, (40.0,), (-80.0,), (), ((low, high), (2.0, 9.0)))
    empty = np.empty((1, 0), np.float32)
    return CaseFacts([2.0, 1.0, 1.0], [9, 9, 9], 1.0, empty, True, (node,), 1.0, 0.9, None, None)


def test_the_rules_come_from_the_nodes_that_are_drawn(planned: Path) -> None:
    dataset = RawDataset.read(planned / "raw" / NAME)
    usual, reason = choose_trust(dataset, [drawn(0, 60), drawn(20, 90)], "partial_instance", "none")
    assert usual is not None
    assert (usual.low, usual.high, usual.depth_mm, usual.region) == ((-30.0,), (130.0,), 10.0, "body")  # never narrower
    wide, reason = choose_trust(dataset, [drawn(-60, 60), drawn(20, 190, short=36)], "partial_instance", "lungs")
    assert wide is not None
    assert (wide.low, wide.high, wide.depth_mm, wide.region) == ((-58.4,), (187.4,), 18.0, "lungs")
    assert "what is not between -58.4 and 187.4 HU, as the 2 drawn nodes are" in reason
    slips = [drawn(-800, 60), *[drawn(0, 60)] * 99]
    assert choose_trust(dataset, slips, "partial_instance", "none")[0] == usual  # one of a hundred is drawn into the lung
    assert (wide.organs, wide.bone_above) == (None, 250.0)


def test_rules_of_hu_are_not_used_on_a_ct_that_is_not_in_hu(planned: Path) -> None:
    """Stored with an offset, or windowed: soft tissue would pass for bone, or for the depth of an organ."""
    dataset = RawDataset.read(planned / "raw" / NAME)
    cases = [replace(drawn(1000, 1060), darkest=darkest) for darkest in (24.0, 0.0, -1000.0)]
    assert not in_hu(cases)
    trust, reason = choose_trust(dataset, cases, "partial_instance", "none")
    assert trust is not None
    assert (trust.low, trust.high, trust.depth_mm, trust.bone_above, trust.air_below) == ((None,), (None,), None, None, None)
    assert "HU" not in reason
    assert in_hu([drawn(0, 60)])


def test_a_place_is_likely_from_where_undrawn_nodes_are_most_of_what_looks_so(planned: Path) -> None:
    """20 nodes of 0.5 ml are drawn, a quarter of all; 60 more should have 15 ml, and 40 % of it look so."""
    dataset, cases = RawDataset.read(planned / "raw" / NAME), [drawn(0, 60)] * 20
    found = {}
    for there in (11.5, 12.5, 40.0):
        undrawn = np.zeros(101)
        undrawn[60:] = there / 41
        trust, reason = choose_trust(dataset, cases, "partial_instance", "none", undrawn, 0.25)
        assert trust is not None
        assert trust.likeness == "likeness"
        assert "what looks less like a drawn node than 80 % of drawn voxels do" in reason
        found[there] = trust.likely_from
    assert found == {11.5: 60.0, 12.5: None, 40.0: None}
    assert (
        "than 60 % of drawn voxels is taken for one"
        in choose_trust(dataset, cases, "partial_instance", "none", np.zeros(101) + 0.01, 0.25)[1]
    )
    several = replace(dataset, description={**dataset.description, "labels": {"background": 0, "node": 1, "other": 2}})
    few = np.zeros(101) + 0.01
    for other, completeness in ((dataset, None), (several, 0.25)):
        trust, _ = choose_trust(other, cases, "partial_instance", "none", few, completeness)
        assert trust is not None
        assert trust.likely_from is None
    trust, _ = choose_trust(dataset, cases, "partial_instance", "none")
    assert trust is not None
    assert trust.likeness is None


def test_where_everything_is_drawn_or_nothing_is_no_background_is_made_up(planned: Path) -> None:
    dataset = RawDataset.read(planned / "raw" / NAME)
    for strategy in ("full", "ignore_label"):
        assert choose_trust(dataset, [drawn(0, 60)], strategy, "none") == (None, "as drawn")
    assert choose_trust(dataset, [], "partial_instance", "none")[0] is None


def test_strokes_say_where_nodes_are_and_not_how_far_they_reach(planned: Path) -> None:
    dataset = RawDataset.read(planned / "raw" / NAME)
    trust, reason = choose_trust(dataset, [drawn(0, 60)], "scribble", "lungs")
    assert trust is not None
    assert (trust.shell_mm, trust.depth_mm, trust.likeness, trust.likely_from) == (None, None, None, None)
    assert (trust.reach, trust.region, trust.air_below) == (1.0, "lungs", -500.0)
    assert reason.startswith("air, bone, ")
    assert "what is farther from each stroke on a node than 1 times its length, as every node has one, " in reason
    assert (trust.node_within, trust.background_from) == (4.0, 6.0)
    assert "more than 6 voxels from every stroke on a node by way of like tissue (what is within 4 is node); " in reason
    masks, _ = choose_trust(dataset, [drawn(0, 60)], "partial_instance", "lungs")
    assert masks is not None
    assert (masks.reach, masks.shell_mm, masks.node_within) == (None, 3.0, None)


def test_only_ct_has_intensities_that_mean_the_same_everywhere(planned: Path) -> None:
    dataset = RawDataset.read(planned / "raw" / NAME)
    both = replace(dataset, description={**dataset.description, "channel_names": {"0": "CT", "1": "PET"}})
    trust, _ = choose_trust(both, [drawn(0, 60)], "partial_instance", "none")
    assert trust is not None
    assert (trust.low, trust.high) == ((-30.0, None), (130.0, None))
    resonance = replace(dataset, description={**dataset.description, "channel_names": {"0": "T2"}})
    trust, reason = choose_trust(resonance, [drawn(0, 60)], "partial_instance", "none")
    assert trust is not None
    assert (trust.low, trust.region, trust.depth_mm, trust.air_below, trust.bone_above) == ((None,), "none", None, None, None)
    assert reason.startswith("3 mm round each drawn node; ")


def found(**facts: Any) -> Evidence:
    defaults: dict[str, Any] = {"ignore_label": True, "drawn_share": 0.02}
    return SimpleNamespace(**{**defaults, **facts})  # type: ignore[return-value]


def test_only_among_strokes_most_patches_keep_to_what_is_drawn() -> None:
    assert choose_sampling(found(), False) == {"random": RANDOM_AMONG_STROKES}
    assert choose_sampling(found(), True) == {"random": 1.0}
    assert choose_sampling(found(drawn_share=0.6), False) == {"random": 1.0}
    assert choose_sampling(found(ignore_label=False), False) == {"random": 1.0}
