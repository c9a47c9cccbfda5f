"""What a run knows of its model: what it is, what it began with, how it was trained, what was chosen, what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnauto.report.checklists.formula import HOW_TO_READ, formula
from lnauto.report.checklists.run import CLINICAL, Head, Run
from lnauto.report.checklists.telling import by_fold, finder, listed, number, sentences, several, times

TRAINED_BY = ("strategy", "training", "pre-training", "optimizer", "augmentation", "mirroring", "filter")


@finder
def kind(run: Run) -> str | None:
    """What it does, in a line."""
    labels = [name for name in run.description.get("labels", {}) if name not in ("background", "ignore")]
    parts = [f"a deep network that segments {', '.join(labels) or 'its labels'}" if run.has_network else None]
    parts.append(f"a prediction of nodal metastasis for each patient by {', '.join(run.trainers)}" if run.has_head else None)
    return sentences(parts)


@finder
def network(run: Run) -> str | None:
    """The plan's network."""
    if not run.has_network or not run.configuration:
        return None
    architecture = run.configuration.get("architecture") or {}
    name = str(architecture.get("network_class_name", "")).rpartition(".")[2]
    features = architecture.get("arch_kwargs", {}).get("features_per_stage")
    stages = f", features of its stages {', '.join(map(str, features))}" if isinstance(features, list | tuple) else ""
    count = {fold: f"{one['parameters']:,} weights" for fold, one in run.networks.items() if one.get("parameters")}
    order = run.plan["transpose_backward"]
    patch = times(run.configuration["patch_size"][axis] for axis in order)
    return sentences(
        [
            f"{name}{stages}" if name else None,
            by_fold(count) if count else None,
            f"patch {patch} voxels (z, y, x), {run.configuration['batch_size']} at a time",
            f"why: {run.reason('network')}" if run.reason("network") else None,
        ]
    )


@finder
def head(run: Run) -> str | None:
    """The patient heads, member by member."""
    return sentences([f"{name}: {by_fold(parts)}" for name, parts in _by_trainer(run, _made).items()])


def _by_trainer(run: Run, tell: Any) -> dict[str, dict[str, str]]:
    """A text for each fold's head, by the name of its trainer."""
    found: dict[str, dict[str, str]] = {}
    for one in run.heads:
        if text := tell(one):
            found.setdefault(one.trainer, {})[one.fold] = text
    return found


def _made(head: Head) -> str:
    members = [len(part.get("members") or ()) for part in head.each]
    parts = [f"parts for {several(len(head.parts), 'network')}"] if head.parts else []
    parts += [f"{several(max(members), 'member')}, whose mean counts"] if max(members, default=0) else []
    patients = {patient for part in head.each for patient in part.get("patients") or ()}
    parts += [f"learned from {several(len(patients), 'patient')}"] if patients else []
    return ", ".join(parts)


@finder
def beginning(run: Run) -> str | None:
    """The weights at the first iteration."""
    foundation = run.block.get("foundation")
    if foundation is not None and foundation.get("name"):
        told = f"foundation model {foundation['name']}, SHA-256 of its weights {foundation.get('sha256', 'not known')}"
        return sentences([f"weights began as those of the {told}"])
    begun = {
        fold: "a pre-training on images without labels" if one.get("pretrained") else "random numbers"
        for fold, one in run.networks.items()
        if "pretrained" in one  # else nobody knows
    }
    return sentences([f"weights began as {by_fold(begun)}" if begun else None, seed(run)])


@finder
def seed(run: Run) -> str | None:
    seeds = {fold: f"seed {one['seed']}" for fold, one in run.networks.items() if one.get("seed") is not None}
    of_heads = {
        one.fold: f"seed {found}" for one in run.heads if (found := one.content.get("provenance", {}).get("seed")) is not None
    }
    return sentences(
        [f"networks: {by_fold(seeds)}" if seeds else None, f"patient heads: {by_fold(of_heads)}" if of_heads else None]
    )


@finder
def training(run: Run) -> str | None:
    """How the network was trained, by the plan's reasons and the histories."""
    if not run.has_network:
        return None
    reasons = [f"{name}: {reason}" for name in TRAINED_BY if (reason := run.reason(name))]
    lasted = {
        fold["fold"]: f"{fold['history'][-1]['iteration']:,} iterations in {fold['history'][-1]['seconds'] / 60:.1f} min"
        for fold in run.figures["folds"]
        if fold["history"]
    }
    trainers = listed(one["trainer"] for one in run.networks.values() if one.get("trainer"))
    devices = listed(one["precision"] for one in run.networks.values() if one.get("precision"))
    rounds = {fold: several(one["rounds"], "round") for fold, one in run.rounds.items() if one.get("rounds")}
    return sentences(
        [
            f"trainer: {trainers or run.block.get('trainer')}",
            *reasons,
            f"it took {by_fold(lasted)}" if lasted else None,
            f"arithmetic: {devices}" if devices else None,
            f"pseudo labels: {by_fold(rounds)}" if rounds else None,
        ]
    )


@finder
def adaptation(run: Run) -> str | None:
    """What adapting a foundation model changed on the held-out cases."""
    parts = {}
    for fold, one in run.adapted.items():
        target = one.get("target") or {}
        before, after = target.get("before") or {}, target.get("after") or {}
        scores = [
            f"{name} {before[key]:.3f} before and {after[key]:.3f} after"
            for key, name in (("dice", "Dice"), ("node_f1", "F1 of nodes"))
            if isinstance(before.get(key), float | int) and isinstance(after.get(key), float | int)
        ]
        if scores:
            parts[fold] = ", ".join(scores)
    foundation = run.block.get("foundation") or {}
    how = f"foundation model {foundation['name']} was adapted by {foundation.get('tune')}" if foundation.get("name") else None
    return sentences([how, f"held-out cases: {by_fold(parts)}" if parts else None])


@finder
def inner(run: Run) -> str | None:
    """What was chosen within the training patients of a head."""
    return sentences([f"{name}: {by_fold(parts)}" for name, parts in _by_trainer(run, _chosen).items()])


def _chosen(head: Head) -> str:
    one = head.each[0]
    known = one.get("inner") or {}
    if not known.get("folds"):
        return ""
    strengths = [one["strength"]] if "strength" in one else [m["strength"] for m in known.get("members", ()) if "strength" in m]
    penalty = f", penalties chosen there: {', '.join(number(value) for value in strengths)}" if strengths else ""
    return f"{known['folds']} inner folds of the training patients{penalty}"


@finder
def ensemble(run: Run) -> str | None:
    """What is averaged."""
    count = len([fold for fold in run.networks if fold != "all"])  # that one predicts where there is no other
    return sentences([f"{count} networks, one for each fold, are there to be averaged" if count > 1 else None, head(run)])


@finder
def output(run: Run) -> str | None:
    """The probability of a head, and the threshold at which it decides."""
    return sentences(
        [f"calibrated probability of metastasis; {name}: {by_fold(told)}" for name, told in _by_trainer(run, _decides).items()]
    )


def _decides(head: Head) -> str:
    thresholds = [part["threshold"] for part in head.each if part.get("threshold")]
    calibrated = listed(part["calibrator"]["why"] for part in head.each if part.get("calibrator"))
    if not thresholds:
        return ""
    values = ", ".join(f"{one['value']:.3f}" for one in thresholds)
    return f"threshold {values} by {listed(one['rule'] for one in thresholds)}" + (
        f", calibration {calibrated}" if calibrated else ""
    )


@finder
def written_out(run: Run) -> str | None:
    """A head that is a line, as a formula."""
    parts = {one.fold: formula(one.content) for one in run.heads if one.content.get("features")}
    return sentences([by_fold(parts), HOW_TO_READ]) if parts else None


@finder
def identity(run: Run) -> str | None:
    """By which the very same model is known."""
    return sentences(
        [f"hash of the plan: {run.figures['made_by'][key]}" for key in ("plan's hash",) if key in run.figures["made_by"]]
    )


@finder
def software(run: Run) -> str | None:
    """Versions, as the checkpoints, heads and evaluations have them."""
    found: dict[str, dict[str, None]] = {}
    sources: list[Mapping[str, Any]] = [one.get("versions") or {} for one in run.networks.values()]
    for one in run.heads:
        made: Mapping[str, Any] = one.content.get("provenance") or {}
        sources += [made.get("versions") or {}, {"lnauto": made["lnauto"]} if "lnauto" in made else {}]
    sources += [one.get("made_by") or {} for one in run.evaluated.values()]
    for versions in sources:
        for package, version in versions.items():
            found.setdefault(package, {})[str(version)] = None
    return (
        sentences(["versions: " + ", ".join(f"{package} {' and '.join(versions)}" for package, versions in found.items())])
        if found
        else None
    )


@finder
def machine(run: Run) -> str | None:
    known = run.evidence("machine")
    return sentences([f"planned on {known['name']} ({known['device']})"]) if known else None


@finder
def measured(run: Run) -> str | None:
    """What heads read of each node besides its crop."""
    counts = {one.trainer: one.measures for one in run.heads if one.measures}
    told = "form and intensities, by lnauto's own code, listed in its documentation/methods/heads.md"
    return sentences([f"{name} reads {several(count, 'measure')} of each node ({told})" for name, count in counts.items()])


@finder
def one_channel(run: Run) -> str | None:
    names = list(run.description.get("channel_names", {}).values())
    return sentences([f"one channel: {names[0]}"]) if len(names) == 1 else None


@finder
def simple(run: Run) -> str | None:
    """A logistic regression is itself the simple model."""
    return sentences([f"{CLINICAL} is a logistic regression itself"]) if CLINICAL in run.trainers else None


@finder
def masks_of_head(run: Run) -> str | None:
    """Whose masks a head reads; one on clinical columns alone reads none."""
    masks = (run.block.get("patient_head") or {}).get("masks")
    if not masks or not set(run.trainers) - {CLINICAL}:
        return None
    told = {
        "predicted": "held-out patients are read by the masks of the fold's own network, which had not seen them",
        "given": "held-out patients are read by the masks that were drawn",
        "none": "heads read blocks of the scans, without masks",
    }
    return sentences([told.get(masks)])
