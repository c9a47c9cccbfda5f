"""What a training page says of a patient head: how it ranks, decides, and compares with rules that anybody could follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lnauto.evaluation.patient_json import summary_of
from lnauto.report.curves import of_patients
from lnauto.report.figures import with_interval
from lnauto.report.page import Column, Html, Value, escape, figure, table
from lnauto.report.patient_picture import draw_calibration, draw_decision_curve, draw_roc

SHARES = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}
DRAWINGS = {
    "ROC curve": (draw_roc, "How well patients are ranked, with the point at the threshold in use."),
    "calibration": (draw_calibration, "Whether probabilities mean what they say: on the dotted line they do."),
    "decision curve": (draw_decision_curve, "What treating by the model would bring, against treating all or none."),
}
FIGURES = [
    Column("validated on"),
    Column("patients", "d"),
    Column("with metastasis", "d"),
    Column("AUC", "", "area under the ROC curve, DeLong's interval"),
    *(Column(name, "", "at the threshold of the patient's own fold, Wilson's interval") for name in SHARES.values()),
    Column("Brier", "", "mean squared distance from what came true; bootstrap over patients"),
]


def head_part(head: Mapping[str, Any], number: int) -> str:
    """A head's figures; `head` has its name and, for all folds and each fold, what `patients.json` holds."""
    judged = head["judged"]
    rows = [_row(one["of"], one["figures"]) for one in judged]
    name = head["head"] or "the table alone"
    parts = [f"<h3>Patient head: {escape(name)}</h3>", table(FIGURES, rows, f"head-{number}")]
    whole = judged[0]  # all folds together where they are pooled
    summary, figures = summary_of(whole["figures"]), whole["figures"]
    drawings = "".join(
        figure(of_patients(summary, draw, f"{title} of {name}, {whole['of']}"), f"{whole['of']}: {caption}")
        for title, (draw, caption) in DRAWINGS.items()
    )
    parts.append(f'<div class="pair">{drawings}</div>')
    calibration = figures["calibration"]
    line = [with_interval(calibration[key]).text for key in ("slope", "intercept")]
    parts.append(
        f"<p>{escape(whole['of'])}: calibration slope {line[0]} (1 is right), intercept {line[1]} (0 is right); mean"
        f" probability {figures['expected']:.2f}, metastasis in {figures['observed']:.2f}; average precision"
        f" {with_interval(figures['average_precision']).text}. A Brier score of {figures['brier_of_prevalence']:.3f} comes from"
        " saying the prevalence of everybody.</p>"
    )
    parts += _compared(figures["comparisons"], number)
    parts += _groups(figures["subgroups"] if len(judged) > 1 else [*figures["subgroups"], *figures["folds"]], number)
    return "".join(parts)


def _row(of: str, figures: Mapping[str, Any]) -> list[Value | Html]:
    decisions = figures["decisions"]
    shares = [with_interval(decisions[key]) for key in SHARES]
    brier = with_interval(figures["brier"], ".3f")
    return [of, figures["patients"], figures["positive"], with_interval(figures["auc"], ".3f"), *shares, brier]


def _compared(comparisons: Sequence[Mapping[str, Any]], number: int) -> Iterator[str]:
    if not comparisons:
        return
    columns = [
        Column("compared with"),
        Column("patients", "d"),
        Column("AUC", "", "of the rule on the patients it can be applied to"),
        Column("the head is better by", "", "difference of the AUCs on the same patients, DeLong's interval"),
        Column("p", "", "of there being no difference, two-sided"),
        Column("from", ".3g", "the rule's own threshold"),
        Column("sensitivity"),
        Column("specificity"),
        Column("remark"),
    ]
    rows: list[list[Value | Html]] = []
    for one in comparisons:
        difference, decisions = one["difference"] or {}, one["decisions"] or {}
        shares = [with_interval(decisions.get(key)) for key in ("sensitivity", "specificity")]
        auc, better = with_interval(one["auc"], ".3f"), with_interval(one["difference"], "+.3f")
        chance, remark = _chance(difference.get("p")), one["said"] or None
        rows.append([one["name"], one["patients"], auc, better, chance, one["threshold"], *shares, remark])
    yield table(columns, rows, f"head-{number}-compared")


def _chance(p: float | None) -> Html | None:
    return None if p is None else Html(escape("<0.001" if p < 0.001 else f"{p:.3f}"), p)


def _groups(groups: Sequence[Mapping[str, Any]], number: int) -> Iterator[str]:
    if not groups:
        return
    columns = [
        Column("part of the patients"),
        Column("patients", "d"),
        Column("with metastasis", "d"),
        Column("AUC"),
        Column("remark"),
    ]
    rows: list[list[Value | Html]] = [
        [
            f"{one['column']} {one['value']}",
            one["patients"],
            one["positive"],
            with_interval(one["auc"], ".3f"),
            one["said"] or None,
        ]
        for one in groups
    ]
    yield table(columns, rows, f"head-{number}-groups")
