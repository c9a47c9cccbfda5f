"""A network as ONNX, for tiles of one shape. What is needed for it is not installed with lnauto: `pip install 'lnauto[onnx]'`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

NEEDED = ("onnx", "onnxscript")
RUNTIME = "onnxruntime"


def missing() -> list[str]:
    """What would have to be installed."""
    return [package for package in NEEDED if find_spec(package) is None]


def export_onnx(network: nn.Module, shape: Sequence[int], path: Path, names: tuple[str, str]) -> None:
    """Write the network for tiles of `shape` (batch, channels, z, y, x); `names` are those of its input and its output."""
    tile = torch.zeros([int(side) for side in shape])
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it tells of versions of operators
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (tile,),
                str(path),
                dynamo=True,
                verbose=False,
                input_names=[names[0]],
                output_names=[names[1]],
                external_data=False,
            )
    finally:
        exporter.setLevel(level)


def run_onnx(path: Path, tile: Tensor) -> Tensor | None:
    """What the exported network says of a tile; None where there is nothing here to run it."""
    if find_spec(RUNTIME) is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: tile.numpy()})[0])
