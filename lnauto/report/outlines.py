"""Lines round what is marked in a slice, with no more corners than they need."""

from __future__ import annotations

import numpy as np
from contourpy import contour_generator
from scipy.ndimage import find_objects

from lnauto.nodes import Array

TOLERANCE = 0.3  # voxels by which a line may differ from the mask's edge

Line = list[tuple[float, float]]


def outlines(marked: Array) -> dict[int, list[Line]]:
    """Of each number but 0 the closed lines round it, as (x, y) in voxels from the slice's corner."""
    found = {}
    for number, box in enumerate(find_objects(marked), start=1):
        if box is not None:
            down, across = (side.start for side in box)
            found[number] = [[(x + across, y + down) for x, y in line] for line in _round(marked[box] == number)]
    return found


def _round(mask: Array) -> list[Line]:
    padded = np.pad(mask.astype(np.float32), 1)  # so that lines close at the border
    lines = contour_generator(z=padded).lines(0.5)
    return [_with_few_corners([(x - 0.5, y - 0.5) for x, y in np.asarray(line).tolist()]) for line in lines]


def _with_few_corners(line: Line) -> Line:
    """By Douglas and Peucker: a corner stays if without it the line would leave its old way by more than the tolerance.

    Lines have some tens of corners, for which plain numbers are twenty times as fast as arrays.
    """
    kept, left = {0, len(line) - 1}, [(0, len(line) - 1)]
    while left:
        first, last = left.pop()
        (x, y), (x_end, y_end) = line[first], line[last]
        along, up = x_end - x, y_end - y
        squared = along * along + up * up
        most, farthest = TOLERANCE * TOLERANCE, 0
        for at in range(first + 1, last):
            right, down = line[at][0] - x, line[at][1] - y
            if squared:
                share = min(max((right * along + down * up) / squared, 0.0), 1.0)
                right, down = right - share * along, down - share * up
            apart = right * right + down * down
            if apart > most:
                most, farthest = apart, at
        if farthest:
            kept.add(farthest)
            left += [(first, farthest), (farthest, last)]
    return [line[at] for at in sorted(kept)]
