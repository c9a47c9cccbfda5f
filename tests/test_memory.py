"""How much memory a prediction takes, told before it is taken."""

from __future__ import annotations

import argparse
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from stock_models import stock_plans

from lnauto.commands.predict import _gigabytes
from lnauto.compat.plans import PlansManager
from lnauto.data.prepare import prepare
from lnauto.data.resample import resampled_shape
from lnauto.errors import InputError
from lnauto.inference import memory
from lnauto.inference import predictor as predictor_module
from lnauto.inference.export import Exporter
from lnauto.inference.memory import MemoryLimit, Need, bytes_of
from lnauto.workflow.node_table import NodeTable

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("text", "gigabytes"), [("6GB", 6.0), ("6", 6.0), ("0.5 gb", 0.5), ("800MB", 0.8), ("800m", 0.8), ("2.5G", 2.5)]
)
def test_sizes_are_read(text: str, gigabytes: float) -> None:
    assert _gigabytes(text) == pytest.approx(gigabytes)


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0GB", "6TB", "GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size such as 6GB"):
        _gigabytes(text)


@pytest.mark.parametrize("kind", [sitk.sitkInt16, sitk.sitkFloat64, sitk.sitkUInt8])
def test_the_bytes_of_a_scan_are_told_from_its_header(kind: int, tmp_path: Path) -> None:
    image = sitk.Image(7, 8, 9, kind)
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    assert bytes_of(tmp_path / "scan.nii.gz") == sitk.GetArrayFromImage(image).nbytes
    (tmp_path / "none.nii.gz").write_bytes(b"no image")
    assert bytes_of(tmp_path / "none.nii.gz") == 0


def configured(order: int, function: str = "resample_data_or_seg_to_shape") -> tuple[Any, Any]:
    content = stock_plans(residual=False)
    chosen = content["configurations"]["3d_fullres"]
    kwargs = {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}
    if function == "resample_torch_fornnunet":
        kwargs = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
    chosen |= {"resampling_fn_data": function, "resampling_fn_data_kwargs": kwargs, "spacing": [1.0, 1.0, 1.0]}
    plans = PlansManager(content)
    return plans, plans.get_configuration("3d_fullres")


@pytest.mark.parametrize(
    "spacing", [(1.2, 0.8, 0.8), (5.0, 0.8, 0.8), (1.0, 1.0, 1.0)], ids=["coarser", "thick slices", "as it is"]
)
@pytest.mark.parametrize(
    ("order", "function"),
    [(1, "resample_data_or_seg_to_shape"), (3, "resample_data_or_seg_to_shape"), (1, "resample_torch_fornnunet")],
)
def test_preparing_takes_what_was_told_or_a_little_less(order: int, function: str, spacing: tuple[float, ...]) -> None:
    plans, configuration = configured(order, function)
    image = np.random.default_rng(0).integers(-1000, 1000, (1, 60, 96, 96)).astype(np.int16)
    direction = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    properties = {"spacing": list(spacing), "sitk_stuff": {"direction": direction}}
    told: list[float] = []

    def check(inside: Any, resampled: Any) -> None:
        told.append(Need.of(image.shape[1:], inside, resampled, spacing, configuration, 1, 2, 1, False).preparing)

    prepare(image, dict(properties), plans.plans, configuration.configuration, "none")  # what is made once, and stays
    tracemalloc.start()
    prepare(image, properties, plans.plans, configuration.configuration, "none", check)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.4 * told[0] < taken < told[0]


@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (0.8, 0.8, 0.8)], ids=["thick slices", "coarser"])
@pytest.mark.parametrize("with_probability", [False, True])
def test_exporting_regions_takes_what_was_told_or_a_little_less(
    spacing: tuple[float, ...], with_probability: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnU-Net brings the logits of every region to the image's spacing: of a large scan several GB that were not told."""
    monkeypatch.setattr(memory, "PIECE_BYTES", 0)
    plans, configuration = configured(1)
    labels = {"background": 0, "all": [1, 2, 3], "some": [2, 3], "node": [3]}
    manager = plans.get_label_manager({"labels": labels, "regions_class_order": [1, 2, 3]})
    shape = (30, 96, 96)
    coarse = resampled_shape(shape, spacing, configuration.spacing)
    logits = np.random.default_rng(0).normal(size=(3, *coarse)).astype(np.float32)
    properties = {
        "spacing": list(spacing),
        "shape_before_cropping": shape,
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[0, side] for side in shape],
    }
    need = Need.of(shape, shape, coarse, spacing, configuration, 1, 3, 3, with_probability)
    told = need.exporting - 4 * np.prod(coarse) - logits.nbytes  # without image and logits, which are there already
    exporter = Exporter(plans, configuration, manager)
    exporter.export(torch.from_numpy(logits), dict(properties), with_probability)  # what is made once, and stays
    tracemalloc.start()
    exporter.export(torch.from_numpy(logits), properties, with_probability)
    taken = tracemalloc.get_traced_memory()[1]  # but for PyTorch's
    tracemalloc.stop()
    assert 0.35 * told < taken < told


def test_each_step_grows_with_what_it_holds() -> None:
    skimage = "resample_data_or_seg_to_shape"

    def need(
        scan: int = 100,
        resampled: int = 80,
        kept: int = 1,
        with_probability: bool = False,
        name: str = "resample_torch_fornnunet",
    ) -> Need:
        sizes = ((scan,) * 3, (scan,) * 3, (resampled,) * 3)
        return Need.of(*sizes, (1.0, 1.0, 1.0), configured(1, name)[1], 1, 3, kept, with_probability)

    plain = need()
    assert plain.most == max(plain.preparing, plain.predicting, plain.exporting)
    assert need(300, 240, name=skimage).preparing - need(300, 240).preparing > 4 * 300**3
    assert need(kept=2).predicting - plain.predicting == 4 * 80**3
    assert need(resampled=160).predicting - plain.predicting > 12 * (160**3 - 80**3)
    assert need(with_probability=True).exporting - plain.exporting == 4 * 4 * 100**3
    assert need(scan=200).exporting > plain.exporting


def test_a_network_that_does_not_say_how_wide_it_is_is_taken_for_a_usual_one() -> None:
    def need(arguments: dict[str, Any]) -> float:
        _, configuration = configured(1)
        configuration.configuration["architecture"]["arch_kwargs"] = arguments
        sizes = ((10,) * 3, (10,) * 3, (10,) * 3)
        return Need.of(*sizes, (1.0, 1.0, 1.0), configuration, 1, 2, 1, False).predicting

    assert need({}) == need({"features_per_stage": [32, 64]}) == need({"features_per_stage": 32})
    assert need({"features_per_stage": [64, 64]}) > need({})


@pytest.mark.parametrize("empty", [False, True], ids=["a border of 0", "nothing but 0"])
def test_an_image_is_cropped_to_what_is_not_0_as_nnu_net_does(empty: bool) -> None:
    plans, configuration = configured(1)
    image = np.zeros((1, 20, 24, 28), np.int16)
    if not empty:
        image[0, 3:17, 5:6, 2:20] = 7
        image[0, 4, 5:20, 6] = -3
    properties = {"spacing": [1.0, 1.0, 1.0], "sitk_stuff": {"direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}}
    prepared = prepare(image.copy(), properties, plans.plans, configuration.configuration, "none")
    expected = [[0, 20], [0, 24], [0, 28]] if empty else [list(sides) for sides in crop_to_nonzero(image, None)[2]]
    assert [list(sides) for sides in properties["bbox_used_for_cropping"]] == expected
    assert prepared.shape[1:] == tuple(stop - start for start, stop in expected)


def test_a_limit_counts_what_is_taken_already() -> None:
    taken = psutil.Process().memory_info().rss
    limit = MemoryLimit((taken + 1e9) / 1e9)
    limit.check(0.8e9, "one")
    with pytest.raises(InputError, match=r"the case takes up to .* GB and --max-memory allows .* GB, in one; give --max-memory"):
        limit.check(1.2e9, "one")


def test_without_a_limit_the_machine_s_memory_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    MemoryLimit().check(1e6, "one")
    with pytest.raises(InputError, match=r"this machine has .* GB left, in one; close other programs"):
        MemoryLimit().check(1e15, "one")


def test_what_does_not_fit_is_refused_before_the_network_runs_and_the_others_go_on(
    random_model: Path, prepared: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz"
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(scan, scans / "small_0000.nii.gz")
    image = sitk.ReadImage(str(scan))
    large = sitk.GetImageFromArray(np.tile(sitk.GetArrayFromImage(image), (1, 1, 2)))
    large.SetSpacing(image.GetSpacing())
    sitk.WriteImage(large, str(scans / "large_0000.nii.gz"))
    needs: list[float] = []
    ran: list[int] = []
    of, predict_logits = Need.of, predictor_module.predict_logits

    def recorded(*arguments: Any) -> Need:
        need = of(*arguments)
        needs.append(need.most)
        return need

    def counted(*arguments: Any) -> torch.Tensor:
        ran.append(1)
        return predict_logits(*arguments)

    monkeypatch.setattr(Need, "of", recorded)
    monkeypatch.setattr(predictor_module, "predict_logits", counted)
    monkeypatch.setattr("lnauto.workflow.predict.measure_masks", lambda *_: NodeTable())  # of thousands of specks
    taken = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=1e9))
    monkeypatch.setattr(memory, "psutil", SimpleNamespace(Process=lambda: taken))
    flags = ("-m", random_model, "--device", "cpu", "--quiet", "--engine", "torch", "--region", "none", "--tta", "none")
    assert command("predict", "-i", scans, "-o", tmp_path / "all", *flags)[0] == 0
    assert len(ran) == len(needs) == 2
    smaller, larger = sorted(needs)
    allowed = f"{(1e9 + (smaller + larger) / 2) / 1e9:.6f}GB"
    code, _, complaint = command("predict", "-i", scans, "-o", tmp_path / "out", *flags, "--max-memory", allowed)
    assert code == 3
    assert "--max-memory allows" in complaint
    assert "in large; give --max-memory" in complaint
    assert (tmp_path / "out/small.nii.gz").is_file()
    assert not (tmp_path / "out/large.nii.gz").exists()
    assert len(ran) == 3
    assert len(json.loads((tmp_path / "out/run.json").read_text())["failed"]) == 1
    smaller_still = f"{(1e9 + 1e4) / 1e9:.6f}GB"
    code, _, complaint = command("predict", "-i", scans, "-o", tmp_path / "none", *flags, "--max-memory", smaller_still)
    assert code == 3
    assert len(ran) == 3
