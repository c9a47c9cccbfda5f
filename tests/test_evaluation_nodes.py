"""When a node is found: hand-made cases with their counts stated."""

import math

import numpy as np
import pytest

from lnauto.evaluation.matching import MIN_OVERLAP, SIZE_CLASSES, NodeCounts, assign, match_nodes, total, without_small

MM = (1.0, 1.0, 1.0)


def boxes(*corners, shape=(12, 24, 32), numbered=False):
    """A mask of boxes, each (z, y, x, depth, height, width); on request each with its own number."""
    mask = np.zeros(shape, np.uint8)
    for number, (z, y, x, depth, height, width) in enumerate(corners, start=1):
        mask[z : z + depth, y : y + height, x : x + width] = number if numbered else 1
    return mask


def counts(true, predicted, **options):
    found = match_nodes(true, predicted, MM, **options).counts
    return found.true, found.found, found.false


class TestFound:
    def test_one_found_one_missed_one_false(self):
        """Two true nodes; the prediction covers the first and invents one elsewhere: TP 1, FN 1, FP 1."""
        true = boxes((2, 2, 2, 4, 4, 4), (2, 15, 2, 4, 4, 4))
        predicted = boxes((2, 2, 3, 4, 4, 4), (2, 2, 20, 4, 4, 4))
        matching = match_nodes(true, predicted, MM)
        assert (matching.counts.true, matching.counts.found, matching.counts.false) == (2, 1, 1)
        assert (matching.counts.recall, matching.counts.precision, matching.counts.f1) == (0.5, 0.5, 0.5)
        assert matching.matches[0].overlap == pytest.approx(0.75)

    @pytest.mark.parametrize(("width", "found"), [(3, 1), (2, 0)])
    def test_three_tenths_of_the_true_node_are_enough(self, width, found):
        """A node 10 wide, a prediction that holds 3 or 2 slabs of it and nothing else."""
        true, predicted = boxes((2, 2, 2, 4, 4, 10)), boxes((2, 2, 2, 4, 4, width))
        assert counts(true, predicted) == (1, found, 1 - found)

    def test_an_unmatched_prediction_counts_as_false(self):
        """A prediction with too little of a node is no hit, and a false one besides: TP 0, FN 1, FP 1."""
        matching = match_nodes(boxes((2, 2, 2, 4, 4, 10)), boxes((2, 2, 10, 4, 4, 10)), MM)
        assert (matching.counts.true, matching.counts.found, matching.counts.false) == (1, 0, 1)
        assert matching.counts.precision == 0.0
        assert [node.number for node in matching.false] == [1]

    def test_intersection_over_the_true_node_not_over_the_union(self):
        """A prediction eight times as large as the node it covers finds it; its intersection over union is 0.125."""
        assert counts(boxes((4, 8, 8, 4, 4, 4)), boxes((2, 6, 6, 8, 8, 8))) == (1, 1, 0)

    def test_one_prediction_finds_one_node(self):
        """A component over three nodes finds one of them: TP 1, FN 2, FP 0."""
        true = boxes((2, 2, 2, 4, 4, 4), (2, 2, 8, 4, 4, 4), (2, 2, 14, 4, 4, 4))
        assert counts(true, boxes((2, 2, 2, 4, 4, 16))) == (3, 1, 0)

    def test_one_node_is_found_by_one_prediction(self):
        """A node predicted in two pieces, each with more than 0.3 of it: TP 1, FN 0, FP 1."""
        true = boxes((2, 2, 2, 4, 4, 10))
        matching = match_nodes(true, boxes((2, 2, 2, 4, 4, 4), (2, 2, 7, 4, 4, 5)), MM)
        assert (matching.counts.true, matching.counts.found, matching.counts.false) == (1, 1, 1)
        assert matching.matches[0].overlap == pytest.approx(0.5)

    def test_pairs_share_most_together(self):
        """Prediction p shares 6 slabs with a, 5 with b; q shares 4 with a. Greedy a-p leaves b out; a-q with b-p is right."""
        true = boxes((0, 0, 0, 4, 4, 12), (0, 0, 13, 4, 4, 10), numbered=True)
        predicted = np.zeros_like(true)
        predicted[:4, :4, 6:12] = predicted[:4, :4, 13:18] = 1
        predicted[:4, :4, :4] = 2
        assert {(match.true, match.predicted) for match in assign(true, predicted)} == {(1, 2), (2, 1)}

    def test_a_grazed_large_node_does_not_take_the_prediction_of_a_small_one(self):
        """The prediction covers the small node (64 voxels) and 100 of the large one's 800."""
        true = boxes((0, 0, 0, 4, 4, 4), (0, 0, 6, 10, 8, 10))
        predicted = boxes((0, 0, 0, 4, 4, 6), (0, 0, 6, 5, 5, 4))
        matching = match_nodes(true, predicted, MM)
        assert matching.counts.found == 1
        small = min(matching.true, key=lambda node: node.volume_mm3)
        assert matching.matches[0].true == small.number

    @pytest.mark.parametrize("seed", range(8))
    def test_pairs_as_by_trying_all(self, seed):
        """The shared volume of the pairs is the largest of all one-to-one assignments."""
        from itertools import permutations

        random = np.random.default_rng(seed)
        true, predicted = random.integers(0, 5, (2, 6, 6, 6))
        sizes = [np.count_nonzero(true == number) for number in range(5)]
        shared = np.array([[np.count_nonzero((true == a) & (predicted == b)) for b in range(1, 5)] for a in range(1, 5)])
        least = 0.22
        shared[shared < least * np.array(sizes[1:])[:, None]] = 0
        best = max(sum(shared[row, column] for row, column in enumerate(order)) for order in permutations(range(4)))
        matches = assign(true, predicted, least)
        assert sum(round(match.overlap * sizes[match.true]) for match in matches) == best
        assert len({match.true for match in matches}) == len({match.predicted for match in matches}) == len(matches)


class TestComponents:
    def test_true_nodes_that_meet_at_a_corner_are_one(self):
        true = boxes((0, 0, 0, 4, 4, 4), (4, 4, 4, 4, 4, 4))
        assert counts(true, true) == (1, 1, 0)

    def test_predictions_that_meet_at_a_corner_are_one(self):
        """Both true nodes are one voxel apart; the predictions, a little larger, meet at a corner: TP 1, FN 1, FP 0."""
        true = boxes((0, 0, 0, 4, 4, 4), (6, 6, 6, 4, 4, 4))
        predicted = boxes((0, 0, 0, 5, 5, 5), (5, 5, 5, 5, 5, 5))
        assert counts(true, predicted) == (2, 1, 0)

    def test_instances_on_both_sides_part_touching_nodes(self):
        corners = (0, 0, 0, 4, 4, 4), (0, 0, 4, 4, 4, 4)
        mask, numbers = boxes(*corners), boxes(*corners, numbered=True)
        assert counts(mask, mask) == (1, 1, 0)
        assert counts(mask, mask, true_instances=numbers) == (1, 1, 0)
        assert counts(mask, mask, predicted_instances=numbers) == (1, 1, 0)
        assert counts(mask, mask, true_instances=numbers, predicted_instances=numbers) == (2, 2, 0)

    def test_nodes_keep_their_instance_numbers(self):
        mask = boxes((0, 0, 0, 4, 4, 4))
        matching = match_nodes(mask, mask, MM, true_instances=mask * 9, predicted_instances=mask * 30)
        assert matching.by_instances
        assert (matching.matches[0].true, matching.matches[0].predicted) == (9, 30)


class TestSmall:
    @pytest.mark.parametrize(("voxels", "false"), [(14, 0), (15, 1)])
    def test_predictions_under_15_mm3_are_dropped(self, voxels, false):
        true, predicted = boxes((2, 2, 2, 4, 4, 4)), boxes((2, 2, 2, 4, 4, 4), (2, 10, 2, 1, 1, voxels))
        matching = match_nodes(true, predicted, MM)
        assert (matching.counts.false, matching.dropped) == (false, 1 - false)

    def test_the_limit_is_in_mm3(self):
        predicted = boxes((2, 10, 2, 1, 1, 4))
        assert match_nodes(predicted * 0, predicted, (5.0, 0.8, 0.8)).dropped == 1  # 12.8 mm3
        assert match_nodes(predicted * 0, predicted, (5.0, 0.9, 0.9)).dropped == 0  # 16.2 mm3

    def test_exactly_the_limit_stays(self):
        """150 voxels of 0.1 mm3, where 15 / 0.1 is not exactly 150 in every way of dividing."""
        instances = boxes((0, 0, 0, 1, 10, 15))
        for spacing in ((0.1, 1.0, 1.0), (1.0, 0.1, 1.0), (0.5, 0.5, 0.4)):
            assert match_nodes(instances * 0, instances, spacing).dropped == 0

    def test_small_true_nodes_count(self):
        """A true node of 8 mm3 counts; its prediction of 8 mm3 does not, unless so stated."""
        small = boxes((2, 2, 2, 2, 2, 2))
        assert counts(small, small) == (1, 0, 0)
        assert counts(small, small, min_volume_mm3=0.0) == (1, 1, 0)

    def test_without_small_leaves_its_input_alone(self):
        instances = boxes((0, 0, 0, 1, 1, 2), (4, 4, 4, 3, 3, 3), numbered=True)
        before = instances.copy()
        kept, dropped = without_small(instances, 10)
        assert (set(np.unique(kept)), dropped) == ({0, 2}, 1)
        assert np.array_equal(instances, before)


class TestCounts:
    def test_empty_cases(self):
        empty, full = boxes(), boxes((2, 2, 2, 4, 4, 4))
        none = match_nodes(empty, empty, MM).counts
        assert math.isnan(none.recall)
        assert math.isnan(none.precision)
        assert math.isnan(none.f1)
        missed = match_nodes(full, empty, MM).counts
        assert (missed.recall, missed.f1) == (0.0, 0.0)
        assert math.isnan(missed.precision)
        invented = match_nodes(empty, full, MM).counts
        assert (invented.precision, invented.f1) == (0.0, 0.0)
        assert math.isnan(invented.recall)

    def test_pooled_is_not_the_mean(self):
        together = total([NodeCounts(true=1, found=1, false=0), NodeCounts(true=9, found=3, false=2)])
        assert together == NodeCounts(10, 4, 2)
        assert together.recall == pytest.approx(0.4)
        assert together.precision == pytest.approx(4 / 6)
        assert together.f1 == pytest.approx(8 / 16)

    def test_by_size_of_the_true_node(self):
        """True short axes 6 (found), 12 (missed), 16 (found by a piece of 6); false components of 5 and of 12."""
        true = boxes((0, 0, 0, 4, 6, 8), (0, 10, 0, 4, 12, 13), (0, 24, 0, 4, 16, 17), shape=(12, 44, 48))
        predicted = boxes(
            (0, 0, 0, 4, 6, 8), (0, 24, 0, 4, 6, 17), (0, 0, 25, 4, 5, 8), (0, 10, 25, 4, 12, 13), shape=(12, 44, 48)
        )
        matching = match_nodes(true, predicted, MM)
        # the extent at right angles to a box's diagonal is more than its width: 6 x 8 has 6.8, 12 x 13 and 16 x 17 have more too
        by_size = {size.name: matching.counts_of(size) for size in SIZE_CLASSES}
        assert by_size == {
            "short axis < 10 mm": NodeCounts(true=1, found=1, false=1),
            "short axis 10 to 15 mm": NodeCounts(true=0, found=0, false=0),
            "short axis >= 15 mm": NodeCounts(true=2, found=1, false=1),
        }
        assert total(by_size.values()) == matching.counts

    @pytest.mark.parametrize(("diameter", "name"), [(9, "< 10"), (10, "10 to 15"), (14, "10 to 15"), (15, ">= 15")])
    def test_limits_belong_to_the_class_above(self, diameter, name):
        """A plus of one voxel's width has both axes as long as its arms."""
        mask = np.zeros((1, 20, 20), np.uint8)
        mask[0, 10, 2 : 2 + diameter] = 1
        mask[0, 10 - diameter // 2 : 10 - diameter // 2 + diameter, 2 + diameter // 2] = 1
        matching = match_nodes(mask, mask, MM, min_volume_mm3=0)
        assert [size.name for size in SIZE_CLASSES if matching.counts_of(size).true] == [f"short axis {name} mm"]

    def test_the_contracts_numbers(self):
        assert MIN_OVERLAP == 0.3
        assert [size.low for size in SIZE_CLASSES] == [0, 10, 15]
