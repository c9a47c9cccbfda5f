"""Lines round what is marked in a slice: they hold it, all of it and nothing else, with few corners."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.path import Path as Polygon
from scipy.ndimage import gaussian_filter, label
from skimage.measure import find_contours

from lnauto.nodes import Array
from lnauto.report.outlines import TOLERANCE, Line, outlines


def held(lines: list[Line], shape: tuple[int, int]) -> Array:
    """The voxels whose middle lies inside: in an odd number of closed lines."""
    middles = np.stack(np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5), axis=-1).reshape(-1, 2)
    return np.sum([Polygon(line).contains_points(middles) for line in lines], axis=0).reshape(shape) % 2 == 1


def blobs(side: int = 96) -> Array:
    rough = gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), 3)
    numbers: Array = label(rough > np.quantile(rough, 0.85))[0]
    return numbers


def test_lines_hold_what_is_marked_and_nothing_else() -> None:
    marked = blobs()
    marked[40:44, 0:7] = 99  # at the border
    marked[60:75, 60:75], marked[65:70, 65:70] = 98, 0  # a hole
    found = outlines(marked)
    assert list(found) == [number for number in np.unique(marked) if number]
    for number, lines in found.items():
        assert (held(lines, marked.shape) == (marked == number)).all()
        assert all(line[0] == line[-1] for line in lines)
    assert len(found[98]) == 2


def test_lines_have_few_corners_and_stay_near_the_edge() -> None:
    marked = blobs()
    marked[10:40, 10:50] = 100
    found = outlines(marked)
    (box,) = found[100]
    assert len(box) <= 9
    corners = edges = 0
    for number in found:
        edge, *_ = find_contours(np.pad(marked == number, 1).astype(float), 0.5)
        corners, edges = corners + len(found[number][0]), edges + len(edge)
        ends = np.array(found[number][0])
        for point in edge[:, ::-1] - 0.5:
            assert min(_distance(point, one, other) for one, other in pairwise(ends)) <= TOLERANCE + 1e-6
    assert corners < edges / 2


def _distance(point: Array, start: Array, end: Array) -> float:
    along = end - start
    share = np.clip((point - start) @ along / max(along @ along, 1e-12), 0, 1)
    return float(np.linalg.norm(point - start - share * along))


def test_voxels_that_touch_at_a_corner_have_lines_of_their_own() -> None:
    marked = np.zeros((4, 4), np.int32)
    marked[1, 1] = marked[2, 2] = 5
    assert len(outlines(marked)[5]) == 2


def test_where_nothing_is_marked_there_is_no_line() -> None:
    assert outlines(np.zeros((4, 4), np.int32)) == {}
