import random
import warnings

import numpy as np
import pytest

from lnauto.data.folds import everybody, make_folds, strata_of, validates_on_training
from lnauto.data.patients import PatientTable


def cohort(n_patients, seed=0, scans=(1, 1, 1, 2, 6), classes=(0, 1, None)):
    """Cases, their patients and their strata."""
    rng = random.Random(seed)
    patient_of, strata = {}, {}
    for patient in range(n_patients):
        stratum = rng.choice(classes)
        for scan in range(rng.choice(scans)):
            patient_of[f"p{patient}s{scan}"], strata[f"p{patient}s{scan}"] = f"p{patient}", stratum
    return list(patient_of), patient_of, strata


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n_patients", [2, 3, 4, 5, 6, 23])
def test_every_case_validates_once_and_no_patient_is_on_both_sides(n_patients, seed):
    cases, patient_of, strata = cohort(n_patients, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = make_folds(cases, patient_of, strata)
    assert len(folds) == min(5, n_patients)
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(cases)
    for fold in folds:
        assert fold["train"]
        assert fold["val"]
        assert sorted(fold["train"] + fold["val"]) == sorted(cases)
        assert not {patient_of[case] for case in fold["train"]} & {patient_of[case] for case in fold["val"]}
        assert not validates_on_training(fold)


def test_rare_strata_are_spread():
    cases = [f"c{number:02d}" for number in range(50)]
    strata = {case: int(number % 10 == 0) for number, case in enumerate(cases)}  # five of fifty
    folds = make_folds(cases, {}, strata)
    assert [sum(strata[case] for case in fold["val"]) for fold in folds] == [1] * 5
    assert [len(fold["val"]) for fold in folds] == [10] * 5


def test_strata_too_rare_for_scikit_learn_make_plain_folds():
    folds = make_folds("abcdef", {}, dict.fromkeys("abc", 0) | dict.fromkeys("def", 1))
    assert sorted(len(fold["val"]) for fold in folds) == [1, 1, 1, 1, 2]


def test_no_fold_stays_empty_where_stratifying_would_empty_one():
    sizes, classes = [3, 10, 2, 1, 1], [1, 1, 2, 0, 1]
    names = [(f"p{patient}s{scan:02d}", f"p{patient}", stratum)
             for patient, (size, stratum) in enumerate(zip(sizes, classes, strict=True)) for scan in range(size)]  # fmt: skip
    folds = make_folds([n[0] for n in names], {n[0]: n[1] for n in names}, {n[0]: n[2] for n in names})
    assert sorted(len(fold["val"]) for fold in folds) == sorted(sizes)


def test_the_order_of_the_arguments_does_not_matter_the_seed_does():
    cases, patient_of, strata = cohort(20)
    folds = make_folds(cases, patient_of, strata)
    shuffled = random.Random(1).sample(cases, len(cases))
    assert make_folds(shuffled, {case: patient_of[case] for case in shuffled}, strata) == folds
    assert make_folds(cases, patient_of, strata, seed=1) != folds


def test_missing_strata_are_one_stratum_whatever_they_are_written_as():
    cases = [f"c{number}" for number in range(20)]
    known = dict.fromkeys(cases[:10], 1)
    as_none = make_folds(cases, {}, {**known, **dict.fromkeys(cases[10:], None)})
    assert make_folds(cases, {}, {**known, **dict.fromkeys(cases[10:], float("nan"))}) == as_none
    mixed = {**known, **dict.fromkeys(cases[10:15], None), **dict.fromkeys(cases[15:], float("nan"))}
    assert make_folds(cases, {}, mixed) == make_folds(cases, {}, known) == as_none
    assert all(sum(case in known for case in fold["val"]) == 2 for fold in as_none)


@pytest.mark.parametrize("cases", [["a"], ["a1", "a2"]])
def test_a_single_patient_validates_on_its_training_cases_and_that_can_be_seen(cases):
    folds = make_folds(cases, dict.fromkeys(cases, "a"))
    assert folds == [{"train": cases, "val": cases}]
    assert validates_on_training(folds[0])


def test_two_patients_make_two_folds():
    assert make_folds(["x1", "y1", "x2"], {"x1": "x", "x2": "x", "y1": "y"}) in (
        [{"train": ["x1", "x2"], "val": ["y1"]}, {"train": ["y1"], "val": ["x1", "x2"]}],
        [{"train": ["y1"], "val": ["x1", "x2"]}, {"train": ["x1", "x2"], "val": ["y1"]}],
    )


def test_all_are_those_whom_any_fold_names_on_either_side():
    assert everybody([{"train": ["c", "a"], "val": ["b"]}, {"train": ["a"], "val": ["b"]}]) == ["a", "b", "c"]


def test_no_case_no_fold():
    assert make_folds([], {}) == []


def test_fewer_than_two_folds_are_no_folds():
    with pytest.raises(ValueError, match="n_folds must be at least 2, got 1"):
        make_folds("abc", {}, n_folds=1)


@pytest.fixture
def strata(tmp_path):
    def of(text, cases):
        (tmp_path / "patients.csv").write_text(text)
        return strata_of(PatientTable.read(tmp_path / "patients.csv"), cases)

    return of


def test_strata_come_from_lnm(strata):
    table = "patient,cases,lnm,n_stage\nP1,a;b,1,0\nP2,c,0,3\nP3,d,,1\n"
    assert strata(table, "abcd") == {"a": "lnm 1", "b": "lnm 1", "c": "lnm 0", "d": "unknown"}


def test_strata_come_from_the_stage_where_there_is_no_lnm(strata):
    assert strata("patient,lnm,n_stage\na,,0\nb,,2\nc,,\n", "abc") == {"a": "N0", "b": "N+", "c": "unknown"}


@pytest.mark.parametrize(
    ("per_cell", "expected"), [(5, {"lnm 0, K", "lnm 0, L", "lnm 1, K", "lnm 1, L"}), (4, {"lnm 0", "lnm 1"})]
)
def test_the_centre_joins_where_every_cell_has_enough_patients(per_cell, expected, strata):
    rows = [(f"{label}{centre}{number}", label, centre) for label in "01" for centre in "KL" for number in range(per_cell)]
    table = "patient,lnm,centre\n" + "".join(",".join(row) + "\n" for row in rows)
    assert set(strata(table, [row[0] for row in rows]).values()) == expected


def test_no_table_no_strata():
    assert strata_of(None, "ab") == {}


def test_names_are_plain_text_whatever_they_came_in():
    fold = make_folds(np.array(["a", "b"]), {})[0]
    assert type(fold["val"][0]) is str
