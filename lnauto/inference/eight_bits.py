"""A converted network in eight bits, which looks at tiles of the first scan it is given before it computes any."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from lnauto.errors import InputError
from lnauto.files import ANY, NUMBER, read_json, write_json
from lnauto.inference.openvino_engine import OpenVinoNetwork, compile_model, compile_network, precisions, read_network
from lnauto.inference.quantization import Floats, Ranges, channels_read, quantize, ranges_of
from lnauto.networks.compute import LARGEST_DISAGREEMENT

log = logging.getLogger(__name__)

TILES, CHECKED = 8, 2  # that are looked at; that are computed in fp32, too [our choice]
DIGITS = 4  # of what is kept: the run that looks computes as those do that read it


class EightBitNetwork:
    """Stands for a network. What it learns of a scan is kept beside the converted network, so every scan is computed alike."""

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        self.path, self.shape = path, shape
        self.kept = path.with_name(f"{path.stem}_int8.json")
        self.compiled: OpenVinoNetwork | None = None
        if self.kept.is_file():
            self.compiled = self._compile(self._read())

    def __call__(self, tile: Tensor) -> Tensor:
        assert self.compiled is not None  # the predictor has shown it tiles
        return self.compiled(tile)

    def rest(self) -> None:
        if self.compiled is not None:
            self.compiled.rest()

    @property
    def is_ready(self) -> bool:
        return self.compiled is not None

    def get_ready(self, tiles: Sequence[Tensor]) -> None:
        """Look up how loud channels are on all tiles but the last few, on which fp32 and eight bits have to agree."""
        shown, checked = tiles[:-CHECKED] or tiles, tiles[-CHECKED:]
        arrays = [np.ascontiguousarray(tile.numpy()) for tile in shown]
        seen = ranges_of(read_network(self.path, self.shape), arrays, lambda model: compile_model(model, precisions()[-1]))
        found = {name: (low.round(DIGITS), high.round(DIGITS)) for name, (low, high) in seen.items()}
        expected, usual_seconds = _run(compile_network(self.path, self.shape, "fp32"), checked)  # gone before the other comes
        compiled = self._compile(found)
        got, seconds = _run(compiled, checked)
        apart = float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-12))
        if not apart < LARGEST_DISAGREEMENT:  # also what is no number
            what = f"in eight bits this network's logits differ by {100 * apart:.0f} % from fp32's"
            raise InputError.of(what, "--precision int8", "leave the flag out")
        told = "Eight bits: learned from %d tiles; a tile takes %.2f of its time in fp32, logits differ by %.1f %%."
        log.info(told, len(shown), seconds / usual_seconds, 100 * apart)
        self._keep(found)
        self.compiled = compiled

    def _compile(self, ranges: Ranges) -> OpenVinoNetwork:
        model = read_network(self.path, self.shape)
        quantize(model, ranges)
        return OpenVinoNetwork(compile_model(model, precisions()[-1]))

    def _keep(self, ranges: Ranges) -> None:
        try:
            write_json(self.kept, {name: [low.tolist(), high.tolist()] for name, (low, high) in ranges.items()})
        except OSError as error:
            log.info("How loud this network's channels are is not kept (%s): the next run looks again.", error.strerror)

    def _read(self) -> Ranges:
        remedy = "remove the file: it is made anew"
        content = read_json(self.kept, remedy, {ANY: [[NUMBER]]})
        expected = {name: [channels] * 2 for name, channels in channels_read(read_network(self.path, self.shape)).items()}
        if {name: [len(values) for values in bounds] for name, bounds in content.items()} != expected:
            raise InputError.of("this does not belong to the network beside it", self.kept, remedy)
        return {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in content.items()}


def _run(network: OpenVinoNetwork, tiles: Sequence[Tensor]) -> tuple[Floats, float]:
    """Logits of all tiles, and the seconds of the fastest."""
    network(tiles[0])  # the first run gets memory
    outputs, seconds = [], []
    for tile in tiles:
        start = time.perf_counter()
        outputs.append(network(tile).numpy())
        seconds.append(time.perf_counter() - start)
    return np.stack(outputs), min(seconds)
