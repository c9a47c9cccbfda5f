"""Plans and other JSON that are broken, of another version, or of something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.rows import Attempt, Place, Rows, refused, works

ROWS = Rows("plans")
Change = Callable[[dict[str, Any]], Any]
FOLDER = "Dataset901_Balls"


def changed(path: Path, change: Change) -> None:
    """The JSON after a change of it, or, if the change gives something, with that in its place."""
    content = json.loads(path.read_text())
    given = change(content)
    path.write_text(json.dumps(content if given is None else given))


def fullres(plan: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plan["configurations"]["3d_fullres"]
    return found


def putting(*keys: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def without(*keys: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


FULL = ("configurations", "3d_fullres")
EDITED: dict[str, tuple[Change | str, str]] = {
    "cut off": ('{"configurations": {', "not valid JSON"),
    "no byte in it": ("", "not valid JSON"),
    "a list": ("[]", "lnauto did not make it"),
    "a number": ("7", "lnauto did not make it"),
    "JSON nested beyond what is read": ("[" * 100_000, "JSON"),
    "NUL bytes": ("\0" * 40, "not valid JSON"),
    "stock nnU-Net's": (without("lnauto"), "lnauto did not make it"),
    "of another version": (without("lnauto", "budget"), "budget"),
    "a block of lnauto's that is a list": (putting("lnauto", value=[]), "lnauto"),
    "no configurations": (without("configurations"), "configurations"),
    "configurations that are a list": (putting("configurations", value=[]), "configuration"),
    "a configuration that is a number": (putting(*FULL, value=3), "3d_fullres"),
    "no spacing": (without(*FULL, "spacing"), "spacing"),
    "a patch that cannot be pooled": (putting(*FULL, "patch_size", value=[7, 7, 7]), "pool"),
    "a patch of words": (putting(*FULL, "patch_size", value=["a", "b", "c"]), "patch_size"),
    "a patch of two sides": (putting(*FULL, "patch_size", value=[32, 32]), "patch_size"),
    "a batch of no case": (putting(*FULL, "batch_size", value=0), "batch_size"),
    "a negative spacing": (putting(*FULL, "spacing", value=[-1, 1, 1]), "spacing"),
    "a network that runs a command": (putting(*FULL, "architecture", "network_class_name", value="os.system"), "os.system"),
    "resampling that runs a command": (putting(*FULL, "resampling_fn_data", value="os.system"), "os.system"),
    "a normalisation that is none": (putting(*FULL, "normalization_schemes", value=["eval"]), "eval"),
    "a reader that is none": (putting("image_reader_writer", value="BaseReaderWriter"), "BaseReaderWriter"),
    "a network without arguments": (putting(*FULL, "architecture", "arch_kwargs", value={}), "strides"),
    "an unknown region": (putting("lnauto", "region", value="knee"), "knee"),
    "an unknown trainer": (putting("lnauto", "trainer", value="LNTrainerDeluxe"), "LNTrainerDeluxe"),
    "an epoch of no iteration": (putting("lnauto", "budget", "iterations_per_epoch", value=0), "iterations_per_epoch"),
    "an epoch that validates nothing": (
        putting("lnauto", "budget", "validation_iterations", value=None),
        "validation_iterations",
    ),
    "a budget in words": (putting("lnauto", "budget", "epochs", value="many"), "budget"),
}

ELSEWHERE = ("os.system", "LNTrainerDeluxe", "eval", "BaseReaderWriter")  # the plan is named in words


def training(change: Change | str, told: str, name: str = "lnautoPlans.json") -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        for folder in ("raw", "preprocessed"):
            place.copy(place.material.planned / folder, folder)
        path = place.here / "preprocessed" / FOLDER / name
        path.write_text(change) if isinstance(change, str) else changed(path, change)
        fast = ("--device", "cpu", "--iterations", "1", "--workers", "0", "--no-report", "--quiet")
        return refused("train", "901", "0", *fast, names=(told,) if told in ELSEWHERE else (name, told))

    return make


for _fault, (_change, _told) in EDITED.items():
    ROWS.add(f"plan to train: {_fault}")(training(_change, _told))

FOLDS: dict[str, tuple[Change | str, str]] = {
    "cut off": ("[{", "not valid JSON"),
    "an object": ("{}", "splits_final.json"),
    "a list of numbers": ("[1, 2]", "splits_final.json"),
    "a fold without its training cases": ('[{"val": ["ball_00"]}]', "splits_final.json"),
    "cases that are not there": ('[{"train": ["ghost"], "val": ["ball_00"]}]', "ghost"),
}
for _fault, (_change, _told) in FOLDS.items():
    ROWS.add(f"folds to train: {_fault}")(training(_change, _told, "splits_final.json"))

DESCRIBED: dict[str, tuple[Change | str, str]] = {
    "cut off": ('{"labels": ', "not valid JSON"),
    "a list": ("[]", "JSON object"),
    "a key twice": ('{"labels": {}, "labels": {}}', "2 times"),
    "JSON nested beyond what is read": ('{"labels": ' + "[" * 100_000, "dataset.json"),
    "no labels": (without("labels"), "labels"),
    "labels that are a list": (putting("labels", value=["node"]), "labels"),
    "labels with a gap": (putting("labels", value={"background": 0, "node": 2}), "consecutive"),
    "no background": (putting("labels", value={"node": 1}), "background"),
    "channels that are a word": (putting("channel_names", value="CT"), "channel_names"),
    "channels that begin with 1": (putting("channel_names", value={"1": "CT"}), "channel_names"),
    "an ending that is a number": (putting("file_ending", value=3), "file_ending"),
    "an unknown annotation": (putting("annotation", value="most"), "most"),
    "un-annotated cases that are not there": (putting("unannotated", value=["ghost"]), "ghost"),
    "a block of cases that leads to nothing": (
        putting("dataset", value={"a": {"images": ["../../etc/shadow.nii.gz"], "label": "x"}}),
        "shadow",
    ),
    "a block with a case whose name leads elsewhere": (
        putting(
            "dataset", value={"../../evil": {"images": ["imagesTr/ball_00_0000.nii.gz"], "label": "labelsTr/ball_00.nii.gz"}}
        ),
        "../../evil",
    ),
}


def planning(change: Change | str, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        place.copy(place.material.planned / "raw", "raw")
        path = place.here / "raw" / FOLDER / "dataset.json"
        path.write_text(change) if isinstance(change, str) else changed(path, change)
        return refused("plan_and_preprocess", "-d", "901", "--quiet", names=("dataset.json", told), leaves="preprocessed*")

    return make


for _fault, (_change, _told) in DESCRIBED.items():
    ROWS.add(f"dataset.json to plan for: {_fault}")(planning(_change, _told))


@ROWS.add("dataset.json with a BOM")
def bom(place: Place) -> Attempt:
    place.copy(place.material.planned / "raw", "raw")
    path = place.here / "raw" / FOLDER / "dataset.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    def right() -> None:
        assert Path(f"preprocessed/{FOLDER}/lnautoPlans.json").is_file()

    return works("plan_and_preprocess", "-d", "901", "--no-preprocess", "--device", "cpu", "--quiet", right=right)


# ---- what commands leave for each other

LEFT: dict[str, tuple[str, str, str]] = {  # file, its content, what is said
    "nodes.json cut off": ("nodes.json", '{"cases": [', "not valid JSON"),
    "nodes.json a list": ("nodes.json", "[]", "nodes.json"),
    "nodes.json without its cases": ("nodes.json", "{}", "cases"),
    "nodes.json with cases that are numbers": ("nodes.json", '{"cases": [1]}', "nodes.json"),
    "nodes.json with a volume of 10^400": (
        "nodes.json",
        f'{{"cases": [{{"case": "case", "nodes": 1, "total_volume_mm3": 1{"0" * 400}, "each_node": []}}]}}',
        "total_volume_mm3",
    ),
    "sources.json cut off": ("sources.json", "{", "not valid JSON"),
    "sources.json with cases that are a list": ("sources.json", '{"channels": [], "nodes": {}, "cases": []}', "sources.json"),
    "run.json a list": ("run.json", "[]", "run.json"),
}


def reporting(command: str, name: str, content: str, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        place.copy(place.material.measured, "measured")
        place.text(f"measured/{name}", content)
        return refused(command, "measured", *(["--no-browser"] if command == "view" else ["--quiet"]), names=(name, told))

    return make


for _fault, (_name, _content, _told) in LEFT.items():
    ROWS.add(f"folder to report: {_fault}")(reporting("report", _name, _content, _told))
    if _name != "run.json":
        ROWS.add(f"folder to view: {_fault}")(reporting("view", _name, _content, _told))


def comparing(content: str, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        for name in ("first", "second"):
            place.copy(place.material.evaluated, name)
        place.text("second/evaluation.json", content)
        return refused("report", "first", "second", "--quiet", names=("evaluation.json", told))

    return make


for _fault, (_content, _told) in {
    "cut off": ("{", "not valid JSON"),
    "a list": ("[]", ""),
    "without cases": ("{}", ""),
    "with cases that are numbers": ('{"each_case": [1, 2]}', ""),
    "with cases without names": ('{"each_case": [{}]}', ""),
}.items():
    ROWS.add(f"evaluation to compare: {_fault}")(comparing(_content, _told))


@ROWS.add("evaluation to compare: of other cases")
def other_cases(place: Place) -> Attempt:
    for name in ("first", "second"):
        place.copy(place.material.evaluated, name)
    path = place.here / "second/evaluation.json"
    path.write_text(path.read_text().replace('"case": "case"', '"case": "other"'))
    return refused("report", "first", "second", "--quiet", names="case")


@ROWS.add("conversion to go on with: a list in conversion.json")
def conversion(place: Place) -> Attempt:
    place.copy(place.material.dicom, "in/anna")
    place.text("Dataset501_A/conversion.json", "[]")
    return refused("convert", "in", "Dataset501_A", "--quiet", names="conversion.json")


@ROWS.add("conversion to go on with: other settings")
def other_settings(place: Place) -> Attempt:
    place.copy(place.material.dicom, "in/anna")
    place.text("Dataset501_A/conversion.json", json.dumps({"settings": {}, "channels": [], "cases": {}}))
    return refused("convert", "in", "Dataset501_A", "--quiet", names="other settings")


@ROWS.add("demo to go on with: phantom.json cut off")
def demo(place: Place) -> Attempt:
    (place.here / "demo/raw/Dataset501_Phantom").mkdir(parents=True)
    place.text("demo/phantom.json", "{")
    return refused("demo", "demo", "--quiet", names="phantom.json")


@ROWS.add("demo to go on with: of other settings")
def other_demo(place: Place) -> Attempt:
    (place.here / "demo/raw/Dataset501_Phantom").mkdir(parents=True)
    place.text("demo/phantom.json", "{}")
    return refused("demo", "demo", "--quiet", names="other settings")


@ROWS.add("masks to go on with: a list in run.json")
def run_json(place: Place) -> Attempt:
    place.scan()
    place.text("out/run.json", "[]")
    return refused("predict", *place.predict(), names="run.json")


@ROWS.add("masks to go on with: of another model")
def other_model(place: Place) -> Attempt:
    place.scan()
    place.text("out/run.json", "{}")
    return refused("predict", *place.predict(), names="another model")


@ROWS.add("masks to judge: dataset.json cut off")
def judging(place: Place) -> Attempt:
    for side in ("truth", "masks"):
        place.copy(place.material.mask, f"{side}/case.nii.gz")
    place.text("dataset.json", "{")
    return refused("evaluate", "-r", "truth", "-p", "masks", "--quiet", names="dataset.json")


@ROWS.add("masks to judge: labels that are words")
def judging_words(place: Place) -> Attempt:
    for side in ("truth", "masks"):
        place.copy(place.material.mask, f"{side}/case.nii.gz")
    place.text("dataset.json", '{"labels": {"background": 0, "node": "one"}}')
    return refused("evaluate", "-r", "truth", "-p", "masks", "--quiet", names="dataset.json")


@ROWS.add("masks to measure: dataset.json that is a list")
def measuring(place: Place) -> Attempt:
    place.copy(place.material.mask, "masks/case.nii.gz")
    place.text("masks/dataset.json", "[]")
    return refused("measure", "-i", "masks", "-o", "out", "--quiet", names="dataset.json")
