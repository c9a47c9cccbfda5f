"""Where patches may be centred: a bounded, even sample of each label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lnauto.data.locations import MOST, groups_of, sample_locations


def test_locations_are_of_their_label_bounded_and_spread() -> None:
    seg = np.zeros((1, 40, 60, 60), np.int16)
    seg[0, :, :, 30:] = 2  # ignored
    seg[0, 5:8, 5:8, 5:8] = 1
    seg[0, 0] = -1
    found = sample_locations(seg, [1, [-1, 0, 1], 7], 1234)
    assert sorted(map(tuple, found[1])) == sorted((0, z, y, x) for z in (5, 6, 7) for y in (5, 6, 7) for x in (5, 6, 7))
    known = found[(-1, 0, 1)]
    assert 0.9 * MOST < len(known) <= MOST < (seg < 2).sum()
    assert len(np.unique(known, axis=0)) == len(known)
    assert np.isin(seg[tuple(known.T)], (-1, 0, 1)).all()
    for axis in (1, 2):
        counts, _ = np.histogram(known[:, axis], bins=4)
        assert counts.max() < 1.2 * counts.min()
    assert len(found[7]) == 0
    again = sample_locations(seg, [1, [-1, 0, 1], 7], 1234)
    assert np.array_equal(again[(-1, 0, 1)], known)
    assert not np.array_equal(sample_locations(seg, [[-1, 0, 1]], 1)[(-1, 0, 1)], known)


def test_keys_are_those_that_nnunet_asks_for() -> None:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    seg = np.zeros((1, 8, 8, 8), np.int16)
    seg[0, 2, 2, 2:5] = 1
    labels = [1, [-1, 0, 1, 2]]
    ours, theirs = sample_locations(seg, labels, 0), DefaultPreprocessor._sample_foreground_locations(seg, labels)
    assert ours.keys() == theirs.keys()
    assert sorted(map(tuple, ours[1])) == sorted(map(tuple, theirs[1]))


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ({"background": 0, "node": 1}, None),
        ({"background": 0, "node": 2, "vessel": 1}, None),
        ({"background": 0, "node": [1], "ignore": 2}, None),
        ({"background": 0, "any": [1, 2], "large": 2, "ignore": 3}, [1, 2]),
    ],
)
def test_patches_are_centred_on_the_groups_that_nnunet_takes(labels: dict[str, Any], order: list[int] | None) -> None:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    manager = LabelManager(labels, order)
    theirs = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    if manager.has_ignore_label:
        theirs.append([-1, *manager.all_labels])

    def voxels(groups: Any) -> set[tuple[int, ...]]:
        return {tuple(int(value) for value in np.atleast_1d(group)) for group in groups}

    assert voxels(groups_of(labels)) == voxels(theirs)
