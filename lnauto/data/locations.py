"""Where patches may be centred: a bounded sample of each label's voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lnauto.data.description import as_list, has_regions
from lnauto.nodes import Array

MOST = 10_000  # per label; nnU-Net takes 1 % of the voxels where that is more, which is gigabytes where everything is labelled
Label = int | tuple[int, ...]


def groups_of(labels: Mapping[str, int | Sequence[int]]) -> list[Label]:
    """Of a data set's labels those that patches are centred on, as nnU-Net groups them: each foreground label, or each region;
    and where some voxels are to be ignored, all that are not."""
    drawn = {name: as_list(value) for name, value in labels.items() if name != "ignore"}
    every = sorted({value for values in drawn.values() for value in values})
    if has_regions(labels):
        groups: list[Label] = [tuple(values) for values in drawn.values() if set(values) != {0}]
    else:
        groups = [value for value in every if value != 0]
    return [*groups, (-1, *every)] if "ignore" in labels else groups


def sample_locations(seg: Array, labels: Sequence[int | Sequence[int]], seed: int) -> dict[Label, Array]:
    """For each label, or group of labels, up to `MOST` rows (channel, z, y, x), drawn evenly from its voxels.

    Memory is bounded, too: one slice is looked at at a time.
    """
    rng = np.random.default_rng(seed)
    found: dict[Label, Array] = {}
    for label in labels:
        values = [int(label)] if np.isscalar(label) else [int(value) for value in label]  # type: ignore[arg-type,union-attr]
        counts = np.array([np.isin(plane, values).sum() for plane in seg[0]])
        ends = np.cumsum(counts)
        total = int(ends[-1])
        ranks = np.arange(total) if total <= MOST else np.unique(rng.integers(0, total, MOST))
        rows = [np.empty((0, 4), np.int64)]
        for z in np.flatnonzero(counts):
            first = ends[z] - counts[z]
            own = ranks[np.searchsorted(ranks, first) : np.searchsorted(ranks, ends[z])] - first
            y, x = np.unravel_index(np.flatnonzero(np.isin(seg[0, z], values))[own], seg.shape[2:])
            rows.append(np.stack([np.zeros_like(y), np.full_like(y, z), y, x], axis=1))
        found[values[0] if np.isscalar(label) else tuple(values)] = np.concatenate(rows)
    return found
