"""What a training page says of a patient head: how it ranks, decides, and compares with rules that anybody could follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lnauto.evaluation.patient_json import summary_of
from lnauto.report.curves import of_patients
from lnauto.report.drawing import Drawing
from lnauto.report.figures import with_interval
from lnauto.report.page import Piece
from lnauto.report.patient_numbers import calibration_numbers, decision_numbers, roc_numbers
from lnauto.report.patient_picture import draw_calibration, draw_decision_curve, draw_roc
from lnauto.report.tables import Cell, Column, Html, Table, escape

SHARES = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}
DRAWINGS = {
    "ROC curve": ("roc", draw_roc, roc_numbers, "How well patients are ranked, with the point at the threshold in use."),
    "calibration": (
        "calibration",
        draw_calibration,
        calibration_numbers,
        "Whether probabilities mean what they say: on the dotted line they do.",
    ),
    "decision curve": (
        "decision-curve",
        draw_decision_curve,
        decision_numbers,
        "What treating by the model would bring, against treating all or none.",
    ),
}
FIGURES = [
    Column("validated on"),
    Column("patients", "d"),
    Column("with metastasis", "d"),
    Column("AUC", "", "area under the ROC curve, DeLong's interval"),
    *(Column(name, "", "at the threshold of the patient's own fold, Wilson's interval") for name in SHARES.values()),
    Column("Brier", "", "mean squared distance from what came true; bootstrap over patients"),
]


def head_part(head: Mapping[str, Any], number: int) -> list[Piece]:
    """A head's figures; `head` has its name and, for all folds and each fold, what `patients.json` holds."""
    judged = head["judged"]
    rows = [_row(one["of"], one["figures"]) for one in judged]
    name, files = head["head"] or "the table alone", head["head"] or "table"
    told = f"Patients, by {name}; 95 % intervals"
    parts: list[Piece] = [
        f"<h3>Patient head: {escape(name)}</h3>",
        Table(f"head-{number}", FIGURES, rows, told, f"patients-{files}"),
    ]
    whole = judged[0]  # all folds together where they are pooled
    summary, figures = summary_of(whole["figures"]), whole["figures"]
    drawings = [
        Drawing(
            f"{start}-{files}-{whole['of']}",
            of_patients(summary, draw),
            f"{title} of {name}, {whole['of']}",
            f"{whole['of']}: {caption}",
            numbers(summary),
        )
        for title, (start, draw, numbers, caption) in DRAWINGS.items()
    ]
    parts += ['<div class="pair">', *drawings, "</div>"]
    calibration = figures["calibration"]
    line = [with_interval(calibration[key]).html() for key in ("slope", "intercept")]
    parts.append(
        f"<p>{escape(whole['of'])}: calibration slope {line[0]} (1 is right), intercept {line[1]} (0 is right); mean"
        f" probability {figures['expected']:.2f}, metastasis in {figures['observed']:.2f}; average precision"
        f" {with_interval(figures['average_precision']).html()}. A Brier score of {figures['brier_of_prevalence']:.3f} comes from"
        " saying the prevalence of everybody.</p>"
    )
    groups = figures["subgroups"] if len(judged) > 1 else [*figures["subgroups"], *figures["folds"]]
    parts += _compared(figures["comparisons"], f"head-{number}-compared", name, f"patients-{files}-compared")
    parts += _groups(groups, f"head-{number}-groups", name, f"patients-{files}-subgroups")
    return parts


def _row(of: str, figures: Mapping[str, Any]) -> list[Cell]:
    decisions = figures["decisions"]
    shares = [with_interval(decisions[key]) for key in SHARES]
    brier = with_interval(figures["brier"], ".3f")
    return [of, figures["patients"], figures["positive"], with_interval(figures["auc"], ".3f"), *shares, brier]


def _compared(comparisons: Sequence[Mapping[str, Any]], identifier: str, head: str, name: str) -> Iterator[Table]:
    if not comparisons:
        return
    columns = [
        Column("compared with"),
        Column("patients", "d"),
        Column("AUC", "", "of the rule on the patients it can be applied to"),
        Column("the head is better by", "", "difference of the AUCs on the same patients, DeLong's interval", "difference"),
        Column("p", "", "of there being no difference, two-sided"),
        Column("from", ".3g", "the rule's own threshold", "threshold"),
        Column("sensitivity"),
        Column("specificity"),
        Column("remark"),
    ]
    rows: list[list[Cell]] = []
    for one in comparisons:
        difference, decisions = one["difference"] or {}, one["decisions"] or {}
        shares = [with_interval(decisions.get(key)) for key in ("sensitivity", "specificity")]
        auc, better = with_interval(one["auc"], ".3f"), with_interval(one["difference"], "+.3f")
        chance, remark = _chance(difference.get("p")), one["said"] or None
        rows.append([one["name"], one["patients"], auc, better, chance, one["threshold"], *shares, remark])
    yield Table(identifier, columns, rows, f"What {head} is compared with; 95 % intervals", name)


def _chance(p: float | None) -> Html | None:
    return None if p is None else Html(escape("<0.001" if p < 0.001 else f"{p:.3f}"), p)


def _groups(groups: Sequence[Mapping[str, Any]], identifier: str, head: str, name: str) -> Iterator[Table]:
    if not groups:
        return
    columns = [
        Column("part of the patients"),
        Column("patients", "d"),
        Column("with metastasis", "d"),
        Column("AUC"),
        Column("remark"),
    ]
    rows: list[list[Cell]] = [
        [
            f"{one['column']} {one['value']}",
            one["patients"],
            one["positive"],
            with_interval(one["auc"], ".3f"),
            one["said"] or None,
        ]
        for one in groups
    ]
    yield Table(identifier, columns, rows, f"Parts of the patients, by {head}; DeLong's 95 % intervals", name)
