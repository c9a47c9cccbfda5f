"""Reporting checklists of a model's folder: what they are filled from, and their files beside the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lnauto.data.patients import PatientTable
from lnauto.errors import InputError
from lnauto.files import read_json, write_text
from lnauto.paths import activate
from lnauto.planners.plan import Plan
from lnauto.report.checklists.fill import CHECKLISTS, fill
from lnauto.report.checklists.run import Folds, Head, Run
from lnauto.report.checklists.write import markdown, to_json
from lnauto.workflow.evaluate import JSON_NAME
from lnauto.workflow.head_files import DESCRIPTION
from lnauto.workflow.splits import SPLITS, SPLITS_FORM

AGAIN = "train or validate again with lnauto_train"
FINAL = "checkpoint_final.pth"


def checklists_of(folder: Path, figures: Mapping[str, Any], plan: Plan, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every checklist with its items, as `report.json` holds them; cases are called as in the page's figures."""
    run = _run(folder, figures, plan, description)
    return [to_json(checklist, fill(checklist, run)) for checklist in CHECKLISTS]


def write_checklists(folder: Path, checklists: Sequence[Mapping[str, Any]]) -> None:
    """Their drafts, beside the page."""
    for checklist, content in zip(CHECKLISTS, checklists, strict=True):
        try:
            write_text(folder / checklist.file, markdown(content))
        except OSError as error:
            what = f"the checklist cannot be written ({error.strerror or error})"
            raise InputError.of(what, folder / checklist.file, "check the disk") from error


def _run(folder: Path, figures: Mapping[str, Any], plan: Plan, description: Mapping[str, Any]) -> Run:
    folds = {path.name.removeprefix("fold_"): path for path in sorted(folder.glob("fold_*")) if path.is_dir()}
    evaluated = _those(folds, f"validation/{JSON_NAME}")
    return Run(
        figures=figures,
        plan=plan.content,
        description=description,
        heads=[head for fold, path in folds.items() for head in _heads(fold, path, plan)],
        folds=folds_of(plan, evaluated),
        networks={fold: known for fold, path in folds.items() if (known := _network(path / FINAL))},
        evaluated=evaluated,
        adapted=_those(folds, "adaptation.json"),
        rounds=_those(folds, "rounds/rounds.json"),
    )


def _those(folds: Mapping[str, Path], name: str) -> dict[str, dict[str, Any]]:
    """The folds that have such a file, with its content."""
    return {fold: read_json(path / name, AGAIN) for fold, path in folds.items() if (path / name).is_file()}


def _heads(fold: str, path: Path, plan: Plan) -> Iterator[Head]:
    """Beside a network heads lie in folders of their own; of a table alone in the fold's."""
    for place in [path, *sorted(path.glob("LNMTrainer*"))]:
        if not (place / DESCRIPTION).is_file():
            continue
        try:
            content = read_json(place / DESCRIPTION, AGAIN)
            parts = [read_json(part, AGAIN) for part in sorted(place.glob(f"part_*/{DESCRIPTION}"))]
        except InputError:  # the page does without it; a prediction would tell
            continue
        yield Head(fold, place.name if place != path else str(plan.lnauto["trainer"]), content, parts)


def _network(path: Path) -> dict[str, Any] | None:
    """What a checkpoint says of its training; None of one that does not, such as nnU-Net's own."""
    from lnauto.inference.model import load_checkpoint

    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        content = load_checkpoint(path, mapped=True)
    except InputError:
        return None
    state = content.get("lnauto") or {}
    weights = {tensor.data_ptr(): tensor.numel() for tensor in content.get("network_weights", {}).values()}
    known = {key: state[key] for key in ("seed", "precision", "pretrained", "versions") if key in state}
    return {**known, "trainer": content.get("trainer_name"), "parameters": sum(weights.values())}


def folds_of(plan: Plan, evaluated: Mapping[str, Mapping[str, Any]]) -> Folds | None:
    """`splits_final.json` in numbers, where the preprocessed data are at hand and it is the file that folds were trained by.

    Args:
        evaluated: of each fold that was validated, its `evaluation.json`.
    """
    paths, name = activate(), str(plan.content.get("dataset_name"))
    path = paths.preprocessed / name / SPLITS
    if not path.is_file():
        return None
    try:
        splits = [(set(fold["train"]), set(fold["val"])) for fold in read_json(path, AGAIN, SPLITS_FORM)]
    except InputError:
        return None
    if not all(_is_of(splits, fold, one) for fold, one in evaluated.items()):
        return None
    owners = _owners(paths.raw / name)
    known = {case for train, val in splits for case in train | val}
    patients_apart = None
    if owners is not None and known <= set(owners):
        patients_apart = all({owners[case] for case in train}.isdisjoint(owners[case] for case in val) for train, val in splits)
    of = "patients" if plan.is_table else "cases"
    sizes = [(len(train), len(val)) for train, val in splits]
    return Folds(of, sizes, all(train.isdisjoint(val) for train, val in splits), patients_apart)


def _is_of(splits: Sequence[tuple[set[str], set[str]]], fold: str, evaluation: Mapping[str, Any]) -> bool:
    """Whether a fold was validated on the cases that it keeps out now; planning again may have made other folds."""
    kept_out = dict(enumerate(val for _, val in splits)).get(int(fold)) if fold.isdecimal() else None
    return kept_out == {case["case"] for case in evaluation["each_case"]}


def _owners(dataset: Path) -> dict[str, str] | None:
    """The patient of each case, where a table says so."""
    path = dataset / "patients.csv"
    try:
        return dict(PatientTable.read(path).patient_of) if path.is_file() else None
    except InputError:
        return None
