"""Pseudo-label rounds: two labellers, the cases they agree on, and again; then the fold's own network.

A round trains two networks, each on one half of the fold's training cases, lets both label what is not annotated, and keeps the
cases they agree on best. The networks of the next round, and in the end the fold's own, learn from these labels.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.data.folds import everybody
from lnauto.data.raw import RawDataset
from lnauto.data.trusted_background import adding_ignore
from lnauto.errors import InputError
from lnauto.files import read_json, write_json
from lnauto.paths import Paths
from lnauto.planners.plan import Plan
from lnauto.workflow.fold import ROUNDS, Request, clear, train_network, validate
from lnauto.workflow.labelling import Round
from lnauto.workflow.plan import bring_images_up_to_date, unannotated_folder
from lnauto.workflow.round_cases import LABELLERS, RoundCases, choose_cases

if TYPE_CHECKING:
    from lnauto.evaluation.cases import CaseResult
    from lnauto.trainers.material import Material

log = logging.getLogger(__name__)

RECORD = "rounds.json"


class Shares:
    """What is left of a budget, evenly for every network that is still to be trained; None: there is no budget."""

    def __init__(self, seconds: float | None, networks: int) -> None:
        self.ends = None if seconds is None else time.monotonic() + seconds
        self.networks = networks

    def next(self) -> float | None:
        share = None if self.ends is None else (self.ends - time.monotonic()) / self.networks
        self.networks -= 1
        return share


@dataclass(frozen=True)
class FoldInRounds:
    """One fold, the rounds asked for, and where it all goes."""

    plan: Plan
    description: dict[str, Any]  # with an ignore label
    fold: str
    request: Request
    rounds: int
    cases: RoundCases
    folder: Path  # the fold's own, which holds the final network

    @property
    def record(self) -> Path:
        return self.folder / ROUNDS / RECORD

    @property
    def networks(self) -> int:
        return len(LABELLERS) * self.rounds + 1

    @property
    def pretrain(self) -> bool:
        """Whether its networks start from pre-trained weights: as asked, or, if it goes on, as it was begun."""
        if self.request.proceed and self.record.is_file():
            return bool(read_json(self.record, "start anew with --overwrite")["pretrain"])
        return self.request.pretrain

    def round(self, number: int) -> Round:
        return Round(self.folder / ROUNDS / f"round_{number}", self.cases)


def prepare_rounds(
    plan: Plan,
    dataset: RawDataset | None,
    splits: Sequence[Mapping[str, Sequence[str]]],
    folds: Sequence[str],
    request: Request,
    model: Path,
    paths: Paths,
) -> dict[str, FoldInRounds]:
    """The folds that are trained in rounds of pseudo labels; whatever forbids it is told before the first of them starts."""
    asked = {fold: rounds for fold in folds if (rounds := rounds_of(model / f"fold_{fold}", request))}
    if not asked:
        return {}
    if dataset is None:
        place = paths.raw / plan.content["dataset_name"]
        raise InputError.of("rounds of pseudo labels need the raw data set", place, "put it there, or leave out --rounds")
    from lnauto.compat.plans import read_plans

    bring_images_up_to_date(dataset, plan, request.configuration, paths, request.quiet)
    annotated = paths.preprocessed / dataset.name / plan.configuration(request.configuration)["data_identifier"]
    description = adding_ignore(dataset.description)
    labels = read_plans(plan.content).get_label_manager(description)
    unannotated = [case.name for case in dataset.unannotated_cases]
    found = {}
    for fold, rounds in asked.items():
        everything = {"train": everybody(splits), "val": []}
        split = everything if fold == "all" else splits[int(fold)]
        places = annotated, unannotated_folder(annotated)
        where = f"fold {fold} of {dataset.name}"
        cases = choose_cases(split, unannotated, dataset.patient_of, places, labels, where, request.quiet)
        found[fold] = FoldInRounds(plan, description, fold, request, rounds, cases, model / f"fold_{fold}")
        check_unchanged(found[fold])
    return found


def rounds_of(folder: Path, request: Request) -> int | None:
    """How many rounds a fold is to be trained in: as asked, or, if it goes on, as it was begun."""
    record = folder / ROUNDS / RECORD
    if record.is_file() and not (request.proceed or request.overwrite):
        what = "rounds of pseudo labels were begun there already"
        raise InputError.of(what, folder, "add --continue to go on, or --overwrite to start anew")
    if not request.proceed:
        return request.rounds
    if record.is_file():
        begun = int(read_json(record, "start anew with --overwrite")["rounds"])
        if request.rounds not in (None, begun):
            what = f"this fold was begun with --rounds {begun}, not {request.rounds}"
            raise InputError.of(what, folder, f"give --rounds {begun}, or start anew with --overwrite")
        return begun
    if request.rounds is not None and is_begun(folder):
        what = "this fold was begun without rounds of pseudo labels"
        raise InputError.of(what, folder, "leave out --rounds, or start anew with --overwrite")
    return request.rounds


def is_begun(folder: Path) -> bool:
    """Whether a network was trained there, wholly or in part."""
    from lnauto.trainers.checkpoint import FINAL, LATEST

    return any((folder / name).is_file() for name in (FINAL, LATEST))


def check_unchanged(work: FoldInRounds) -> None:
    """Rounds go on only with what they were begun with: half of their labels would be of other cases."""
    if not (work.request.proceed and work.record.is_file()):
        return
    if read_json(work.record, "start anew with --overwrite")["made_of"] != work.cases.made_of():
        what = f"labels, images, plan or folds have changed since the rounds of fold {work.fold} were begun"
        raise InputError.of(what, work.folder, "restore them, or start anew with --overwrite")


def train_in_rounds(
    work: FoldInRounds, seconds: float | None, extend: bool, pretrained: Path | None, begin_anew: Callable[[Path], None] = clear
) -> list[CaseResult]:
    """Train labellers and label, round by round, then train and validate the fold's own network; `begin_anew` removes what an
    earlier training left."""
    from lnauto.trainers.material import Material

    _tell(work)
    begun = work.request.proceed and work.record.is_file()
    shares = Shares(seconds, work.networks)
    seed = read_json(work.record, "start anew with --overwrite")["seed"] if begun else work.request.seed
    names, labels = list(work.cases.annotated), None
    for number in range(1, work.rounds + 1):
        current = work.round(number)
        halves = {half: [name for name in names if work.cases.half_of[name] == half] for half in LABELLERS}
        for half in LABELLERS:
            others = tuple(name for name in work.cases.annotated if work.cases.half_of[name] != half)
            output, to_label = current.labeller(half), work.cases.gathered(work.cases.to_label)
            material = Material(work.cases.gathered(halves[half], labels), others, output, to_label)
            name = f"Labeller {half} of round {number}, fold {work.fold}"
            own_seed = 1000 * (seed + 1) + 10 * number + half  # no other network's, and no other command's
            begin = _leave if begun else _beginning(work, seconds, begin_anew)
            _train_labeller(work, name, material, own_seed, shares.next(), pretrained, begin, begun)
            begun = True
        if not current.finished:
            _label(work, current, halves)
        names, labels = current.training, current.labels
    looked_at = work.cases.annotated if work.fold == "all" else work.cases.validation
    final = Material(work.cases.gathered(names, labels), looked_at)
    request, share = _request(work, work.folder, seed, shares.next(), begun=True)
    trainer = train_network(
        work.plan, work.description, work.fold, request, share, extend, pretrained, material=final, begin=_leave
    )
    return validate(trainer)


def _tell(work: FoldInRounds) -> None:
    part, none = len(work.cases.partly), len(work.cases.unannotated)
    what = f"{part} cases that are annotated in part, and {none} without annotation"
    log.info("Fold %s in rounds (%d): %d networks are trained; labelled are %s.", work.fold, work.rounds, work.networks, what)


def _train_labeller(
    work: FoldInRounds,
    name: str,
    material: Material,
    seed: int,
    seconds: float | None,
    pretrained: Path | None,
    begin: Callable[[Path], None],
    begun: bool,
) -> None:
    from lnauto.trainers.checkpoint import FINAL

    assert material.output is not None
    if begun and (material.output / FINAL).is_file():
        log.info("%s is trained already.", name)
        return
    request, seconds = _request(work, material.output, seed, seconds, begun)
    if not begun:
        request = replace(request, proceed=False, overwrite=True)
    train_network(work.plan, work.description, work.fold, request, seconds, False, pretrained, name, material, begin)


def _request(work: FoldInRounds, output: Path, seed: int, seconds: float | None, begun: bool) -> tuple[Request, float | None]:
    """What is asked of one network, and its time: by this command, or by the one that began the rounds."""
    there = is_begun(output)
    request = replace(work.request, seed=seed, proceed=there, overwrite=False)
    if there or request.names_a_length or not begun:
        return request, seconds
    known = read_json(work.record, "start anew with --overwrite")
    request = replace(request, minutes=known["minutes"], epochs=known["epochs"], iterations=known["iterations"])
    return request, None if known["minutes"] is None else known["minutes"] * 60 / work.networks


def _beginning(work: FoldInRounds, seconds: float | None, begin_anew: Callable[[Path], None]) -> Callable[[Path], None]:
    """The first network is about to start: an earlier training goes, and what was asked for is written down."""

    def begin(output: Path) -> None:
        request = work.request
        begin_anew(work.folder)
        output.mkdir(parents=True, exist_ok=True)
        minutes = None if seconds is None else seconds / 60
        length = {"minutes": minutes, "epochs": request.epochs, "iterations": request.iterations}
        asked = {"rounds": work.rounds, **length, "seed": request.seed, "pretrain": work.pretrain}
        write_json(work.record, {**asked, "made_of": work.cases.made_of()})

    return begin


def _leave(_: Path) -> None:
    """Nothing of an earlier training is left to remove."""


def _label(work: FoldInRounds, current: Round, halves: dict[int, list[str]]) -> None:
    from lnauto.networks.compute import find_device
    from lnauto.trainers.checkpoint import FINAL

    labellers = {current.labeller(half) / FINAL: halves[half] for half in LABELLERS}
    current.label(labellers, find_device(work.request.device), work.request.precision, work.request.quiet)
