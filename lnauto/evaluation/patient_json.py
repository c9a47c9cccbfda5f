"""A patient-level summary read back from `patients.json`, which `PatientSummary.to_json` wrote: to be drawn, not counted anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lnauto.evaluation.patients import (
    Calibration,
    CalibrationGroup,
    Comparison,
    DecisionCurve,
    Decisions,
    Difference,
    Estimate,
    PatientSummary,
    Roc,
    Spread,
    Subgroup,
)


def summary_of(content: Mapping[str, Any]) -> PatientSummary:
    """The same summary; KeyError or TypeError where `content` is something else."""
    estimates = {name: _estimate(content[name]) for name in ("auc", "auc_bootstrap", "average_precision", "brier")}
    return PatientSummary(
        patients=content["patients"],
        positive=content["positive"],
        **estimates,
        calibration=Calibration(**{name: _estimate(part) for name, part in content["calibration"].items()}),
        expected=content["expected"],
        thresholds=tuple(content["thresholds"]),
        decisions=_decisions(content["decisions"]),
        roc=Roc(**{name: tuple(values) for name, values in content["roc"].items()}),
        calibration_groups=tuple(
            CalibrationGroup(one["patients"], one["predicted"], _estimate(one["observed"]))
            for one in content["calibration_groups"]
        ),
        spread=Spread(**{name: tuple(counts) for name, counts in content["spread"].items()}),
        decision_curve=DecisionCurve(**{name: tuple(values) for name, values in content["decision_curve"].items()}),
        repeats=content["bootstrap_repeats"],
        folds=tuple(_subgroup(one) for one in content["folds"]),
        subgroups=tuple(_subgroup(one) for one in content["subgroups"]),
        comparisons=tuple(_comparison(one) for one in content["comparisons"]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _estimate(content: Mapping[str, Any]) -> Estimate:
    return Estimate(*(_number(content[key]) for key in ("value", "low", "high")))


def _decisions(content: Mapping[str, Any]) -> Decisions:
    counts = ("true_positive", "false_positive", "false_negative", "true_negative")
    return Decisions(*(int(content[key]) for key in counts))


def _subgroup(content: Mapping[str, Any]) -> Subgroup:
    return Subgroup(**{**content, "auc": _estimate(content["auc"]) if content["auc"] else None})


def _comparison(content: Mapping[str, Any]) -> Comparison:
    difference, decisions = content["difference"], content["decisions"]
    parts = {
        "auc": _estimate(content["auc"]) if content["auc"] else None,
        "difference": Difference(*(_number(difference[key]) for key in ("value", "low", "high", "p"))) if difference else None,
        "decisions": _decisions(decisions) if decisions else None,
    }
    return Comparison(**{**content, **parts})
