"""Two labellers: how far they agree, which cases that keeps, and what is learned from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lnauto.trainers.agreement import agreement, keep_best, pseudo_labels

EVERYWHERE = np.ones(6, bool)


def test_agreement_is_dice_where_nothing_is_known() -> None:
    first, second = np.array([1, 1, 1, 0, 0, 0]), np.array([0, 1, 1, 1, 0, 1])
    assert agreement(first, second, EVERYWHERE) == pytest.approx(2 * 2 / (3 + 4))
    unknown = np.array([0, 1, 1, 0, 0, 1], bool)
    assert agreement(first, second, unknown) == pytest.approx(2 * 2 / (2 + 3))


def test_another_label_is_no_agreement() -> None:
    assert agreement(np.array([1, 2, 0]), np.array([1, 1, 0]), np.ones(3, bool)) == pytest.approx(2 * 1 / (2 + 2))


def test_of_two_empty_masks_there_is_no_agreement() -> None:
    assert math.isnan(agreement(np.zeros(6), np.zeros(6), EVERYWHERE))
    assert math.isnan(agreement(np.ones(6), np.ones(6), np.zeros(6, bool)))
    assert agreement(np.ones(6), np.zeros(6), EVERYWHERE) == 0


@pytest.mark.parametrize("cases", [1, 2, 4, 5, 9, 10, 11, 100])
def test_of_n_cases_int_of_the_share_is_kept(cases: int) -> None:
    agreements = {f"case_{number:03d}": (number * 37 % 101) / 101 for number in range(cases)}
    kept = keep_best(agreements)
    left = {*agreements} - {*kept}
    assert len(kept) == cases * 4 // 5
    assert all(agreements[one] > agreements[other] for one in kept for other in left)


def test_of_equals_the_first_by_name_is_kept_whatever_the_order() -> None:
    names = ["d", "a", "e", "c", "b"]
    assert keep_best(dict.fromkeys(names, 0.5), 0.6) == ["a", "b", "c"]
    assert keep_best(dict.fromkeys(reversed(names), 0.5), 0.6) == ["a", "b", "c"]


@pytest.mark.parametrize("place", range(5))
def test_a_case_without_agreement_is_never_kept_nor_spoils_the_order(place: int) -> None:
    names = ["a", "b", "c", "d"]
    items = [(name, score) for name, score in zip(names, [0.1, 0.9, 0.4, 0.7], strict=True)]
    items.insert(place, ("nan", math.nan))
    assert keep_best(dict(items)) == ["b", "d", "c", "a"]
    assert keep_best({"a": math.nan, "b": 0.0, "c": math.nan, "d": math.nan, "e": math.nan}) == ["b"]


def test_the_cases_that_were_spoiled_are_the_ones_left_out() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.arange(20),) * 3, indexing="ij"))
    spoiled = {"case_03", "case_08"}
    agreements = {}
    for number in range(10):
        name = f"case_{number:02d}"
        centre = rng.uniform(6, 14, 3)
        first = np.linalg.norm(grid - centre[:, None, None, None], axis=0) < 4
        second = np.linalg.norm(grid - centre[:, None, None, None], axis=0) < 4.5
        if name in spoiled:
            second = np.roll(second, 5, axis=number % 3)
        agreements[name] = agreement(first, second, np.ones(first.shape, bool))
    assert {*agreements} - {*keep_best(agreements)} == spoiled


def test_what_is_drawn_stays_and_what_both_say_is_filled_in() -> None:
    ignore = 3
    label = np.array([1, 0, -1, 3, 3, 3, 3, 3], np.int16)
    first = np.array([0, 1, 1, 1, 0, 1, 0, 2])
    second = np.array([0, 1, 1, 1, 0, 0, 1, 1])
    filled = pseudo_labels(label, first, second, ignore)
    assert filled.tolist() == [1, 0, -1, 1, 0, 3, 3, 3]
    assert filled.dtype == label.dtype
    assert label.tolist() == [1, 0, -1, 3, 3, 3, 3, 3]
