"""Patient-level validation put together: subgroups, comparators, the summary of all folds, its table and its picture."""

import dataclasses
import json
import math

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from lnauto.evaluation.comparators import SHORT_AXIS_MM, largest_short_axis, max_node_score, node_count
from lnauto.evaluation.patient_text import table
from lnauto.evaluation.patients import (
    Comparator,
    Fold,
    auc,
    by_subgroup,
    decide,
    in_bands,
    paired_delong,
    pool,
    summarise_patients,
)
from lnauto.report.patient_picture import draw_patients, patients_figure

FOUR = [0, 0, 1, 1]


def cohort(seed, patients):
    """Labels, the first two fifths positive, and a score that tells them apart in part."""
    labels = np.arange(patients) < 0.4 * patients
    return labels, np.random.default_rng(seed).normal(size=patients) + labels


def drawn(seed, patients):
    """Patients whose label is drawn with the probability a model gives."""
    generator = np.random.default_rng(seed)
    probability = expit(generator.normal(-0.3, 1.2, patients))
    return generator.random(patients) < probability, probability


class TestSubgroups:
    def test_every_group_says_how_many_and_those_without_a_figure_why(self):
        labels, scores = cohort(13, 60)
        centre = np.array(["A"] * 6 + ["B"] * 40 + ["C"] * 14, object)
        found = {one.value: one for one in by_subgroup(labels, scores, {"centre": centre})}
        assert list(found) == ["A", "B", "C"]
        assert [(one.patients, one.positive) for one in found.values()] == [(6, 6), (40, 18), (14, 0)]
        assert found["B"].auc == auc(labels[6:46], scores[6:46])
        assert [(found[name].auc, found[name].said) for name in "AC"] == [
            (None, "fewer than 10 patients"),
            (None, "one class only"),
        ]

    def test_missing_is_a_group_of_its_own_and_the_last(self):
        labels, scores = cohort(14, 60)
        stage = [None, math.nan, "", *[2.0] * 30, *[1.0] * 27]
        found = by_subgroup(labels, scores, {"stage": stage})
        assert [(one.value, one.patients) for one in found] == [("1", 27), ("2", 30), ("unknown", 3)]

    def test_numbers_are_grouped_in_bands_in_their_order(self):
        labels, scores = cohort(15, 6)
        found = by_subgroup(labels, scores, {"mm": in_bands([12, 5, 4.9, 8, math.nan, 7.9], [5, 8])})
        assert [(one.value, one.patients) for one in found] == [("< 5", 1), ("5 to < 8", 2), (">= 8", 2), ("unknown", 1)]

    def test_classes_are_refused_here_too(self):
        with pytest.raises(ValueError, match="they are classes"):
            by_subgroup([0, 1], [0, 1], {"centre": ["A", "A"]})


class TestComparators:
    PATIENTS = ("p2", "p1", "p3")
    NODES = ("p1", "p1", "p2", "elsewhere")

    def test_one_number_a_patient_and_none_is_nought(self):
        assert largest_short_axis(self.PATIENTS, self.NODES, [6, 11, 10, 40]).tolist() == [10, 11, 0]
        assert max_node_score(self.PATIENTS, self.NODES, [0.2, 0.1, 0.9, 1]).tolist() == [0.9, 0.2, 0]
        assert node_count(self.PATIENTS, self.NODES).tolist() == [1, 2, 0]
        assert node_count(self.PATIENTS, []).tolist() == [0, 0, 0]

    def test_a_short_axis_of_ten_millimetres_is_enlarged(self):
        largest = largest_short_axis(self.PATIENTS, self.NODES, [6, 9.9, 10, 40])
        assert dataclasses.astuple(decide([1, 1, 0], largest, SHORT_AXIS_MM)) == (1, 0, 1, 1)

    @pytest.mark.parametrize("measure", [[1, 2, 3], [1, 2, 3, math.nan], [1, 2, 3, -1]])
    def test_a_measure_that_is_none_is_refused(self, measure):
        with pytest.raises(ValueError, match="one short axis for each node"):
            largest_short_axis(self.PATIENTS, self.NODES, measure)

    def test_a_patient_named_twice_is_refused(self):
        with pytest.raises(ValueError, match="named twice"):
            node_count(["p1", "p1"], [])


@pytest.fixture(scope="module")
def summary():
    truth, probability = drawn(5, 120)
    other = expit(logit(probability) + np.random.default_rng(0).normal(size=120))
    folds = [
        Fold(str(number), [f"p{row}" for row in rows], truth[rows], probability[rows], (0.3, 0.32, 0.34, 0.36)[number])
        for number, rows in enumerate(np.array_split(np.arange(120), 4))
    ]
    pooled = pool(folds)
    return summarise_patients(
        pooled.truth,
        pooled.probability,
        pooled.threshold,
        {"centre": ["Bern"] * 70 + ["Basel"] * 45 + [None] * 5},
        folds=pooled.fold,
        comparators=[
            Comparator("short axis >= 10 mm", np.where(np.arange(120) < 20, math.nan, 10 + logit(other)), 10),
            Comparator("clinical only", other),
            Comparator("read as enlarged", np.round(other)),
            Comparator("max node", np.full(120, math.nan)),
        ],
        repeats=200,
    )


class TestSummary:
    def test_folds_are_pooled_with_their_own_thresholds(self, summary):
        truth, probability = drawn(5, 120)
        thresholds = np.repeat([0.3, 0.32, 0.34, 0.36], 30)
        assert summary.auc == auc(truth, probability)
        assert summary.decisions == decide(truth, probability, thresholds)
        assert summary.thresholds == (0.3, 0.32, 0.34, 0.36)
        values = [roc_auc_score(truth[rows], probability[rows]) for rows in np.array_split(np.arange(120), 4)]
        assert summary.fold_aucs == pytest.approx((np.mean(values), np.std(values, ddof=1), 4))

    def test_a_patient_in_two_folds_is_refused(self):
        with pytest.raises(ValueError, match="more than one fold: p1"):
            pool([Fold("0", ["p0", "p1"], [0, 1], [0.1, 0.2], 0.5), Fold("1", ["p1"], [1], [0.3], 0.5)])

    def test_a_fold_of_one_class_has_no_auc_and_the_mean_leaves_it_out(self):
        folds = ["0"] * 4 + ["1"] * 2
        made = summarise_patients([0, 1, 0, 1, 1, 1], [0.1, 0.2, 0.4, 0.3, 0.6, 0.2], 0.5, folds=folds, repeats=20)
        assert [one.said for one in made.folds] == ["", "one class only"]
        assert made.fold_aucs[::2] == (0.5, 1)
        assert math.isnan(made.fold_aucs[1])

    def test_a_comparator_is_compared_on_the_patients_that_have_it(self, summary):
        truth, probability = drawn(5, 120)
        axis, clinical, reads, none = summary.comparisons
        assert [one.patients for one in summary.comparisons] == [100, 120, 120, 0]
        other = expit(logit(probability) + np.random.default_rng(0).normal(size=120))
        assert clinical.difference == paired_delong(truth, probability, other)
        assert axis.difference == paired_delong(truth[20:], probability[20:], 10 + logit(other[20:]))
        assert axis.decisions == decide(truth[20:], logit(other[20:]), 0)
        assert (clinical.decisions, none.said) == (None, "no patient has it")
        assert (reads.auc, reads.decisions, reads.said) == (None, decide(truth, other, 0.5), "a class, which has no AUC")

    def test_json_is_strict_and_complete(self, summary):
        content = json.loads(json.dumps(summary.to_json(), allow_nan=False))
        assert {field.name for field in dataclasses.fields(summary)} - {"repeats"} <= set(content)
        assert content["decisions"]["npv"]["value"] == summary.decisions.estimates()["npv"].value
        hopeless = summarise_patients(FOUR, [0.1, 0.2, 0.3, 0.4], 0.9, repeats=20)
        assert json.loads(json.dumps(hopeless.to_json(), allow_nan=False))["calibration"]["slope"]["value"] is None

    def test_table_says_each_figure_with_its_interval_in_a_hundred_columns(self, summary):
        text = table(summary)
        assert max(map(len, text.splitlines())) <= 100
        lines = [" ".join(line.split()) for line in text.splitlines()]
        one = summary.auc
        assert f"AUC {one.value:.3f} {one.low:.3f} to {one.high:.3f} DeLong" in lines
        assert "at threshold 0.300 to 0.360, each patient's own fold's" in lines
        counts = summary.decisions
        share = f"{counts.true_negative} of {counts.true_negative + counts.false_negative}"
        assert [line for line in lines if line.startswith("NPV") and line.endswith(f"Wilson; {share}")]
        assert "max node 0 - no patient has it" in lines
        assert f"centre unknown 5 {summary.subgroups[-1].positive} - fewer than 10 patients" in lines

    def test_table_of_what_has_no_calibration_line(self):
        text = table(summarise_patients(FOUR, [0.1, 0.2, 0.3, 0.4], 0.9, repeats=20))
        assert "nan" not in text
        assert "the probabilities give it no value" in text

    @pytest.mark.parametrize(
        ("truth", "probability", "said"),
        [([1, 1], [0.2, 0.3], "both classes"), ([0, 1], [0, 1], "they are classes"), ([0, 1], [0.2, 1.3], "between 0 and 1")],
    )
    def test_no_summary_of_what_cannot_be_judged(self, truth, probability, said):
        with pytest.raises(ValueError, match=said):
            summarise_patients(truth, probability, 0.5)


class TestPicture:
    def test_shows_curve_calibration_and_net_benefit(self, summary, tmp_path):
        draw_patients(summary, tmp_path / "patients.png")
        assert imread(tmp_path / "patients.png").std() > 0.05
        ranking, line, counts, benefit = patients_figure(summary).get_axes()
        curves = {one.get_label(): one for one in ranking.get_lines()}
        assert tuple(curves["model"].get_ydata()) == summary.roc.sensitivity
        assert {"short axis >= 10 mm", "read as enlarged"} <= {text.get_label() for text in ranking.containers}
        assert f"{summary.auc.value:.2f} ({summary.auc.low:.2f} to {summary.auc.high:.2f})" in ranking.get_title()
        assert "8 groups of 15 patients" in line.get_title()
        assert sum(bar.get_height() for bar in counts.patches) == summary.patients
        drawn_lines = {one.get_label(): tuple(one.get_ydata()) for one in benefit.get_lines()}
        assert drawn_lines["treat by the model"] == summary.decision_curve.model

    def test_can_be_drawn_of_hardly_anything(self, tmp_path):
        few = summarise_patients(FOUR, [0.1, 0.2, 0.3, 0.4], 0.9, repeats=20)
        draw_patients(few, tmp_path / "few.png")
        title = patients_figure(few).get_axes()[1].get_title()
        assert title == "slope unknown, intercept unknown\none group of 4 patients"
