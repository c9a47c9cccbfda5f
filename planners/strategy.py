"""Which way to learn from the annotation there is: a table of rules, read from the top; the first that holds decides.

A rule names the evidence it reads, so that the plan can show the figures beside the decision, and says what would have led
elsewhere. The runner-up is the next rule that holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lnauto.errors import InputError
from lnauto.planners.evidence import Evidence

THIN = 0.3  # filled_share below this: strokes; nodes as small as three voxels across have more
SCANTY = 0.2  # drawn_share below this: only little of the image was judged
INCOMPLETE = 0.85  # completeness below this: some nodes are not drawn
FEW_CASES = 20  # annotated cases up to which a foundation model is adapted rather than trained on

HOW_PARTIAL = "what cannot be node, or hardly, is learned as background, the rest from what two decoders agree on"
HOW_ADAPTED_IN_PART = "what cannot be node is learned as background, and nothing from the rest"
ADVICE = 'say "annotation" in dataset.json'


@dataclass(frozen=True)
class Rule:
    """A strategy, the trainer that carries it out (None: lnauto has none yet), when it is chosen, and why."""

    strategy: str
    trainer: str | None
    reads: tuple[str, ...]  # evidence
    holds: Callable[[Evidence], bool]
    because: Callable[[Evidence], str]
    unless: str  # what would have led elsewhere


def _declared(what: str) -> Callable[[Evidence], str]:
    return lambda found: f'dataset.json declares "annotation": "{what}"'


def _has_masks(found: Evidence) -> bool:
    return found.annotated_cases > 0


def _knows_stages_better(found: Evidence) -> bool:
    return found.known_sides > 0 and sum(found.known_stages) > sum(found.known_lnm)


def _looks_scribbled(found: Evidence) -> bool:
    thin = found.filled_share is not None and found.filled_share < THIN
    scanty = found.drawn_share is not None and found.drawn_share < SCANTY
    return found.ignore_label and thin and scanty


def _looks_partial(found: Evidence) -> bool:
    return found.declared is None and found.completeness is not None and found.completeness.value < INCOMPLETE


def drawn_in_part(found: Evidence) -> bool:
    """Whether some nodes are not drawn and no label says where: what is not drawn is then not background as such."""
    return found.declared == "partial" or (_looks_partial(found) and not found.ignore_label)


def _why_few_shot(found: Evidence) -> str:
    why = f"a foundation model is given, and {found.annotated_cases} cases are annotated"
    if not drawn_in_part(found):
        return why
    known = _declared("partial")(found) if found.declared else f"about {found.completeness} of the nodes are drawn, by estimate"
    return f"{why}; {known}, so {HOW_ADAPTED_IN_PART}"


RULES = (
    Rule(
        "stage_level",
        None,
        ("annotated_cases", "known_stages", "known_lnm", "known_sides"),
        lambda found: not _has_masks(found) and _knows_stages_better(found),
        lambda found: (
            f"no case has a mask; the N stage is known of {sum(found.known_stages)} patients, whether there are metastases of "
            f"{sum(found.known_lnm)}"
        ),
        "masks in some cases, or lnm known of more patients than n_stage",
    ),
    Rule(
        "image_level",
        None,
        ("annotated_cases", "known_lnm", "known_stages"),
        lambda found: not _has_masks(found) and sum(found.known_lnm) + sum(found.known_stages) > 0,
        lambda found: f"no case has a mask; whether there are metastases is known of {sum(found.known_lnm)} patients",
        "masks in some cases",
    ),
    Rule(
        "unlabelled",
        None,
        ("annotated_cases",),
        lambda found: not _has_masks(found),
        lambda found: "no case has a mask, and no patient a label",
        "masks in some cases, or a patients.csv with lnm or n_stage",
    ),
    Rule(
        "scribble",
        "LNTrainerScribble",
        ("declared",),
        lambda found: found.declared == "scribble",
        _declared("scribble"),
        f"another declaration: {ADVICE}",
    ),
    Rule(
        "scribble",
        "LNTrainerScribble",
        ("ignore_label", "filled_share", "drawn_share"),
        lambda found: found.declared is None and _looks_scribbled(found),
        lambda found: (
            f"{found.drawn_share:.1%} of the voxels are drawn, and {found.filled_share:.0%} of what is drawn as node is wider "
            "than a stroke"
        ),
        f"more than {SCANTY:.0%} drawn, or more than {THIN:.0%} of it filled; or a declaration",
    ),
    Rule(
        "few_shot",
        "LNTrainerDGST",
        ("foundation_model", "annotated_cases", "declared", "completeness"),
        lambda found: found.foundation_model and found.annotated_cases <= FEW_CASES,
        _why_few_shot,
        f"more than {FEW_CASES} annotated cases, or no --pretrained",
    ),
    Rule(
        "partial_instance",
        "LNTrainerPartial",
        ("declared",),
        lambda found: found.declared == "partial",
        lambda found: f"{_declared('partial')(found)}; {HOW_PARTIAL}",
        f"another declaration: {ADVICE}",
    ),
    Rule(
        "ignore_label",
        "LNTrainerIgnore",
        ("ignore_label",),
        lambda found: found.ignore_label,
        lambda found: (
            "dataset.json has an ignore label"
            + (f", and {1 - found.drawn_share:.0%} of the voxels carry it" if found.drawn_share is not None else "")
        ),
        "labels without `ignore`",
    ),
    Rule(
        "partial_instance",
        "LNTrainerPartial",
        ("declared", "completeness"),
        _looks_partial,
        lambda found: f"about {found.completeness} of the nodes are drawn, by estimate; {HOW_PARTIAL}",
        f'an estimate of {INCOMPLETE:.0%} or more, or "annotation": "full" in dataset.json',
    ),
    Rule(
        "full",
        "LNTrainer",
        ("declared",),
        lambda found: found.declared == "full",
        _declared("full"),
        f"another declaration: {ADVICE}",
    ),
    Rule(
        "full",
        "LNTrainer",
        ("declared", "completeness"),
        lambda found: True,
        lambda found: (
            f"about {found.completeness} of the nodes are drawn, by estimate"
            if found.completeness
            else 'every annotated case is taken as completely drawn, because dataset.json does not declare "annotation"'
        ),
        'an estimate below 85 %, or "annotation": "partial" in dataset.json',
    ),
)


@dataclass(frozen=True)
class Strategy:
    """A decision, the figures it rests on, and what came second."""

    name: str
    trainer: str | None
    reason: str
    evidence: dict[str, Any]
    unless: str
    runner_up: str | None
    contradiction: str | None = None

    def rivals(self) -> dict[str, Any]:
        """What the plan keeps of the choice: what came second, what would have led elsewhere, and what was read."""
        return {"runner_up": self.runner_up, "chosen_unless": self.unless, "read": list(self.evidence)}


NAMES = tuple(dict.fromkeys(rule.strategy for rule in RULES))


def choose_strategy(found: Evidence, wish: str | None = None) -> Strategy:
    """The first rule that holds; or the strategy a person named, with what the rules would have chosen as runner-up."""
    holding = [rule for rule in RULES if rule.holds(found)]
    rule, reason = holding[0], holding[0].because(found)
    if wish is not None and wish != rule.strategy:
        reason = f"given by --strategy; by itself lnauto would have chosen {rule.strategy}: {reason}"
        rule = _named(wish, found)
    if rule.strategy in ("scribble", "ignore_label") and not found.background_drawn:
        drawn, remedy = "every voxel that is not drawn as node is ignored", "draw background (value 0) in some cases"
        if rule.strategy == "scribble":
            drawn = "nodes are drawn as strokes, but no stroke of background is drawn"
            remedy = "draw strokes of background (value 0) in some cases"
        raise InputError.of(f"{drawn}, so nothing says what is no node", "labelsTr", remedy)
    second = next((other.strategy for other in holding if other.strategy != rule.strategy), None)
    return Strategy(
        name=rule.strategy,
        trainer=rule.trainer,
        reason=reason,
        evidence={name: getattr(found, name) for name in rule.reads},
        unless=rule.unless,
        runner_up=second,
        contradiction=contradiction(found),
    )


def _named(wish: str, found: Evidence) -> Rule:
    rule = next((rule for rule in RULES if rule.strategy == wish), None)
    if rule is None:
        raise InputError.of(f"there is no strategy {wish}", "--strategy", f"give one of {', '.join(NAMES)}")
    if rule.trainer is not None and not _has_masks(found):
        raise InputError.of(f"{wish} learns from masks, and no case has one", "--strategy", "draw some nodes, or leave it out")
    if wish in ("scribble", "ignore_label") and not found.ignore_label:
        remedy = 'add "ignore" to the labels of dataset.json, or leave it out'
        raise InputError.of(
            f"{wish} needs to know which voxels were not judged, and there is no ignore label", "--strategy", remedy
        )
    return rule


def contradiction(found: Evidence) -> str | None:
    """What the data set declares and what it shows, where the two do not go together."""
    estimate, filled = found.completeness, found.filled_share
    says = f'dataset.json declares "annotation": "{found.declared}"'
    if found.declared == "scribble" and filled is not None and filled >= THIN:
        return f"{says}, but {filled:.0%} of what is drawn as node is wider than a stroke"
    if found.declared in ("full", "partial") and _looks_scribbled(found):
        return f'{says}, but what is drawn looks like strokes; declare "scribble" if it is'
    if estimate is None:
        return None
    if found.declared == "full" and estimate.high < INCOMPLETE:
        return f'{says}, but only about {estimate} of the nodes look drawn; declare "partial" if that is so'
    if found.declared == "partial" and estimate.low > INCOMPLETE:
        return f'{says}, but about {estimate} of the nodes look drawn; declare "full" if that is so'
    return None
