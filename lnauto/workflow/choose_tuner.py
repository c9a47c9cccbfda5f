"""`--tune auto`: short trainings on parts of the few cases say which way of adapting a foundation model to take.

Nothing is looked at but the training cases of the first fold that was asked for; each part of them is held out once. One patient
has no parts: there it counts how well the model does on him before it is adapted. One that knows such images already is best
changed little.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lnauto.data.folds import everybody, make_folds
from lnauto.data.gathered import Gathered
from lnauto.data.preprocess import provenance_path
from lnauto.data.provenance import Provenance
from lnauto.files import read_json, write_json
from lnauto.planners.adaptation import TUNE
from lnauto.planners.plan import Plan
from lnauto.workflow.adaptation import scores, untrained
from lnauto.workflow.fold import Request, length_of, train_network

log = logging.getLogger(__name__)

CANDIDATES = ("full", "decoder", "norm", "lora", "dgst:1", "dgst:0.05")  # what is tried [our choice]
NEAR, GENTLE = 0.4, "decoder"  # mean of Dice and node F1 before adaptation, from which this is taken [our choice]
PARTS = 3  # of the cases, each held out once; with three or fewer patients, each patient [our choice]
SHARE_OF_TIME = 0.4  # of a budget, for all tries together [our choice]
SHARE_OF_LENGTH = 0.25  # of the iterations, for one try, where there is no budget [our choice]
RECORD, RESULT, UNADAPTED = "choice.json", "result.json", "unadapted"


@dataclass(frozen=True)
class Tried:
    """What a way of tuning reached on held-out cases, on average over the parts that have a score; NaN: none has."""

    tune: str
    dice: float
    node_f1: float

    @property
    def score(self) -> float:
        """Nothing is worse than no score: NaN, which compares with nothing, would win or lose by its place."""
        mean = (self.dice + self.node_f1) / 2
        return -math.inf if math.isnan(mean) else mean


@dataclass(frozen=True)
class Trials:
    """Where and with what the ways of tuning are tried."""

    plan: Plan
    description: dict[str, Any]
    fold: str  # the networks are made for
    request: Request
    preprocessed: Path
    folder: Path
    parts: list[dict[str, list[str]]]
    seconds: float | None  # of the whole command

    def made_of(self) -> dict[str, Any]:
        """What the results depend on, as JSON gives it back."""
        cases = sorted({name for part in self.parts for side in part.values() for name in side})
        return {
            "plan": self.plan.hash(),
            "parts": self.parts,
            "seed": self.request.seed,
            "iterations": self.iterations,
            "minutes": self.request.minutes,
            "configuration": self.request.configuration,
            "files": Provenance(provenance_path(self.preprocessed)).digests(cases),
        }

    @property
    def iterations(self) -> int | None:
        """Of one try; None: it ends by the clock."""
        whole = length_of(self.plan, self.request).iterations
        return None if whole is None else max(1, round(SHARE_OF_LENGTH * whole))

    @property
    def seconds_of_a_try(self) -> float | None:
        """None: it ends by its iterations."""
        if self.seconds is not None:
            return SHARE_OF_TIME * self.seconds / (len(CANDIDATES) * len(self.parts))
        whole = length_of(self.plan, self.request).seconds
        return None if whole is None else SHARE_OF_LENGTH * whole

    def run(self, tune: str) -> Tried:
        parts = [Tried(tune, **self._run_part(tune, number)) for number in range(len(self.parts))]
        # Where neither a node is drawn nor one predicted there is nothing to score.
        told = [part for part in parts if part.score > -math.inf]
        if not told:
            return Tried(tune, math.nan, math.nan)
        return Tried(tune, fmean(part.dice for part in told), fmean(part.node_f1 for part in told))

    def before(self) -> Tried | None:
        """What the model reaches on the training cases without adaptation; None if it does not know all of their labels."""
        if None in self.plan.lnauto["foundation"]["labels"].values():
            return None
        from lnauto.trainers.material import Material

        cases = self.parts[0]["val"]
        material = Material(Gathered(dict.fromkeys(cases, self.preprocessed)), tuple(cases), self.folder / UNADAPTED)
        fresh = untrained(self.plan, self.description, self.fold, replace(self.request, tune=TUNE), material)
        return Tried(UNADAPTED, **scores(fresh.validate()))

    def _run_part(self, tune: str, number: int) -> dict[str, float]:
        from lnauto.trainers.material import Material

        place = self.folder / tune.replace(":", "_") / f"part_{number}"
        record = place / RESULT
        known = read_json(record, "remove it") if record.is_file() else {}
        if known.get("made_of") != self.made_of():
            part = self.parts[number]
            share = self.seconds_of_a_try
            # A try begins anew: it is short, and its result is kept.
            alike = replace(self.request, tune=tune, proceed=False, overwrite=True, epochs=None)
            request = replace(alike, iterations=self.iterations, minutes=None if share is None else share / 60)
            material = Material(Gathered(dict.fromkeys(part["train"], self.preprocessed)), tuple(part["val"]), place)
            name = f"Try of {tune}, part {number + 1} of {len(self.parts)}"
            trainer = train_network(self.plan, self.description, self.fold, request, share, name=name, material=material)
            known = {"made_of": self.made_of(), **scores(trainer.validate())}
            write_json(record, known)
        return {key: known[key] for key in ("dice", "node_f1")}


def parts_of(folds: list[dict[str, list[str]]], fold: str, patient_of: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """The training cases of a fold, each of several parts of them held out once."""
    cases = everybody(folds) if fold == "all" else folds[int(fold)]["train"]
    return make_folds(cases, patient_of, n_folds=PARTS)


def choose_tuner(trials: Trials) -> str:
    """The best of the candidates; with one patient, what suits how far he is from what the model knows. What was tried already is
    not tried again."""
    if len(trials.parts) < 2:
        return _by_distance(trials.before())
    tried = [trials.run(tune) for tune in CANDIDATES]
    best = max(tried, key=lambda one: one.score)
    record = {"chosen": best.tune, "parts": trials.parts, "tried": [asdict(one) for one in tried]}
    write_json(trials.folder / RECORD, record)
    log.info("%s", _told(tried, best, len(trials.parts)))
    return best.tune


def _by_distance(before: Tried | None) -> str:
    chosen = GENTLE if before is not None and before.score >= NEAR else TUNE
    if before is None:
        told = "and what the model does on him without adaptation cannot be said, because it does not know all labels"
    else:
        told = f"but without adaptation the model reaches Dice {before.dice:.3f} and node F1 {before.node_f1:.3f} on him"
    log.info("One patient cannot say how to tune, %s: %s is taken.", told, chosen)
    return chosen


def _told(tried: list[Tried], best: Tried, parts: int) -> str:
    order = sorted(tried, key=lambda one: -one.score)
    lines = [f"Ways to tune, on {parts} held-out parts of the training cases (mean of Dice and node F1 decides):"]
    lines += [f"  {one.tune:<10s} Dice {one.dice:.3f}, node F1 {one.node_f1:.3f}" for one in order]
    return "\n".join([*lines, f"{best.tune} is taken, {best.score - order[1].score:.3f} above {order[1].tune}."])
