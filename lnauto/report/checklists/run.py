"""What a run left, as finders read it. It is read from files in `lnauto/workflow/checklists.py`; here it is only looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

CONFIGURATION = "3d_fullres"
RADIOMICS, CLINICAL = "LNMTrainerRadiomics", "LNMTrainerClinical"


@dataclass(frozen=True)
class Head:
    """A fold's patient head; `content` is its `head.json`, `parts` those of the networks it is split over."""

    fold: str
    trainer: str
    content: Mapping[str, Any]
    parts: Sequence[Mapping[str, Any]] = ()

    @property
    def each(self) -> Sequence[Mapping[str, Any]]:
        return self.parts or [self.content]

    @property
    def columns(self) -> list[Mapping[str, Any]]:
        """How the clinical columns are read, in its first part."""
        one = self.each[0]
        members = one.get("members") or [{}]
        return list(one.get("columns") or members[0].get("reader", {}).get("columns") or [])

    @property
    def measures(self) -> int:
        """Of a node's form and intensities, so many as its reader takes."""
        members = [member for one in self.each for member in one.get("members") or ()]
        return max((len(member.get("reader", {}).get("mean") or ()) for member in members), default=0)

    @property
    def readers(self) -> list[Mapping[str, Any]]:
        """What says how clinical columns are read: of a table the head itself, else each member's reader."""
        return [*self.each, *(member.get("reader") or {} for one in self.each for member in one.get("members") or ())]

    @property
    def learned(self) -> set[str]:
        """The clinical columns that at least one part or member learned from."""
        return {column["name"] for reader in self.readers for column in reader.get("columns") or ()}

    @property
    def dropped(self) -> dict[str, str]:
        """The columns that none did, and why."""
        found = {name: why for reader in self.readers for name, why in (reader.get("dropped") or {}).items()}
        return {name: why for name, why in found.items() if name not in self.learned}


@dataclass(frozen=True)
class Folds:
    """`splits_final.json` in numbers; names stay where they are."""

    of: str  # cases, or patients
    sizes: Sequence[tuple[int, int]]  # training and validation
    apart: bool  # nobody is on both sides of a fold
    patients_apart: bool | None  # nor is a patient; None: no table says whose the cases are


@dataclass(frozen=True)
class Run:
    """A model's folder: the page's figures, and what the page does not show."""

    figures: Mapping[str, Any]
    plan: Mapping[str, Any]
    description: Mapping[str, Any]
    heads: Sequence[Head] = ()
    folds: Folds | None = None
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of each fold, what its checkpoint says
    evaluated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of each fold, the head of evaluation.json
    adapted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of each fold, adaptation.json
    rounds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of each fold, rounds.json

    @property
    def block(self) -> Mapping[str, Any]:
        block: Mapping[str, Any] = self.plan["lnauto"]
        return block

    def reason(self, name: str) -> str | None:
        """What the plan says of a decision."""
        return self.figures["plan"]["reasons"].get(name)

    def evidence(self, name: str) -> Any:
        return self.figures["plan"]["evidence"].get(name, {}).get("value")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Empty for a table alone."""
        there = self.plan.get("configurations") or {}
        return there.get(CONFIGURATION) or next(iter(there.values()), {})

    @property
    def has_images(self) -> bool:
        return bool(self.plan.get("configurations"))

    @property
    def has_network(self) -> bool:
        """Whether it segments."""
        return bool(self.figures["folds"]) or self.figures["validation"] is not None

    @property
    def has_head(self) -> bool:
        return bool(self.heads) or bool(self.figures["heads"])

    @cached_property
    def judged(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Of each head its name, on whom it was validated (all folds together, where they are), and its figures."""
        heads = self.figures["heads"]
        return [(self.called(one["head"]), one["judged"][0]["of"], one["judged"][0]["figures"]) for one in heads]

    def called(self, head: str) -> str:
        """A head of a table alone lies in the fold's own folder, and has the plan's trainer."""
        return head or str(self.block.get("trainer", "the head"))

    @cached_property
    def trainers(self) -> list[str]:
        """Of the patient heads."""
        return sorted({head.trainer for head in self.heads} | {name for name, _, _ in self.judged})

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Of the validation of masks: each fold, and all folds last, where they are taken together."""
        validation = self.figures["validation"]
        return [] if validation is None else validation["rows"]
