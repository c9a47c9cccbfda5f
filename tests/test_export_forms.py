"""A model for those without lnauto: a folder for stock nnU-Net, ONNX, OpenVINO, and what says how to run them."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from building import write_image

from lnauto.inference import onnx_export, openvino_engine
from lnauto.inference.model import load_model
from lnauto.workflow import network_recipe
from lnauto.workflow.export_model import _not_in_stock
from lnauto.workflow.predict import Request as Wanted
from lnauto.workflow.trained import Trained

Command = Callable[..., tuple[int, str, str]]
NAME = "LNTrainer__lnautoPlans__3d_fullres"


@pytest.fixture
def model(beside_scan: Path) -> Path:
    return beside_scan


def exported(command: Command, model: Path, out: str, *flags: Any) -> str:
    code, said, complaint = command("export", model, "-o", out, *flags)
    assert (code, complaint) == (0, "")
    return said


def predicted(command: Command, model: Path | str, out: str, *more: Any) -> np.ndarray:
    flags = ("--device", "cpu", "--precision", "fp32", "--engine", "torch", "--filter", "none", "--region", "none", "--quiet")
    code, _, complaint = command("predict", "-i", "scans", "-o", out, "-m", model, *flags, *more)
    assert code == 0, complaint
    return sitk.GetArrayFromImage(sitk.ReadImage(f"{out}/ball_06.nii.gz"))


def test_stock_nnunet_loads_it_without_lnauto_and_says_the_same(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    exported(command, model, "stock", "--stock")
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, verbose=False)
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lnauto"]:
            patch.setitem(sys.modules, name, None)  # to import it is an error
        predictor.initialize_from_trained_model_folder("stock", use_folds=None)
    assert predictor.trainer_name == "nnUNetTrainer"
    assert predictor.allowed_mirroring_axes == [2]
    assert "lnauto" not in predictor.plans_manager.plans
    tile = torch.randn(1, 1, 16, 16, 16)
    ours = load_model(model)
    for place, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        with torch.inference_mode():
            assert torch.equal(predictor.network.eval()(tile), ours.load_network(place)(tile))
    card = Path("stock/MODEL_CARD.md").read_text()
    assert "- The scan is cropped to the region `lungs`, and tiles of air are left out: stock nnU-Net looks at all of it." in card
    assert "- What is smaller than 30 mm3 is left out: stock nnU-Net leaves it in." in card
    assert "`nnUNetv2_predict_from_modelfolder -i scans -o out -m stock -f 0 1`" in card


def test_the_model_itself_is_not_replaced_by_its_export(random_model: Path, tmp_path: Path, command: Command) -> None:
    """One that was imported or unpacked holds nothing but what an export writes, too."""
    own = tmp_path / "own" / random_model.name
    for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(random_model / name, own / name)
    before = (own / "plans.json").read_bytes()
    code, _, wrong = command("export", own, "-o", tmp_path / "own/../own" / own.name, "--stock", "--overwrite")
    assert (code, "would replace the model" in wrong) == (2, True)
    assert (own / "plans.json").read_bytes() == before


def test_what_stock_nnunet_cannot_build_is_refused(model: Path, command: Command) -> None:
    own = Path(shutil.copytree(model, Path("own") / NAME))
    plans = json.loads((own / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "lnauto.networks.multi_decoder.MultiDecoder"
    (own / "plans.json").write_text(json.dumps(plans))
    code, _, complaint = command("export", own, "-o", "stock", "--stock")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "stock nnU-Net cannot build the network lnauto.networks.multi_decoder.MultiDecoder" in complaint
    assert not [path for path in Path().iterdir() if "stock" in path.name]


@pytest.mark.parametrize("orientation", [None, "LPS"])
def test_whoever_runs_an_export_is_told_how_scans_are_turned(model: Path, orientation: str | None) -> None:
    own = Path("own").resolve()
    shutil.copytree(model, own)
    plans = json.loads((own / "plans.json").read_text())
    plans["lnauto"].setdefault("inference", {})["orientation"] = orientation
    (own / "plans.json").write_text(json.dumps(plans))
    trained = Trained.find(Wanted(model=own), with_heads=False)
    told = network_recipe.recipe(trained, [], [], "any")
    assert told["before"][0]["orientation"] == orientation
    assert ("turned to LPS" in told["before"][0]["axes"]) == (orientation is not None)
    assert ("turn" in [step["step"] for step in told["after"]]) == (orientation is not None)
    assert any("Scans are turned to LPS" in line for line in _not_in_stock(trained)) == (orientation is not None)


@pytest.mark.parametrize(("overlap", "flag"), [(0.25, "`-step_size 0.75`"), (0.5, None)])
def test_whoever_runs_an_export_is_told_how_far_tiles_overlap(model: Path, overlap: float, flag: str | None) -> None:
    shutil.copytree(model, own := Path("own").resolve())
    plans = json.loads((own / "plans.json").read_text())
    plans["lnauto"]["inference"]["overlap"] = overlap
    (own / "plans.json").write_text(json.dumps(plans))
    told = [line for line in _not_in_stock(Trained.find(Wanted(model=own), with_heads=False)) if "-step_size" in line]
    assert len(told) == (flag is not None)
    assert flag is None or flag in told[0]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [({"background": 0, "node": [1]}, ["background", "node"]), ({"background": 0, "node": [1, 2], "met": [2]}, ["node", "met"])],
)
def test_whoever_runs_an_export_is_told_what_its_outputs_are(model: Path, labels: dict[str, Any], classes: list[str]) -> None:
    shutil.copytree(model, own := Path("own").resolve())
    description = json.loads((own / "dataset.json").read_text())
    (own / "dataset.json").write_text(json.dumps({**description, "labels": labels, "regions_class_order": [1, 2]}))
    told = network_recipe.recipe(Trained.find(Wanted(model=own), with_heads=False), [], [], "any")
    assert told["output"]["classes"] == classes
    assert ("written" in told["output"]) == ("background" not in classes)


def check_recipe(folder: Path | str, model: Path, folds: list[str]) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(Path(folder, "network.json").read_text())
    plans = json.loads((model / "plans.json").read_text())
    chosen, known = plans["configurations"]["3d_fullres"], plans["foreground_intensity_properties_per_channel"]["0"]
    assert [network["fold"] for network in recipe["networks"]] == folds
    steps = {step["step"]: step for step in recipe["before"]}
    assert steps["resample"]["spacing_mm"] == chosen["spacing"]
    [channel] = steps["normalise"]["channels"]
    assert (channel["mean"], channel["low"]) == (known["mean"], known["percentile_00_5"])
    assert recipe["before"][1]["to"] == "lungs"
    assert recipe["tiles"]["patch"] == chosen["patch_size"]
    assert recipe["tiles"]["mirroring"]["axes"] == [2]
    assert recipe["output"]["labels"] == {"background": 0, "node": 1}
    after = {step["step"]: step for step in recipe["after"]}
    assert after["filter"]["smallest_node_mm3"] == 30
    for network in recipe["networks"]:
        assert network["sha256"] == hashlib.sha256(Path(folder, network["file"]).read_bytes()).hexdigest()
    return recipe


@pytest.fixture(scope="module")
def converted(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For OpenVINO; read-only."""
    from lnauto.workflow.export_model import Request, export
    from lnauto.workflow.predict import Request as Wanted

    return export(Wanted(model=random_model), tmp_path_factory.mktemp("converted") / "out", Request("openvino"))


def test_openvino_gives_the_networks_logits(model: Path, converted: Path) -> None:
    recipe = check_recipe(converted, model, ["0", "1"])
    tile = torch.randn(1, 1, 32, 16, 16)
    for place, told in enumerate(recipe["networks"]):
        assert told["differs_from_pytorch"] < 1e-4
        with torch.inference_mode():
            expected = load_model(model).load_network(place)(tile)
        found = openvino_engine.compile_network(converted / told["file"], tile.shape, "fp32")(tile)
        assert torch.allclose(found, expected, atol=1e-3, rtol=1e-3)
    assert sorted(path.name for path in (converted / "fold_0").iterdir()) == ["network.bin", "network.xml"]


def test_the_recipe_is_enough(model: Path, converted: Path, command: Command) -> None:
    """Somebody without lnauto follows network.json, on a scan of another spacing, of several tiles, with an empty border."""
    recipe = json.loads((converted / "network.json").read_text())
    scan = np.zeros((44, 40, 38), np.float32)
    scan[3:, :-2, 1:] = np.random.default_rng(0).normal(0, 80, (41, 38, 37))
    shutil.rmtree("scans")
    write_image(Path("scans/ball_06_0000.nii.gz"), scan, (2.0, 1.25, 1.5))
    mask = followed(recipe, converted / recipe["networks"][0]["file"], scan, np.array([2.0, 1.25, 1.5]))
    expected = predicted(command, model, "ours", "-f", 0)
    assert 0.01 < expected.astype(bool).mean() < 0.99
    assert (mask == expected).mean() > 0.999


def followed(recipe: dict[str, Any], network: Path, scan: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    from nnunetv2.preprocessing.resampling import resample_torch
    from scipy.ndimage import gaussian_filter

    before, after = ({step["step"]: step for step in recipe[key]} for key in ("before", "after"))
    order, patch = before["transpose"]["axes"], recipe["tiles"]["patch"]
    image = scan.transpose(order)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(image))
    inside = image[box]
    [how] = before["normalise"]["channels"]
    inside = (inside.clip(how["low"], how["high"]) - how["mean"]) / how["deviation"]
    wanted = np.array(before["resample"]["spacing_mm"])
    shape = [round(side) for side in inside.shape * spacing[order] / wanted]
    resample = getattr(resample_torch, before["resample"]["resampling_fn_data"])
    fine = resample(inside[None], shape, spacing[order], wanted, **before["resample"]["resampling_fn_data_kwargs"])[0]
    room = [max(least - side, 0) for side, least in zip(shape, patch, strict=True)]
    padding = [(more // 2, more - more // 2) for more in room]
    padded = np.pad(fine, padding)
    weight = np.zeros(patch)
    weight[tuple(side // 2 for side in patch)] = 1
    weight = gaussian_filter(weight, [side / 8 for side in patch], mode="constant")
    weight[weight == 0] = weight[weight > 0].min()
    run = openvino_engine.compile_network(network, (1, 1, *patch), "fp32")
    sums = np.zeros((2, *padded.shape))
    total = np.zeros(padded.shape)
    starts = []
    for side, least in zip(padded.shape, patch, strict=True):
        count = int(np.ceil((side - least) / ((1 - recipe["tiles"]["overlap"]) * least))) + 1
        starts.append([round(at) for at in np.linspace(0, side - least, count)])
    for corner in itertools.product(*starts):
        tile = tuple(slice(start, start + side) for start, side in zip(corner, patch, strict=True))
        logits = run(torch.from_numpy(padded[tile][None, None].astype(np.float32))).numpy()[0]
        sums[(slice(None), *tile)] += logits * weight
        total[tile] += weight
    unpadded = tuple(slice(first, first + side) for (first, _), side in zip(padding, shape, strict=True))
    logits = (sums / total)[(slice(None), *unpadded)]
    back = getattr(resample_torch, after["resample"]["resampling_fn_probabilities"])
    logits = back(logits, inside.shape, wanted, spacing[order], **after["resample"]["resampling_fn_probabilities_kwargs"])
    mask = np.zeros(image.shape, int)
    mask[box] = logits.argmax(0)
    return mask.transpose(after["transpose"]["axes"])


def test_onnx_gives_the_networks_logits(model: Path, command: Command) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    said = exported(command, model, "out", "--onnx", "-f", 1)
    assert said.count("\n") == 1  # what PyTorch's exporter has to say is not told
    recipe = check_recipe("out", model, ["1"])
    shape = recipe["input"]["shape"]
    assert shape == [1, 1, *recipe["tiles"]["patch"]]
    tile = torch.randn(shape)
    session = runtime.InferenceSession(str(Path("out", recipe["networks"][0]["file"])))
    [found] = session.run([recipe["output"]["name"]], {recipe["input"]["name"]: tile.numpy()})
    with torch.inference_mode():
        assert np.allclose(found, load_model(model, ["1"]).load_network(0)(tile).numpy(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", ["--onnx", "--openvino"])
def test_an_export_that_says_something_else_is_refused(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx_export, "export_onnx", lambda network, shape, path, names: path.touch())
    monkeypatch.setattr(onnx_export, "run_onnx", lambda path, tile: torch.zeros(1, 2, *tile.shape[2:]))
    monkeypatch.setattr(openvino_engine.OpenVinoNetwork, "__call__", lambda self, tile: torch.zeros(1, 2, *tile.shape[2:]))
    code, _, complaint = command("export", model, "-o", "out", form, "-f", 0)
    assert (code, complaint.count("\n"), "(its logits differ by 100.0 %)" in complaint) == (2, 1, True)
    assert not Path("out").exists()


def test_forms_exclude_each_other(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("export", "model", "-o", "out", "--stock", "--onnx")
    assert stopped.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err
