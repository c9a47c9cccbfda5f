"""Bags: what is cut out of a case, and what heads on them share; that nothing leaks into anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from bags import PLAN, bright_bags, drawn_bag
from building import write_image

from lnauto.errors import InputError
from lnauto.evaluation.patients import auc
from lnauto.nodes import measure_nodes
from lnauto.trainers.patient.abmil import GatedAttention, LNMTrainerABMIL, masked_softmax
from lnauto.trainers.patient.bag import NODE, REGION, SHAPES, Bag
from lnauto.trainers.patient.crops import CropPlan, Scene, bag_of, cut, forms_of, region_bag
from lnauto.trainers.patient.fitting import Schedule, fit_network, thinned
from lnauto.trainers.patient.head import DESCRIPTION, WEIGHTS, Head
from lnauto.trainers.patient.reader import Reader
from lnauto.trainers.patient.scenes import read_scene
from lnauto.workflow.head_files import HeadModel

SHORT = Schedule(steps=12)


def scene(*balls: tuple[tuple[int, int, int], float], shape: tuple[int, int, int] = (20, 30, 30), thick: float = 2.0) -> Scene:
    """Balls (middle, radius in voxels) numbered from 1, each as bright as its number."""
    grid = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"))
    instances = np.zeros(shape, np.int32)
    for number, (middle, radius) in enumerate(balls, start=1):
        instances[np.linalg.norm(grid - np.array(middle)[:, None, None, None], axis=0) <= radius] = number
    to_mm = np.zeros((4, 4))
    to_mm[0, 2], to_mm[1, 1], to_mm[2, 0], to_mm[3, 3] = 1, 1, thick, 1
    to_mm[:3, 3] = (100, -50, 7)
    spacing = (thick, 1.0, 1.0)
    return Scene("case", instances[None].astype(np.float32), instances, spacing, to_mm, forms_of(instances, spacing))


class TestCrops:
    def test_a_crop_is_cut_round_the_middle_and_beyond_the_border_is_nothing(self) -> None:
        array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(1, 4, 5, 6)
        plan = CropPlan((2, 2, 2), (1, 1, 1), False)
        assert cut(array, (1.5, 2.5, 3.5), plan).tolist() == array[:, 1:3, 2:4, 3:5].tolist()
        beyond = cut(array, (-0.5, 0.5, 0.5), plan)
        assert beyond[0, 0].tolist() == [[0, 0], [0, 0]]
        assert beyond[0, 1].tolist() == array[0, 0, :2, :2].tolist()
        assert not cut(array, (40, 40, 40), plan).any()

    def test_a_coarser_step_averages(self) -> None:
        array = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4)
        coarse = cut(array, (1.5, 1.5, 1.5), CropPlan((2, 2, 2), (2, 2, 2), False))
        assert coarse[0, 0, 0, 0] == array[0, :2, :2, :2].mean()
        assert coarse[0, 1, 1, 1] == array[0, 2:, 2:, 2:].mean()

    @pytest.mark.parametrize(
        ("axis", "spacing", "size", "step", "slices"),
        [
            (22.0, (1.0, 1.0, 1.0), (32, 32, 32), (1, 1, 1), False),  # 22 x 1.45 is 31.9
            (5.0, (1.0, 1.0, 1.0), (24, 24, 24), (1, 1, 1), False),  # no less than 18 mm
            (22.0, (3.2, 1.0, 1.0), (1, 32, 32), (1, 1, 1), True),
            (60.0, (1.0, 1.0, 1.0), (32, 32, 32), (3, 3, 3), False),  # 87 mm
        ],
    )
    def test_the_extent_follows_the_nodes(
        self, axis: float, spacing: tuple[float, ...], size: tuple[int, ...], step: tuple[int, ...], slices: bool
    ) -> None:
        assert CropPlan.of([axis], spacing) == CropPlan(size, step, slices)  # type: ignore[arg-type]

    def test_each_node_is_an_instance_with_its_form_and_place(self) -> None:
        whole = scene(((10, 8, 20), 5.0), ((4, 22, 6), 3.0))
        bag = bag_of("p", [whole], CropPlan((16, 16, 16), (1, 1, 1), False), {"age": 60.0}, 1)
        assert bag.sources == (("case", 1), ("case", 2))
        assert bag.kinds.tolist() == [NODE, NODE]
        assert (bag.masks.sum(axis=(1, 2, 3)) == [(whole.instances == n).sum() for n in (1, 2)]).all()
        assert [float(crop.max()) for crop in bag.crops] == [1.0, 2.0]
        node = measure_nodes(whole.instances, whole.spacing)[0]
        measured = dict(zip(SHAPES, bag.shapes[0].tolist(), strict=True))
        assert measured["short axis in mm"] == pytest.approx(node.short_axis_mm)
        assert measured["log volume in ml"] == pytest.approx(np.log(node.volume_mm3 / 1000), abs=1e-5)
        # from the middle of the image, (9.5, 14.5, 14.5): x 5.5 mm, y -6.5 mm, z half a slice of 2 mm
        assert bag.points[0].tolist() == pytest.approx([5.5, -6.5, 1.0])

    def test_thick_slices_give_the_largest_and_those_half_as_large(self) -> None:
        whole = scene(((10, 15, 15), 4.0), thick=5.0)
        plan = CropPlan.of([9.0], whole.spacing)
        bag = bag_of("p", [whole], plan, {}, None)
        areas = (whole.instances == 1).sum(axis=(1, 2))
        wanted = [area for area in sorted(areas, reverse=True) if area >= areas.max() / 2][:3]
        assert bag.masks.sum(axis=(1, 2, 3)).tolist() == wanted
        assert set(bag.sources) == {("case", 1)}

    def test_a_region_without_masks_is_covered_by_blocks(self) -> None:
        whole = replace(scene(((10, 8, 20), 5.0)), instances=np.zeros((20, 30, 30), np.int32))
        bag = region_bag("p", [whole], CropPlan((8, 8, 8), (1, 1, 1), False), {}, 1)
        assert set(bag.kinds.tolist()) == {REGION}
        assert 1 < len(bag) <= 48
        assert bag.crops.max() > 0.5

    def test_the_tumours_side_says_how_far_towards_it_a_node_lies(self) -> None:
        bag = bag_of("p", [scene(((10, 8, 20), 5.0))], PLAN, {}, None)  # 5.5 mm to the left of the middle
        towards = [replace(bag, row={"tumour_side": side}).towards.tolist() for side in ("L", "R", None, float("nan"))]
        assert towards == [[5.5], [-5.5], [0.0], [0.0]]

    def test_two_cases_are_one_bag(self) -> None:
        first, second = scene(((10, 8, 20), 5.0)), replace(scene(((4, 22, 6), 3.0)), case="later")
        bag = bag_of("p", [first, second], PLAN, {}, None)
        assert bag.sources == (("case", 1), ("later", 1))


def a_plan() -> tuple[Any, Any]:
    """One that turns the axes and resamples."""
    from lnauto.compat.plans import PlansManager

    content = {
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2],
        "transpose_backward": [1, 0, 2],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {},
    }
    chosen = {
        "spacing": [1.2, 2.5, 1.8],
        "normalization_schemes": ["NoNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_torch_fornnunet",
        "resampling_fn_data_kwargs": {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False},
    }
    return PlansManager(content), SimpleNamespace(spacing=chosen["spacing"], configuration=chosen)


def test_a_mask_lies_on_the_grid_of_the_prepared_image_and_its_points_in_the_world(tmp_path: Path) -> None:
    """Against the image's own geometry, for a cropped, transposed and resampled case."""
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 24, 28), np.uint8)
    mask[5:9, 10:16, 4:12] = 1
    mask[14:16, 3:6, 20:23] = 1
    image = rng.normal(100, 5, mask.shape).astype(np.float32) + 300.0 * mask
    image[:, :2] = 0  # nnU-Net crops what is 0 all round
    write_image(tmp_path / "a_0000.nii.gz", image)
    write_image(tmp_path / "a.nii.gz", mask)
    manager, configuration = a_plan()
    found = read_scene("a", [tmp_path / "a_0000.nii.gz"], tmp_path / "a.nii.gz", manager, configuration, "none", [1])
    bright = found.image[0] > 250
    assert (bright & (found.instances > 0)).sum() / bright.sum() > 0.9
    for number, box in ((1, (slice(5, 9), slice(10, 16), slice(4, 12))), (2, (slice(14, 16), slice(3, 6), slice(20, 23)))):
        middle = [(side.start + side.stop - 1) / 2 for side in box]
        expected = np.array([-12.0, 7.5, 30.0]) + np.array(middle)[::-1] * (1.5, 1.5, 2.0)
        places = np.argwhere(found.instances == number).mean(axis=0)
        assert (found.to_mm @ [*places, 1])[:3] == pytest.approx(expected, abs=0.7)  # within half a voxel
        height, depth, width = ((side.stop - side.start) * step for side, step in zip(box, (2.0, 1.5, 1.5), strict=True))
        form = dict(zip(SHAPES, found.forms[number], strict=True))  # of the mask as drawn, not turned and resampled as it is here
        long, short = form["long axis in mm"], form["short axis in mm"]
        assert max(width, depth) <= long <= np.hypot(width, depth) + 0.1
        assert form["height to long axis"] == pytest.approx(height / long)
        assert form["short to long axis"] == pytest.approx(short / long)
        assert form["log volume in ml"] == pytest.approx(np.log(height * depth * width / 1000))


@pytest.mark.parametrize("lies", ["LPS", "PIR", "RAS"])
def test_a_scan_that_lies_in_another_way_is_turned_as_a_network_has_it(tmp_path: Path, lies: str) -> None:
    rng = np.random.default_rng(4)
    mask = np.zeros((20, 18, 26), np.uint8)
    mask[5:9, 10:16, 4:12] = mask[14:16, 3:6, 20:23] = 1
    scenes = []
    arrays = {"_0000": rng.normal(size=mask.shape).astype(np.float32), "": mask}
    for way in ("LPS", lies):
        for ending, array in arrays.items():
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.5, 1.4, 2.0))
            image.SetOrigin((30.0, 7.5, -12.0))
            sitk.WriteImage(sitk.DICOMOrient(image, way), str(tmp_path / f"{way}{ending}.nii.gz"))
        files = [tmp_path / f"{way}_0000.nii.gz"], tmp_path / f"{way}.nii.gz"
        scenes.append(read_scene("a", *files, *a_plan(), "none", [1], orientation="LPS"))
    as_trained, other = scenes
    assert np.allclose(as_trained.image, other.image)
    assert ((as_trained.instances > 0) == (other.instances > 0)).all()
    assert np.allclose(as_trained.to_mm, other.to_mm)
    assert np.allclose(sorted(as_trained.forms.values()), sorted(other.forms.values()))


class TestBatches:
    @pytest.fixture
    def network(self) -> GatedAttention:
        torch.manual_seed(0)
        return GatedAttention(1, (8, 8, 8), 16, 1).eval()

    def test_neither_company_nor_order_changes_an_answer(self, network: GatedAttention) -> None:
        rng = np.random.default_rng(1)
        bags = [drawn_bag(rng, f"p{n}", n) for n in (3, 7, 1, 0)]
        reader = Reader.learn(bags, ["age"])
        with torch.no_grad():
            together = network(reader.batch(bags))
            for row, bag in enumerate(bags):
                alone = network(reader.batch([bag]))
                assert float(alone.logit[0]) == pytest.approx(float(together.logit[row]), abs=1e-5)
                turned = network(reader.batch([bag.take(np.arange(len(bag))[::-1])]))
                assert float(turned.logit[0]) == pytest.approx(float(alone.logit[0]), abs=1e-5)
                flipped = turned.attention[0, : len(bag)].flip(0)
                assert torch.allclose(flipped, alone.attention[0, : len(bag)], atol=1e-5)
        assert together.attention.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 0], abs=1e-5)
        assert not together.attention[~reader.batch(bags).present].any()

    def test_softmax_over_nothing_is_nothing(self) -> None:
        scores = torch.tensor([[1.0, 2.0], [300.0, -300.0]])
        found = masked_softmax(scores, torch.tensor([[False, False], [True, True]]))
        assert found.tolist() == [[0, 0], [1, 0]]

    def test_a_bag_keeps_an_instance_when_it_is_thinned(self) -> None:
        rng = np.random.default_rng(0)
        sizes = {len(thinned(drawn_bag(rng, "p", 3), 0.9, rng)) for _ in range(40)}
        assert sizes <= {1, 2, 3}
        assert 1 in sizes


class TestWhatIsShared:
    def test_bright_nodes_are_found_in_patients_it_has_not_seen(self) -> None:
        head = LNMTrainerABMIL(schedule=Schedule(steps=120)).train(bright_bags(40), ["age"], PLAN)
        others = bright_bags(40, seed=1)
        assert auc([bag.label for bag in others], head.probability(others)).value > 0.95
        positive = [bag for bag in others if bag.label and len(bag) > 1]
        assert np.mean([np.argmax(reading.instance_logits) == 0 for reading in head.read(positive)]) > 0.9

    def test_shuffled_labels_teach_nothing(self) -> None:
        rng = np.random.default_rng(5)
        bags = bright_bags(60)
        shuffled = [replace(bag, label=int(label)) for bag, label in zip(bags, rng.permutation(60) % 2, strict=True)]
        head = LNMTrainerABMIL(schedule=Schedule(steps=60)).train(shuffled, ["age"], PLAN)
        assert head.inner["deviance"] > 0.6  # a coin has 0.693
        others = bright_bags(60, seed=1)
        assert abs(np.mean(head.probability(others)) - 0.5) < 0.15

    def test_calibration_and_threshold_rest_on_who_was_kept_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each training patient's logit is by the one member that did not learn from the patient."""
        seen: list[tuple[set[str], set[str]]] = []
        read, fit = LNMTrainerABMIL.fit_member, LNMTrainerABMIL.fit

        def watch(self: LNMTrainerABMIL, bags: list[Bag], columns: list[str], seed: int) -> object:
            member, more = read(self, bags, columns, seed)

            class Watched(type(member)):  # type: ignore[misc]
                def read(self, asked: list[Bag]) -> object:
                    seen.append(({bag.patient for bag in bags}, {bag.patient for bag in asked}))
                    return super().read(asked)

            return Watched(member.reader, member.settings, member.network), more

        monkeypatch.setattr(LNMTrainerABMIL, "fit_member", watch)
        assert fit is LNMTrainerABMIL.fit
        LNMTrainerABMIL(schedule=SHORT).train(bright_bags(20), ["age"], PLAN)
        assert len(seen) == 5
        assert all(not learned & asked for learned, asked in seen)
        assert set().union(*(asked for _, asked in seen)) == {bag.patient for bag in bright_bags(20)}

    def test_who_is_kept_out_leaves_no_trace(self) -> None:
        bags = bright_bags(12)
        trainer = LNMTrainerABMIL(schedule=SHORT)
        before, _ = trainer.fit_member(bags[:10], ["age"], 0)
        wild = [*bags[:10], replace(bags[10], crops=bags[10].crops * 100, shapes=bags[10].shapes * 100)]
        after, _ = trainer.fit_member(wild[:10], ["age"], 0)
        assert before.reader.to_json() == after.reader.to_json()
        for one, other in zip(before.network.state_dict().values(), after.network.state_dict().values(), strict=True):
            assert torch.equal(one, other)

    def test_forms_are_standardised_by_training_nodes_and_missing_columns_are_neutral(self) -> None:
        bags = bright_bags(10)
        reader = Reader.learn(bags, ["age"])
        stacked = np.concatenate([np.concatenate([bag.shapes, bag.signs], axis=1) for bag in bags])
        assert reader.mean == pytest.approx(stacked.mean(axis=0).tolist(), abs=1e-5)
        batch = reader.batch([replace(bags[0], row={}), replace(bags[0], row={"age": None})])
        assert batch.clinical.tolist() == [[0.0], [0.0]]

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        bags, trainer = bright_bags(10), LNMTrainerABMIL(schedule=SHORT)
        torch.manual_seed(1)
        first, _ = trainer.fit_member(bags, ["age"], 3)
        torch.manual_seed(2)
        second, _ = trainer.fit_member(bags, ["age"], 3)
        assert all(map(torch.equal, first.network.state_dict().values(), second.network.state_dict().values()))

    def test_fitting_draws_every_patient_before_any_comes_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn: list[str] = []
        bags = bright_bags(10)
        reader = Reader.learn(bags, [])
        batch = Reader.batch
        monkeypatch.setattr(Reader, "batch", lambda self, some: drawn.extend(bag.patient for bag in some) or batch(self, some))
        network = LNMTrainerABMIL.build({"channels": 1, "size": [8, 8, 8], "hidden": 8, "clinical": 0})
        fit_network(network, reader, bags, LNMTrainerABMIL().loss, 0, Schedule(steps=5, patients=4))
        assert sorted(drawn[:10]) == sorted(bag.patient for bag in bags)


class TestOnDisk:
    def test_a_head_comes_back_as_it_was(self, tmp_path: Path) -> None:
        head = LNMTrainerABMIL(schedule=SHORT).train(bright_bags(12), ["age"], PLAN)
        replace(head, provenance={"seed": 0}).save(tmp_path)
        back = Head.load(tmp_path)
        others = bright_bags(6, seed=2)
        assert np.array_equal(back.logit(others), head.logit(others))
        assert (back.threshold, back.calibrator, back.crops) == (head.threshold, head.calibrator, head.crops)

    @pytest.mark.parametrize("parts", [1, 2])
    def test_a_kill_while_a_head_is_replaced_leaves_none_rather_than_a_mixed_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
    ) -> None:
        """It comes after the first file with weights."""
        name, networks = LNMTrainerABMIL.name, tuple(tmp_path / f"network_{number}.pth" for number in range(parts))
        head = LNMTrainerABMIL(schedule=SHORT).train(bright_bags(12), ["age"], PLAN)
        model = HeadModel(name, (head,)) if parts == 1 else HeadModel(name, (head,) * parts, networks)
        model.save(tmp_path, {"seed": 0})
        assert len(HeadModel.load(tmp_path).heads) == parts

        def killed(*_: object) -> None:
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr("lnauto.trainers.patient.head.write_json", killed)
            with pytest.raises(SystemExit):
                model.save(tmp_path, {"seed": 1})
        assert not (tmp_path / DESCRIPTION).exists()
        with pytest.raises(InputError):
            HeadModel.load(tmp_path)
        model.save(tmp_path, {"seed": 1})
        assert [part.provenance for part in HeadModel.load(tmp_path).heads] == [{"seed": 1}] * parts

    @pytest.mark.parametrize("spoil", ["description", "weights", "pickle"])
    def test_a_spoilt_head_is_told_in_a_line(self, tmp_path: Path, spoil: str) -> None:
        LNMTrainerABMIL(schedule=SHORT).train(bright_bags(12), ["age"], PLAN).save(tmp_path)
        if spoil == "description":
            (tmp_path / DESCRIPTION).write_text('{"trainer": "LNMTrainerABMIL"}')
        elif spoil == "weights":
            (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:200])
        else:
            torch.save({"payload": Payload(tmp_path / "ran")}, tmp_path / WEIGHTS)
        with pytest.raises(InputError, match="this is no head that can be read"):
            Head.load(tmp_path)
        assert not (tmp_path / "ran").exists()


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)
