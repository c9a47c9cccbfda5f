"""Is there anything to learn from? Asked of the preprocessed labels, which may have changed since they were planned for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnauto.errors import InputError


def check_drawn(folder: Path, cases: Sequence[str], description: Mapping[str, Any], fold: str) -> None:
    """Refuse a fold whose training cases show no node, or, where voxels are ignored, nothing that is none.

    Cases are read until one shows both, which as a rule is the first.
    """
    from lnauto.compat.storage import nnUNetDatasetBlosc2

    ignore = description["labels"].get("ignore")
    dataset = nnUNetDatasetBlosc2(str(folder), list(cases))
    node, background, judged = False, ignore is None, ignore is None
    for name in cases:
        values = np.asarray(dataset.load_case(name)[1][:])
        background |= bool((values == 0).any())
        node |= bool(((values > 0) & (values != ignore)).any())
        judged |= node or background
        if node and background:
            return
    where = f"the training cases of fold {fold}"
    if not judged:
        raise InputError.of('every voxel carries "ignore"', where, "draw nodes and background in some of them")
    if not node:
        raise InputError.of("no node is drawn", where, "draw nodes in some of them, or train another fold")
    raise InputError.of(
        "no voxel is drawn as background, so nothing says what is no node", where, "draw background (value 0) in some of them"
    )
