"""What a trained network sees of each node of a case: feature vectors for a patient head.

The network has to be one that was not trained on the patient, or the head learns from features of a network that knows the
answer. Vectors of two networks do not mix: each has learned a basis of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import nn

from lnauto.errors import InputError
from lnauto.networks.compute import Compute
from lnauto.networks.mask_gate import MaskGate, NodeOutputs
from lnauto.nodes import Array

AT_ONCE = 2  # patches


def component_numbers(instances: Array) -> list[int]:
    """The components there are, in the order of their features."""
    return [number for number, box in enumerate(find_objects(instances.astype(np.int32)), start=1) if box is not None]


@torch.inference_mode()
def component_features(
    network: nn.Module,
    nodes: NodeOutputs,
    image: Array,
    instances: Array,
    patch: Sequence[int],
    compute: Compute,
    stages: Sequence[str] | None = None,
    at_once: int = AT_ONCE,
) -> dict[str, NDArray[np.float32]]:
    """Of each stage (None: of every one) a row for each component, by ascending number; see `component_numbers`.

    Args:
        network: a U-Net of nnU-Net's, prepared by `compute`, as a `Predictor` holds it.
        image: a preprocessed case (channels, z, y, x).
        instances: on the same grid (z, y, x), 0 or a component's number.
        patch: the plan's patch size.

    One patch is looked at per component, with the component in its middle. As the predictor's tiles do, it lies inside the image,
    so it is moved where the component is near the border; an image smaller than the patch is padded with 0.
    """
    if image.ndim != 4 or len(patch) != 3 or image.shape[1:] != instances.shape:
        raise InputError.of(
            f"an image of shape {image.shape}, components of {instances.shape} and a patch of {tuple(patch)} do not go together",
            "the features of components",
            "give a three-dimensional case on one grid",
        )
    gate = MaskGate(network, nodes)
    wanted = list(gate.channels) if stages is None else list(stages)
    image, instances = padded(image, patch), padded(instances[None], patch)[0]
    places = _patches_round(instances, patch)
    every_channel = (slice(None),)
    found: dict[str, list[torch.Tensor]] = {stage: [torch.zeros(0, gate.channels[stage])] for stage in wanted}
    with _as_deployed(gate):
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            patches = np.stack([image[every_channel + place] for _, place in some]).astype(np.float32)
            inside = np.stack([instances[place][None] == number for number, place in some]).astype(np.float32)
            with compute.autocast():
                components = torch.from_numpy(inside).to(compute.device)
                vectors = gate.features(compute.place(torch.from_numpy(patches)), components, wanted)
            for stage in wanted:
                found[stage].append(vectors[stage][:, 0].float().cpu())
    return {stage: torch.cat(rows).numpy() for stage, rows in found.items()}


@contextmanager
def _as_deployed(gate: MaskGate) -> Iterator[None]:
    """In evaluation, without deep supervision; then as it was."""
    trained, supervised = gate.network.training, gate.decoder.deep_supervision
    gate.network.eval()
    gate.decoder.deep_supervision = False
    try:
        yield
    finally:
        gate.network.train(trained)
        gate.decoder.deep_supervision = supervised


def padded(array: Array, patch: Sequence[int]) -> Array:
    """Channels x z x y x x with 0 on both sides, as the predictor pads what is smaller than a patch."""
    missing = [0, *(max(side - size, 0) for side, size in zip(patch, array.shape[1:], strict=True))]
    return np.pad(array, [(lack // 2, lack - lack // 2) for lack in missing]) if any(missing) else array


def _patches_round(instances: Array, patch: Sequence[int]) -> list[tuple[int, tuple[slice, ...]]]:
    """Of each component its number and the patch round its middle, moved inside the image."""
    found = []
    for number, box in enumerate(find_objects(instances.astype(np.int32)), start=1):
        if box is None:
            continue
        middle = np.argwhere(instances[box] == number).mean(axis=0) + [side.start for side in box]
        sides = zip(middle, patch, instances.shape, strict=True)
        starts = [min(max(round(float(at) - (side - 1) / 2), 0), size - side) for at, side, size in sides]
        found.append((number, tuple(slice(start, start + side) for start, side in zip(starts, patch, strict=True))))
    return found
