"""The spacing follows the nodes where they are small, the images where these are coarse, and the time where it is short."""

from __future__ import annotations

import numpy as np
import pytest

from lnauto.planners.spacing import target_spacing

CHEST = [[2.5, 0.8, 0.8], [3.0, 0.8, 0.8], [5.0, 0.9, 0.9]]
SHAPES = [[300, 512, 512]] * 3


@pytest.mark.parametrize(
    ("short_axis", "hurried", "expected", "said"),
    [
        (14.0, False, [3.0, 0.8, 0.8], "the median of the images, which give 4 voxels across"),
        (10.4, False, [2.6, 0.8, 0.8], "finer than the median of the images, for 4 voxels across"),
        (4.0, False, [2.6, 0.8, 0.8], "as far as the images are that fine"),
        (14.0, True, [3.0, 0.8, 0.8], "the median of the images"),
        (10.4, True, [3.0, 0.8, 0.8], "the median of the images"),
        (3.0, True, [3.0, 0.8, 0.8], "the median of the images"),
        (None, True, [3.0, 0.8, 0.8], "no node sizes"),
    ],
)
def test_spacing_follows_nodes_images_and_time(short_axis: float | None, hurried: bool, expected: list[float], said: str) -> None:
    spacing, reason = target_spacing(CHEST, SHAPES, short_axis, hurried)
    np.testing.assert_allclose(spacing, expected, rtol=1e-3)
    assert said in reason
