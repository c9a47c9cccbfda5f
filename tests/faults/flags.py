"""Values of flags that no command can use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults.rows import Attempt, Patch, Place, Rows, partly, refused, works

ROWS = Rows("flags")

TRAIN, PREDICT, PLAN = ("train", "901", "0"), ("predict", "-i", "scans", "-o", "out"), ("plan_and_preprocess", "-d", "901")
MEASURE, EVALUATE = ("measure", "-i", "masks", "-o", "out"), ("evaluate", "-r", "truth", "-p", "masks")
PHANTOM = ("make_phantom", "Dataset501_Phantom")

# No file is looked at before these are refused.
AT_ONCE: dict[str, tuple[tuple[str, ...], str]] = {
    "a negative number of iterations": ((*TRAIN, "--iterations", "-5"), "'-5'"),
    "half an iteration": ((*TRAIN, "--iterations", "1.5"), "'1.5'"),
    "no epoch": ((*TRAIN, "--epochs", "0"), "'0'"),
    "a number of epochs in another script that is no number": ((*TRAIN, "--epochs", "²"), "'²'"),
    "a budget of ten": ((*TRAIN, "--budget", "ten"), "30min"),
    "a budget without its unit": ((*TRAIN, "--budget", "10"), "30min"),
    "a negative budget": ((*TRAIN, "--budget=-3min"), "30min"),
    "a budget of nothing": ((*TRAIN, "--budget", "0min"), "30min"),
    "a negative seed": ((*TRAIN, "--seed", "-1"), "'-1'"),
    "a seed of twenty digits": ((*TRAIN, "--seed", "99999999999999999999"), "--seed"),
    "a negative number of workers": ((*TRAIN, "--workers", "-1"), "'-1'"),
    "more than all patients to be found": ((*TRAIN, "--sensitivity", "1.5"), "'1.5'"),
    "a sensitivity of NaN": ((*TRAIN, "--sensitivity", "nan"), "'nan'"),
    "two lengths at once": ((*TRAIN, "--epochs", "1", "--iterations", "9"), "not allowed with"),
    "to go on and to start anew": ((*TRAIN, "--continue", "--overwrite"), "not allowed with"),
    "an unknown tracker": ((*TRAIN, "--track", "notebook"), "notebook"),
    "an unknown flag": ((*TRAIN, "--epoch-count", "3"), "--epoch-count"),
    "no fold": (("train", "901"), "FOLD"),
    "tiles that overlap wholly": ((*PREDICT, "--overlap", "1"), "'1'"),
    "an overlap of NaN": ((*PREDICT, "--overlap", "nan"), "'nan'"),
    "memory of no size": ((*PREDICT, "--max-memory", "0GB"), "'0GB'"),
    "memory in words": ((*PREDICT, "--max-memory", "plenty"), "6GB"),
    "an unknown averaging": ((*PREDICT, "--tta", "most"), "'most'"),
    "a device that is none": ((*PREDICT, "--device", "gpu"), "'gpu'"),
    "nothing to predict": (("predict", "-o", "out"), "-i"),
    "a spacing of zero": ((*PLAN, "--spacing", "0", "1", "1"), "'0'"),
    "a spacing of NaN": ((*PLAN, "--spacing", "nan", "1", "1"), "'nan'"),
    "two sides of a patch": ((*PLAN, "--patch", "32", "32"), "--patch"),
    "a patch of no voxel": ((*PLAN, "--patch", "0", "32", "32"), "'0'"),
    "a negative number of workers to preprocess": ((*PLAN, "--workers", "-3"), "'-3'"),
    "background as a node's value": ((*MEASURE, "--labels", "0"), "2-11"),
    "values that go backwards": ((*MEASURE, "--labels", "5-2"), "2-11"),
    "values in words": ((*MEASURE, "--labels", "all"), "2-11"),
    "an unknown kind of values": ((*MEASURE, "--kind", "nodes"), "'nodes'"),
    "a volume of NaN": ((*EVALUATE, "--min-volume", "nan"), "nan"),
    "a negative volume": ((*EVALUATE, "--min-volume=-5"), "-5"),
    "a volume in words": ((*EVALUATE, "--min-volume", "small"), "'small'"),
    "an unknown protocol": ((*EVALUATE, "--protocol", "lnq2032"), "lnq2032"),
    "no case to draw": ((*PHANTOM, "--cases", "0"), "--cases"),
    "a chest of eight voxels": ((*PHANTOM, "--size", "8"), "--size"),
    "an unknown style": ((*PHANTOM, "--style", "z"), "--style"),
    "twice the nodes": ((*PHANTOM, "--fraction", "2"), "--fraction"),
    "NaN of the nodes": ((*PHANTOM, "--fraction", "nan"), "--fraction"),
    "an unknown annotation": ((*PHANTOM, "--annotation", "most"), "--annotation"),
    "a data set called phantom": (("make_phantom", "phantom"), "Dataset501_Phantom"),
    "a data set with a name that leaves the folder": (("make_phantom", "Dataset501_A/../../x"), "DatasetNNN_Name"),
    "a demo of eight voxels": (("demo", "demo", "--size", "8"), "'8'"),
    "a demo of one case": (("demo", "demo", "--cases", "1"), "'1'"),
    "a demo in ten": (("demo", "demo", "--budget", "ten"), "30min"),
    "an address that is no port": (("view", "measured", "--port", "localhost"), "localhost"),
    "three folders to compare": (("report", ".", ".", "."), "3 folders"),
    "no name for a model": (("import_model", "model.pth"), "--name"),
    "a model's name that leads elsewhere": (("import_model", "model.pth", "--name", "../evil"), "../evil"),
    "a model's name of nothing": (("import_model", "model.pth", "--name", ""), "name"),
    "no file to export to": (("export", "model"), "-o"),
    "something to examine": (("doctor", "gpu"), "gpu"),
    "an unknown way of annotating": (("convert", "in", "Dataset501_A", "--annotation", "most"), "'most'"),
}


def at_once(arguments: tuple[str, ...], told: str) -> Callable[[Place], Attempt]:
    return lambda place: refused(*arguments, names=told)


for _fault, (_arguments, _told) in AT_ONCE.items():
    ROWS.add(_fault)(at_once(_arguments, _told))

# Refused in the light of the data.


def no_gpu(patch: pytest.MonkeyPatch) -> None:
    import torch

    patch.setattr(torch.cuda, "is_available", lambda: False)


PLANNED: dict[str, tuple[tuple[str, ...], str, Patch | None]] = {
    "fold 9 of five": (("train", "901", "9"), "no fold 9", None),
    "a fold that only looks like a number": (("train", "901", "²"), "no fold ²", None),
    "a fold in words": (("train", "901", "first"), "no fold first", None),
    "an unknown trainer": ((*TRAIN, "-tr", "LNTrainerDeluxe"), "LNTrainerDeluxe", None),
    "a trainer that names a module": ((*TRAIN, "-tr", "os.system"), "os.system", None),
    "a configuration that was not planned": ((*TRAIN, "-c", "2d"), "2d", None),
    "a foundation model that is not there": ((*TRAIN, "--pretrained", "ln-giant"), "ln-giant", None),
    "a foundation model outside its folder": ((*TRAIN, "--pretrained", "../../model"), "../../model", None),
    "tuning of nothing": ((*TRAIN, "--tune", "lora"), "--pretrained", None),
    "training on a GPU that is not there": ((*TRAIN, "--device", "cuda", "--iterations", "1"), "cuda", no_gpu),
    "a budget of one second": ((*TRAIN, "--device", "cpu", "--budget", "1s"), "budget", None),
    "data set 777": (("train", "777", "0"), "777", None),
    "a data set that only looks like a number": (("train", "²", "0"), "no data set ²", None),
    "a data set with a path": (("train", "../raw/Dataset901_Balls", "0"), "../raw", None),
    "a data set without a name": (("train", "", "0"), "no data set", None),
    "planning data set 777": (("plan_and_preprocess", "-d", "777"), "777", None),
    "planning an unknown strategy": ((*PLAN, "--strategy", "luck"), "luck", None),
    "planning for an unknown trainer": ((*PLAN, "-tr", "LNTrainerDeluxe"), "LNTrainerDeluxe", None),
    "planning in two dimensions": ((*PLAN, "-c", "2d", "--no-preprocess", "--device", "cpu"), "2d", None),
    "planning for a GPU that is not there": ((*PLAN, "--device", "cuda"), "cuda", no_gpu),
    "planning under a foundation model that is not there": ((*PLAN, "--pretrained", "ln-giant"), "ln-giant", None),
}


def planned(arguments: tuple[str, ...], told: str, patch: Patch | None) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        for name in ("raw", "preprocessed"):
            place.copy(place.material.planned / name, name)
        return refused(*arguments, "--quiet", names=told, patch=patch, leaves="preprocessed/*/lnauto_checked.json")

    return make


for _fault, (_arguments, _told, _patch) in PLANNED.items():
    ROWS.add(_fault)(planned(_arguments, _told, _patch))

MODEL: dict[str, tuple[tuple[str, ...], str, Patch | None]] = {
    "a fold that is not trained": (("-f", "7"), "fold 7", None),
    "a fold that leads elsewhere": (("-f", "../fold_0"), "../fold_0", None),
    "predicting on a GPU that is not there": (("--device", "cuda"), "cuda", no_gpu),
    "a table for a model without a head": (("--patients", "patients.csv"), "head", None),
    "masks for a model without a head": (("--masks", "masks"), "--masks", None),
}


def predicting(arguments: tuple[str, ...], told: str, patch: Patch | None) -> Callable[[Place], Attempt]:
    def make(place: Place) -> Attempt:
        place.scan()
        place.text("patients.csv", "patient,age\nscan,61\n")
        return refused("predict", *place.predict(*arguments), names=told, patch=patch)

    return make


for _fault, (_arguments, _told, _patch) in MODEL.items():
    ROWS.add(_fault)(predicting(_arguments, _told, _patch))


@ROWS.add("a port beyond the last")
def port(place: Place) -> Attempt:
    place.copy(place.material.measured, "measured")
    return refused("view", "measured", "--port", "99999", "--no-browser", names="99999")


@ROWS.add("a pattern of ROIs that is no pattern")
def pattern(place: Place) -> Attempt:
    place.copy(place.material.dicom, "in/anna")
    return refused("convert", "in", "Dataset501_A", "--roi", "(LN", "--quiet", names=("--roi", "(LN"))


@ROWS.add("a pattern of series that is no pattern")
def pattern_of_series(place: Place) -> Attempt:
    place.copy(place.material.dicom, "in/anna")
    return refused("convert", "in", "Dataset501_A", "--series", "*", "--quiet", names=("--series", "*"))


@ROWS.add("memory for a tenth of what a scan takes")
def memory(place: Place) -> Attempt:
    place.scan()

    def right() -> None:
        assert not list(Path("out").glob("*.nii.gz"))

    return partly("predict", *place.predict("--max-memory", "1MB"), names=("scan", "--max-memory"), right=right)


@ROWS.add("the number of the data set with leading zeros")
def leading_zeros(place: Place) -> Attempt:
    place.copy(place.material.planned / "raw", "raw")
    number = ("-d", "00901", "--no-preprocess", "--device", "cpu", "--quiet")

    def right() -> None:
        assert Path("preprocessed/Dataset901_Balls/lnautoPlans.json").is_file()

    return works("plan_and_preprocess", *number, right=right)
