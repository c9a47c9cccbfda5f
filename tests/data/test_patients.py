import numpy as np
import pandas as pd
import pytest

from lnauto.data.patients import PatientTable

CASES = ("a", "b", "c", "007")
SEPARATED = 'keep one row per patient, all cases in the column "cases" separated by semicolons'


@pytest.fixture
def table(tmp_path):
    """Reads a table written as text or bytes."""

    def read(content, case_names=CASES):
        path = tmp_path / "patients.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return PatientTable.read(path, case_names)

    return read


FAULTS = {
    "no patient column": (
        "patient_id,age\na,3\n",
        ['there is no column "patient" (there: patient_id, age), in patients.csv; call the column of patient names "patient"'],
    ),
    "column twice": (
        "patient,age,age\na,3,4\n",
        ['2 columns are called "age", in patients.csv; give each column its own name'],
    ),
    "no rows": ("patient,age\n", ["the table has no rows, in patients.csv; add one row per patient, or remove the file"]),
    "ragged": (
        "patient,age\na,3\nb,4,5\n",
        [
            "the table cannot be read (Error tokenizing data. C error: Expected 2 fields in line 3, saw 3), in patients.csv; "
            "save it as CSV again, with one header line"
        ],
    ),
    "repeated": ("patient,age\na,3\nb,4\na,5\n", [f"patient a is repeated (rows 2, 4), in patients.csv; {SEPARATED}"]),
    "nameless": ("patient,age\na,3\n,4\n", ["row 3 names no patient, in patients.csv; fill in the patient or remove the row"]),
    "unknown": (
        "patient,age\na,3\nz,4\n",
        [
            "patient z is unknown: there is no case of that name, in patients.csv; "
            'name the patient\'s cases in a column "cases", or remove the row'
        ],
    ),
    "unknown case": (
        "patient,cases\nP1,a;z\n",
        ["patient P1 has the case z, of which there is no image, in patients.csv; correct the name, or remove it"],
    ),
    "no case named": (
        "patient,cases\nP1,a\nP2,\n",
        [
            "patient P2 is unknown: the row names no case, in patients.csv; "
            'name the patient\'s cases in the column "cases", or remove the row'
        ],
    ),
    "shared case": (
        "patient,cases\nP1,a;b\nP2,b\n",
        ["case b is given to two patients (P1 and P2), in patients.csv; leave the case with the one it shows"],
    ),
    "lnm": (
        "patient,lnm\na,2\n",
        ['"lnm" of patient a is "2", in patients.csv; write one of 0, 1, or leave it empty where it is not known'],
    ),
    "n_stage": (
        "patient,n_stage\na,N1\n",
        ['"n_stage" of patient a is "N1", in patients.csv; write one of 0, 1, 2, 3, or leave it empty where it is not known'],
    ),
    "tumour_side": (
        "patient,tumour_side\na,both\n",
        ['"tumour_side" of patient a is "both", in patients.csv; write one of L, R, or leave it empty where it is not known'],
    ),
    "infinite": (
        "patient,age\na,inf\nb,3\n",
        ['"age" of patient a is infinite, in patients.csv; write a number, or leave it empty where it is not known'],
    ),
    "several": (
        "patient,lnm,n_stage\na,7,1\nb,1,9\na,,\n",
        [
            f"patient a is repeated (rows 2, 4), in patients.csv; {SEPARATED}",
            '"lnm" of patient a is "7", in patients.csv; write one of 0, 1, or leave it empty where it is not known',
            '"n_stage" of patient b is "9", in patients.csv; write one of 0, 1, 2, 3, or leave it empty where it is not known',
        ],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_exactly_its_line(fault, table, lines):
    content, expected = FAULTS[fault]
    assert lines(table, content) == [f"lnauto: {line}" for line in expected]


def test_an_empty_file(table, lines):
    (line,) = lines(table, "")
    assert line.startswith("lnauto: the table cannot be read (")


def test_the_contract_columns_and_the_rest(table):
    read = table("patient,cases,lnm,n_stage,tumour_side,centre,age,sex\nP1,a;b,1,2,L,1,61,f\nP2,c,,0,,,,m\n")
    assert read.clinical == ("age", "sex")
    assert read.cases_of == {"P1": ("a", "b"), "P2": ("c",)}
    assert read.patient_of == {"a": "P1", "b": "P1", "c": "P2"}
    first, second = read.frame.loc["P1"], read.frame.loc["P2"]
    assert (first.lnm, first.n_stage, first.tumour_side, first.centre, first.age, first.sex) == (1, 2, "L", "1", 61, "f")
    assert second.n_stage == 0
    assert all(pd.isna(second[column]) for column in ("lnm", "tumour_side", "centre", "age"))
    assert read.knows("lnm")


def test_empty_is_missing_and_never_zero(table):
    frame = table("patient,lnm,age\na,,\nb,0,0\nc,NA,nan\n").frame
    np.testing.assert_array_equal(frame["lnm"], [np.nan, 0, np.nan])
    np.testing.assert_array_equal(frame["age"], [np.nan, 0, np.nan])


def test_a_column_without_entries_is_not_known(table):
    read = table("patient,lnm\na,\nb,\n")
    assert not read.knows("lnm")
    assert not read.knows("n_stage")


def test_leading_zeros_stay(table):
    assert table("patient,age\n007,5\n").cases_of == {"007": ("007",)}


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffpatient,cases,age\nP1,a;b,61.5\nP2,c,\n",
        'patient;cases;age\nP1;"a;b";61,5\nP2;c;\n',
        "patient\tcases\tage\nP1\ta;b\t61.5\nP2\tc\t\n",
        "Patient , CASES, age\r\n P1 , a ; b , 61.5\r\n\r\nP2, c\r\n,,\r\n",
        "patient,cases,age,,\nP1,a;b,61.5,,\nP2,c,,,\n",
    ],
    ids=["byte order mark", "semicolons", "tabs", "spaces and blank lines", "trailing commas"],
)
def test_what_spreadsheets_make_of_a_table(content, table):
    read = table(content)
    assert read.cases_of == {"P1": ("a", "b"), "P2": ("c",)}
    assert read.clinical == ("age",)
    np.testing.assert_array_equal(read.frame["age"], [61.5, np.nan])


def test_the_delimiter_is_the_one_that_makes_patient_a_column(table):
    assert table('\ufeffpatient;"age, in years, at diagnosis"\na;3\n').clinical == ("age, in years, at diagnosis",)


def test_a_table_in_windows_letters(table):
    assert table("patient,centre\na,Köln\n".encode("cp1252")).frame["centre"].tolist() == ["Köln"]


def test_numbers_as_excel_writes_them(table):
    assert table("patient,lnm,n_stage\na,1.0,2.0\n").frame[["lnm", "n_stage"]].iloc[0].tolist() == [1, 2]


def test_a_patient_without_listed_cases_is_the_case_of_that_name(table):
    assert table("patient,cases\nP1,b;c\na,\n").cases_of == {"P1": ("b", "c"), "a": ("a",)}


def test_without_images_nothing_is_said_about_cases(table):
    assert table("patient,lnm\nx,0\ny,1\n", case_names=None).patients == ("x", "y")
