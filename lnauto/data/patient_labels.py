"""Which patients have nodal metastases, as far as the table knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from lnauto.data.patients import PatientTable

FEWEST = 2  # patients of each class that a head learns from, so that each of its inner folds has one


def too_few(labels: Iterable[int]) -> str | None:
    """Of which class there are too few patients, in words."""
    counts = Counter(int(label) for label in labels)
    for label, told in ((1, "with"), (0, "without")):
        if counts[label] < FEWEST:
            return f"{counts[label]} patient{'' if counts[label] == 1 else 's'} {told} metastasis, and {FEWEST} are needed"
    return None


@dataclass(frozen=True, eq=False)
class PatientLabels:
    """0 or 1 for each patient, NaN where it is not known: `lnm`, or, where that is not known, whether `n_stage` is above 0."""

    values: pd.Series
    by_lnm: int
    by_stage: int
    disagreeing: int  # patients of whom both are known, and do not say the same; lnm counts

    @classmethod
    def of(cls, table: PatientTable) -> PatientLabels:
        unknown = pd.Series(float("nan"), index=table.frame.index)
        lnm = table.frame.get("lnm", unknown).astype(float)
        stage = table.frame.get("n_stage", unknown).astype(float)
        staged = (stage > 0).astype(float).where(stage.notna())
        both = lnm.notna() & staged.notna()
        return cls(
            values=lnm.where(lnm.notna(), staged),
            by_lnm=int(lnm.notna().sum()),
            by_stage=int((lnm.isna() & staged.notna()).sum()),
            disagreeing=int((lnm[both] != staged[both]).sum()),
        )

    @property
    def known(self) -> pd.Series:
        """The labels that are known, as whole numbers."""
        return self.values.dropna().astype(int)

    @property
    def counts(self) -> tuple[int, int]:
        """Patients without and with metastasis."""
        return int((self.values == 0).sum()), int((self.values == 1).sum())

    @property
    def told(self) -> str:
        """Where the labels come from, for a person."""
        parts = [f"lnm of {self.by_lnm} patients"] if self.by_lnm else []
        parts += [f"n_stage above 0 of {self.by_stage} whose lnm is not known"] if self.by_stage else []
        parts += [f"lnm where the two disagree ({self.disagreeing} patients)"] if self.disagreeing else []
        return ", ".join(parts)
