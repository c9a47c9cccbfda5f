"""The HU threshold that every network has to beat."""

from __future__ import annotations

import numpy as np
import pytest

from lnauto.errors import InputError
from lnauto.workflow import threshold_baseline

SPACING = (2.0, 2.0, 2.0)
BALLS = (
    ((7, 7, 7), 4, 50, 1),
    ((20, 20, 20), 4, 50, 1),
    ((7, 20, 20), 4, 300, 0),
    ((20, 7, 7), 2, 50, 0),
)  # the last two are no nodes


def test_it_finds_what_has_the_hu_and_the_size_of_the_training_nodes() -> None:
    grid = np.stack(np.meshgrid(*(np.arange(28),) * 3, indexing="ij"))
    image, truth = np.random.default_rng(0).normal(-80, 5, (28, 28, 28)), np.zeros((28, 28, 28), np.uint8)
    for centre, radius, level, is_node in BALLS:
        ball = np.linalg.norm(grid - np.array(centre)[:, None, None, None], axis=0) <= radius
        image[ball], truth[ball] = level, is_node
    threshold = threshold_baseline.fit([(image, SPACING, truth)])
    assert threshold.low < 50 < threshold.high < 300
    assert threshold.min_volume_mm3 > 33 * 8  # the small ball's volume
    assert (threshold_baseline.predict(threshold, image, SPACING) == truth).all()


def test_without_a_node_there_is_nothing_to_choose_on() -> None:
    nothing = np.zeros((8, 8, 8))
    with pytest.raises(InputError, match="no case holds a node"):
        threshold_baseline.fit([(nothing, SPACING, nothing)])
    with pytest.raises(InputError, match="there is no case"):
        threshold_baseline.fit([])
