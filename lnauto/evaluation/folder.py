"""A folder of predictions against a folder of truth, case by case."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnauto.errors import InputError, Problem
from lnauto.evaluation.cases import CaseResult, complete, evaluate_case
from lnauto.evaluation.labels import LabelScheme
from lnauto.evaluation.masks import Mask, read_mask, resampled
from lnauto.evaluation.matching import MIN_VOLUME_MM3
from lnauto.evaluation.protocols import Protocol, protocol_of
from lnauto.evaluation.summary import Summary, summarise
from lnauto.files import read_json

log = logging.getLogger(__name__)

ENDING = ".nii.gz"
MOST_TOLD = 5
INSTANCES = "nodes"
"""Where a prediction folder keeps the instances of its masks."""


@dataclass(frozen=True)
class Evaluation:
    """Evaluated cases and where they come from; `problems` are cases that could not be evaluated or have no prediction."""

    truth: Path
    predictions: Path
    cases: tuple[CaseResult, ...]
    summary: Summary
    missing: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of_cases(
        cls,
        cases: Iterable[CaseResult],
        truth: Path,
        predictions: Path,
        missing: Iterable[str] = (),
        problems: Iterable[Problem] = (),
    ) -> Evaluation:
        """Of cases that are evaluated already."""
        cases = tuple(cases)
        return cls(truth, predictions, cases, summarise(cases), tuple(missing), tuple(problems))

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain types; NaN where a number does not exist."""
        return {
            "truth": str(self.truth),
            "predictions": str(self.predictions),
            "without_prediction": list(self.missing),
            "problems": [str(problem) for problem in self.problems],
            **self.summary.to_json(),
            "each_case": [case.to_json() for case in self.cases],
        }


def evaluate_folders(
    truth: Path,
    predictions: Path,
    *,
    protocol: str | Protocol = "lnauto",
    dataset_json: Path | None = None,
    labels: LabelScheme | Mapping[str, Any] | None = None,
    node_labels: Iterable[int] | None = None,
    instances: Path | None = None,
    min_volume_mm3: float = MIN_VOLUME_MM3,
    quiet: bool = True,
) -> Evaluation:
    """Evaluate every case that both folders have; what goes wrong with single cases is told in `problems`.

    Args:
        truth: folder of true label maps, CASE.nii.gz (or as `file_ending` in `dataset.json` says).
        predictions: folder of predicted ones; only files of that ending directly in it are masks.
        protocol: one of `PROTOCOLS`, or one of your own.
        dataset_json: what the values mean; without it, a `dataset.json` in the truth's folder or the one above, if there is one.
        labels: the same, given here.
        node_labels: the values that are lymph nodes, instead of what `dataset.json` says.
        instances: folder of true instances; they count for cases that have predicted ones in the predictions' folder `nodes/`.
        min_volume_mm3: predicted components smaller than this are neither found nor false.
        quiet: no progress bar.
    """
    from tqdm import tqdm

    protocol = protocol_of(protocol)
    if not min_volume_mm3 >= 0:
        raise InputError.of(f"the smallest volume is {min_volume_mm3} mm3", "--min-volume", "give a number from 0")
    for what, folder in {"reference": truth, "predictions": predictions, "instances": instances}.items():
        if folder is not None and not folder.is_dir():
            raise InputError.of(f"the {what} folder does not exist", folder, "correct the path")
    description = dataset_json or _beside(truth)
    scheme = _scheme(labels, node_labels, description)
    files = _Files.of(truth, predictions, _ending(description), instances, bool(scheme and scheme.instances))
    common = files.common(truth, predictions)
    missing = sorted(set(files.true) - set(files.predicted))

    results, problems = [], []
    for case in tqdm(common, desc="Evaluating", unit="case", delay=3, disable=quiet):
        try:
            results.append(_evaluate(case, files, scheme, node_labels, protocol, min_volume_mm3))
        except InputError as error:
            problems += error.problems
    if not results:
        raise InputError([*problems[:MOST_TOLD], *_more(len(problems) - MOST_TOLD, predictions)])
    if missing:
        what = f"true masks without a prediction, left out of the figures: {len(missing)} of {len(files.true)} ({_some(missing)})"
        problems.append(Problem(what, str(predictions), "predict these cases too, or leave it if only the others were meant"))
    if scheme is None:
        results = complete(results)
    return Evaluation.of_cases(results, truth, predictions, missing, problems)


@dataclass(frozen=True)
class _Files:
    """The masks of both sides by case, and where instances may lie."""

    true: Mapping[str, Path]
    predicted: Mapping[str, Path]
    true_instances: Path | None
    predicted_instances: Path | None

    @classmethod
    def of(cls, truth: Path, predictions: Path, ending: str, instances: Path | None, true_are_instances: bool) -> _Files:
        predicted_instances = predictions / INSTANCES if instances or true_are_instances else None
        if predicted_instances is not None and not predicted_instances.is_dir():
            log.info("The predictions have no folder %s/, so touching nodes count as one on both sides.", INSTANCES)
        return cls(_masks(truth, ending), _masks(predictions, ending, ENDING), instances, predicted_instances)

    def common(self, truth: Path, predictions: Path) -> list[str]:
        for side, folder in ((self.true, truth), (self.predicted, predictions)):
            if not side:
                raise InputError.of("there are no masks (CASE.nii.gz)", folder, "give the folder that holds them directly")
        common = sorted(set(self.true) & set(self.predicted))
        if not common:
            what = f"no case is in both folders (truth: {_some(self.true)}; predictions: {_some(self.predicted)})"
            raise InputError.of(what, f"{truth} and {predictions}", "name a prediction as its truth is named")
        extra = sorted(set(self.predicted) - set(self.true))
        if extra:
            log.info("Predictions without a truth are passed over: %d (%s).", len(extra), _some(extra))
        return common

    def instances(self, case: str) -> tuple[Path | None, Path | None]:
        """The files of both sides' instances; neither, if the prediction has none for this case."""
        if self.predicted_instances is None or not (predicted := self.predicted_instances / f"{case}{ENDING}").is_file():
            return None, None
        return (None if self.true_instances is None else self.true_instances / f"{case}{ENDING}"), predicted


def _evaluate(
    case: str,
    files: _Files,
    scheme: LabelScheme | None,
    node_labels: Iterable[int] | None,
    protocol: Protocol,
    min_volume_mm3: float,
) -> CaseResult:
    truth = read_mask(files.true[case])
    true_instances, predicted_instances = (
        None if path is None else _on_grid(read_mask(path), truth, protocol).array for path in files.instances(case)
    )
    return evaluate_case(
        truth.array,
        _on_grid(read_mask(files.predicted[case]), truth, protocol).array,
        truth.spacing,
        scheme,
        node_labels,
        protocol=protocol,
        min_volume_mm3=min_volume_mm3,
        true_instances=true_instances,
        predicted_instances=predicted_instances,
        case=case,
        origin=truth.origin,
        direction=truth.direction,
    )


def _on_grid(mask: Mask, truth: Mask, protocol: Protocol) -> Mask:
    if mask.lies_on(truth):
        return mask
    if protocol.resampled:
        return resampled(mask, truth)
    what = f"another grid than the truth's ({mask.grid()}; truth: {truth.grid()})"
    raise InputError.of(what, mask.path, "resample it to the image it was made for")


def _scheme(
    labels: LabelScheme | Mapping[str, Any] | None, node_labels: Iterable[int] | None, description: Path | None
) -> LabelScheme | None:
    """What the values mean: as given, else as the description says, else unknown."""
    if isinstance(labels, LabelScheme):
        return labels
    if labels is not None:
        return LabelScheme.of(labels, node_labels)
    return None if description is None else LabelScheme.from_dataset_json(description, node_labels)


def _beside(truth: Path) -> Path | None:
    """Of a folder that is a link, beside the link first."""
    places = (truth, Path(os.path.abspath(truth)).parent, truth.resolve().parent)
    return next((place / "dataset.json" for place in places if (place / "dataset.json").is_file()), None)


def _ending(description: Path | None) -> str:
    if description is None:
        return ENDING
    content = read_json(description, "replace it with the data set's own")
    ending = content.get("file_ending", ENDING) if isinstance(content, dict) else ENDING
    return str(ending)


def _masks(folder: Path, *endings: str) -> dict[str, Path]:
    """Files of these endings directly in the folder, by the name without the ending; hidden files are none."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        for ending in endings:
            if path.name.endswith(ending) and not path.name.startswith("."):
                found.setdefault(path.name.removesuffix(ending), path)
    return found


def _more(count: int, folder: Path) -> list[Problem]:
    return [Problem(f"{count} more cases failed", str(folder), "see the first ones")] if count > 0 else []


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
