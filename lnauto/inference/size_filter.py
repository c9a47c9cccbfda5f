"""Specks out of a mask: what is smaller than any node that was drawn is not one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lnauto.evaluation.labels import LabelScheme
from lnauto.nodes import Array, component_pieces


def drop_specks(mask: Array, spacing: Sequence[float], scheme: LabelScheme, least_mm3: float) -> Array:
    """The mask without the components of its node labels that are smaller than `least_mm3`; other labels stay as they are."""
    if least_mm3 <= 0:
        return mask
    nodes = np.isin(mask, [value for label in scheme.nodes for value in label.values])
    kept = mask.copy()
    for piece in component_pieces(nodes):
        if piece.mask.sum() * float(np.prod(spacing)) < least_mm3:
            kept[piece.box][piece.mask] = 0
    return kept
