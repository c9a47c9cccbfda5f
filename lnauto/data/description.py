"""`dataset.json` key by key: what each may hold, and what to say when it holds something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lnauto.errors import Problem

Description = dict[str, Any]  # dataset.json
Faults = Iterator[tuple[str, str]]  # what is wrong, what to do about it

ANNOTATIONS = ("full", "partial", "scribble", "patient", "table")
EXAMPLES = {
    "channel_names": '"channel_names": {"0": "CT"}',
    "labels": '"labels": {"background": 0, "node": 1}',
    "file_ending": '"file_ending": ".nii.gz"',
}
EXAMPLE = f"{{{', '.join(EXAMPLES.values())}}}"
NEEDED = {"table": (), "patient": ("channel_names", "file_ending")}  # the other kinds need all three


def drop_faulty_keys(description: Description, where: str) -> tuple[list[Problem], set[str]]:
    """Take faulty keys out of the description; return what is wrong with them, and which are faulty or missing."""
    needed = NEEDED.get(str(description.get("annotation")), tuple(EXAMPLES))
    faults = {key: [(f'"{key}" is missing', f"add it, like {EXAMPLES[key]}")] for key in needed if key not in description}
    faults |= {key: list(check(description[key], description)) for key, check in KEY_CHECKS.items() if key in description}
    faulty = {key for key, found in faults.items() if found}
    for key in faulty & set(description):
        del description[key]
    return [Problem(what, where, remedy) for found in faults.values() for what, remedy in found], faulty


def _check_channels(value: Any, _: Description) -> Faults:
    names = value if isinstance(value, dict) else {}
    numbers = {str(number) for number in range(len(names))}
    if not names or set(names) != numbers or not all(isinstance(name, str) for name in names.values()):
        yield '"channel_names" does not number its channels "0", "1", ...', 'write it like {"0": "CT", "1": "PET"}'


def _check_ending(value: Any, _: Description) -> Faults:
    if not isinstance(value, str) or not value.startswith("."):
        yield f'"file_ending" is {json.dumps(value)}', 'write the ending with its dot, like ".nii.gz"'


def _check_labels(labels: Any, description: Description) -> Faults:
    if not isinstance(labels, dict) or not all(type(value) is int for entry in labels.values() for value in as_list(entry)):
        yield '"labels" does not give each name a whole number or a list of them', f"write it like {EXAMPLES['labels']}"
        return
    if labels.get("background") != 0:
        yield '"labels" does not declare "background" as 0', 'add "background": 0'
    for value in sorted({entry for entry in labels.values() if isinstance(entry, int)}):
        names = [name for name, entry in labels.items() if entry == value]
        if len(names) > 1:
            yield f'"labels" gives the number {value} to {" and ".join(names)}', "give each name its own number"
    values = sorted({0, *(value for entry in labels.values() for value in as_list(entry))})
    if values != list(range(len(values))):
        yield f'"labels" are not consecutive ({", ".join(map(str, values))})', "number them 0, 1, 2, ... without gaps"
    ignore = labels.get("ignore")
    if ignore is not None and (ignore != values[-1] or ignore in foreground(labels)):
        yield f'"ignore" is {ignore}, which is not above every other label', 'give "ignore" the highest number'
    if not foreground(labels) and description.get("annotation") != "patient":
        yield '"labels" declares nothing besides background', 'add what is drawn, for example "node": 1'
    regions = [name for name, entry in labels.items() if name != "ignore" and set(as_list(entry)) != {0}]
    order = description.get("regions_class_order")
    if has_regions(labels) and not (isinstance(order, list) and len(order) == len(regions)):
        remedy = f"list the number each of {', '.join(regions)} is written as, in that order"
        yield f'"labels" holds regions, but "regions_class_order" is not a list of {len(regions)} numbers', remedy


def _check_annotation(value: Any, description: Description) -> Faults:
    if value not in ANNOTATIONS:
        yield f'"annotation" is {json.dumps(value)}', f"write one of {', '.join(ANNOTATIONS)}, or leave it out"
    elif value == "scribble" and isinstance(description.get("labels"), dict) and "ignore" not in description["labels"]:
        remedy = 'declare the value of voxels that are not drawn as "ignore", the highest label'
        yield '"annotation" is "scribble", but "labels" has no "ignore"', remedy


def _check_unannotated(value: Any, _: Description) -> Faults:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        yield '"unannotated" is not a list of case names', 'write it like "unannotated": ["case_07", "case_12"]'


def _check_node_labels(value: Any, description: Description) -> Faults:
    labels = description.get("labels")
    if not isinstance(value, list) or not value or not all(type(number) is int for number in value):
        yield '"node_labels" is not a list of label numbers', 'write it like "node_labels": [2, 3]'
    elif isinstance(labels, dict):
        drawn = foreground(labels)
        for number in sorted(set(value) - drawn):
            yield f'"node_labels" names {number}, which is no foreground label', f"choose from {sorted(drawn)}"


def _check_instances(value: Any, description: Description) -> Faults:
    if not isinstance(value, bool):
        yield f'"instances" is {json.dumps(value)}', "write true or false"
    labels = description.get("labels")
    if value is True and isinstance(labels, dict) and len([name for name in labels if name not in ("background", "ignore")]) > 1:
        yield '"instances" is true, but "labels" names several', "name one label, or leave instances out"


def _check_block(value: Any, _: Description) -> Faults:
    example = '{"images": ["scan.nii.gz"], "label": "mask.nii.gz"}'
    if not isinstance(value, dict):
        yield '"dataset" is not an object of cases', f'write it like "dataset": {{"case_01": {example}}}'
        return
    for name, entry in value.items():
        if not is_file_name(name):
            yield f'"dataset" has a case {name!r}, after which no file can be called', "give it another name, without / and \\"
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(images, list) or not all(isinstance(file, str) for file in [*images, label or ""]):
            yield f'the entry of case {name} in "dataset" does not hold a list of images and a label', f"write it like {example}"


KEY_CHECKS: dict[str, Callable[[Any, Description], Faults]] = {
    "channel_names": _check_channels, "file_ending": _check_ending, "dataset": _check_block,
    "labels": _check_labels, "node_labels": _check_node_labels, "instances": _check_instances,
    "annotation": _check_annotation, "unannotated": _check_unannotated,
}  # fmt: skip


def is_file_name(name: str) -> bool:
    """Whether files of a case may be called so: results go by it, and must stay in their folder and in sight."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0")


def as_list(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def has_regions(labels: Mapping[str, Any]) -> bool:
    """Whether some label is a region, as nnU-Net has it: a list of more than one value."""
    return any(len(as_list(entry)) > 1 for entry in labels.values())


def outputs_of(labels: Mapping[str, Any]) -> list[str]:
    """What a network's outputs stand for, in their order: nnU-Net's classes go by value, and regions as they are declared."""
    names = [name for name in labels if name != "ignore"]
    if has_regions(labels):
        return [name for name in names if name != "background"]
    return sorted(names, key=lambda name: int(as_list(labels[name])[0]))


def foreground(labels: Mapping[str, Any]) -> set[Any]:
    return {value for name, entry in labels.items() if name != "ignore" for value in as_list(entry)} - {0}
