"""What validation may be measured against, and what its figures are then called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lnauto.data.trusted_background import as_drawn
from lnauto.evaluation.labels import LabelScheme
from lnauto.nodes import Array


@dataclass(frozen=True)
class Yardstick:
    """Names of figures, for whoever looks at them."""

    told: str  # after a heading
    dice: str
    found: str
    false: str
    counts_nodes: bool = True


COMPLETE = Yardstick("", "Dice", "nodes found", "false nodes")
PARTIAL = Yardstick(
    ", against what is drawn: what lies where nobody judged counts neither as found nor as false, nor for Dice",
    "Dice where judged",
    "drawn nodes found",
    "false nodes where judged",
)
STROKES = Yardstick(
    ", against strokes: Dice counts them and trusted background only; strokes are not whole nodes, so nodes are not counted",
    "Dice on strokes",
    "",
    "",
    counts_nodes=False,
)


def yardstick_of(plans: Mapping[str, Any], description: Mapping[str, Any]) -> Yardstick:
    """From a plan and the `dataset.json` it is trained with."""
    settings = plans.get("lnauto", {})
    if settings.get("strategy") == "scribble":
        return STROKES
    # An ignore label that is there for pseudo labels alone says nothing of the masks.
    ignored = "ignore" in as_drawn(description)["labels"] or settings.get("trusted_background") is not None
    return PARTIAL if ignored else COMPLETE


def judged(
    drawn: Array, learned: Array, properties: Mapping[str, Any], backward: Sequence[int], scheme: LabelScheme
) -> tuple[Array, LabelScheme]:
    """The label of a case, with what nobody judged as a value of its own, and the scheme that knows this value.

    Args:
        drawn: (z, y, x), the label as it was drawn.
        learned: of the preprocessed case, where it says what nobody judged: true, unless drawn.
        properties: of the preprocessed case.
        backward: the plan's `transpose_backward`.
        scheme: of the labels as drawn.
    """
    unknown = on_image(learned, properties).transpose(backward) & (drawn == (scheme.ignore or 0))
    value = max(int(drawn.max()), *scheme.values(), scheme.ignore or 0) + 1
    truth = np.where(drawn == scheme.ignore, 0, drawn) if scheme.ignore is not None else drawn
    return np.where(unknown, value, truth), replace(scheme, ignore=value)


def on_image(mask: Array, properties: Mapping[str, Any]) -> Array:
    """A preprocessed mask on the grid of its image, by the nearest voxel; what was cropped away is not in it."""
    cropped = properties["shape_after_cropping_and_before_resampling"]
    nearest = [((np.arange(side) + 0.5) * have / side).astype(int) for side, have in zip(cropped, mask.shape, strict=True)]
    whole = np.zeros(properties["shape_before_cropping"], bool)
    whole[tuple(slice(start, stop) for start, stop in properties["bbox_used_for_cropping"])] = mask[np.ix_(*nearest)]
    return whole
