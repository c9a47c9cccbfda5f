"""What a run knows of its results: figures with their intervals, rules they are compared with, and cases that went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lnauto.report.checklists.run import Run
from lnauto.report.checklists.telling import finder, listed, sentences, several, told
from lnauto.report.figures import HOW, names_of

WORST = 3
SHARES = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}


@finder
def measures(run: Run) -> str | None:
    """Which figures there are, and when a node counts as found."""
    parts = []
    if run.rows:
        names = names_of(list(dict.fromkeys(name for row in run.rows for name in row["figures"])))
        parts.append(f"masks: {', '.join(f'{name} ({HOW[key]})' if key in HOW else name for key, name in names.items())}")
        parts += [rule for rule in _rules(run) if rule]
    if run.judged:
        parts.append(
            "patients: AUC, average precision, Brier score, calibration slope and intercept, sensitivity, specificity, PPV and"
            " NPV at the threshold, decision curve; drawn as ROC curve, calibration and decision curve"
        )
    return sentences(parts)


def _rules(run: Run) -> Iterator[str]:
    protocols = [one.get("protocol") or {} for one in run.evaluated.values()]
    yield from dict.fromkeys(f"protocol {one['name']}: {one['source']}" for one in protocols if "source" in one)
    yield from dict.fromkeys(str(one["node_found"]) for one in run.evaluated.values() if one.get("node_found"))


@finder
def uncertainty(run: Run) -> str | None:
    """How intervals were made."""
    notes = [note for note in run.figures["validation"]["notes"] if "interval" in note] if run.rows else []
    for name, _, figures in run.judged:
        notes.append(
            f"{name}: AUC with DeLong's interval, shares with Wilson's, Brier score and average precision by bootstrap over"
            f" patients ({figures['bootstrap_repeats']:,} times)"
        )
    return sentences(notes)


@finder
def of_masks(run: Run) -> str | None:
    """Of all folds together, or of each where they are not taken together."""
    rows = run.rows[-1:] if run.rows and not str(run.rows[-1]["of"]).startswith("fold ") else run.rows
    return sentences([f"{row['of']}, {several(row['cases'], 'case')}: {', '.join(_figures(row['figures']))}" for row in rows])


def _figures(figures: Mapping[str, Any]) -> Iterator[str]:
    for key, name in names_of(list(figures)).items():
        if text := told(figures[key]):
            yield f"{name} {text}"


@finder
def of_nodes(run: Run) -> str | None:
    """Nodes found by size, with Wilson's interval."""
    sizes = run.figures["validation"]["sizes"] if run.rows else []
    parts = [
        f"{size['size']}: {size['found']} of {size['true']} found, recall {told(size['recall'])}"
        for size in sizes
        if size["true"]
    ]
    return sentences(["; ".join(parts)]) if parts else None


@finder
def of_patients(run: Run) -> str | None:
    """How heads rank and decide."""
    return sentences([_patients(name, of, figures) for name, of, figures in run.judged])


def _patients(name: str, of: str, figures: Mapping[str, Any]) -> str:
    shares = [f"{shown} {text}" for key, shown in SHARES.items() if (text := told(figures["decisions"][key]))]
    ranked = [f"AUC {told(figures['auc'])}", f"Brier score {told(figures['brier'], '.3f')}"]
    known = several(figures["patients"], "patient")
    return f"{name}, {of}, {known}, {figures['positive']} with metastasis: {', '.join([*ranked, *shares])}"


@finder
def calibration(run: Run) -> str | None:
    return sentences(
        [
            f"{name}, {of}: calibration slope {told(figures['calibration']['slope']) or 'not determined'}, intercept"
            f" {told(figures['calibration']['intercept']) or 'not determined'}; mean probability {figures['expected']:.2f},"
            f" metastasis in {figures['observed']:.2f}"
            for name, of, figures in run.judged
        ]
    )


@finder
def utility(run: Run) -> str | None:
    """Where treating by the model brings more than treating all or none."""
    return sentences([_useful(name, of, figures["decision_curve"]) for name, of, figures in run.judged])


def _useful(name: str, of: str, curve: Mapping[str, Sequence[float | None]]) -> str:
    rows = zip(*(curve[key] for key in ("thresholds", "model", "treat_all", "treat_none")), strict=True)
    better = [at for at, *nets in rows if at is not None and None not in nets and nets[0] > max(nets[1], nets[2])]
    if not better:
        return f"decision curve of {name}, {of}: at no threshold better than treating all or none"
    share = f"{len(better)} of {len(curve['thresholds'])} thresholds looked at, between {min(better):.2f} and {max(better):.2f}"
    return f"decision curve of {name}, {of}: better than treating all and none at {share}"


@finder
def comparators(run: Run) -> str | None:
    """Rules that anybody could follow, on the same patients."""
    return sentences(
        [
            f"{name}, {of}: {'; '.join(_rule(one) for one in figures['comparisons'])}"
            for name, of, figures in run.judged
            if figures["comparisons"]
        ]
    )


def _rule(one: Mapping[str, Any]) -> str:
    area = f"AUC {told(one['auc'])}" if one["auc"] else "no AUC"
    better = f"; the head's less this one's {told(one['difference'], '+.2f')}" if one["difference"] else ""
    remark = f", {one['said']}" if one["said"] else ""
    return f"{one['name']} has {area}{better}{remark}"


@finder
def subgroups(run: Run) -> str | None:
    """Parts of the patients, such as centres."""
    parts = [(name, figures["subgroups"]) for name, _, figures in run.judged if figures["subgroups"]]
    return sentences([f"{name}: {'; '.join(_group(one) for one in groups)}" for name, groups in parts])


@finder
def by_folds(run: Run) -> str | None:
    """How far folds differ."""
    parts = [(name, figures["folds"]) for name, _, figures in run.judged if figures["folds"]]
    return sentences([f"{name}: {'; '.join(_group(one) for one in folds)}" for name, folds in parts])


def _group(one: Mapping[str, Any]) -> str:
    area = f"AUC {told(one['auc'])}" if one["auc"] else (one["said"] or "no AUC")
    return f"{one['column']} {one['value']} ({several(one['patients'], 'patient')}, {one['positive']} with metastasis): {area}"


@finder
def failures(run: Run) -> str | None:
    """The worst cases, and how many patients are on the wrong side."""
    parts = []
    if run.rows:
        each = run.figures["validation"]["each_case"]
        key = "f1" if any(case["f1"] is not None for case in each) else "dice"
        worst = sorted((case for case in each if case[key] is not None), key=lambda case: (case[key], case["dice"] or 0.0))[
            :WORST
        ]
        parts.append(
            f"worst of {several(len(each), 'validated case')}: {'; '.join(_case(case) for case in worst)}" if worst else None
        )
        if axes := run.figures["validation"]["short_axes_mm"]["missed"]:
            parts.append(f"{several(len(axes), 'node')} missed, of a short axis from {min(axes):.1f} to {max(axes):.1f} mm")
    for name, of, figures in run.judged:
        wrong = figures["decisions"]
        told = f"{wrong['false_negative']} with metastasis below the threshold and {wrong['false_positive']} without above it"
        parts.append(f"{name}, {of}: {told}")
    return sentences(parts)


def _case(case: Mapping[str, Any]) -> str:
    nodes = "" if case["missed"] is None else f"{case['missed']} missed, {case['false']} false, "
    return f"{case['case']}: {nodes}Dice {case['dice']:.2f}" if case["dice"] is not None else f"{case['case']}: {nodes}no Dice"


@finder
def internal(run: Run) -> str | None:
    """On whom the figures are; nothing where training cases were validated on."""
    if run.folds is not None and not run.folds.apart:
        return None
    unseen = ", each predicted by a fold that did not train on it" if run.folds is not None else ""
    masks = None
    if run.rows:
        count = several(len(run.figures["validation"]["each_case"]), "case")
        masks = f"masks validated: {listed(row['of'] for row in run.rows)}; {count}{unseen}"
    heads = [f"patients validated: {name}, {of}, {several(figures['patients'], 'patient')}" for name, of, figures in run.judged]
    return sentences([masks, *heads])


@finder
def analysed(run: Run) -> str | None:
    """How many took part in what."""
    rows = [f"{row['of']}: {several(row['cases'], 'case')} validated" for row in run.rows]
    heads = [
        f"{name}, {of}: {several(f['patients'], 'patient')} validated, {f['positive']} with metastasis"
        for name, of, f in run.judged
    ]
    return sentences([*rows, *heads])
