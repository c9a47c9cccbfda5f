"""The card of a model that is given away: what it is and what is known of it, and lines that only its maker can fill in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lnauto import __version__
from lnauto.evaluation.labels import LabelScheme
from lnauto.evaluation.pair import ALL_NODES
from lnauto.files import read_json, sha256_of
from lnauto.workflow.pooled import is_of_these
from lnauto.workflow.trained import Trained

TO_FILL_IN = "to be filled in by you"
PACKAGES = ("nnunetv2", "torch", "numpy")
NONE = "not found beside the model"
UNSAID = "not said in its plan"
HELD_OUT = "Cases that the fold was not trained on, from the same data set. On other data it may do worse."
ALONE = "On the one case that there is, which the fold was trained on: these figures say nothing about new ones."


def write_card(trained: Trained, title: str, how_to_run: str, folder: Path, target: Path, missing: Sequence[str] = ()) -> None:
    """Write the card of what lies in `folder`.

    Args:
        missing: what lnauto does and whoever runs this export does not.
    """
    besides = ["## What lnauto does besides, and this export does not\n", *(f"- {line}" for line in missing)]
    parts = [
        f"# {title}: model card\n\nWritten by lnauto {__version__} on {date.today().isoformat()}.",
        "## What it is\n\n" + _table(("", ""), _facts(trained)),
        f"## How to run it\n\n{how_to_run}",
        *(["\n".join(besides)] if missing else []),
        f"## Intended use\n\n- For whom, on which scans, for what: {TO_FILL_IN}.",
        "## Limits\n\n- It is for research, and no medical device.\n"
        f"- What it was not tried on (scanners, phases, ages, diseases, regions of the body): {TO_FILL_IN}.\n"
        f"- Known failures: {TO_FILL_IN}.",
        "## Training data\n\n" + _table(("", ""), _data(trained)),
        "## Validation\n\n" + _validation(trained),
        "## Terms\n\n" + f"- Licence of the weights: {TO_FILL_IN}.\n- Contact, and what to cite: {TO_FILL_IN}.",
        "## Parts\n\n" + _table(("file", "SHA-256"), _hashes(folder)),
    ]
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def in_image_order(values: Sequence[Any], plans: Mapping[str, Any]) -> list[Any]:
    """What a plan says axis by axis, as z, y, x of the image's file."""
    return [values[axis] for axis in plans["transpose_backward"]]


def _facts(trained: Trained) -> Iterator[tuple[str, str]]:
    plans, block = trained.plans, trained.plans["lnauto"]
    yield "data set", plans["dataset_name"]
    if trained.has_network:
        yield "segments", ", ".join(_labels(trained.dataset_json))
    if trained.dataset_json:
        chosen = trained.configuration
        schemes = chosen["normalization_schemes"]
        names = trained.dataset_json["channel_names"].values()
        yield "channels", ", ".join(f"{name} ({scheme})" for name, scheme in zip(names, schemes, strict=True))
        yield "spacing", f"{_times(f'{mm:.3g}' for mm in in_image_order(chosen['spacing'], plans))} mm (z, y, x)"
    if trained.has_network:
        yield "patch", f"{_times(map(str, in_image_order(chosen['patch_size'], plans)))} voxels (z, y, x)"
        yield "network", chosen["architecture"]["network_class_name"].rpartition(".")[2]
        weights = trained.first["network_weights"]
        yield "numbers in a network", f"{sum(tensor.numel() for tensor in _distinct(weights)):,}"
        yield "trainer", trained.first["trainer_name"]
    yield "strategy", block.get("strategy", UNSAID)
    yield "folds", ", ".join(trained.folds)
    yield "patient heads", ", ".join(sorted({_head_name(trained, folder) for folder in trained.head_folders})) or "none"
    yield "region it looks at", block.get("region", "none").replace("none", "the whole scan")
    yield "planned with", f"lnauto {block['version']}" if "version" in block else UNSAID
    yield "exported with", ", ".join([f"lnauto {__version__}", *(f"{package} {version(package)}" for package in PACKAGES)])


def _distinct(weights: Mapping[str, Any]) -> list[Any]:
    """nnU-Net lists a tensor under several names."""
    return list({tensor.data_ptr(): tensor for tensor in weights.values()}.values())


def _labels(dataset_json: Mapping[str, Any]) -> list[str]:
    nodes = {label.name for label in LabelScheme.of_description(dataset_json).nodes}
    there = {name: value for name, value in dataset_json["labels"].items() if name not in ("background", "ignore")}
    return [f"{name} ({value}{'' if name in nodes else ', no lymph node'})" for name, value in there.items()]


def _head_name(trained: Trained, folder: Path) -> str:
    return folder.name if folder.parent != trained.folder else str(trained.plans["lnauto"]["trainer"])


def _data(trained: Trained) -> Iterator[tuple[str, str]]:
    evidence = trained.plans["lnauto"].get("evidence", {})
    for key, told in {"annotated_cases": "cases with masks", "unannotated_cases": "cases without masks"}.items():
        if trained.dataset_json:
            yield told, str(evidence.get(key, {}).get("value", "not known"))
    for folder in trained.head_folders:
        heads = [folder / "head.json", *sorted(folder.glob("part_*/head.json"))]
        patients = {patient for path in heads for patient in read_json(path, "train again").get("patients", ())}
        name = f"{_head_name(trained, folder)}, fold {folder.relative_to(trained.folder).parts[0].removeprefix('fold_')}"
        yield f"patients of {name}", str(len(patients))
    yield "where the scans come from, and who annotated them", TO_FILL_IN


def _validation(trained: Trained) -> str:
    """The figures that training left beside the checkpoints."""
    each = trained.folder.glob("fold_*/validation/evaluation.csv")
    together = is_of_these(trained.folder / "crossvalidation/evaluation.csv", each)
    places = {"all folds": "crossvalidation"} if together else {}
    places |= {f"fold {fold}": f"fold_{fold}/validation" for fold in trained.folds}
    tables = []
    if trained.has_network:
        nodes = [label.name for label in LabelScheme.of_description(trained.dataset_json).nodes]
        files = [(name, trained.folder / place / "evaluation.json") for name, place in places.items()]
        masks = [row for name, path in files for row in _mask_rows(name, path, nodes)]
        columns = ["validated on", "cases", "label", "Dice (mean)", "nodes found", "false nodes per case"]
        tables.append(_table(columns, masks) if masks else f"Figures of masks: {NONE}.")
    if trained.head_folders:
        patients = list(_of_patients(trained))
        columns = ["validated on", "head", "patients", "AUC", "95 % interval"]
        tables.append(_table(columns, patients) if patients else f"Figures of patients: {NONE}.")
    alone = trained.plans["lnauto"].get("evidence", {}).get("annotated_cases", {}).get("value") == 1
    return "\n\n".join([*tables, ALONE if alone else HELD_OUT, f"On data from elsewhere: {TO_FILL_IN}."])


def _of_patients(trained: Trained) -> Iterator[tuple[str, ...]]:
    for head in sorted({"" if folder.parent == trained.folder else folder.name for folder in trained.head_folders}):
        together = trained.folder / head / "crossvalidation"
        if is_of_these(together / "patients.csv", trained.folder.glob(f"fold_*/{head}/validation/patients.csv")):
            yield from _head_rows("all folds", together / "patients.json", head)
        for fold in trained.folds:
            yield from _head_rows(f"fold {fold}", trained.folder / f"fold_{fold}" / head / "validation/patients.json", head)


def _mask_rows(name: str, path: Path, node_labels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    if not path.is_file():
        return
    content = read_json(path, "validate again")
    told = dict(content["nodes"])
    if len(node_labels) == 1:  # its nodes are all nodes, and told as those alone, whatever else is segmented
        told = {node_labels[0]: told.get(ALL_NODES)}
    for label, scores in content["labels"].items():
        nodes = told.get(label) or {}
        counts = nodes.get("pooled") or {}
        found = f"{counts['found']} of {counts['true']}" if counts else "-"
        false = _number(nodes.get("false_per_case"))
        yield name, str(content["cases"]), label, _number((scores.get("dice") or {}).get("mean")), found, false


def _head_rows(name: str, path: Path, head: str) -> Iterator[tuple[str, ...]]:
    if path.is_file():
        content = read_json(path, "validate again")
        area = content["auc"]
        between = f"{_number(area['low'])} to {_number(area['high'])}"
        yield name, head or "-", str(content["patients"]), _number(area["value"]), between


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for part in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield part.relative_to(folder).as_posix(), sha256_of(part)


def _times(values: Iterator[str]) -> str:
    return " x ".join(values)


def _table(columns: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
