"""Clinical columns that may be the label, or what lnauto knows under another name: a head would learn the answer from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from lnauto.data.clinical_values import is_text
from lnauto.data.patient_labels import PatientLabels
from lnauto.data.patients import PatientTable
from lnauto.errors import Problem
from lnauto.evaluation.discrimination import auc_of
from lnauto.planners.patient_level import LEAST_OF_EACH
from lnauto.trainers.patient.columns import OTHER, learn_column, plain

TELLS = 0.98  # the AUC of a column alone, either way, from which on it may be the label itself [our choice]
LABELS = ("lnm", "n_stage")
SPELLINGS = {
    "lnm": {"lnm", "lnmetastasis", "lnmetastases", "lnstatus", "lymphnodemetastasis", "lymphnodemetastases", "lymphnodestatus"}
    | {"nodalmetastasis", "nodalmetastases", "nodalstatus", "nodestatus", "nodepositive"},
    "n_stage": {"n", "nstage", "nstatus", "ncategory", "nodalstage", "pn", "cn", "ypn", "ycn", "pnstage", "cnstage", "ypnstage"}
    | {"pathologicalnstage", "clinicalnstage", "nstagepathological", "nstageclinical"},
    "centre": {"centre", "center", "hospital", "institution"},
    "tumour_side": {"tumourside", "tumorside", "sideoftumour", "sideoftumor", "laterality"},
}  # without capitals, spaces, hyphens and underscores


def telltale_columns(table: PatientTable, columns: Sequence[str], where: str) -> Iterator[Problem]:
    """What to look at among the columns that a head is to learn from."""
    labels = PatientLabels.of(table).known
    for name in columns:
        known = _known_as(name)
        if known is not None and (known in LABELS or known not in table.frame):
            yield _misnamed(name, known, where)
        elif (area := _alone(table.frame.loc[labels.index, name], labels)) is not None and max(area, 1 - area) >= TELLS:
            what = f'"{name}" alone tells who has metastasis (AUC {area:.2f}): it may be the label in other words'
            yield Problem(what, where, "take it out of the table, or of patient_head.columns in the plan, if it is")


def _known_as(name: str) -> str | None:
    """The column of lnauto's that one of another name looks like."""
    bare = "".join(letter for letter in name.casefold() if letter not in " -_")
    return next((known for known, spellings in SPELLINGS.items() if bare in spellings and name != known), None)


def _misnamed(name: str, known: str, where: str) -> Problem:
    if known in LABELS:
        remedy = f'call it "{known}" if it is the label; if it says the same, take it out of the table or of patient_head.columns'
        return Problem(f'"{name}" is learned from, and looks like the label "{known}"', where, remedy)
    remedy = f'call it "{known}" if it is that, or take it out of the table or of patient_head.columns'
    return Problem(f'"{name}" is learned from, and looks like "{known}", which lnauto knows', where, remedy)


def _alone(values: pd.Series, labels: pd.Series) -> float | None:
    """The AUC of one column: of numbers by their size, of categories by their share of metastasis. None: it cannot be learned
    from, or too few have an entry."""
    column, values = learn_column(values), values.dropna()
    truth = labels[values.index]
    if isinstance(column, str) or min((truth == 0).sum(), (truth == 1).sum()) < LEAST_OF_EACH:
        return None
    if is_text(values):
        entries = plain(values)
        values = truth.groupby(entries.where(entries.isin(column.levels), OTHER)).transform("mean")
    return auc_of(truth.to_numpy() == 1, values.to_numpy(float)).value
