"""Networks in eight bits, for OpenVINO on processors that multiply whole numbers faster than any others.

What a convolution reads is put on 256 steps, its weights on 255. A step is as wide as the loudest channel needs, so each channel
is first divided by a power of its own loudest value, and the weights that read it are multiplied by it: the product stays, the
quiet channels get more steps (as SmoothQuant does for language models; the power is ours). How loud channels are is looked up on
tiles of a scan. The first convolution reads the scan itself and the last one makes the logits: both stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ranges = Mapping[str, tuple[Floats, Floats]]  # by tensor: lowest and highest value of each channel

CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData")
LEVELS, WEIGHT_LEVELS = 256, 255
EVENED = 0.75  # of the difference between loud and quiet channels, on a logarithmic scale; 0 to 1 were tried [ours]
QUIETEST = 1e-3


def ranges_of(model: Any, tiles: Sequence[Floats], compile_model: Callable[[Any], Any]) -> dict[str, tuple[Floats, Floats]]:
    """Lowest and highest value of each channel that convolutions read, each tile's, averaged.

    Args:
        model: OpenVINO's; outputs are added to it.
        compile_model: gives what computes a tile's outputs.
    """
    from openvino import opset13 as op

    read = _outputs_read(model)
    places = op.constant(np.array([0, 2, 3, 4]))
    results = []
    for output in read.values():
        results += [op.result(reduced(output, places, False)) for reduced in (op.reduce_min, op.reduce_max)]
    model.add_results(results)
    compute = compile_model(model)
    outputs = [compute([tile]) for tile in tiles]
    means = [np.mean([output[1 + place] for output in outputs], axis=0) for place in range(len(results))]
    return {name: (means[2 * place], means[2 * place + 1]) for place, name in enumerate(read)}


def channels_read(model: Any) -> dict[str, int]:
    """How many channels each tensor has that convolutions read."""
    return {name: output.get_partial_shape()[1].get_length() for name, output in _outputs_read(model).items()}


def quantize(model: Any, ranges: Ranges) -> None:
    """Put what convolutions compute with on few steps, in place."""
    convolutions = _convolutions(model)
    loud = {name: _loudness(*found) for name, found in ranges.items()}
    steps = {name: (float((low / loud[name]).min()), float((high / loud[name]).max())) for name, (low, high) in ranges.items()}
    for node in convolutions:  # what is put together is read on the same steps
        names = [_name(output) for output in _inputs_of(node)]
        low, high = min(steps[name][0] for name in names), max(steps[name][1] for name in names)
        steps |= dict.fromkeys(names, (low, high))
    for node in convolutions:
        _quantize_weights(node, np.concatenate([loud[_name(output)] for output in _inputs_of(node)]))
    readers: dict[str, tuple[Any, list[Any]]] = {}
    for node in convolutions:
        for output in _inputs_of(node):
            readers.setdefault(_name(output), (output, []))[1].append(_reader(node))
    for name, (output, nodes) in readers.items():
        _quantize_output(output, nodes, loud[name], *steps[name])
    model.validate_nodes_and_infer_types()


def _outputs_read(model: Any) -> dict[str, Any]:
    return {_name(output): output for node in _convolutions(model) for output in _inputs_of(node)}


def _convolutions(model: Any) -> list[Any]:
    """All but the first and the last."""
    return [node for node in model.get_ordered_ops() if node.get_type_name() in CONVOLUTIONS][1:-1]


def _inputs_of(node: Any) -> list[Any]:
    """What a convolution reads; of tensors that are put together, each."""
    read = node.input_value(0)
    return list(read.get_node().input_values()) if read.get_node().get_type_name() == "Concat" else [read]


def _reader(node: Any) -> Any:
    """The node that reads these inputs."""
    read = node.input_value(0).get_node()
    return read if read.get_type_name() == "Concat" else node


def _name(output: Any) -> str:
    return f"{output.get_node().get_friendly_name()}:{output.get_index()}"


def _loudness(low: Floats, high: Floats) -> Floats:
    """What each channel is divided by."""
    largest = np.maximum(np.maximum(high, -low), QUIETEST)
    return (largest**EVENED * largest.max() ** (1 - EVENED)).astype(np.float32)


def _quantize_weights(node: Any, loudness: Floats) -> None:
    from openvino import opset13 as op

    inputs, outputs = (1, 0) if node.get_type_name() == "Convolution" else (0, 1)  # axes
    weights = node.input_value(1).get_node().data.astype(np.float32)
    weights = weights * loudness.reshape([-1 if axis == inputs else 1 for axis in range(weights.ndim)])
    others = tuple(axis for axis in range(weights.ndim) if axis != outputs)
    largest = np.maximum(np.abs(weights).max(axis=others, keepdims=True), 1e-9)
    bounds = [op.constant(bound) for bound in (-largest, largest, -largest, largest)]
    node.input(1).replace_source_output(op.fake_quantize(op.constant(weights), *bounds, WEIGHT_LEVELS).output(0))


def _quantize_output(output: Any, readers: Sequence[Any], loudness: Floats, low: float, high: float) -> None:
    from openvino import opset13 as op

    each = loudness.reshape(1, -1, *[1] * 3)
    bounds = [op.constant(np.asarray(bound, np.float32)) for bound in (low * each, high * each, low, high)]
    names = {reader.get_friendly_name() for reader in readers}
    targets = [target for target in output.get_target_inputs() if target.get_node().get_friendly_name() in names]
    quantized = op.fake_quantize(output, *bounds, LEVELS)
    for target in targets:
        target.replace_source_output(quantized.output(0))
