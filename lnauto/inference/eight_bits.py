"""A converted network in eight bits, which looks at tiles of the first scan it is given before it computes any."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.inference.openvino_engine import OpenVinoNetwork, compile_model, compile_network, precisions, read_network
from lnauto.inference.quantization import Floats, Ranges, quantize, ranges_of
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
            self.compiled = self._compile(_read(self.kept))

    def __call__(self, tile: Tensor) -> Tensor:
        assert self.compiled is not None  # the predictor has shown it tiles
        return self.compiled(tile)

    @property
    def is_ready(self) -> bool:
        return self.compiled is not None

    def get_ready(self, tiles: Sequence[Tensor]) -> None:
        """Look up how loud channels are on all tiles but the last few, on which fp32 and eight bits have to agree."""
        shown = tiles[:-CHECKED] or tiles
        usual = precisions()[-1]
        arrays = [np.ascontiguousarray(tile.numpy()) for tile in shown]
        seen = ranges_of(read_network(self.path, self.shape), arrays, lambda model: compile_model(model, usual))
        found = {name: (low.round(DIGITS), high.round(DIGITS)) for name, (low, high) in seen.items()}
        compiled = self._compile(found)
        self._check(compiled, tiles[-CHECKED:], len(shown))
        try:
            write_json(self.kept, {name: [low.tolist(), high.tolist()] for name, (low, high) in found.items()})
        except OSError as error:
            log.info("How loud this network's channels are is not kept (%s): the next run looks again.", error.strerror)
        self.compiled = compiled

    def _compile(self, ranges: Ranges) -> OpenVinoNetwork:
        model = read_network(self.path, self.shape)
        quantize(model, ranges)
        return OpenVinoNetwork(compile_model(model, precisions()[-1]))

    def _check(self, compiled: OpenVinoNetwork, tiles: Sequence[Tensor], shown: int) -> None:
        plain = compile_network(self.path, self.shape, "fp32")
        (expected, usual_seconds), (got, seconds) = _run(plain, tiles), _run(compiled, tiles)
        apart = float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-12))
        if apart >= LARGEST_DISAGREEMENT:
            what = f"in eight bits this network's logits differ by {100 * apart:.0f} % from fp32's"
            raise InputError.of(what, "--precision int8", "leave the flag out")
        told = "Eight bits: learned from %d tiles; a tile takes %.2f of its time in fp32, logits differ by %.1f %%."
        log.info(told, shown, seconds / usual_seconds, 100 * apart)


def _run(network: OpenVinoNetwork, tiles: Sequence[Tensor]) -> tuple[Floats, float]:
    """Logits of all tiles, and the seconds of the fastest."""
    outputs, seconds = [network(tiles[0]).numpy()], []
    for tile in tiles:
        start = time.perf_counter()
        outputs.append(network(tile).numpy())
        seconds.append(time.perf_counter() - start)
    return np.stack(outputs[1:]), min(seconds)


def _read(path: Path) -> Ranges:
    content = read_json(path, "remove it: it is made anew")
    return {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in content.items()}
