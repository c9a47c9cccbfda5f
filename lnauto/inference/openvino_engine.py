"""Networks on a CPU by OpenVINO: converted once, kept beside the checkpoint, and used where they agree and are faster.

Conversion traces the network on the smallest image it takes, so that it costs a second or two, and goes straight to OpenVINO's
own reader: its usual entrance reports each use to its makers.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lnauto.files import replacing, sha256_of, write_text
from lnauto.networks import machine_cache
from lnauto.networks.compute import LARGEST_DISAGREEMENT, Compute, probe_shape

log = logging.getLogger(__name__)

FOLDER, CACHE = "openvino", "openvino"
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
REPEATS = 3
WORTH_IT = 1.1  # times faster than PyTorch


class OpenVinoNetwork:
    """Stands for a network: a tile in, logits out."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def __call__(self, tile: Tensor) -> Tensor:
        return torch.from_numpy(np.array(self.compiled([np.ascontiguousarray(tile.numpy())])[0]))

    def rest(self) -> None:
        """Give back what memory tiles took; the next one takes it again."""
        self.compiled.release_memory()


def available() -> bool:
    return find_spec("openvino") is not None


def converted_path(checkpoint: Path, sha256: str) -> Path:
    """Where the converted network of a checkpoint lies; another checkpoint of the same name has another one."""
    return checkpoint.parent / FOLDER / f"{sha256[:16]}.xml"


def keep_converted(network: nn.Module, channels: int, path: Path) -> None:
    """Convert the network for this run and later ones, and remove what an older checkpoint left. Two runs may do so at once: both
    write the same."""
    convert(network, channels, path)
    write_text(_sums_path(path), _sums(path))
    for other in path.parent.iterdir():
        if not other.name.startswith((path.stem, ".")):  # a dot: another run is writing it
            other.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether a converted network is there as it was written: OpenVINO does not look, and would compute with damaged weights."""
    try:
        return _sums_path(path).read_text(encoding="utf-8") == _sums(path)
    except (OSError, ValueError):
        return False


def _sums_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _sums(path: Path) -> str:
    """In the form of `sha256sum`."""
    return "".join(f"{sha256_of(part)}  {part.name}\n" for part in (path.with_suffix(".bin"), path))


def convert(network: nn.Module, channels: int, path: Path) -> None:
    """Write the network in OpenVINO's format."""
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    smallest = torch.zeros(1, channels, *[2 * side for side in deepest_strides(network)])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shapes are traced is what is wanted
        traced = torch.jit.trace(network, smallest, check_trace=False)
        decoder = TorchScriptPythonDecoder(traced, example_input=smallest)
    reader = FrontEndManager().load_by_framework("pytorch")
    model = reader.convert(reader.load(decoder))
    with replacing(path) as described, replacing(path.with_suffix(".bin")) as weights:
        ov.serialize(model, described, weights)


def deepest_strides(network: nn.Module) -> list[int]:
    """By what factor the network makes an image smaller along each axis."""
    strides = [module.stride for module in network.modules() if isinstance(module, nn.Conv3d)]
    return [max(2 ** sum(int(stride[axis]) > 1 for stride in strides), 1) for axis in range(3)]


def compile_network(path: Path, shape: Sequence[int], precision: str) -> OpenVinoNetwork:
    """A converted network for tiles of one shape (batch, channels, z, y, x), on as many threads as PyTorch has."""
    return OpenVinoNetwork(compile_model(read_network(path, shape), precision))


def read_network(path: Path, shape: Sequence[int]) -> Any:
    """OpenVINO's model of a converted network, for tiles of one shape."""
    import openvino as ov

    model = _core().read_model(path)
    model.reshape({model.inputs[0]: ov.PartialShape([int(side) for side in shape])})
    return model


def compile_model(model: Any, precision: str) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    return _core().compile_model(model, "CPU", settings)


def checked(path: Path, facts: Mapping[str, Any], shape: Sequence[int], precision: str, faster: bool) -> str | None:
    """What `check` found before for this network and machine; None, too, if it was never asked."""
    found = machine_cache.read(CACHE).get(_key(path, facts, shape, precision, faster))
    return found.get("precision") if isinstance(found, dict) else None


def check(
    network: nn.Module,
    compute: Compute,
    shape: Sequence[int],
    path: Path,
    facts: Mapping[str, Any],
    precision: str,
    faster: bool,
) -> str | None:
    """The fastest of OpenVINO's precisions that agree with PyTorch, or None; remembered for this network and machine.

    Args:
        network: prepared by `compute`, which is how PyTorch would run it.
        shape: of a tile: batch, channels, z, y, x.
        facts: of the model: where these are others, the network may not fit.
        precision: "auto", or the only one to look at.
        faster: whether it has to be faster than PyTorch.
    """
    key = _key(path, facts, shape, precision, faster)
    known = machine_cache.read(CACHE)
    if not isinstance(known.get(key), dict):
        candidates = precisions() if precision == "auto" else [precision]
        best, told = _check(network, compute, shape, path, candidates, faster)
        log.info("Checked OpenVINO once, against PyTorch (%s): %s.", compute.told, told)
        known[key] = {"precision": best}
        machine_cache.write(CACHE, known)
    found: str | None = known[key]["precision"]
    return found


def _key(path: Path, facts: Mapping[str, Any], shape: Sequence[int], precision: str, faster: bool) -> str:
    return machine_cache.key_of(
        path.name, facts, [int(side) for side in shape], precision, faster, _version(), torch.get_num_threads()
    )


def _check(
    network: nn.Module, compute: Compute, shape: Sequence[int], path: Path, precisions: list[str], faster: bool
) -> tuple[str | None, str]:
    shape = (*shape[:2], *probe_shape(network, list(shape[2:])))
    image = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    torch_seconds, expected = _timed(lambda: run_torch(network, compute, image))
    best, best_seconds, told = None, torch_seconds / WORTH_IT if faster else float("inf"), []
    for precision in precisions:
        compiled = compile_network(path, shape, precision)
        seconds, got = _timed(lambda compiled=compiled: compiled(image))  # type: ignore[misc]
        apart = float((got - expected).norm() / expected.norm().clamp_min(1e-12))
        told.append(f"{precision} takes {seconds / torch_seconds:.2f} of the time, logits differ by {100 * apart:.2f} %")
        if apart < LARGEST_DISAGREEMENT and seconds < best_seconds:
            best, best_seconds = precision, seconds
    told.append(f"{best} is used" if best else "PyTorch is used")
    return best, "; ".join(told)


def run_torch(network: nn.Module, compute: Compute, image: Tensor) -> Tensor:
    with torch.inference_mode(), compute.autocast():
        output: Tensor = network(compute.place(image)).float()
    return output


def _timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        output = run()
        best = min(best, time.perf_counter() - start)
    return best, output


@cache
def _core() -> Any:
    """OpenVINO, once for the whole process and to its end.

    Each of its CPU plugins gives the thread another stack for signals, and puts the former one back when it goes. Of two that
    go in the order in which they came, the second puts back what the first has freed, and the next signal ends the process.
    """
    import openvino as ov

    return ov.Core()


def precisions() -> list[str]:
    """fp32, and bf16 where this processor has it."""
    able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["fp32", "bf16"] if "BF16" in able else ["fp32"]


def _version() -> str:
    import openvino as ov

    return str(ov.__version__)
