"""What gpu.py measures of tiles: where a prediction's time goes, and ways to compute a tile on a card."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import prediction
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from lnauto.files import write_json

TILES = 20
Run = Callable[[Tensor], Tensor]


def keep(options: argparse.Namespace, part: str, found: dict[str, Any]) -> None:
    write_json(options.folder / "figures" / f"{part}.json", found)


def model_and_scan(options: argparse.Namespace) -> tuple[Path, Path]:
    root = options.folder / "predict"
    root.mkdir(exist_ok=True)
    scan = prediction.write_scan(root, options.scan, 48 if options.small else 0)
    return prediction.stock_sized(root, scan), next(scan.iterdir())


def shares(options: argparse.Namespace) -> None:
    """Seconds of each step, the second of two runs in one process."""
    from nnunetv2.inference.export_prediction import export_prediction_from_logits
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from lnauto.inference.predictor import Predictor

    model, file = model_and_scan(options)
    device = torch.device(options.device)
    stock = nnUNetPredictor(use_mirroring=False, device=device, allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(model), (0,))
    ours = Predictor.from_folder(model, [0], options.device, tta="none", size_filter=False, crop=False, engine="torch")
    found: dict[str, Any] = {}
    for _ in range(2):
        watch = Stopwatch(device)
        reader = stock.configuration_manager.preprocessor_class()
        managers = stock.plans_manager, stock.configuration_manager, stock.dataset_json
        data, _, properties = reader.run_case([str(file)], None, *managers)
        watch.lap("stock: read and resample")
        logits = stock.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
        watch.lap("stock: tiles")
        place = str(options.folder / "stock_mask")
        export_prediction_from_logits(logits, properties, managers[1], managers[0], managers[2], place)
        watch.lap("stock: back and write")
        image = sitk.ReadImage(str(file))
        prepared = ours.prepare([image], "scan")
        watch.lap("lnauto: read and resample")
        kept = ours.infer(prepared)
        watch.lap("lnauto: tiles")
        mask, _ = ours.finish(kept, prepared)
        sitk.WriteImage(mask, str(options.folder / "lnauto_mask.nii.gz"), True)
        watch.lap("lnauto: back and write")
        found = {"seconds": watch.laps, "tiles": ours.count_tiles(prepared.data.shape[1:])}
        keep(options, "shares", found)


class Stopwatch:
    """Laps that end when the card has done what it was told."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.laps, self.started = device, dict[str, float](), time.perf_counter()

    def lap(self, name: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.laps[name], self.started = now - self.started, now


# ---- tiles


def tiles(options: argparse.Namespace) -> None:
    from lnauto.inference.model import load_model

    model, file = model_and_scan(options)
    device = torch.device(options.device)
    tile = prediction.middle_of(file.parent).to(device)

    def fresh() -> nn.Module:
        return load_model(model).load_network(0).to(device).eval()

    with torch.inference_mode():
        expected = fresh()(tile).float()
    found: dict[str, Any] = {}
    for name, (size, make) in WAYS.items():
        image = tile.repeat(size, 1, 1, 1, 1)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        torch.backends.cudnn.benchmark = name != "fp16, cuDNN as it is"
        try:
            with torch.inference_mode(), FORMS[name.split(",")[0]](device.type):
                began = time.perf_counter()
                run = make(fresh(), image)
                answer = run(image).float()
                synchronise(device)
                ready = time.perf_counter() - began
                seconds = statistics.median(timed(run, image, device) for _ in range(3 if options.small else TILES))
            apart = float((answer[:1] - expected).norm() / expected.norm())
            taken = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
            found[name] = {"ms": 1000 * seconds / size, "ready_s": ready, "apart": apart, "card_gb": taken}
        except Exception as error:  # a way that cannot be gone is a finding
            found[name] = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        keep(options, "tiles", found)
        print(name, found[name], flush=True)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(run: Run, image: Tensor, device: torch.device) -> float:
    started = time.perf_counter()
    run(image)
    synchronise(device)
    return time.perf_counter() - started


def eager(network: nn.Module, image: Tensor) -> Run:
    return network


def half(network: nn.Module, image: Tensor) -> Run:
    network = network.half()
    return lambda image: network(image.half())


def channels_last(network: nn.Module, image: Tensor) -> Run:
    network = network.to(memory_format=torch.channels_last_3d)
    return lambda image: network(image.contiguous(memory_format=torch.channels_last_3d))


def half_last(network: nn.Module, image: Tensor) -> Run:
    run = channels_last(network.half(), image)
    return lambda image: run(image.half())


def own_norms(network: nn.Module, image: Tensor) -> Run:
    from lnauto.networks.channels_last import use_channels_last

    network = use_channels_last(network)
    return lambda image: network(image.contiguous(memory_format=torch.channels_last_3d))


def compiled(network: nn.Module, image: Tensor) -> Run:
    return torch.compile(network)  # type: ignore[return-value]


def compiled_last(network: nn.Module, image: Tensor) -> Run:
    return compiled(network.to(memory_format=torch.channels_last_3d), image)


def graph(network: Run, image: Tensor) -> Run:
    still, side = image.clone(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is looked for and made once must not be captured
        for _ in range(3):
            network(still)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        answer = network(still)

    def run(image: Tensor) -> Tensor:
        still.copy_(image)
        captured.replay()
        return answer

    return run


def amp(dtype: torch.dtype) -> Callable[[str], AbstractContextManager[Any]]:
    # The cache of cast weights would be captured with a graph and freed behind its back.
    return lambda device: torch.autocast(device, dtype if device == "cuda" else torch.bfloat16, cache_enabled=False)


FORMS: dict[str, Callable[[str], AbstractContextManager[Any]]] = {
    "fp32": lambda _: nullcontext(),
    "half": lambda _: nullcontext(),
    "bf16": amp(torch.bfloat16),
    "fp16": amp(torch.float16),
}
WAYS: dict[str, tuple[int, Callable[[nn.Module, Tensor], Run]]] = {
    "fp16, cuDNN as it is": (1, eager),
    "fp16": (1, eager),
    "fp16, 2 tiles": (2, eager),
    "fp16, 4 tiles": (4, eager),
    "fp16, graph": (1, graph),
    "fp16, channels last": (1, channels_last),
    "fp16, channels last, own norms": (1, own_norms),
    "bf16": (1, eager),
    "fp32": (1, eager),
    "half": (1, half),
    "half, graph": (1, lambda network, image: graph(half(network, image), image)),
    "half, 4 tiles": (4, half),
    "half, channels last": (1, half_last),
    "fp16, compiled": (1, compiled),
    "fp16, compiled, channels last": (1, compiled_last),
}
