"""Which way a patient lies in an array."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np


def upright(direction: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The array's axes in the order of the patient's z, y and x (LPS), and which of these then run the other way."""
    cosines = np.asarray(direction).reshape(3, 3)[::-1, ::-1]  # patient's axes z, y, x by the array's
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[at, axis]) for at, axis in enumerate(axes)))
    return order, tuple(at for at, axis in enumerate(order) if cosines[at, axis] < 0)
