"""The summary of a patient-level validation as text, at most 100 columns wide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lnauto.evaluation.decisions import Decisions
from lnauto.evaluation.estimates import Estimate
from lnauto.evaluation.patients import Comparison, PatientSummary, Subgroup

WIDTH, FIGURE, INTERVAL = 30, 8, 18
DECISIONS_AT = (0.1, 0.2, 0.3, 0.4, 0.5)
NAMES = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}


def table(summary: PatientSummary) -> str:
    """What a reader wants to know first stands first: how well patients are ranked, then decided about, then the rest."""
    parts = [
        [f"{summary.patients} patients, {summary.positive} with metastasis ({summary.observed:.0%})"],
        list(_ranking(summary)),
        list(_decided(summary)),
        list(_probabilities(summary)),
        list(_net_benefit(summary)),
        list(_compared(summary.comparisons)),
        list(_groups(summary.folds, "fold")),
        list(_groups(summary.subgroups, "subgroup")),
    ]
    return "\n\n".join("\n".join(line.rstrip() for line in part) for part in parts if part)


def _ranking(summary: PatientSummary) -> Iterator[str]:
    yield f"{'ranking':{WIDTH}}{'value':>{FIGURE}}{'95 % interval':>{INTERVAL}}"
    yield _line("AUC", summary.auc, "DeLong")
    yield _line("", summary.auc_bootstrap, f"bootstrap over patients, {summary.repeats}")
    if summary.folds:
        mean, deviation, count = summary.fold_aucs
        yield f"{f'AUC, mean of {count} folds':{WIDTH}}{_number(mean):>{FIGURE}}{'sd ' + _number(deviation):>{INTERVAL}}"
    yield _line("average precision", summary.average_precision, f"bootstrap; by chance {summary.observed:.3f}")


def _decided(summary: PatientSummary) -> Iterator[str]:
    low, high = summary.thresholds[0], summary.thresholds[-1]
    yield f"at threshold {low:.3f}" + (f" to {high:.3f}, each patient's own fold's" if high > low else "")
    for name, estimate in summary.decisions.estimates().items():
        part, whole = _share(summary.decisions, name)
        yield _line(NAMES[name], estimate, f"Wilson; {part} of {whole}")


def _share(decisions: Decisions, name: str) -> tuple[int, int]:
    """The patients behind the figure: right ones, and of how many."""
    right = decisions.true_positive if name in ("sensitivity", "ppv") else decisions.true_negative
    wrong = {
        "sensitivity": decisions.false_negative,
        "specificity": decisions.false_positive,
        "ppv": decisions.false_positive,
        "npv": decisions.false_negative,
    }
    return right, right + wrong[name]


def _probabilities(summary: PatientSummary) -> Iterator[str]:
    slope, intercept = summary.calibration
    yield "probabilities"
    yield _line("Brier", summary.brier, f"bootstrap; prevalence alone has {summary.brier_of_prevalence:.3f}")
    yield _line("calibration slope", slope, "1 is right" if math.isfinite(slope.value) else "the probabilities give it no value")
    yield _line("calibration intercept", intercept, "0 is right" if math.isfinite(intercept.value) else "")
    yield f"{'mean probability':{WIDTH}}{_number(summary.expected):>{FIGURE}}  metastasis in {summary.observed:.3f}"


def _net_benefit(summary: PatientSummary) -> Iterator[str]:
    curve = summary.decision_curve
    rows = [curve.thresholds.index(at) for at in DECISIONS_AT]
    yield f"{'net benefit, treating from':{WIDTH}}" + "".join(f"{at:>{FIGURE}.0%}" for at in DECISIONS_AT)
    for name, values in (("by the model", curve.model), ("treat all (none: 0)", curve.treat_all)):
        yield f"{name:{WIDTH}}" + "".join(f"{values[row]:>{FIGURE}.3f}" for row in rows)


def _compared(comparisons: Sequence[Comparison]) -> Iterator[str]:
    if not comparisons:
        return
    interval = f"{'95 % interval':>{INTERVAL}}"
    yield f"{'compared with':{WIDTH}}{'n':>5}{'AUC':>7}{interval}{'model is':>9}{interval}{'p':>8}"
    for one in comparisons:
        begin = f"{_short(one.name):{WIDTH}}{one.patients:>5}"
        if one.auc is None or one.difference is None:
            yield f"{begin}      -  {one.said}"
        else:
            difference, p = one.difference, one.difference.p
            yield (
                f"{begin}{_number(one.auc.value):>7}{_interval(one.auc):>{INTERVAL}}{_signed(difference.value):>9}"
                f"{_signed_interval(difference.low, difference.high):>{INTERVAL}}"
                f"{'-' if math.isnan(p) else '<0.001' if p < 0.001 else f'{p:.3f}':>8}"
            )
        if one.decisions is not None:
            shares = one.decisions.estimates()
            told = ", ".join(f"{NAMES[name]} {_number(shares[name].value)}" for name in shares)
            yield f"  from {one.threshold:g} on: {told}"


def _groups(groups: Sequence[Subgroup], title: str) -> Iterator[str]:
    if not groups:
        return
    yield f"{title:{WIDTH}}{'n':>5}{'with':>7}{'AUC':>8}{'95 % interval':>{INTERVAL}}"
    for group in groups:
        begin = f"{_short(f'{group.column} {group.value}'):{WIDTH}}{group.patients:>5}{group.positive:>7}"
        yield (
            f"{begin}{_number(group.auc.value):>8}{_interval(group.auc):>{INTERVAL}}"
            if group.auc
            else f"{begin}       -  {group.said}"
        )


def _line(name: str, estimate: Estimate, remark: str) -> str:
    return f"{name:{WIDTH}}{_number(estimate.value):>{FIGURE}}{_interval(estimate):>{INTERVAL}}  {remark}"


def _interval(estimate: Estimate) -> str:
    return "-" if math.isnan(estimate.low) else f"{estimate.low:.3f} to {estimate.high:.3f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _signed_interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"


def _short(name: str) -> str:
    return name if len(name) < WIDTH else name[: WIDTH - 4] + "..."
