"""Phantom data sets: chest CT with lymph nodes, drawn, with the whole truth beside it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lnauto import __version__
from lnauto.data.phantom.acquisition import STYLES
from lnauto.data.phantom.case import PhantomCase, describe_patient, draw_case
from lnauto.data.phantom.patients import COLUMNS
from lnauto.data.phantom.write import Writer, as_csv, whole_folder
from lnauto.errors import InputError
from lnauto.files import write_text
from lnauto.paths import DATASET_NAME

__all__ = ["ANNOTATIONS", "SMALLEST_SIZE", "PhantomCase", "make_case", "make_patients", "make_phantom"]

ANNOTATIONS = ("full", "partial", "scribble", "none")
CASES_THAT_PAY = 8  # from so many on, starting processes takes less time than they save
SMALLEST_SIZE = 32  # below that no field of view holds a large node with what is round it
TRAINING, TEST = "phantom_{:03d}", "phantom_t{:03d}"


def make_case(index: int, *, size: int = 96, seed: int = 0, style: str = "a", test: bool = False) -> PhantomCase:
    """Draw one case; it depends on these arguments alone."""
    return draw_case((TEST if test else TRAINING).format(index), (seed, int(test), index), size, style)


def make_patients(out: Path, *, count: int, seed: int = 0, style: str = "a") -> Path:
    """Write a data set that is a table alone: patients of the same label model, of whom no scan is drawn."""
    out = Path(out).absolute()
    _check(out, count, "none", 1.0, SMALLEST_SIZE, seed, style, 0)
    patients = [describe_patient(TRAINING.format(index), (seed, 2, index), style) for index in range(count)]
    with whole_folder(out) as folder:
        columns = [column for column in COLUMNS if column != "cases"]
        write_text(folder / "patients.csv", as_csv(columns, [{name: one.row[name] for name in columns} for one in patients]))
    return out


def make_phantom(
    out: Path,
    *,
    cases: int,
    annotation: str = "full",
    fraction: float = 0.3,
    size: int = 96,
    seed: int = 0,
    style: str = "a",
    test_cases: int = 0,
    declare: bool = False,
    workers: int = 0,
    quiet: bool = False,
) -> Path:
    """Write a phantom data set into `out`, which is called DatasetNNN_Name and is not there yet or empty.

    Same arguments, same bytes; training case i and test case i do not depend on how many there are. `declare` writes into
    `dataset.json` that the annotation is full or partial, which lnauto otherwise has to find out. `workers` processes draw the
    cases; with 0 it is done here.
    """
    out = Path(out).absolute()
    _check(out, cases, annotation, fraction, size, seed, style, test_cases)
    todo = [(index, False) for index in range(cases)] + [(index, True) for index in range(test_cases)]
    with whole_folder(out) as folder, _drawn(todo, partial(_draw, size=size, seed=seed, style=style), workers) as drawn:
        writer = Writer(folder, annotation, fraction)
        for (index, test), case in tqdm(zip(todo, drawn, strict=True), out.name, len(todo), unit="case", disable=quiet):
            write = writer.test_case if test else writer.training_case
            write(case, np.random.default_rng((seed, int(test), index, 1)))
        made_by = {"lnauto": __version__, "seed": seed, "size": size, "style": style, "fraction": fraction}
        writer.finish(declare, made_by)
    return out


def _draw(which: tuple[int, bool], size: int, seed: int, style: str) -> PhantomCase:
    index, test = which
    return make_case(index, size=size, seed=seed, style=style, test=test)


@contextmanager
def _drawn(
    todo: Sequence[tuple[int, bool]], draw: Callable[[tuple[int, bool]], PhantomCase], workers: int
) -> Iterator[Iterator[PhantomCase]]:
    """The cases in order, drawn here or by processes that end with the block."""
    if workers < 2 or len(todo) < CASES_THAT_PAY:
        yield map(draw, todo)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool.map(draw, todo)
        except BrokenProcessPool as error:
            raise InputError.of(
                "a process that drew a case was killed", "the phantom", "ask for a smaller --size if memory is short"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _check(out: Path, cases: int, annotation: str, fraction: float, size: int, seed: int, style: str, test_cases: int) -> None:
    if DATASET_NAME.fullmatch(out.name) is None:
        raise InputError.of(
            f'"{out.name}" is no name for an nnU-Net data set',
            out,
            f"call it DatasetNNN_Name, for example {out / 'Dataset501_Phantom'}",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError.of("there is something already", out, "remove it, or name another folder")
    rules = (
        (cases >= 1, f"{cases} cases cannot be made", "--cases", "ask for 1 or more"),
        (test_cases >= 0, f"{test_cases} test cases cannot be made", "--test-cases", "ask for 0 or more"),
        (
            annotation in ANNOTATIONS,
            f'there is no annotation "{annotation}"',
            "--annotation",
            f"choose from {', '.join(ANNOTATIONS)}",
        ),
        (0 < fraction <= 1, f"{fraction:g} is no fraction of the nodes", "--fraction", "give a number above 0 and up to 1"),
        (size >= SMALLEST_SIZE, f"{size} rows and columns are too few for a chest", "--size", f"ask for {SMALLEST_SIZE} or more"),
        (seed >= 0, f"{seed} is no seed", "--seed", "give 0 or a positive whole number"),
        (style in STYLES, f'there is no style "{style}"', "--style", f"choose from {', '.join(STYLES)}"),
    )
    for good, what, where, remedy in rules:
        if not good:
            raise InputError.of(what, where, remedy)
