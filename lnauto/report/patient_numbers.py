"""What the drawings of a patient-level validation show, in numbers. The parts of a drawing stand below each other."""

from __future__ import annotations

from lnauto.evaluation.decisions import Decisions
from lnauto.evaluation.estimates import Estimate
from lnauto.evaluation.patients import PatientSummary
from lnauto.report.tables import Record


def roc_numbers(summary: PatientSummary) -> list[Record]:
    """The curve, its band, and the points where thresholds lie."""
    curve = summary.roc
    rows: list[Record] = [_roc("curve", x, y) for x, y in zip(curve.false_positive_rate, curve.sensitivity, strict=True)]
    rows += [_roc("band", x, None, low, high) for x, low, high in zip(curve.grid, curve.low, curve.high, strict=True)]
    rows.append(_point("model, at its threshold", summary.decisions))
    return rows + [_point(one.name, one.decisions) for one in summary.comparisons if one.decisions is not None]


def _roc(part: str, x: float, y: float | None, low: float | None = None, high: float | None = None) -> Record:
    ends = {"sensitivity": y, "sensitivity_low": low, "sensitivity_high": high}
    return {"part": part, "false_positive_rate": x, "false_positive_rate_low": None, "false_positive_rate_high": None, **ends}


def _point(name: str, decisions: Decisions) -> Record:
    found, spared = (decisions.estimates()[key] for key in ("sensitivity", "specificity"))
    sides = {"false_positive_rate_low": 1 - spared.high, "false_positive_rate_high": 1 - spared.low}
    return {**_roc(name, 1 - spared.value, found.value, found.low, found.high), **sides}


def calibration_numbers(summary: PatientSummary) -> list[Record]:
    """The groups, and below them how many patients were given which probability."""
    steps = len(summary.spread.positive)
    rows: list[Record] = [_group(one.predicted, one.patients, one.observed) for one in summary.calibration_groups]
    for step, (positive, negative) in enumerate(zip(summary.spread.positive, summary.spread.negative, strict=True)):
        counts = {"from": step / steps, "to": (step + 1) / steps, "with_metastasis": positive, "without_metastasis": negative}
        rows.append({"part": "patients", **counts})
    return rows


def _group(predicted: float, patients: int, observed: Estimate) -> Record:
    ends = {"observed": observed.value, "observed_low": observed.low, "observed_high": observed.high}
    return {"part": "group", "predicted": predicted, **ends, "patients": patients}


def decision_numbers(summary: PatientSummary) -> list[Record]:
    """The three lines, and between which probabilities the thresholds in use lie."""
    curve = summary.decision_curve
    lines = zip(curve.thresholds, curve.model, curve.treat_all, curve.treat_none, strict=True)
    rows: list[Record] = [
        {"part": "curve", "threshold": at, "model": model, "treat_all": every, "treat_none": none}
        for at, model, every, none in lines
    ]
    return rows + [{"part": "threshold in use", "threshold": at} for at in (summary.thresholds[0], summary.thresholds[-1])]
