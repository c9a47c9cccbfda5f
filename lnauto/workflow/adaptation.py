"""What adapting a foundation model brought on the held-out cases, and what it cost on those the model comes from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from lnauto.data.description import as_list, foreground
from lnauto.data.folds import validates_on_training
from lnauto.data.raw import Case, RawDataset
from lnauto.data.trusted_background import as_drawn, numbers_nodes
from lnauto.errors import InputError
from lnauto.evaluation.cases import ALL_NODES, evaluate_case
from lnauto.evaluation.labels import LabelScheme
from lnauto.evaluation.summary import summarise
from lnauto.files import write_json
from lnauto.planners.adaptation import check_channels
from lnauto.planners.plan import Plan
from lnauto.workflow.fold import Request, configure, make_trainer

if TYPE_CHECKING:
    from lnauto.evaluation.cases import CaseResult
    from lnauto.inference.foundation import Foundation
    from lnauto.trainers.lntrainer import LNTrainer
    from lnauto.trainers.material import Material

log = logging.getLogger(__name__)

UNADAPTED, RECORD = "unadapted", "adaptation.json"
SOURCE_CASES = 10  # looked at, at most [our choice]
SOURCE_REMEDY = "give --source the data set the model was trained on, or leave it out"


def tell_adaptation(
    trainer: LNTrainer, results: list[CaseResult], plan: Plan, request: Request, source: RawDataset | None
) -> None:
    """Compare the network before and after on the fold's held-out cases and, if they are at hand, on cases of its origin."""
    foundation = plan.lnauto["foundation"]
    folder = Path(trainer.output_folder)
    unmapped = [name for name, other in foundation["labels"].items() if other is None and name != "background"]
    if unmapped:
        remark = "What %s does without adaptation cannot be said: no output of it is taken for %s."
        log.info(remark, foundation["name"], ", ".join(unmapped))
        return
    before = _untrained(trainer, plan, request, folder / UNADAPTED)
    record: dict[str, Any] = {"foundation": foundation["name"]}
    if results:
        first = before.validate()
        record["target"] = {"before": scores(first), "after": scores(results)}
    if source is not None:
        cases = source.annotated_cases[:SOURCE_CASES]
        record["source"] = {
            "dataset": source.name,
            "cases": len(cases),
            "before": _on_source(before, source, cases, foundation["labels"]),
            "after": _on_source(trainer, source, cases, foundation["labels"]),
        }
    write_json(folder / RECORD, record)
    training, validated = trainer.do_split()
    target = "the training cases" if validates_on_training({"train": training, "val": validated}) else "the held-out cases"
    for name, where in (("target", target), ("source", f"{source.name if source else ''}, its origin")):
        if name in record:
            told = [
                f"{key} {record[name]['before'][key]:.3f} to {record[name]['after'][key]:.3f}" for key in record[name]["after"]
            ]
            log.info("On %s: %s.", where, ", ".join(told))


def _untrained(trainer: LNTrainer, plan: Plan, request: Request, output: Path) -> LNTrainer:
    """The network as it was before its first step."""
    from lnauto.data.gathered import Gathered
    from lnauto.trainers.material import Material

    training, held_out = trainer.do_split()
    cases = Gathered(dict.fromkeys(training, Path(trainer.preprocessed_dataset_folder)))
    material = Material(cases, tuple(held_out) if trainer.fold != "all" else (), output)
    fresh = untrained(plan, trainer.dataset_json, str(trainer.fold), request, material)
    fresh.inference_allowed_mirroring_axes = trainer.inference_allowed_mirroring_axes
    return fresh


def untrained(plan: Plan, description: dict[str, Any], fold: str, request: Request, material: Material) -> LNTrainer:
    """A trainer before its first step, to be validated on what the material holds out."""
    fresh = make_trainer(plan, description, fold, request)
    if material.output is not None:
        shutil.rmtree(material.output, ignore_errors=True)
    fresh.learn_from(material)
    configure(fresh, plan, replace(request, proceed=False), None, False, None)
    fresh.initialize()
    return fresh


def _on_source(trainer: LNTrainer, source: RawDataset, cases: Sequence[Case], mapping: dict[str, str]) -> dict[str, float]:
    """How well whole images of the foundation model's own kind are segmented, in the labels of the data set at hand."""
    import SimpleITK as sitk

    from lnauto.compat.images import SimpleITKIO
    from lnauto.trainers.validation import predictor_of

    predictor = replace(predictor_of(trainer), region=trainer.plans_manager.plans["lnauto"]["region"])
    values, scheme = _judged_in_own(source, as_drawn(trainer.dataset_json), mapping)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    results = []
    for case in tqdm(cases, source.name, unit="case", delay=2, disable=trainer.options.quiet):
        assert case.label is not None
        mask = predictor.predict_files(case.images)
        drawn, properties = SimpleITKIO().read_seg(str(case.label))
        known = np.minimum(drawn[0], 1) if numbers_nodes(source.description) else drawn[0]
        truth = np.zeros(known.shape, np.int32)
        for value, own in values.items():
            truth[known == value] = own
        results.append(evaluate_case(truth, sitk.GetArrayFromImage(mask), properties["spacing"], scheme, case=case.name))
    return scores(results)


def _judged_in_own(
    source: RawDataset, description: Mapping[str, Any], mapping: Mapping[str, str | None]
) -> tuple[dict[int, int], LabelScheme]:
    """For each value in masks of the source that of our labels, and what these mean; what the source ignores stays ignored."""
    values = values_in_own(source, description["labels"], mapping)
    scheme = LabelScheme.of_description(description)
    if source.ignore_label is not None:
        values[source.ignore_label] = unjudged = max(*scheme.values(), scheme.ignore or 0) + 1
        scheme = replace(scheme, ignore=unjudged)
    return values, scheme


def check_source(source: RawDataset, foundation: Foundation, plan: Plan, description: Mapping[str, Any]) -> None:
    """Whether the foundation model's cases can be shown to it, and have the labels it was trained on."""
    if not source.annotated_cases:
        raise InputError.of("the data set has no case with a label", source.folder, SOURCE_REMEDY)
    check_channels(foundation, source, "--source")
    values_in_own(source, as_drawn(description)["labels"], plan.lnauto["foundation"]["labels"])


def values_in_own(source: RawDataset, labels: Mapping[str, Any], mapping: Mapping[str, str | None]) -> dict[int, int]:
    """For each value in masks of the source the one that means the same among the labels of the data set at hand."""
    where = source.folder / "dataset.json"
    pairs = {own: other for own in labels if own != "background" and (other := mapping.get(own)) is not None}
    if missing := [other for other in pairs.values() if other not in source.labels]:
        what = f"the data set has no label {missing[0]}, which the foundation model was trained on"
        raise InputError.of(what, where, SOURCE_REMEDY)
    meant = {
        frozenset(own for own in pairs if value in as_list(labels[own])): value
        for value in sorted({0, *foreground(labels)}, reverse=True)  # of several that mean the same the first
    }
    found = {}
    for value in (0, *source.foreground_labels):
        means = [own for own, other in pairs.items() if value in as_list(source.labels[other])]
        if frozenset(means) not in meant:
            theirs, ours = " and ".join(pairs[own] for own in means), " and ".join(means)
            what = f"{value} is {theirs} there, and no value of the data set at hand is {ours}"
            raise InputError.of(what, where, SOURCE_REMEDY)
        found[value] = meant[frozenset(means)]
    return found


def scores(results: list[CaseResult]) -> dict[str, float]:
    """Mean Dice and pooled node F1; where nodes are not counted, Dice for both."""
    summary = summarise(results)
    dice = float(summary.mean("dice"))
    nodes = summary.nodes.get(ALL_NODES)
    return {"dice": dice, "node_f1": float(nodes.counts.f1) if nodes is not None else dice}
