"""Which trainer adapts a foundation model, and by which method: as the plan says, or as the command line does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnauto.errors import InputError
from lnauto.planners.plan import Plan

if TYPE_CHECKING:
    from lnauto.trainers.options import Tune

AUTO = "auto"


def trainer_name(plan: Plan, trainer: str | None, tune: str | None) -> str:
    """The trainer a person named, or the one that carries out the method, or the plan's."""
    from lnauto.trainers.tuning import trainer_for

    chosen = tune_of(plan, tune)
    return trainer or (plan.lnauto["trainer"] if chosen is None else trainer_for(chosen.method))


def tune_of(plan: Plan, wish: str | None) -> Tune | None:
    """The method, by command line or plan; None: the network learns like any other."""
    foundation = plan.lnauto.get("foundation")
    if foundation is None:
        return None
    return None if (text := wish or foundation["tune"]) is None else parse_tune(text)


def parse_tune(text: str) -> Tune:
    """`full`, `dgst`, `dgst:2` (weights per output neuron that may move), `dgst:0.01` (their share)."""
    from lnauto.trainers.options import Tune

    method, colon, number = text.partition(":")
    try:
        return Tune(method, float(number) if colon else None)
    except ValueError:
        remedy = "give how many weights of an output may move (dgst:2), or which share of them (dgst:0.01)"
        raise InputError.of(f"{number!r} is no number", "--tune", remedy) from None
