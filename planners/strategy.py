"""Which way to learn from the annotation there is.

So far the strategy follows what `dataset.json` declares and what the files themselves show; nothing is estimated yet.
The rules are read from the top; the first that holds decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lnauto.data.raw import RawDataset


@dataclass(frozen=True)
class Strategy:
    """A strategy, the trainer that carries it out, and why."""

    name: str
    trainer: str | None  # None: lnauto has no trainer for it yet
    reason: str


@dataclass(frozen=True)
class Rule:
    strategy: str
    trainer: str | None
    holds: Callable[[RawDataset], bool]
    reason: str


RULES = (
    Rule(
        "image_level",
        None,
        lambda data: data.annotation in ("patient", "table"),
        "dataset.json declares that only patient labels exist; lnauto has no trainer for them yet",
    ),
    Rule(
        "scribble",
        "LNTrainer",
        lambda data: data.annotation == "scribble",
        "dataset.json declares strokes; un-drawn voxels carry the ignore label and do not enter the loss",
    ),
    Rule(
        "partial_instance",
        "LNTrainer",
        lambda data: data.annotation == "partial",
        "only some nodes are drawn, says dataset.json; there is no trainer for that yet, the others are learned as background",
    ),
    Rule(
        "ignore_label",
        "LNTrainer",
        lambda data: data.ignore_label is not None,
        "dataset.json has an ignore label; its voxels do not enter the loss",
    ),
    Rule("unlabelled", None, lambda data: not data.annotated_cases, "no case is annotated; there is nothing to train on"),
    Rule(
        "full",
        "LNTrainer",
        lambda data: data.annotation == "full",
        "dataset.json declares that every node is drawn",
    ),
    Rule(
        "full",
        "LNTrainer",
        lambda data: True,
        'every annotated case is taken as completely drawn, because dataset.json does not declare "annotation"',
    ),
)


def choose_strategy(dataset: RawDataset) -> Strategy:
    rule = next(rule for rule in RULES if rule.holds(dataset))
    return Strategy(rule.strategy, rule.trainer, rule.reason)
