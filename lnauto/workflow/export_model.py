"""`lnauto_export`: a trained model as something to give away: one file, a folder for stock nnU-Net, ONNX, or OpenVINO."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.data.region import region_of
from lnauto.data.scans import READS_TURNED, way_to_lie
from lnauto.errors import InputError
from lnauto.files import replacing_folder, resolved, sha256_of, workshop, write_json, writing
from lnauto.locks import locked_beside
from lnauto.planners.prediction import STOCKS_OVERLAP
from lnauto.workflow.archive import CARD, FOLD, SUFFIX, pack
from lnauto.workflow.model_card import write_card
from lnauto.workflow.network_recipe import INPUT, OUTPUT, recipe
from lnauto.workflow.predict import Request as Wanted
from lnauto.workflow.trained import FINAL, Trained

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

STOCK_TRAINER = "nnUNetTrainer"
STOCK_NETWORKS = ("dynamic_network_architectures.", "nnunetv2.")
RECIPE = "network.json"
FARTHEST = 0.01  # from PyTorch's logits that an exported network's may be, as a share of their norm [our choice]
OURS = re.compile(rf"{CARD}|plans.json|dataset.json|{RECIPE}|{FOLD}/(?:{FINAL}|network[.](?:onnx|xml|bin))")


@dataclass(frozen=True)
class Request:
    """What the command line asks."""

    form: str = "file"  # or "stock", "onnx", "openvino"
    with_heads: bool = True
    overwrite: bool = False


def export(wanted: Wanted, output: Path, request: Request) -> Path:
    """Write the model to `output`, whole or not at all; returns where it is."""
    trained = Trained.find(wanted, request.with_heads)
    sources = {resolved(path) for path in (trained.folder, wanted.model) if path is not None}
    if sources & {resolved(path) for path in (output, _with_suffix(output))}:
        raise InputError.of("the export would replace the model that it is made of", output, "give another -o")
    try:
        with locked_beside(output):
            return _export(trained, output, request)
    except OSError as error:
        what = f"the export cannot be written ({error.strerror or error})"
        raise InputError.of(what, output, "make room there, and check that it can be written to") from error


def _export(trained: Trained, output: Path, request: Request) -> Path:
    if request.form == "file":
        return _export_file(trained, output, request.overwrite)
    if not trained.has_network:
        what = "this model is a patient head alone, without a network of images"
        raise InputError.of(what, trained.folder, f"leave --{request.form} out: it can be given away as one file")
    writers = {"stock": _write_stock, "onnx": _write_onnx, "openvino": _write_openvino}
    with _new_folder(output, request.overwrite) as folder:
        writers[request.form](trained, folder, output.name)
    log.info("%s, fold %s, is in %s; %s says what it is.", trained.name, ", ".join(trained.folds), output, CARD)
    return output


def _with_suffix(output: Path) -> Path:
    return output if output.suffix == SUFFIX else output.with_name(output.name + SUFFIX)


def _export_file(trained: Trained, output: Path, overwrite: bool) -> Path:
    path = _with_suffix(output)
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError.of("there is something of this name already", path, "give another -o, or add --overwrite for a file")
    with workshop(path) as folder:
        trained.write(folder)
        how = (
            f"`lnauto_predict --patients TABLE -o out -m {path.name}`"
            if not trained.dataset_json
            else f"`lnauto_predict -i scans -o out -m {path.name}`"
        )
        write_card(trained, path.stem, f"With lnauto: {how}.", folder, folder / CARD)
        pack(folder, trained.name, path)
    log.info("%s, fold %s, is in %s (%.1f MB).", trained.name, ", ".join(trained.folds), path, path.stat().st_size / 1e6)
    return path


@contextmanager
def _new_folder(output: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that becomes `output`; what is there may be an earlier export, or empty."""
    there = [path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()] if output.is_dir() else []
    if output.is_file() or (there and not overwrite):
        raise InputError.of("there is something of this name already", output, "give another -o, or add --overwrite for a folder")
    if foreign := [name for name in there if not OURS.fullmatch(name)]:
        what = f"this folder holds {foreign[0]}, which no export wrote, so it is not replaced"
        raise InputError.of(what, output, "give another folder with -o")
    with replacing_folder(output.resolve()) as folder:
        yield folder


# ---- stock nnU-Net


def _write_stock(trained: Trained, folder: Path, title: str) -> None:
    """A model folder as nnU-Net's own trainer leaves it, as far as prediction reads it."""
    import torch

    from lnauto.networks.permitted import permitted

    name = trained.first["init_args"]["configuration"]
    architecture = permitted(trained.configuration["architecture"])
    network = architecture["network_class_name"]
    if not network.startswith(STOCK_NETWORKS):
        what = f"stock nnU-Net cannot build the network {network}"
        raise InputError.of(what, trained.folder, "give the model away as one file, without --stock")
    plans = {key: value for key, value in trained.plans.items() if key != "lnauto"}
    plans["configurations"] = {**plans["configurations"], name: {**plans["configurations"][name], "architecture": architecture}}
    write_json(folder / "plans.json", plans)
    write_json(folder / "dataset.json", trained.dataset_json)
    for fold in trained.folds:
        content = trained.checkpoint(fold)
        made = {**content["init_args"], "plans": plans}
        (folder / f"fold_{fold}").mkdir()
        with writing(folder / FINAL):
            torch.save({**content, "init_args": made, "trainer_name": STOCK_TRAINER}, folder / f"fold_{fold}" / FINAL)
    how = (
        f"With stock nnU-Net v2: `nnUNetv2_predict_from_modelfolder -i scans -o out -m {title} -f {' '.join(trained.folds)}`. "
        f"Scans are called CASE_0000{trained.dataset_json['file_ending']} and so on."
    )
    write_card(trained, title, how, folder, folder / CARD, _not_in_stock(trained))


def _not_in_stock(trained: Trained) -> list[str]:
    """What lnauto does at prediction and stock nnU-Net does not."""
    region, inference = region_of(trained.plans), trained.plans["lnauto"].get("inference", {})
    lines = ["Nodes are not measured: there are masks, and no `nodes.csv`."]
    if region != "none":
        lines.insert(
            0, f"The scan is cropped to the region `{region}`, and tiles of air are left out: stock nnU-Net looks at all of it."
        )
    if smallest := inference.get("smallest_node_mm3"):
        lines.insert(0, f"What is smaller than {smallest:g} mm3 is left out: stock nnU-Net leaves it in.")
    if (orientation := way_to_lie(trained.plans)) and trained.plans["image_reader_writer"] not in READS_TURNED:
        lines.insert(0, f"Scans are turned to {orientation}, and masks back: stock nnU-Net takes scans as they lie.")
    if inference.get("tta", "full") != "full":
        lines.append(
            f"Mirrored copies: the plan says `{inference['tta']}`; stock nnU-Net averages all, or none (`--disable_tta`)."
        )
    if (overlap := inference.get("overlap", STOCKS_OVERLAP)) != STOCKS_OVERLAP:
        step = f"`-step_size {1 - overlap:g}`"
        lines.append(f"Tiles overlap by {overlap:g} of a patch: so they do in stock nnU-Net with {step}, by half without.")
    if trained.head_folders:
        lines.append("The patient head is not in this export: there are no probabilities of metastasis.")
    return lines


# ---- networks by themselves


def _write_onnx(trained: Trained, folder: Path, title: str) -> None:
    from lnauto.inference import onnx_export

    if absent := onnx_export.missing():
        raise InputError.of(f"ONNX needs {' and '.join(absent)}", "--onnx", "pip install 'lnauto[onnx]'")
    patch = [int(side) for side in trained.configuration["patch_size"]]
    shape: list[int | str] = [1, len(trained.dataset_json["channel_names"]), *patch]
    files = []
    for fold, network in _networks(trained):
        path = folder / f"fold_{fold}" / "network.onnx"
        path.parent.mkdir()
        tile = _noise(shape)
        onnx_export.export_onnx(network, tile.shape, path, (INPUT, OUTPUT))
        files.append(_described(folder, path, fold, _apart(network, tile, onnx_export.run_onnx(path, tile))))
    _finish(trained, folder, title, recipe(trained, files, shape, "fixed: one tile of the patch"), "any runtime of ONNX")


def _write_openvino(trained: Trained, folder: Path, title: str) -> None:
    from lnauto.inference import openvino_engine

    if not openvino_engine.available():
        raise InputError.of("OpenVINO is not installed", "--openvino", "pip install openvino")
    channels, files, multiples = len(trained.dataset_json["channel_names"]), [], [1, 1, 1]
    for fold, network in _networks(trained):
        path = folder / f"fold_{fold}" / "network.xml"
        openvino_engine.convert(network, channels, path)
        multiples = openvino_engine.deepest_strides(network)
        tile = _noise([1, channels, *(2 * side for side in multiples)])
        compiled = openvino_engine.compile_network(path, tile.shape, "fp32")
        files.append(_described(folder, path, fold, _apart(network, tile, compiled(tile))))
    size = f"any multiple of {multiples}, from twice that; the patch is best"
    shape: list[int | str] = [1, channels, *(f"multiple of {side}" for side in multiples)]
    _finish(trained, folder, title, recipe(trained, files, shape, size), "OpenVINO")


def _networks(trained: Trained) -> Iterator[tuple[str, nn.Module]]:
    from lnauto.inference.model import load_model

    for fold in trained.folds:
        yield fold, load_model(trained.folder, [fold]).load_network(0)


def _noise(shape: Any) -> Tensor:
    import torch

    return torch.randn([int(side) for side in shape], generator=torch.Generator().manual_seed(0))


def _apart(network: nn.Module, tile: Tensor, found: Tensor | None) -> float | None:
    """How far the exported network's logits of noise are from PyTorch's; None: nobody could look."""
    import torch

    if found is None:
        return None
    with torch.inference_mode():
        expected = network(tile)
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def _described(folder: Path, path: Path, fold: str, apart: float | None) -> dict[str, Any]:
    if apart is not None and not apart < FARTHEST:
        what = f"the exported network says something else than PyTorch's (its logits differ by {100 * apart:.1f} %)"
        raise InputError.of(what, f"fold {fold}", "give the model away as one file instead")
    return {
        "fold": fold,
        "file": path.relative_to(folder).as_posix(),
        "sha256": sha256_of(path),
        "differs_from_pytorch": apart,
    }


def _finish(trained: Trained, folder: Path, title: str, content: dict[str, Any], runtime: str) -> None:
    write_json(folder / RECIPE, content)
    missing = [
        f"Everything but the network: what comes before and after it, `{RECIPE}` says step by step.",
        *(["The patient head is not in this export."] if trained.head_folders else []),
    ]
    write_card(trained, title, f"With {runtime}, as `{RECIPE}` says.", folder, folder / CARD, missing)
