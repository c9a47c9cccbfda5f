"""What a run knows of its material: cases, patients, columns, folds, and what they are judged against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lnauto.report.checklists.run import Head, Run
from lnauto.report.checklists.telling import finder, listed, number, sentences, several, times

SPREAD = {
    "nodes_per_case": "nodes per case",
    "node_short_axis_mm": "short axis in mm",
    "node_long_axis_mm": "long axis in mm",
    "node_volume_mm3": "volume in mm³",
}


@finder
def data(run: Run) -> str | None:
    """How many cases and patients there are."""
    parts = []
    drawn, without = run.evidence("annotated_cases"), run.evidence("unannotated_cases")
    if run.has_images and drawn is not None:
        channels = listed(run.description.get("channel_names", {}).values())
        parts.append(f"{several(drawn, 'case')} with masks and {without or 0} without{f', of {channels}' if channels else ''}")
    if patients := run.evidence("patients"):
        parts.append(f"{several(patients, 'patient')} in patients.csv")
    return sentences(parts)


@finder
def centres(run: Run) -> str | None:
    count = run.evidence("centres")
    return (
        sentences([f"in patients.csv there are {several(count, 'different entry', 'different entries')} of centre"])
        if count
        else None
    )


@finder
def left_out(run: Run) -> str | None:
    """Cases, patients and columns that were there and did not take part."""
    parts = []
    if without := run.evidence("unannotated_cases"):
        parts.append(f"{several(without, 'case')} without a mask: in no fold")
    patients, known = run.evidence("patients") or 0, sum(run.evidence("known_lnm") or ())
    stages = sum(run.evidence("known_stages") or ())
    if patients and run.has_head and max(known, stages) < patients:
        parts.append(
            f"of {several(patients, 'patient')} in patients.csv, {known} have an entry of lnm and {stages} of n_stage; who has"
            " no label takes no part in a patient head"
        )
    validated = {case["case"] for one in run.evaluated.values() for case in one["each_case"]}
    missing = {case for one in run.evaluated.values() for case in one.get("without_prediction") or ()}
    if nowhere := len(missing - validated):  # a case that one fold has no mask of may be another fold's
        parts.append(f"not validated for want of a mask: {several(nowhere, 'case')}")
    if dropped := _dropped(run):
        parts.append(f"columns left out: {dropped}")
    return sentences(parts)


def _dropped(run: Run) -> str:
    """The columns that heads do not learn from, and why; of one that some learned from, the folds that did not."""
    known: dict[str, dict[str, str]] = {}
    for head in run.heads:
        for name, why in head.dropped.items():
            known.setdefault(name, {})[head.fold] = why
    learned = {name for head in run.heads for name in head.learned}
    named = {name: f"{name} in fold {', '.join(whys)} alone" if name in learned else name for name, whys in known.items()}
    return "; ".join(f"{named[name]} ({listed(whys.values())})" for name, whys in known.items())


@finder
def missing(run: Run) -> str | None:
    """Shares of empty entries, and how a head reads one."""
    shares: Mapping[str, float] = run.evidence("missing_entries") or {}
    empty = {name: share for name, share in shares.items() if share}
    parts = []
    if empty:
        parts.append(f"patients without an entry: {', '.join(f'{name} {share:.1%}' for name, share in empty.items())}")
    elif shares:
        parts.append(f"no entry is missing in {', '.join(shares)}")
    return sentences([*parts, missing_at_use(run)])


@finder
def missing_at_use(run: Run) -> str | None:
    """Columns of which a head reads that they are empty."""
    flagged = listed(column["name"] for head in run.heads for column in head.columns if column.get("indicator"))
    told = f"whether an entry is missing is a number of its own for {flagged}, in the head of at least one fold"
    return sentences([told if flagged else None])


@finder
def spacing(run: Run) -> str | None:
    """Of the scans, as z, y, x of their files."""
    known, order = run.plan.get("original_median_spacing_after_transp"), run.plan.get("transpose_backward")
    if not run.has_images or not known or not order:
        return None
    return sentences([f"median spacing of the scans: {times(known[axis] for axis in order)} mm (z, y, x)"])


@finder
def preparation(run: Run) -> str | None:
    """What is done to a scan, by the plan's own reasons."""
    parts = [f"{name}: {reason}" for name in ("orientation", "region", "spacing", "intensities") if (reason := run.reason(name))]
    return sentences(parts) if run.has_images else None


@finder
def columns(run: Run) -> str | None:
    """Which columns a head reads."""
    asked = (run.block.get("patient_head") or {}).get("columns") or []
    used = listed(column["name"] for head in run.heads for column in head.columns)
    if not asked and not used:
        return None
    dropped = _dropped(run)
    return sentences([f"clinical columns: {used or ', '.join(asked)}", f"left out: {dropped}" if dropped else None])


@finder
def encoding(run: Run) -> str | None:
    """How a column becomes numbers, and what the training patients of one fold have in it."""
    with_columns = [head for head in run.heads if head.columns]
    if not with_columns:
        return None
    head = with_columns[0]
    return sentences([f"as read by {_of(head)}: {'; '.join(_column(column) for column in head.columns)}"])


def _of(head: Head) -> str:
    return f"{head.trainer}, fold {head.fold}"


def _column(column: Mapping[str, Any]) -> str:
    if column["kind"] == "number":
        how = f"number, standardised by mean {number(column['mean'])} and deviation {number(column['deviation'])}"
    else:
        shares = zip(column["levels"], column["shares"], strict=False)
        how = f"{column['kind']} ({', '.join(f'{level} {share:.0%}' for level, share in shares)})"
    return f"{column['name']}: {how}"


@finder
def outcome(run: Run) -> str | None:
    """What is predicted of a patient."""
    planned = (run.block.get("patient_head") or {}).get("trainer")
    reason = run.reason("label") or (run.reason("patients") if planned in run.trainers else None)  # else of another head
    level = {"image_level": "nodal metastasis, yes or no", "stage_level": "N stage above 0, yes or no"}
    kind = level.get(str(run.block.get("patient_level")))
    return sentences([kind, reason]) if run.has_head else None


@finder
def outcome_counts(run: Run) -> str | None:
    return sentences(
        [
            f"{figures['positive']} of {several(figures['patients'], 'patient')} validated with {name} ({of}) have metastasis"
            for name, of, figures in run.judged
        ]
    )


@finder
def masks(run: Run) -> str | None:
    """What the drawn masks hold, and how complete they are."""
    if not run.has_images or not run.evidence("annotated_cases"):
        return None
    labels = [name for name in run.description.get("labels", {}) if name not in ("background", "ignore")]
    drawn: Mapping[str, float] | None = run.evidence("completeness")
    share = f"share of nodes that were drawn, by lnauto's estimate: {_between(drawn)}" if drawn else None
    declared = run.evidence("declared")
    return sentences(
        [
            f"masks of {several(run.evidence('annotated_cases'), 'case')}; labels: {', '.join(labels)}",
            f'declared in dataset.json, "annotation": {declared}' if declared else None,
            share,
            f"nodes in them: {run.evidence('nodes'):,}" if run.evidence("nodes") else None,
        ]
    )


def _between(share: Mapping[str, float]) -> str:
    return f"{share['value']:.0%} ({share['low']:.0%} to {share['high']:.0%})"


@finder
def characteristics(run: Run) -> str | None:
    """5th, 50th and 95th percentiles of what was measured in the drawn nodes."""
    spread = {name: run.evidence(key) for key, name in SPREAD.items()}
    known = [f"{name} {' / '.join(number(value) for value in values)}" for name, values in spread.items() if values]
    return sentences([f"nodes drawn, 5th / 50th / 95th percentile: {', '.join(known)}"]) if known else None


@finder
def folds(run: Run) -> str | None:
    """How cases were parted."""
    if run.folds is None:
        return None
    sizes = "; ".join(f"fold {number}: {train} and {val}" for number, (train, val) in enumerate(run.folds.sizes))
    trained = listed(_trained(run))
    return sentences(
        [
            f"by splits_final.json the {run.folds.of} are in {several(len(run.folds.sizes), 'fold')}",
            f"{run.folds.of} for training and for validation: {sizes}",
            f"trained: fold {trained}" if trained else None,
        ]
    )


def _trained(run: Run) -> Iterator[str]:
    yield from (fold["fold"] for fold in run.figures["folds"])
    yield from (head.fold for head in run.heads)


@finder
def apart(run: Run) -> str | None:
    """Whether somebody is on both sides of a fold."""
    if run.folds is None:
        return None
    of, known = run.folds.of, run.folds.patients_apart
    if not run.folds.apart:
        return sentences([f"some {of} are on both sides of a fold, so that its figures say nothing about new ones"])
    patients = {
        True: "no patient is on both sides of a fold, by the cases that patients.csv gives each",
        False: "the cases of some patient are on both sides of a fold, by patients.csv",
        None: "whether cases of one patient are kept together is not known without patients.csv",
    }
    return sentences([f"no {of.removesuffix('s')} is on both sides of a fold", None if of == "patients" else patients[known]])


@finder
def same_source(run: Run) -> str | None:
    if run.folds is None or not (run.rows or run.judged):
        return None
    return sentences([f"training and validation {run.folds.of} are folds of one data set"])
