"""One case under every protocol, labels and their meaning, and many cases summed up."""

import dataclasses
import math

import numpy as np
import pytest

from lnauto.errors import InputError
from lnauto.evaluation.cases import ALL_NODES, complete, evaluate_case
from lnauto.evaluation.labels import LabelScheme, values_in
from lnauto.evaluation.matching import NodeCounts
from lnauto.evaluation.protocols import PROTOCOLS, protocol_of
from lnauto.evaluation.summary import Statistics, summarise

MM = (1.0, 1.0, 1.0)
NODE = {"background": 0, "lymph_node": 1}
TWO = {"background": 0, "GTVp": 1, "GTVnd": 2}


def mask(*boxes, shape=(10, 16, 24)):
    """A label map of boxes (value, z, y, x, size)."""
    array = np.zeros(shape, np.uint8)
    for value, z, y, x, size in boxes:
        array[z : z + size, y : y + size, x : x + size] = value
    return array


def scores(true, predicted, protocol, spacing=MM):
    return evaluate_case(true, predicted, spacing, NODE, protocol=protocol).labels["lymph_node"].scores


FULL, EMPTY = mask((1, 2, 2, 2, 4)), mask()


class TestProtocols:
    @pytest.mark.parametrize(
        ("protocol", "both", "one"),
        [
            ("lnauto", {"dice": None, "nsd": None, "assd": None}, {"dice": 0, "nsd": 0, "assd": None}),
            ("lnq2023", {"dice": None, "assd": None}, {"dice": 0, "assd": None}),
            ("segrap", {"dice": 1, "nsd": 1}, {"dice": 0, "nsd": 0}),
            ("hntsmrg", {"dice": None}, {"dice": 0}),
            ("wcode", {"dice": None, "assd": 0, "hd95": 0}, {"dice": 0, "assd": 20, "hd95": 100}),
        ],
    )
    def test_what_empty_masks_count_as(self, protocol, both, one):
        for true, predicted, expected in ((EMPTY, EMPTY, both), (FULL, EMPTY, one), (EMPTY, FULL, one)):
            got = scores(true, predicted, protocol)
            assert {name: None if math.isnan(value) else value for name, value in got.items()} == expected

    def test_each_averages_surface_distances_in_its_own_way(self):
        """One voxel against a plate of 25 with the same centre: the means are 0 and m, the pooled mean is 25 m / 26."""
        true, predicted = np.zeros((2, 5, 7, 7), np.uint8)
        true[2, 3, 3] = 1
        predicted[2, 1:6, 1:6] = 1
        rows = np.arange(-2, 3)
        mean = np.hypot(rows[:, None], rows).mean()
        assert scores(true, predicted, "lnauto")["assd"] == pytest.approx(mean / 2)
        assert scores(true, predicted, "lnq2023")["assd"] == pytest.approx(mean / 2)
        assert scores(true, predicted, "wcode")["assd"] == pytest.approx(25 * mean / 26)

    def test_dscagg_of_two_spacings(self):
        """The HNTS-MRG oracle in small: mm3 over all cases, 116/178; voxels would give 12/22, the mean over cases 7/12."""
        a_true, a_predicted, b_true, b_predicted = np.zeros((4, 4, 4, 4), np.uint8)
        a_true[:2, :2, :2] = a_predicted[:2, :2, 1:3] = b_true[1, 1, :2] = b_predicted[1, 1, :4] = 1
        cases = [
            evaluate_case(a_true, a_predicted, MM, {"background": 0, "GTVp": 1, "GTVnd": 2}, protocol="hntsmrg"),
            evaluate_case(b_true, b_predicted, (3, 3, 3), {"background": 0, "GTVp": 1, "GTVnd": 2}, protocol="hntsmrg"),
        ]
        summary = summarise(cases)
        assert summary.labels["GTVp"].pooled_dice == pytest.approx(116 / 178)
        assert math.isnan(summary.labels["GTVnd"].pooled_dice)  # empty in every case
        assert summary.mean() == pytest.approx(116 / 178)

    def test_tolerance_of_ones_own(self):
        strict = dataclasses.replace(PROTOCOLS["lnauto"], tolerance_mm=0.5)
        moved = mask((1, 2, 2, 3, 4))
        assert scores(FULL, moved, "lnauto")["nsd"] == 1.0
        assert scores(FULL, moved, strict)["nsd"] < 1.0

    def test_unknown_name(self):
        with pytest.raises(
            InputError, match="no protocol 'dice', in --protocol; take one of lnauto, lnq2023, segrap, hntsmrg, wcode"
        ):
            protocol_of("dice")

    def test_nodes_are_counted_alike_under_each(self):
        matchings = [evaluate_case(FULL, FULL, MM, NODE, protocol=name).nodes[ALL_NODES] for name in PROTOCOLS]
        assert all(matching == matchings[0] for matching in matchings)


class TestCut:
    @pytest.mark.parametrize("seed", range(4))
    def test_far_from_everything_else_nothing_changes(self, seed):
        """A case gives the same in the corner of a much larger image, at its edge and off it."""
        random = np.random.default_rng(seed)
        true, predicted = (random.random((2, 6, 7, 8)) < 0.4).astype(np.uint8)
        inside = [np.pad(array, 1) for array in (true, predicted)]
        larger = [np.pad(array, ((0, 9), (8, 3), (0, 12))) for array in inside]
        options = {"labels": NODE, "min_volume_mm3": 0}
        small, large = evaluate_case(*inside, (2, 1, 0.5), **options), evaluate_case(*larger, (2, 1, 0.5), **options)
        assert small.labels == large.labels
        assert small.nodes == large.nodes

    def test_nodes_keep_their_place_in_the_world(self):
        result = evaluate_case(FULL, FULL, (3.0, 2.0, 1.0), NODE, origin=(100.0, 200.0, 300.0))
        assert result.nodes[ALL_NODES].true[0].centroid_mm == pytest.approx((103.5, 207.0, 310.5))

    def test_all_empty(self):
        result = evaluate_case(EMPTY, EMPTY, MM, NODE)
        assert result.nodes[ALL_NODES].counts == NodeCounts()


class TestLabels:
    def test_nodes_of_two_labels_that_touch_are_one_together_and_two_apart(self):
        labels = {"background": 0, "LN right": 1, "LN left": 2, "tumour": 3}
        true = mask((1, 2, 2, 2, 4), (2, 2, 2, 6, 4), (3, 2, 10, 2, 4))
        result = evaluate_case(true, true, MM, labels)
        assert set(result.labels) == {"LN right", "LN left", "tumour"}
        assert {name: matching.counts.found for name, matching in result.nodes.items()} == {
            ALL_NODES: 1,
            "LN right": 1,
            "LN left": 1,
        }

    def test_node_labels_named(self):
        result = evaluate_case(mask((1, 2, 2, 2, 4), (2, 2, 10, 2, 4)), EMPTY, MM, {"background": 0, "a": 1, "b": 2}, [2])
        assert set(result.nodes) == {ALL_NODES, "b"}
        assert result.nodes[ALL_NODES].counts.true == 1
        assert evaluate_case(FULL, FULL, MM, NODE, []).nodes == {}

    @pytest.mark.parametrize(
        ("names", "nodes"),
        [
            (["GTVp", "GTVnd"], ["GTVnd"]),
            (["GTVp", "GTVn"], ["GTVn"]),
            (["lung", "lymph_node"], ["lymph_node"]),
            (["LN_right", "LN left", "kiln"], ["LN_right", "LN left"]),
            (["Lymph nodes", "nodule"], ["Lymph nodes"]),
            (["Anterior", "Posterior"], ["Anterior", "Posterior"]),
        ],
    )
    def test_nodes_by_name(self, names, nodes):
        scheme = LabelScheme.of({"background": 0, **{name: value for value, name in enumerate(names, start=1)}})
        assert [label.name for label in scheme.nodes] == nodes

    def test_regions(self):
        scheme = {"background": 0, "whole": [1, 2], "core": [2]}
        result = evaluate_case(mask((1, 2, 2, 2, 4), (2, 2, 2, 6, 4)), mask((2, 2, 2, 6, 4)), MM, scheme)
        assert result.labels["whole"].scores["dice"] == pytest.approx(2 / 3)
        assert result.labels["core"].scores["dice"] == 1.0

    def test_ignored_voxels_count_for_nothing(self):
        """What is predicted in the ignored part is neither wrong nor a false node, and a true voxel cannot be there."""
        labels = {**NODE, "ignore": 2}
        true = mask((1, 2, 2, 2, 4), (2, 0, 8, 8, 8))
        predicted = mask((1, 2, 2, 2, 4), (1, 2, 10, 10, 4))
        result = evaluate_case(true, predicted, MM, labels)
        assert result.labels["lymph_node"].scores["dice"] == 1.0
        assert result.nodes[ALL_NODES].counts == NodeCounts(1, 1, 0)
        assert evaluate_case(true * (true != 2), predicted, MM, labels).nodes[ALL_NODES].counts == NodeCounts(1, 1, 1)

    def test_a_numbered_node_that_lies_mostly_in_the_ignored_part_is_not_false(self):
        true = mask((1, 2, 2, 2, 4), (2, 0, 8, 8, 8))
        predicted = mask((1, 2, 2, 2, 4), (3, 1, 7, 9, 5))  # 4 of its 5 rows are ignored
        numbers = {"true_instances": (true == 1).astype(np.uint8), "predicted_instances": predicted}
        result = evaluate_case(true, (predicted > 0).astype(np.uint8), MM, {**NODE, "ignore": 2}, **numbers)
        assert result.nodes[ALL_NODES].counts == NodeCounts(1, 1, 0)
        numbers["predicted_instances"] = predicted = mask((1, 2, 2, 2, 4), (3, 1, 4, 9, 5))  # and here 1 of 5
        result = evaluate_case(true, (predicted > 0).astype(np.uint8), MM, {**NODE, "ignore": 2}, **numbers)
        assert result.nodes[ALL_NODES].counts == NodeCounts(1, 1, 1)

    @pytest.mark.parametrize("organ", [True, False])
    def test_whether_a_node_lies_in_the_ignored_part_does_not_depend_on_the_organ_it_touches(self, organ):
        labels = {"background": 0, "lymph_node": 1, "lung": 2, "ignore": 3}
        true, predicted = mask((1, 1, 1, 1, 3)), mask((1, 1, 1, 1, 3))
        true[:, 8:, 12:] = 3
        predicted[2:7, 9:14, 10:16] = 1  # mostly ignored
        predicted[2:6, 1:4, 12:20] = 1  # false
        if organ:
            true[2:8, 8:15, 2:10] = predicted[2:8, 8:15, 2:10] = 2  # drawn, beside the first
            predicted[0:10, 4:16, 13:24][predicted[0:10, 4:16, 13:24] == 0] = 2  # mostly ignored, beside the second
        assert evaluate_case(true, predicted, MM, labels).nodes[ALL_NODES].counts == NodeCounts(1, 1, 1)

    def test_each_label_of_nodes_has_its_own_in_the_ignored_part(self):
        """Of two labels that touch, one is found and the other lies mostly in the ignored part: together they are one, found."""
        labels = {"background": 0, "LN right": 1, "LN left": 2, "ignore": 3}
        true = mask((1, 2, 2, 2, 4), (3, 0, 0, 8, 12))
        predicted = mask((1, 2, 2, 2, 4), (2, 2, 2, 6, 6))
        found = evaluate_case(true, predicted, MM, labels).nodes
        assert [found[name].counts for name in (ALL_NODES, "LN right", "LN left")] == [
            NodeCounts(1, 1, 0),
            NodeCounts(1, 1, 0),
            NodeCounts(0, 0, 0),
        ]

    def test_values_beside_an_ignore_label_are_no_instances(self):
        """As they are not where a data set is planned for: they hold the declared values only."""
        scheme = LabelScheme.of({**NODE, "ignore": 2}, instances=True)
        true = mask((1, 2, 2, 2, 4), (1, 2, 2, 10, 4), (2, 0, 8, 8, 8))
        numbers = mask((1, 2, 2, 2, 4), (2, 2, 2, 10, 4))
        result = evaluate_case(true, (numbers > 0).astype(np.uint8), MM, scheme, predicted_instances=numbers)
        assert result.nodes[ALL_NODES].counts == NodeCounts(2, 2, 0)

    def test_values_that_are_instances(self):
        """Two touching nodes as values 1 and 2 under one label; the prediction counts singly once it has instances too."""
        scheme = LabelScheme.of(NODE, instances=True)
        true = mask((1, 2, 2, 2, 4), (2, 2, 2, 6, 4))
        result = evaluate_case(true, (true > 0).astype(np.uint8), MM, scheme)
        assert result.labels["lymph_node"].scores["dice"] == 1.0
        assert result.nodes[ALL_NODES].counts == NodeCounts(1, 1, 0)
        result = evaluate_case(true, (true > 0).astype(np.uint8), MM, scheme, predicted_instances=true * 5)
        assert result.nodes[ALL_NODES].counts == NodeCounts(2, 2, 0)

    def test_without_any_description_every_value_is_a_label(self):
        cases = [
            evaluate_case(mask((3, 2, 2, 2, 4)), EMPTY, MM, protocol="segrap"),
            evaluate_case(EMPTY, EMPTY, MM, protocol="segrap"),
        ]
        cases = complete(cases)
        assert [case.labels["label 3"].scores["dice"] for case in cases] == [0.0, 1.0]
        assert [case.nodes[ALL_NODES].counts.true for case in cases] == [1, 0]

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, bool])
    def test_values_in_any_type(self, dtype):
        assert values_in(np.array([[[0, 1, 1]]], dtype)) == {0, 1}


class TestRefused:
    def test_a_value_without_meaning(self):
        with pytest.raises(InputError, match="the prediction holds 5, which is no label's value, in case_7; add it"):
            evaluate_case(FULL, mask((5, 2, 2, 2, 4)), MM, NODE, case="case_7")

    def test_another_shape(self):
        with pytest.raises(InputError, match=r"prediction: shape \(1, 2, 3\), the truth: \(10, 16, 24\), in case_7"):
            evaluate_case(FULL, np.zeros((1, 2, 3), np.uint8), MM, NODE, case="case_7")

    @pytest.mark.parametrize("numbers", [mask((1, 2, 2, 2, 3)), mask((1, 2, 2, 2, 4), (2, 6, 10, 20, 3))])
    def test_instances_of_another_mask(self, numbers):
        with pytest.raises(InputError, match="truth's node instances and its node labels cover different voxels, in case_7"):
            evaluate_case(FULL, FULL, MM, NODE, true_instances=numbers, predicted_instances=FULL, case="case_7")

    @pytest.mark.parametrize(
        ("labels", "nodes", "words"),
        [
            ({"background": 0}, None, "no label besides background"),
            ({"background": 0, "node": "1"}, None, "label 'node' has the value '1', not a whole number"),
            (NODE, [4], "node_labels names 4, which is no label's value"),
        ],
    )
    def test_labels_that_make_no_sense(self, labels, nodes, words):
        with pytest.raises(InputError, match=words):
            LabelScheme.of(labels, nodes)

    def test_instances_of_two_labels(self):
        with pytest.raises(InputError, match="values cannot be node instances and 2 labels at once"):
            LabelScheme.of(TWO, instances=True)


class TestSummary:
    def test_statistics_leave_out_and_count_what_does_not_exist(self):
        assert Statistics.of([0.2, math.nan, 0.4, 0.9]) == Statistics(
            pytest.approx(0.5), pytest.approx(0.360555, abs=1e-6), 0.4, 3, 1
        )
        assert math.isnan(Statistics.of([0.3]).sd)
        assert math.isnan(Statistics.of([math.nan]).mean)

    def test_two_cases(self):
        """Case A finds its only node; case B finds one of three and invents two."""
        a = evaluate_case(FULL, FULL, MM, NODE, case="A")
        b_true = mask((1, 0, 0, 0, 4), (1, 0, 6, 0, 4), (1, 0, 12, 0, 4))
        b = evaluate_case(b_true, mask((1, 0, 0, 0, 4), (1, 5, 0, 12, 4), (1, 5, 8, 12, 4)), MM, NODE, case="B")
        summary = summarise([a, b])
        nodes = summary.nodes[ALL_NODES]
        assert nodes.counts == NodeCounts(true=4, found=2, false=2)
        assert nodes.counts.recall == 0.5
        assert nodes.per_case["recall"].mean == pytest.approx((1 + 1 / 3) / 2)
        assert nodes.false_per_case == 1.0
        dice = summary.labels["lymph_node"]
        assert dice.scores["dice"].mean == pytest.approx((1 + 1 / 3) / 2)
        assert dice.pooled_dice == pytest.approx(2 * 128 / (256 + 256))
        assert summary.mean("dice") == dice.scores["dice"].mean
        told = summary.to_json()
        assert told["nodes"][ALL_NODES]["pooled"]["f1"] == pytest.approx(0.5)
        assert "at least 0.3" in told["node_found"]
        assert "under 15 mm3" in told["node_found"]

    def test_several_labels_average_their_means(self):
        result = evaluate_case(mask((1, 2, 2, 2, 4), (2, 2, 8, 2, 4)), mask((1, 2, 2, 2, 4)), MM, TWO)
        assert summarise([result]).mean("dice") == 0.5

    def test_different_ways_do_not_mix(self):
        with pytest.raises(ValueError, match="different ways"):
            summarise([evaluate_case(FULL, FULL, MM, NODE), evaluate_case(FULL, FULL, MM, NODE, protocol="segrap")])
        with pytest.raises(ValueError, match="no case"):
            summarise([])
