"""The figures of patient-level validation, against published values, other software, brute force and simulation."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from lnauto.evaluation.discrimination import redrawn
from lnauto.evaluation.patients import (
    at_threshold,
    auc,
    average_precision,
    bootstrap_auc,
    bootstrap_average_precision,
    bootstrap_brier,
    brier,
    calibration,
    calibration_groups,
    decide,
    decision_curve,
    paired_delong,
    roc,
    threshold_for_sensitivity,
    wilson,
    youden,
)

Z = norm.ppf(0.975)
FOUR, SCORES = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]


def cohort(seed, patients=200, prevalence=0.4, strength=1.0, rounded=None):
    """Labels and a score one class of which lies `strength` deviations above the other; rounded, it has ties."""
    generator = np.random.default_rng(seed)
    labels = np.arange(patients) < prevalence * patients
    scores = generator.normal(size=patients) + strength * labels
    return labels, scores if rounded is None else np.round(scores, rounded)


def wins(labels, scores):
    """1 where a patient with metastasis (row) is ranked above one without (column), a half where they tie."""
    first, second = scores[labels][:, None], scores[~labels][None]
    return (first > second) + 0.5 * (first == second)


def brute_covariance(labels, first, second):
    """DeLong's covariance patient by patient: of the means of rows, and of columns, of the table of wins."""
    tables = [wins(labels, first), wins(labels, second)]
    total = 0.0
    for axis in (0, 1):
        means = [one.mean(axis=1 - axis) for one in tables]
        products = [(a - means[0].mean()) * (b - means[1].mean()) for a, b in zip(*means, strict=True)]
        total += sum(products) / (len(products) - 1) / len(products)
    return total


class TestAuc:
    @pytest.mark.parametrize("rounded", [None, 0])
    def test_value_is_that_of_scikit_learn_and_ties_count_half(self, rounded):
        labels, scores = cohort(1, rounded=rounded)
        assert auc(labels, scores).value == pytest.approx(roc_auc_score(labels, scores))
        assert auc([0, 0, 1, 1], [0.5, 0.2, 0.5, 0.7]).value == pytest.approx(3.5 / 4)

    @pytest.mark.parametrize("rounded", [None, 0])
    @pytest.mark.parametrize("prevalence", [0.1, 0.5])
    def test_interval_is_delongs_on_the_logit_with_the_variance_of_brute_force(self, rounded, prevalence):
        labels, scores = cohort(2, prevalence=prevalence, rounded=rounded)
        estimate = auc(labels, scores)
        reach = Z * math.sqrt(brute_covariance(labels, scores, scores)) / (estimate.value * (1 - estimate.value))
        assert logit([estimate.low, estimate.high]) == pytest.approx(logit(estimate.value) + np.array([-reach, reach]))

    def test_interval_holds_the_truth_as_often_as_it_says_even_where_the_truth_is_high(self):
        """Twenty patients of either class, true AUC 0.92; DeLong's plain interval holds it in under 90 %."""
        truth, held = norm.cdf(2 / math.sqrt(2)), 0
        for seed in range(600):
            estimate = auc(*cohort(seed, 40, 0.5, strength=2.0))
            held += estimate.low <= truth <= estimate.high
        assert 0.93 <= held / 600 <= 0.98

    def test_bootstrap_agrees_with_delong(self):
        labels, scores = cohort(3, 400)
        by_draws, by_delong = bootstrap_auc(labels, scores, seed=0), auc(labels, scores)
        assert by_draws.value == by_delong.value
        assert (by_draws.low, by_draws.high) == pytest.approx((by_delong.low, by_delong.high), abs=0.01)

    def test_a_perfect_ranking_of_few_patients_is_not_certain(self):
        few, many = auc(FOUR, [1, 2, 3, 4]), auc([0] * 50 + [1] * 50, range(100))
        assert (few.value, few.high, many.value) == (1.0, 1.0, 1.0)
        assert few.low < 0.5 < 0.95 < many.low < 1
        worst = auc(FOUR, [4, 3, 2, 1])
        assert (worst.value, worst.low) == (0.0, 0.0)
        assert worst.high == pytest.approx(1 - few.low)

    def test_one_score_for_all_and_one_patient_of_a_class_have_an_interval(self):
        same, lone = auc([0] * 20 + [1] * 20, [0.3] * 40), auc([0, 0, 0, 1], [1, 3, 4, 2])
        assert same.value == 0.5
        assert same.low < 0.4 < 0.6 < same.high
        assert lone.value == pytest.approx(1 / 3)
        assert 0 < lone.low < 0.1 < 0.8 < lone.high < 1

    @pytest.mark.parametrize(
        ("truth", "score", "said"),
        [
            ([0, 0, 1], [0, 1, 1], "all 0 or 1: they are classes"),
            ([0, 1, 1], [0.0, 0.0, 0.0], "they are classes"),
            ([1, 1, 1], [0.2, 0.3, 0.4], "all 3 patients have the label 1"),
            ([0, 1, 1], [0.2, math.nan, 0.4], "1 of 3 patients have no score"),
            ([0, 1, 1], [0.2, math.inf, 0.4], "1 of 3 patients have no score"),
            ([0, 1, math.nan], [0.2, 0.3, 0.4], "labels have to be 0 or 1"),
            ([0, 1, 2], [0.2, 0.3, 0.4], "labels have to be 0 or 1"),
            ([0, 1], [0.2, 0.3, 0.4], "one label and one score for each"),
            ([], [], "no patient"),
        ],
    )
    def test_what_has_no_auc_is_refused(self, truth, score, said):
        for figure in (auc, average_precision, lambda *of: bootstrap_auc(*of, seed=0), lambda *of: paired_delong(*of, of[1])):
            with pytest.raises(ValueError, match=said):
                figure(truth, score)


class TestPairedDelong:
    def test_difference_and_interval_by_brute_force(self):
        labels, first = cohort(4, rounded=1)
        second = first + np.random.default_rng(0).normal(size=first.size)
        found = paired_delong(labels, first, second)
        parts = [brute_covariance(labels, *pair) for pair in ((first, first), (second, second), (first, second))]
        deviation = math.sqrt(parts[0] + parts[1] - 2 * parts[2])
        assert found.value == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second))
        assert (found.high - found.low) / 2 == pytest.approx(Z * deviation)
        assert found.p == pytest.approx(2 * norm.sf(abs(found.value) / deviation))

    def test_p_is_below_a_twentieth_in_a_twentieth_of_pairs_without_a_difference(self):
        assert 0.03 <= np.mean([pair.p < 0.05 for pair in self.pairs(0.0)]) <= 0.075

    def test_interval_holds_a_true_difference(self):
        truth = norm.cdf(1.5 / math.sqrt(2)) - norm.cdf(1 / math.sqrt(2))
        pairs = self.pairs(0.5)
        assert 0.925 <= np.mean([pair.low <= truth <= pair.high for pair in pairs]) <= 0.975
        assert np.mean([pair.value for pair in pairs]) == pytest.approx(truth, abs=0.01)

    def pairs(self, more):
        """Two scores with half of their noise in common; the first parts the classes by `more` deviations more."""
        generator = np.random.default_rng(7)
        labels = np.arange(120) < 50
        pairs = []
        for _ in range(800):
            shared, own, other = generator.normal(size=(3, 120)) * 0.5**0.5
            pairs.append(paired_delong(labels, shared + own + (1 + more) * labels, shared + other + labels))
        return pairs

    def test_the_same_ranking_does_not_differ(self):
        labels, scores = cohort(5)
        assert dataclasses.astuple(paired_delong(labels, scores, 3 * scores + 1)) == (0.0, 0.0, 0.0, 1.0)

    def test_a_difference_without_variance_has_no_interval(self):
        found = paired_delong(FOUR, [1, 2, 3, 4], [4, 3, 2, 1])
        assert found.value == 1.0
        assert all(math.isnan(number) for number in (found.low, found.high, found.p))


class TestBootstrap:
    def test_draws_keep_the_number_of_each_class(self):
        labels, _ = cohort(6, 50)
        times = redrawn(labels, 0, 30)
        assert (times[:, labels].sum(axis=1) == 20).all()
        assert (times[:, ~labels].sum(axis=1) == 30).all()
        assert (times > 1).any()

    def test_interval_is_that_of_draws_judged_by_scikit_learn(self):
        labels, scores = cohort(8, 80, rounded=1)
        times = redrawn(labels, 5, 200)
        for ours, theirs in ((bootstrap_auc, roc_auc_score), (bootstrap_average_precision, average_precision_score)):
            found = ours(labels, scores, seed=5, repeats=200)
            expected = np.percentile([theirs(labels, scores, sample_weight=row) for row in times], [2.5, 97.5])
            assert found.value == pytest.approx(theirs(labels, scores))
            assert (found.low, found.high) == pytest.approx(tuple(expected))

    def test_a_seed_gives_the_same_interval_again(self):
        labels, scores = cohort(9)
        assert bootstrap_auc(labels, scores, 1) == bootstrap_auc(labels, scores, 1) != bootstrap_auc(labels, scores, 2)

    def test_roc_goes_from_nothing_to_everything_within_its_band(self):
        labels, scores = cohort(10, rounded=1)
        curve = roc(labels, scores, seed=0, repeats=300)
        points = np.array([curve.false_positive_rate, curve.sensitivity])
        assert points[:, [0, -1]].tolist() == [[0, 1], [0, 1]]
        assert np.trapezoid(points[1], points[0]) == pytest.approx(roc_auc_score(labels, scores))
        middle = np.interp(curve.grid, *points)[1:-1]
        assert ((np.array(curve.low)[1:-1] <= middle) & (middle <= np.array(curve.high)[1:-1])).all()
        assert 0.1 < (np.array(curve.high) - curve.low).max() < 0.4


class TestDecisions:
    @pytest.mark.parametrize(
        ("part", "whole", "low", "high"),
        [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (20, 20, 0.8389, 1),
        ],
    )
    def test_wilson_as_published(self, part, whole, low, high):
        """Newcombe 1998 (Statistics in Medicine 17: 857-872), table I, method 3; the last is the third turned round."""
        found = wilson(part, whole)
        assert found.value == part / whole
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)

    def test_a_patient_at_the_threshold_is_called_positive(self):
        truth, score = [0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.5, 0.2, 0.9, 0.5, 0.6, 0.7, 0.4]
        counts = decide(truth, score, 0.5)
        assert dataclasses.astuple(counts) == (3, 2, 1, 2)
        shares = {name: one.value for name, one in at_threshold(truth, score, 0.5).items()}
        assert shares == pytest.approx({"sensitivity": 3 / 4, "specificity": 2 / 4, "ppv": 3 / 5, "npv": 2 / 3})

    def test_each_patient_has_the_own_folds_threshold(self):
        assert dataclasses.astuple(decide([1, 1, 0, 0], [0.3, 0.3, 0.3, 0.3], [0.2, 0.4, 0.2, 0.4])) == (1, 1, 1, 1)
        with pytest.raises(ValueError, match="one for each patient"):
            decide([1, 0], [0.3, 0.4], [0.1, 0.2, 0.3])

    def test_a_share_of_nobody_is_unknown_and_null_in_json(self):
        nobody = at_threshold([0, 0, 1], [0.1, 0.2, 0.3], 0.9)["ppv"]
        assert nobody.to_json() == {"value": None, "low": None, "high": None}
        assert at_threshold([1, 1], [0.1, 0.9], 0.5)["specificity"].to_json()["value"] is None

    def test_youden_is_the_best_of_all_thresholds(self):
        labels, scores = cohort(11, rounded=1)

        def gain(threshold):
            shares = at_threshold(labels, scores, threshold)
            return shares["sensitivity"].value + shares["specificity"].value - 1

        found = youden(labels, scores)
        assert gain(found) == pytest.approx(max(gain(one) for one in np.unique(scores)))
        assert found not in scores  # half-way between two patients
        assert youden([0, 1, 0, 1], [1, 2, 3, 4]) == 1.5  # as good as 3.5, and misses nobody

    @pytest.mark.parametrize("sensitivity", [0.5, 0.55, 0.9, 0.95, 1.0])
    @pytest.mark.parametrize(("patients", "rounded"), [(250, None), (250, 0), (243, None)])
    def test_threshold_reaches_the_sensitivity_and_a_higher_one_does_not(self, sensitivity, patients, rounded):
        labels, scores = cohort(12, patients, rounded=rounded)  # 100 or 98 positive: 0.55 * 100 is a little more than 55
        found = threshold_for_sensitivity(labels, scores, sensitivity)
        higher = np.min(scores[labels & (scores >= found)]) + 1e-9
        assert (scores[labels] >= found).mean() >= sensitivity > (scores[labels] >= higher).mean()

    def test_thresholds_of_neighbouring_numbers_part_them(self):
        low = 0.1
        high = float(np.nextafter(low, 1))
        assert youden([0, 1], [low, high]) == high

    @pytest.mark.parametrize("sensitivity", [0.0, 1.1, math.nan])
    def test_no_threshold_for_an_impossible_sensitivity(self, sensitivity):
        with pytest.raises(ValueError, match="a sensitivity lies above 0"):
            threshold_for_sensitivity(FOUR, SCORES, sensitivity)

    def test_no_threshold_without_both_classes(self):
        for choose in (youden, lambda truth, score: threshold_for_sensitivity(truth, score, 0.9)):
            with pytest.raises(ValueError, match="both classes"):
                choose([1, 1], [0.1, 0.2])

    def test_net_benefit_by_hand(self):
        """Ten patients, four with metastasis. From 0.2 on: 4 true, 3 false; from 0.5: 3 and 1; from 0.9: nobody."""
        truth = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
        probability = [0.8, 0.7, 0.5, 0.2, 0.6, 0.3, 0.2, 0.1, 0.1, 0.0]
        curve = decision_curve(truth, probability, [0.2, 0.5, 0.9])
        assert curve.model == pytest.approx((0.4 - 0.3 * 0.25, 0.3 - 0.1, 0.0))
        assert curve.treat_all == pytest.approx((0.4 - 0.6 * 0.25, 0.4 - 0.6, 0.4 - 0.6 * 9))
        assert curve.treat_none == (0, 0, 0)

    def test_decision_curve_refuses_what_is_no_probability(self):
        with pytest.raises(ValueError, match="between 0 and 1"):
            decision_curve([0, 1], [0.5, 1.2])
        with pytest.raises(ValueError, match="without 1"):
            decision_curve([0, 1], [0.5, 0.6], [0.5, 1.0])


def drawn(seed, patients, distort=lambda line: line):
    """Patients whose label is drawn with a probability, and what a model says of it after `distort` on the logit."""
    generator = np.random.default_rng(seed)
    line = generator.normal(-0.3, 1.2, patients)
    return generator.random(patients) < expit(line), expit(distort(line))


class TestCalibration:
    @pytest.mark.parametrize(
        ("distort", "slope", "intercept"),
        [(lambda x: x, 1, 0), (lambda x: 2 * x, 0.5, 0), (lambda x: x / 2, 2, 0), (lambda x: x + 1, 1, -1)],
        ids=["right", "too extreme", "too timid", "too high"],
    )
    def test_what_was_done_to_probabilities_is_found(self, distort, slope, intercept):
        found = calibration(*drawn(0, 20000, distort))
        assert (found.slope.value, found.intercept.value) == pytest.approx((slope, intercept), rel=0.04, abs=0.05)
        assert found.slope.low < slope < found.slope.high

    def test_line_is_that_of_scikit_learn_and_its_deviations_those_of_fishers_information(self):
        truth, probability = drawn(1, 300, lambda line: line + 2)
        line = logit(probability)
        model = LogisticRegression(C=np.inf, tol=1e-8).fit(line[:, None], truth)
        slope, intercept = calibration(truth, probability)
        assert (slope.value, intercept.value) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), abs=1e-4)
        fitted = model.predict_proba(line[:, None])[:, 1]
        zeroth, first, second = ((fitted * (1 - fitted) * line**power).sum() for power in range(3))
        deviations = np.sqrt(np.array([zeroth, second]) / (zeroth * second - first**2))
        assert [(one.high - one.low) / 2 for one in (slope, intercept)] == pytest.approx(Z * deviations, rel=1e-3)

    def test_intervals_hold_the_truth_as_often_as_they_say(self):
        found = [calibration(*drawn(seed, 200)) for seed in range(400)]
        for name, truth in (("slope", 1), ("intercept", 0)):
            held = np.mean([getattr(one, name).low <= truth <= getattr(one, name).high for one in found])
            assert 0.925 <= held <= 0.98

    @pytest.mark.parametrize(
        "probability",
        [[0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.3, 0.2], [0.5] * 4, [0.1, 0.3, 0.3, 0.4], [0, 0, 1, 1]],
        ids=["separated", "the wrong way round", "all the same", "but for a tie", "certain"],
    )
    def test_no_line_where_none_is_the_most_likely(self, probability):
        slope, intercept = calibration(FOUR, probability)
        assert all(math.isnan(one) for one in (*dataclasses.astuple(slope), *dataclasses.astuple(intercept)))

    def test_one_certainty_that_was_wrong_flattens_the_slope(self):
        truth, probability = drawn(2, 100)
        probability[np.flatnonzero(~truth)[0]] = 1.0
        assert 0 < calibration(truth, probability).slope.value < 0.7

    def test_brier_is_that_of_scikit_learn_and_knows_no_value_beyond_one(self):
        truth, probability = drawn(3, 100)
        assert brier(truth, probability) == pytest.approx(brier_score_loss(truth, probability))
        interval = bootstrap_brier(truth, probability, seed=0)
        deviation = ((probability - truth) ** 2).std() / 10
        assert (interval.low, interval.high) == pytest.approx(
            brier(truth, probability) + Z * deviation * np.array([-1, 1]), abs=0.01
        )
        for figure in (brier, calibration, calibration_groups):
            with pytest.raises(ValueError, match="between 0 and 1"):
                figure([0, 1], [-0.1, 0.5])

    def test_groups_hold_every_patient_once_and_never_part_equals(self):
        truth, probability = drawn(4, 200)
        groups = calibration_groups(truth, np.round(probability, 1))
        assert sum(group.patients for group in groups) == 200
        for group, tenth in zip(calibration_groups(truth, probability), np.array_split(np.argsort(probability), 10), strict=True):
            assert group.predicted == pytest.approx(probability[tenth].mean())
            assert group.observed == wilson(truth[tenth].sum(), 20)
        assert [group.patients for group in calibration_groups(truth, np.full(200, 0.3))] == [200]
        assert len(calibration_groups(truth[:29], probability[:29])) == 1
