"""What is done to a patch in pre-training: each change does what it says and nothing else, and its target stays clean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lnauto.trainers import genesis
from lnauto.trainers.genesis import Patch, corrupted, flipped, painted_inside, painted_outside, recoloured, shuffled

Change = Callable[[Patch, np.random.Generator], Patch]
SHAPE = (2, 24, 40, 44)


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Patch:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def spread(shape: tuple[int, ...] = SHAPE) -> Patch:
    """Every voxel has a value of its own, which says where it came from."""
    return np.stack([np.arange(np.prod(shape[1:]), dtype=np.float32).reshape(shape[1:])] * shape[0])


@pytest.mark.parametrize("change", [flipped, shuffled, recoloured, painted_inside, painted_outside])
def test_the_same_numbers_change_a_patch_in_the_same_way_and_leave_the_original_alone(change: Change) -> None:
    patch = noise()
    before = patch.copy()
    first, again = (change(patch, np.random.default_rng(3)) for _ in range(2))
    others = [change(patch, np.random.default_rng(seed)) for seed in range(4, 12)]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(patch, before)
    assert first.dtype == np.float32
    assert any(not np.array_equal(first, other) for other in others)


def test_a_flip_is_a_flip_along_any_axis_and_often_none() -> None:
    patch = spread((1, 3, 4, 5))
    possible = {np.flip(patch, axis=[axis + 1 for axis in range(3) if code >> axis & 1]).tobytes(): code for code in range(8)}
    seen = [possible[flipped(patch, np.random.default_rng(seed)).tobytes()] for seed in range(400)]
    assert set(seen) == set(range(8)) - {7} | ({7} & set(seen))  # along all three axes is rare
    assert 0.55 < seen.count(0) / 400 < 0.75  # .6, and what is flipped back


def test_a_shuffle_moves_voxels_within_little_blocks_and_loses_none_from_its_block() -> None:
    patch = spread()
    changed = shuffled(patch, np.random.default_rng(0))
    np.testing.assert_array_equal(changed[0], changed[1])  # all channels alike
    moved = changed[0] != patch[0]
    assert 0.08 < moved.mean() < genesis.SHUFFLED_SHARE
    here = np.stack(np.nonzero(moved))
    there = np.stack(np.unravel_index(changed[0][moved].astype(int), SHAPE[1:]))
    assert np.abs(here - there).max(axis=1).tolist() == [1, 1, 1]  # a block's side is 2 at most: 24 / 20, 40 / 20, 44 / 20


def test_blocks_grow_with_the_patch_but_the_shuffled_share_does_not() -> None:
    large = spread((1, 32, 80, 128))
    moved = shuffled(large, np.random.default_rng(0))[0] != large[0]
    here = np.stack(np.nonzero(moved))
    there = np.stack(np.unravel_index(shuffled(large, np.random.default_rng(0))[0][moved].astype(int), large.shape[1:]))
    assert np.abs(here - there).max(axis=1).tolist() == [1, 3, 5]
    assert 0.1 < moved.mean() < genesis.SHUFFLED_SHARE


def test_every_place_of_a_block_is_as_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genesis, "SHUFFLED_SHARE", 1.0)
    monkeypatch.setattr(genesis, "SHUFFLE_PART", 4)
    patch = spread((1, 8, 8, 8))
    first = np.stack([shuffled(patch, np.random.default_rng(seed))[0] for seed in range(300)])
    share = (first != patch).mean(axis=0)
    assert share.min() > 0.05  # corners, too
    assert sorted(set(np.unique(first)) - set(np.unique(patch))) == []


def test_a_curve_keeps_order_or_turns_it_round_and_stays_within_the_range() -> None:
    patch = noise((1, 12, 16, 16))
    low, high = np.percentile(patch, genesis.PERCENTILES)
    order = np.argsort(patch.ravel())
    directions = []
    for seed in range(40):
        changed = recoloured(patch, np.random.default_rng(seed))
        steps = np.diff(changed.ravel()[order])
        rising = steps.sum() > 0
        assert (steps >= 0).all() if rising else (steps <= 0).all()
        assert low - 1e-4 <= changed.min()
        assert changed.max() <= high + 1e-4
        assert not np.allclose(changed, np.clip(patch, low, high), atol=0.01)
        directions.append(bool(rising))
    assert 10 < sum(directions) < 30


def test_every_channel_has_a_curve_of_its_own_range() -> None:
    patch = noise((2, 12, 16, 16)) * np.float32([1, 100])[:, None, None, None]
    changed = recoloured(patch, np.random.default_rng(1))
    assert changed[0].std() < 5 < 20 < changed[1].std()


def test_painting_inside_leaves_all_but_a_few_boxes() -> None:
    patch = noise()
    changed = painted_inside(patch, np.random.default_rng(0)) != patch
    np.testing.assert_array_equal(changed[0], changed[1])
    least, most = (np.prod([side // part for side in SHAPE[1:]]) for part in genesis.INSIDE_PARTS)
    assert least < changed[0].sum() <= 5 * most
    assert np.ptp(np.nonzero(changed[0])[0]) < 23  # it does not reach everywhere


def test_painting_outside_keeps_boxes_as_they_are() -> None:
    patch = noise((1, 32, 32, 32))
    kept = painted_outside(patch, np.random.default_rng(0)) == patch
    assert 0.4 < kept.mean() < 0.9
    inside = kept[0, 8:24, 8:24, 8:24]
    assert inside.mean() > kept.mean()  # fewer boxes reach the border


def test_paint_is_noise_of_the_channels_own_range() -> None:
    patch = noise((2, 32, 32, 32)) * np.float32([1, 100])[:, None, None, None]
    changed = painted_outside(patch, np.random.default_rng(0))
    for channel, original in zip(changed, patch, strict=True):
        paint = channel[channel != original]
        low, high = np.percentile(original, genesis.PERCENTILES)
        assert low <= paint.min()
        assert paint.max() <= high
        assert paint.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.05)


def test_the_target_is_the_clean_patch_flipped_as_what_the_network_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    patch = spread((1, 6, 7, 8))
    clean = {np.flip(patch, axis=[a + 1 for a in range(3) if code >> a & 1]).tobytes() for code in range(8)}
    for seed in range(30):
        seen, target = corrupted(patch, np.random.default_rng(seed))
        assert target.tobytes() in clean
    monkeypatch.setattr(genesis, "SHUFFLE", 0.0)
    monkeypatch.setattr(genesis, "CURVE", 0.0)
    monkeypatch.setattr(genesis, "PAINT", 0.0)
    for seed in range(10):
        seen, target = corrupted(patch, np.random.default_rng(seed))
        np.testing.assert_array_equal(seen, target)


def test_changes_are_as_frequent_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def note(name: str) -> Change:
        return lambda patch, rng: (calls.append(name), patch)[1]

    for name in ("shuffled", "recoloured", "painted_inside", "painted_outside"):
        monkeypatch.setattr(genesis, name, note(name))
    patch = noise((1, 2, 2, 2))
    for seed in range(1000):
        corrupted(patch, np.random.default_rng(seed))
    expected = {"shuffled": 500, "recoloured": 900, "painted_inside": 180, "painted_outside": 720}
    for name, times in expected.items():
        assert abs(calls.count(name) - times) < 60


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 2, 3, 5), (3, 8, 8, 8)])
def test_a_patch_of_nothing_or_of_few_voxels_stays_finite(shape: tuple[int, ...]) -> None:
    for patch in (np.zeros(shape, np.float32), noise(shape)):
        for seed in range(20):
            assert np.isfinite(corrupted(patch, np.random.default_rng(seed))[0]).all()
