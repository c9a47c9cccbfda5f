"""The clinical head: what it learns from, what it must not see, and that missing is a state of its own."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lnauto.data.folds import make_folds
from lnauto.evaluation.patients import auc
from lnauto.trainers.patient import clinical, decision
from lnauto.trainers.patient.clinical import ClinicalHead, LNMTrainerClinical
from lnauto.trainers.patient.columns import Column, encode, learn_columns
from lnauto.trainers.patient.decision import Calibrator, Threshold, deviance, fit_calibrator, inner_folds

Table = tuple[pd.DataFrame, pd.Series]


def cohort(patients: int, seed: int, signal: float = 1.0) -> Table:
    """T stage and HPV carry the label, age and sex do not; a fifth of the HPV entries is missing, at random."""
    rng = np.random.default_rng(seed)
    t_stage, hpv = rng.integers(1, 5, patients), rng.random(patients) < 0.5
    logit = signal * (1.2 * (t_stage - 2.5) + 1.5 * (hpv - 0.5))
    rows = pd.DataFrame(
        {
            "age": rng.normal(60, 10, patients),
            "t_stage": t_stage.astype(float),
            "sex": pd.Series(rng.choice(["male", "female"], patients), dtype=object),
            "hpv": pd.Series(np.where(rng.random(patients) < 0.2, None, np.where(hpv, "yes", "no")), dtype=object),
        }
    )
    rows.index = pd.Index([f"p{number:03d}" for number in range(patients)])
    labels = pd.Series((rng.random(patients) < 1 / (1 + np.exp(-logit))).astype(int), index=rows.index)
    return rows, labels


@pytest.fixture(scope="module")
def table() -> Table:
    return cohort(90, 3)


@pytest.fixture(scope="module")
def head(table: Table) -> ClinicalHead:
    rows, labels = table
    return LNMTrainerClinical().train(rows, labels, list(rows))


def out_of_fold(rows: pd.DataFrame, labels: pd.Series) -> pd.Series:
    found = pd.Series(np.nan, index=rows.index)
    for fold in make_folds(rows.index, {}, labels.to_dict()):
        found[fold["val"]] = (
            LNMTrainerClinical().train(rows.loc[fold["train"]], labels, list(rows)).probability(rows.loc[fold["val"]])
        )
    return found


class TestWhatItLearns:
    def test_what_carries_the_label_weighs_most(self, head: ClinicalHead) -> None:
        weights = dict(zip(head.features, head.weights, strict=True))
        assert weights["t_stage"] > 0.5
        assert weights["hpv: yes"] - weights["hpv: no"] > 0.5
        assert abs(weights["age"]) < 0.4

    def test_new_patients_are_ranked_and_their_probabilities_mean_what_they_say(self, head: ClinicalHead) -> None:
        rows, labels = cohort(2000, 4)
        probability = head.probability(rows)
        assert auc(labels, probability).value > 0.8
        for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)):
            inside = (probability >= low) & (probability < high)
            assert abs(probability[inside].mean() - labels[inside].mean()) < 0.12

    def test_shuffled_labels_teach_nothing(self) -> None:
        """The out-of-fold AUC of labels that mean nothing: within chance of one half; below it is likelier than above, because
        what a fold's training patients have more of, its other patients have less of."""
        found = []
        for seed in range(4):
            rows, labels = cohort(90, seed)
            labels[:] = np.random.default_rng(seed + 50).permutation(labels)
            found.append(auc(labels, out_of_fold(rows, labels)).value)
        error = 0.062  # of an AUC of 45 and 45 patients
        assert max(found) < 0.5 + 2 * error
        assert 0.5 - 3 * error < np.mean(found) < 0.5 + error

    def test_a_heads_own_strength_is_the_best_of_the_inner_folds(self, head: ClinicalHead) -> None:
        lost = head.inner["deviance"]
        assert lost[str(head.strength)] == min(lost.values())

    def test_of_noise_hardly_anything_is_said(self) -> None:
        """Labels drawn by lot: the probabilities stay near the share."""
        rows, labels = cohort(90, 5, signal=0.0)
        probability = LNMTrainerClinical().train(rows, labels, list(rows)).probability(rows)
        signal = LNMTrainerClinical().train(*cohort(90, 5, signal=2.0), list(rows)).probability(rows)
        assert probability.std() < 0.12
        assert signal.std() > 0.25


class TestWhatItMustNotSee:
    def test_a_patients_own_label_does_not_change_the_out_of_fold_probability(self, table: Table) -> None:
        """The folds are fixed: stratifying them by labels would let a label move other patients about."""
        rows, labels = table
        fold = make_folds(rows.index, {}, labels.to_dict())[0]
        before = LNMTrainerClinical().train(rows.loc[fold["train"]], labels, list(rows))
        turned = labels.copy()
        turned[fold["val"]] = 1 - turned[fold["val"]]
        after = LNMTrainerClinical().train(rows.loc[fold["train"]], turned, list(rows))
        assert before == after
        assert not set(before.patients) & set(fold["val"])

    def test_inner_predictions_come_from_models_that_had_not_seen_the_patient(
        self, table: Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An entry that only one patient has tells the label: who has seen it knows, who has not cannot."""
        rows, labels = table
        seen: list[tuple[frozenset[str], frozenset[str]]] = []
        learn, given = clinical.learn_columns, clinical.encode

        def watch_learn(part: pd.DataFrame, names: list[str]):
            seen.append((frozenset(part.index), frozenset()))
            return learn(part, names)

        def watch_encode(columns, part: pd.DataFrame):
            trained, others = seen[-1]
            seen[-1] = (trained, others | frozenset(part.index))
            return given(columns, part)

        monkeypatch.setattr(clinical, "learn_columns", watch_learn)
        monkeypatch.setattr(clinical, "encode", watch_encode)
        LNMTrainerClinical().train(rows, labels, list(rows))
        inner = [(trained, both - trained) for trained, both in seen if both - trained]
        assert len(inner) == decision.N_FOLDS * decision.REPEATS
        for trained, predicted in inner:
            assert trained | predicted == set(rows.index)
        for repeat in range(decision.REPEATS):
            part = inner[repeat * decision.N_FOLDS : (repeat + 1) * decision.N_FOLDS]
            assert sorted(name for _, predicted in part for name in predicted) == sorted(rows.index)

    def test_threshold_and_calibrator_come_from_inner_out_of_fold_predictions(
        self, table: Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a head that learned its training patients by heart: with columns of noise the two differ much."""
        rows, labels = table
        noise = np.random.default_rng(8).normal(size=(len(rows), 60))
        rows = pd.concat([rows, pd.DataFrame(noise, index=rows.index, columns=[f"n{number}" for number in range(60)])], axis=1)
        monkeypatch.setattr(clinical, "STRENGTHS", (0.001,))
        given: list[np.ndarray] = []

        def watch(truth, logits):
            given.append(logits)
            return fit_calibrator(truth, logits)

        monkeypatch.setattr(clinical, "fit_calibrator", watch)
        head = LNMTrainerClinical().train(rows, labels, list(rows))
        assert auc(labels, head.logit(rows)).value > 0.99
        assert auc(labels[sorted(rows.index)], given[-1]).value < 0.85
        assert 0 < head.calibrator.slope < 0.5
        inside = head.calibrator.probability(given[-1])
        assert head.threshold == Threshold.choose(labels[sorted(rows.index)].to_numpy(), inside, None)

    def test_the_scaler_is_of_the_training_patients(self, table: Table) -> None:
        rows, labels = table
        train = rows.iloc[:60]
        head = LNMTrainerClinical().train(train, labels, list(rows))
        age = next(column for column in head.columns if column.name == "age")
        assert age.mean == pytest.approx(train["age"].mean(), rel=1e-12)
        assert age.deviation == pytest.approx(train["age"].std(ddof=0), rel=1e-12)
        assert age.mean != pytest.approx(rows["age"].mean(), rel=1e-4)

    def test_a_threshold_of_a_given_sensitivity_is_as_sensitive_inside(self, table: Table) -> None:
        rows, labels = table
        low = LNMTrainerClinical(sensitivity=0.95).train(rows, labels, list(rows))
        high = LNMTrainerClinical(sensitivity=0.5).train(rows, labels, list(rows))
        assert low.threshold.value < high.threshold.value
        new, truth = cohort(2000, 9)
        assert (low.probability(new)[truth == 1] >= low.threshold.value).mean() > 0.85
        assert low.threshold.rule == "sensitivity 0.95"


class TestMissing:
    def test_missing_is_neither_negative_nor_positive(self, head: ClinicalHead) -> None:
        """HPV is missing at random here, so a missing one should say nothing: between no and yes, near the average of both."""
        row = pd.DataFrame({"age": [60.0] * 3, "t_stage": [2.0] * 3, "sex": ["male"] * 3, "hpv": ["no", None, "yes"]})
        no, missing, yes = head.logit(row)
        assert no + 0.25 * (yes - no) < missing < no + 0.75 * (yes - no)

    def test_a_number_that_is_missing_is_not_zero(self) -> None:
        rows, labels = cohort(90, 6)
        rows["t_stage"] -= 1  # from 0: zero is the mildest
        rows.loc[rows.index[::6], "t_stage"] = np.nan
        head = LNMTrainerClinical().train(rows, labels, list(rows))
        row = pd.DataFrame({"age": [60.0] * 3, "t_stage": [0.0, np.nan, 3.0], "sex": ["male"] * 3, "hpv": ["no"] * 3})
        lowest, missing, highest = head.logit(row)
        assert lowest + 0.25 * (highest - lowest) < missing < highest

    @pytest.mark.parametrize("kind", ["number", "category"])
    def test_where_missing_means_something_its_indicator_learns_it(self, kind: str) -> None:
        """Nobody measured what looked harmless: missing is the label, the entries themselves are noise."""
        rng = np.random.default_rng(1)
        labels = pd.Series(rng.integers(0, 2, 80), index=[f"p{number:02d}" for number in range(80)])
        entries = rng.normal(size=80) if kind == "number" else rng.choice(["a", "b"], 80).astype(object)
        rows = pd.DataFrame({"marker": pd.Series(entries, index=labels.index).where(labels == 1)})
        head = LNMTrainerClinical().train(rows, labels, ["marker"])
        weights = dict(zip(head.features, head.weights, strict=True))
        assert weights["marker missing"] < -2
        probability = head.probability(rows)
        assert probability[labels == 0].max() < 0.2
        assert probability[labels == 1].min() > 0.8

    def test_never_missing_in_training_it_counts_as_average(self) -> None:
        rows, _ = cohort(90, 7)
        rows["hpv"] = rows["hpv"].fillna("no")
        columns, _ = learn_columns(rows, list(rows))
        assert not any(column.indicator for column in columns)
        blank = pd.DataFrame({name: pd.Series([np.nan], dtype=rows[name].dtype) for name in rows})
        np.testing.assert_array_equal(encode(columns, blank), 0.0)
        np.testing.assert_allclose(encode(columns, rows).mean(axis=0), 0.0, atol=1e-12)

    def test_a_category_nobody_had_counts_as_average_and_is_told(self) -> None:
        rows, _ = cohort(90, 7)
        columns = {column.name: column for column in learn_columns(rows, list(rows))[0]}
        strange = pd.Series(["diverse", "MALE ", None], dtype=object, name="sex")
        assert columns["sex"].unseen(strange).tolist() == [True, False, False]
        np.testing.assert_array_equal(columns["sex"].encode(strange)[0], 0.0)
        assert columns["sex"].encode(strange)[1].tolist() == columns["sex"].encode(pd.Series(["male"], dtype=object))[0].tolist()

    def test_rare_categories_are_one(self) -> None:
        sites = pd.Series([*["a"] * 30, *["b"] * 20, *"cdefgh"], dtype=object, name="site")
        column = Column.of_categories(sites)
        assert isinstance(column, Column)
        assert column.levels == ("a", "b", "(other)")
        new = pd.Series(["c", "never seen"], dtype=object)
        np.testing.assert_array_equal(column.encode(new)[0], column.encode(new)[1])
        assert column.encode(new)[0, 2] > 0.5


class TestColumnsThatAreLeftOut:
    @pytest.mark.parametrize(
        ("values", "why"),
        [
            ([np.nan] * 20, "no training patient has an entry"),
            ([3.0] * 19 + [np.nan], "it is 3 of every training patient who has an entry"),
            (["yes"] * 20, 'it is "yes" of every training patient who has an entry'),
            ([f"2020-01-{day:02d}" for day in range(1, 21)], "no entry is shared by 5 training patients"),
            (["yes"] * 18 + ["no"] * 2, 'fewer than 5 training patients have another entry than "yes"'),
        ],
    )
    def test_the_reason_is_told(self, values: list[object], why: str) -> None:
        rows = pd.DataFrame({"column": values, "age": np.arange(20.0)})
        columns, dropped = learn_columns(rows, ["column", "age"])
        assert [column.name for column in columns] == ["age"]
        assert dropped == {"column": why}

    def test_what_names_patients(self) -> None:
        _, dropped = learn_columns(pd.DataFrame({"MRN": np.arange(20.0)}), ["MRN"])
        assert dropped == {"MRN": "its name says that it names patients"}

    def test_a_head_of_no_column_at_all_says_the_share(self) -> None:
        labels = pd.Series([1] * 15 + [0] * 25, index=[f"p{number}" for number in range(40)])
        rows = pd.DataFrame({"empty": np.nan}, index=labels.index)
        head = LNMTrainerClinical().train(rows, labels, ["empty"])
        np.testing.assert_allclose(head.probability(rows), 15 / 40)


class TestTheSameAgain:
    def test_the_order_of_rows_and_columns_does_not_matter(self, table: Table, head: ClinicalHead) -> None:
        rows, labels = table
        rng = np.random.default_rng(0)
        mixed = rows.iloc[rng.permutation(len(rows))][["sex", "t_stage", "hpv", "age"]]
        again = LNMTrainerClinical().train(mixed, labels.sample(frac=1, random_state=1), ["hpv", "age", "t_stage", "sex"])
        assert again == head
        np.testing.assert_array_equal(again.probability(mixed), head.probability(rows.loc[mixed.index]))

    def test_through_a_file_it_says_the_same_to_the_last_bit(self, table: Table, head: ClinicalHead) -> None:
        rows, _ = table
        stored = json.dumps(head.to_json(), allow_nan=False)
        again = ClinicalHead.from_json(json.loads(stored))
        assert again == head
        np.testing.assert_array_equal(again.probability(rows), head.probability(rows))

    def test_another_seed_draws_other_inner_folds(self) -> None:
        names, truth = [f"p{number}" for number in range(40)], np.arange(40) % 2
        first, second = inner_folds(names, truth, 0)[0], inner_folds(names, truth, 10)[0]
        assert any(list(a[1]) != list(b[1]) for a, b in zip(first, second, strict=True))


class TestCalibration:
    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(2)
        logits = rng.normal(0, 1.5, 400)
        return (rng.random(400) < 1 / (1 + np.exp(-logits))).astype(int), logits

    @pytest.mark.parametrize("blown_up", [0.3, 1.0, 3.0])
    def test_what_says_too_much_or_too_little_is_put_right(self, blown_up: float) -> None:
        truth, logits = self.scores()
        calibrator = fit_calibrator(truth, blown_up * logits + 1)
        assert calibrator.slope == pytest.approx(1 / blown_up, rel=0.25)
        assert calibrator.probability(blown_up * logits + 1).mean() == pytest.approx(truth.mean(), abs=0.01)

    def test_the_head_gives_calibrated_probabilities(self, table: Table, head: ClinicalHead) -> None:
        rows, _ = table
        line = 0.3 + 2.0 * head.logit(rows)
        other = replace(head, calibrator=Calibrator(2.0, 0.3))
        np.testing.assert_allclose(other.probability(rows), 1 / (1 + np.exp(-line)))

    def test_a_ranking_that_is_upside_down_is_not_turned_round(self) -> None:
        truth, logits = self.scores()
        assert not fit_calibrator(1 - truth, logits).calibrates

    def test_a_perfect_ranking_has_a_finite_slope(self) -> None:
        truth = np.repeat([0, 1], 20)
        assert 1 < fit_calibrator(truth, truth * 2.0 - 1).slope < 100

    def test_the_strength_is_that_of_the_best_probabilities_as_they_will_be_given(self, head: ClinicalHead) -> None:
        """Recalibrated: a penalty is not preferred for shrinking what the calibrator would shrink."""
        truth, logits = self.scores()
        given = [clinical._worth(truth, blown_up * logits) for blown_up in (1.0, 10.0)]
        assert given[0] == pytest.approx(given[1], abs=1e-3)
        share = np.full(400, np.log(truth.mean() / (1 - truth.mean())))
        assert clinical._worth(1 - truth, logits) == pytest.approx(deviance(1 - truth, -share).mean())
        assert head.strength in clinical.STRENGTHS


def test_a_far_slip_does_not_carry_the_patient_away(head: ClinicalHead) -> None:
    row = pd.DataFrame({"age": [60.0, 100.0, 6e6], "t_stage": [2.0] * 3, "sex": ["male"] * 3, "hpv": ["no"] * 3})
    _, old, slip = head.logit(row)
    assert slip == old


def test_heads_differ_where_anything_in_them_does(head: ClinicalHead) -> None:
    assert replace(head, intercept=head.intercept + 1) != head
