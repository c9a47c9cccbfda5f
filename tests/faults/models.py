"""Trained models that are cut off, of another plan, or not what they say."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from faults.rows import Attempt, Place, Rows, refused

ROWS = Rows("models")
CHECKPOINT = "fold_0/checkpoint_final.pth"
Spoil = Callable[[Path], None]  # of a model's folder


class Evil:
    """Unpickled, it makes a folder where the command runs."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("run_by_a_pickle",)


def weights(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """The first fold's checkpoint with other content."""

    def spoil(model: Path) -> None:
        content = torch.load(model / CHECKPOINT, weights_only=True)
        given = change(content)
        torch.save(content if given is None else given, model / CHECKPOINT)

    return spoil


def bytes_of(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(model: Path) -> None:
        (model / CHECKPOINT).write_bytes(change((model / CHECKPOINT).read_bytes()))

    return spoil


def edited(name: str, change: Callable[[dict[str, Any]], Any] | str) -> Spoil:
    def spoil(model: Path) -> None:
        if isinstance(change, str):
            (model / name).write_text(change)
            return
        content = json.loads((model / name).read_text())
        given = change(content)
        (model / name).write_text(json.dumps(content if given is None else given))

    return spoil


def without(name: str) -> Spoil:
    return lambda model: (model / name).unlink()


def folder_in_place(model: Path) -> None:
    (model / CHECKPOINT).unlink()
    (model / CHECKPOINT).mkdir()


def other_network(content: dict[str, Any]) -> None:
    plans = content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    plans["features_per_stage"] = [4, 8, 16]


def one_flipped(content: bytes) -> bytes:
    """Amid the weights."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 255
    return bytes(changed)


def pickled(model: Path) -> None:
    torch.save({"network_weights": Evil()}, model / CHECKPOINT)


def old_pickle(model: Path) -> None:
    torch.save({"network_weights": Evil()}, model / CHECKPOINT, _use_new_zipfile_serialization=False)


def first_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Spoil:
    def of(content: dict[str, Any]) -> None:
        name = next(iter(content["network_weights"]))
        content["network_weights"][name] = change(content["network_weights"][name])

    return weights(of)


def take(*keys: str) -> Callable[[dict[str, Any]], None]:
    def of(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return of


def put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def of(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return of


SPOILED: dict[str, tuple[Spoil, str]] = {
    "a checkpoint of no byte": (bytes_of(lambda content: b""), "checkpoint_final.pth"),
    "a checkpoint cut off": (bytes_of(lambda content: content[: len(content) // 2]), "checkpoint_final.pth"),
    "a checkpoint with a byte changed": (bytes_of(one_flipped), "checkpoint_final.pth"),
    "a checkpoint of text": (bytes_of(lambda content: b"weights, by post"), "checkpoint_final.pth"),
    "a checkpoint that is a folder": (folder_in_place, "IsADirectory"),
    "a checkpoint that would have to be unpickled": (pickled, "unpickled"),
    "an old checkpoint that would have to be unpickled": (old_pickle, "unpickled"),
    "a checkpoint that is a list": (weights(lambda content: [1, 2]), "checkpoint_final.pth"),
    "a checkpoint that is a number": (weights(lambda content: 7), "checkpoint_final.pth"),
    "a checkpoint without weights": (weights(take("network_weights")), "network_weights"),
    "weights that are words": (weights(put("heavy", "network_weights")), "checkpoint_final.pth"),
    "weights of other names": (weights(put({"w": torch.ones(3)}, "network_weights")), "do not fit"),
    "a weight of another shape": (first_weight(lambda weight: weight[:1]), "do not fit"),
    "a weight that is NaN": (first_weight(lambda weight: weight * float("nan")), "NaN"),
    "a checkpoint that does not say its configuration": (weights(take("init_args", "configuration")), "configuration"),
    "a checkpoint of a configuration that is not in the plans": (weights(put("2d", "init_args", "configuration")), "2d"),
    "plans of another network": (edited("plans.json", other_network), "do not fit"),
    "no plans": (without("plans.json"), "plans.json"),
    "plans cut off": (edited("plans.json", '{"a": '), "plans.json"),
    "plans that are a list": (edited("plans.json", "[]"), "plans.json"),
    "plans with a block of lnauto's that is a list": (edited("plans.json", put([], "lnauto")), "lnauto"),
    "plans with a share of overlap in words": (edited("plans.json", put("half", "lnauto", "inference", "overlap")), "overlap"),
    "plans without configurations": (edited("plans.json", take("configurations")), "configurations"),
    "plans with a network that runs a command": (
        edited("plans.json", put("os.system", "configurations", "3d_fullres", "architecture", "network_class_name")),
        "os.system",
    ),
    "plans with an overlap of two": (edited("plans.json", put(2, "lnauto", "inference", "overlap")), "overlap"),
    "plans with an unknown averaging": (edited("plans.json", put("most", "lnauto", "inference", "tta")), "most"),
    "plans with an unknown region": (edited("plans.json", put("knee", "lnauto", "region")), "knee"),
    "plans with an orientation that is none": (edited("plans.json", put("UP", "lnauto", "inference", "orientation")), "UP"),
    "no dataset.json": (without("dataset.json"), "dataset.json"),
    "dataset.json that is a list": (edited("dataset.json", "[]"), "dataset.json"),
    "dataset.json without channels": (edited("dataset.json", take("channel_names")), "channel_names"),
    "dataset.json without labels": (edited("dataset.json", take("labels")), "labels"),
    "dataset.json with labels that are words": (
        edited("dataset.json", put({"background": "none"}, "labels")),
        "label 'background'",
    ),
    "dataset.json with three labels of one network's": (
        edited("dataset.json", put({"background": 0, "node": 1, "more": 2}, "labels")),
        "do not fit",
    ),
}


def predicting(spoil: Spoil, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        place.scan()
        spoil(place.copy(place.material.model, "model"))
        return refused(
            "predict", *place.predict("-f", "0", model="model"), names=(told,) if told == "os.system" else ("model", told)
        )

    return make


for _fault, (_spoil, _told) in SPOILED.items():
    ROWS.add(f"model to predict with: {_fault}")(predicting(_spoil, _told))


@ROWS.add("model to predict with: of two channels, and scans of one")
def two_channels(place: Place) -> Attempt:
    place.scan()
    model = place.copy(place.material.model, "model")
    edited("dataset.json", put({"0": "CT", "1": "PET"}, "channel_names"))(model)
    return refused("predict", *place.predict(model="model"), names="model")


@ROWS.add("model to predict with: none in its folder")
def no_model(place: Place) -> Attempt:
    place.scan()
    (place.here / "model").mkdir()
    return refused("predict", *place.predict(model="model"), names=("no finished training", "model"))


@ROWS.add("model to predict with: not there")
def model_not_there(place: Place) -> Attempt:
    place.scan()
    return refused("predict", *place.predict(model="model"), names="model")


@ROWS.add("model to predict with: a checkpoint instead of its folder")
def checkpoint(place: Place) -> Attempt:
    place.scan()
    place.copy(place.material.model / CHECKPOINT, "model.pth")
    return refused("predict", *place.predict(model="model.pth"), names="model.pth")


@ROWS.add("model to predict with: none named, and none trained")
def none_trained(place: Place) -> Attempt:
    place.scan()
    return refused("predict", "-i", "scans", "-o", "out", "--quiet", names="no such trained model")


IMPORTED: dict[str, tuple[Spoil, str]] = {
    name: SPOILED[name]
    for name in (
        "a checkpoint cut off",
        "a checkpoint of text",
        "a checkpoint that would have to be unpickled",
        "an old checkpoint that would have to be unpickled",
        "a checkpoint that is a list",
        "a weight of another shape",
        "a weight that is NaN",
        "plans cut off",
        "plans without configurations",
        "plans with a network that runs a command",
    )
}


def importing(spoil: Spoil, told: str) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        spoil(place.copy(place.material.model, "model"))
        told_here = "" if told in ("unpickled", "do not fit", "lnauto") else told
        return refused("import_model", "model", "--name", "theirs", "-f", "0", "--quiet", names=told_here)

    return make


for _fault, (_spoil, _told) in IMPORTED.items():
    ROWS.add(f"model to import: {_fault}")(importing(_spoil, _told))


@ROWS.add("model to import: a .zip")
def zipped(place: Place) -> Attempt:
    with zipfile.ZipFile("model.zip", "w") as archive:
        archive.writestr("plans.json", "{}")
    return refused("import_model", "model.zip", "--name", "theirs", "--quiet", names=("model.zip", "archive"))


@ROWS.add("model to import: a folder without one")
def nothing_to_import(place: Place) -> Attempt:
    (place.here / "model").mkdir()
    return refused("import_model", "model", "--name", "theirs", "--quiet", names="model")


@ROWS.add("model to import: a name that is taken")
def name_taken(place: Place) -> Attempt:
    (place.here / "results/foundations/theirs").mkdir(parents=True)
    return refused("import_model", place.material.model, "--name", "theirs", "--quiet", names="theirs already")


@ROWS.add("model to export: a checkpoint cut off")
def export_cut_off(place: Place) -> Attempt:
    SPOILED["a checkpoint cut off"][0](place.copy(place.material.model, "model"))
    return refused("export", "model", "-o", "out.lnauto", "--quiet", names="checkpoint_final.pth")


@ROWS.add("model to export: plans that are a list")
def export_list(place: Place) -> Attempt:
    SPOILED["plans that are a list"][0](place.copy(place.material.model, "model"))
    return refused("export", "model", "-o", "out.lnauto", "--quiet", names="plans.json")


@ROWS.add("model to export: a file that is there")
def export_over(place: Place) -> Attempt:
    place.text("out.lnauto", "mine")
    return refused("export", place.material.model, "-o", "out.lnauto", "--quiet", names="out.lnauto")


@ROWS.add("model to export: into its own folder")
def export_into(place: Place) -> Attempt:
    model = place.copy(place.material.model, "model")
    return refused("export", "model", "--stock", "-o", model, "--quiet", names="model")


@ROWS.add("training to go on with: a checkpoint cut off")
def go_on(place: Place) -> Attempt:
    for name in ("raw", "preprocessed"):
        place.copy(place.material.planned / name, name)
    model = place.copy(place.material.model, f"results/Dataset901_Balls/{place.material.model.name}")
    SPOILED["a checkpoint cut off"][0](model)
    fast = ("--device", "cpu", "--iterations", "1", "--workers", "0", "--no-report", "--quiet")
    return refused("train", "901", "0", "--continue", *fast, names="checkpoint_final.pth")


@ROWS.add("training to go on with: a checkpoint of no training")
def go_on_with_another(place: Place) -> Attempt:
    for name in ("raw", "preprocessed"):
        place.copy(place.material.planned / name, name)
    place.copy(place.material.model, f"results/Dataset901_Balls/{place.material.model.name}")
    fast = ("--device", "cpu", "--iterations", "1", "--workers", "0", "--no-report", "--quiet")
    return refused("train", "901", "0", "--continue", *fast, names="checkpoint_final.pth")


@ROWS.add("training that is there already")
def there_already(place: Place) -> Attempt:
    for name in ("raw", "preprocessed"):
        place.copy(place.material.planned / name, name)
    place.copy(place.material.model, f"results/Dataset901_Balls/{place.material.model.name}")
    fast = ("--device", "cpu", "--iterations", "1", "--workers", "0", "--no-report", "--quiet")
    return refused("train", "901", "0", *fast, names="--continue")
