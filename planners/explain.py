"""A plan in words, for a person: what was decided, by whom, from which figures, and what would have led elsewhere."""

from __future__ import annotations

from typing import Any

from lnauto.planners.plan import Plan
from lnauto.planners.wishes import PLANNER

INDENT = 16


def explain(plan: Plan) -> str:
    """Decisions first, then every figure that was measured, with how."""
    block = plan.lnauto
    return "\n".join([plan.explain(), *_elsewhere(block), "", *_evidence(block["evidence"])])


def _elsewhere(block: dict[str, Any]) -> list[str]:
    return ["", "The strategy", *(_line(name, text) for name, text in behind_strategy(block).items())]


def behind_strategy(block: dict[str, Any]) -> dict[str, str]:
    """What the strategy rests on, what would have led elsewhere, and what a person decided."""
    strategy = block["alternatives"]["strategy"]
    read = [f"{name} = {in_words(block['evidence'][name]['value'])}" for name in strategy["read"]]
    by_person = [f"{name} ({flag})" for name, flag in block["decided_by"].items() if flag != PLANNER]
    return {
        "rests on": ", ".join(read),
        "unless": strategy["chosen_unless"],
        "came second": strategy["runner_up"] or "nothing: no other rule holds",
        "from a person": ", ".join(by_person) or "nothing; lnauto decided everything",
    }


def _evidence(evidence: dict[str, Any]) -> list[str]:
    known = {name: entry for name, entry in evidence.items() if says_something(entry["value"])}
    width = max(len(name) for name in known)
    lines = ["What was measured"]
    for name, entry in known.items():
        lines.append(f"  {name:<{width}}  {in_words(entry['value'])}  [{entry['how']}]")
    unknown = [name for name in evidence if name not in known]
    return [*lines, f"  nothing known of: {', '.join(unknown)}"] if unknown else lines


def _line(name: str, text: str) -> str:
    return f"  {name + ':':{INDENT}s}{text}"


def says_something(value: Any) -> bool:
    """Whether a figure is known at all."""
    return any(value) if isinstance(value, list | tuple) else value not in (None, {})


def in_words(value: Any) -> str:
    """A figure as a person writes it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        between = "; " if any(isinstance(entry, list | tuple) for entry in value) else " / "
        return between.join(in_words(entry) for entry in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
