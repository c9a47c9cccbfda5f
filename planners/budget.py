"""How long a fold trains, and which network that leaves time for.

With a GPU and no budget the training is as long as stock nnU-Net's, and the network as large as the card holds. Otherwise steps
of the networks of `topology.LADDER` are timed on this machine, and the largest is taken that has time for the iterations it
needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lnauto.errors import InputError
from lnauto.planners.machine import Machine
from lnauto.planners.topology import LADDER, SMALL, TINY, Preset, choose_preset

STOCK_EPOCHS, STOCK_ITERATIONS, STOCK_VALIDATION_ITERATIONS = 1000, 250, 50
CARD_BELOW_GUESS = 10  # times as fast as guessed a larger network may be there [our choice]
CPU_MINUTES = 30.0
EPOCHS_IN_A_BUDGET = 25  # points of the learning curve
SHORTEST_EPOCH, USUAL_EPOCH = 10, 50
VALIDATION_SHARE = 12  # one validation patch for so many training patches
# Of a budget this share is training proper, and an iteration takes this much longer than its step: start, patches and
# validation are the rest (documentation/benchmarks.md, "Planning").
TRAINING_SHARE, ITERATION_TO_STEP = 0.85, 1.15


class Step(Protocol):
    """What a training step works on."""

    @property
    def architecture(self) -> dict[str, Any]: ...

    @property
    def patch(self) -> list[int]: ...

    @property
    def batch(self) -> int: ...


Fit = Callable[[Preset], Step]
Probe = Callable[[Step], float]  # seconds of one training step on the machine the plan is for


@dataclass(frozen=True)
class Budget:
    """Length of one fold's training, as `lnauto_train` reads it."""

    device: str
    minutes: float | None  # the whole command; None: `epochs` counts
    epochs: int | None
    iterations_per_epoch: int
    validation_iterations: int
    seconds_per_iteration: float | None  # None: no step was timed, the plan is for another machine
    expected_iterations: int | None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def plan_budget(machine: Machine, minutes: float | None, fit: Fit, probe: Probe | None) -> tuple[Preset, Budget, str]:
    """The network, the length of its training, and why this network."""
    where = f"{machine.name} ({machine.memory_gb:.0f} GB, {machine.device})"
    if minutes is None and machine.device == "cuda":
        preset = choose_preset(machine)
        seconds = probe(fit(preset)) * ITERATION_TO_STEP if probe else None
        return preset, _stock_length(machine, seconds), f"the largest that fits {where}"
    minutes = CPU_MINUTES if minutes is None else minutes
    if probe is None:
        return choose_preset(machine), _length(machine, minutes, None), f"the usual one for {where}; no step was timed"
    preset, seconds = _largest_in_time(machine, minutes, fit, probe)
    budget = _length(machine, minutes, seconds)
    timed = f"{seconds:.2g} s an iteration on {where}, time for {budget.expected_iterations} iterations"
    larger = LADDER[LADDER.index(preset) + 1 :]
    if not larger:
        return preset, budget, f"the largest there is; {timed}"
    return preset, budget, f"{timed}; {larger[0].name} takes longer for each and needs {larger[0].least_iterations}"


def _largest_in_time(machine: Machine, minutes: float, fit: Fit, probe: Probe) -> tuple[Preset, float]:
    """Upwards from the small network while the next has time for what it needs; what is hopeless is not timed."""

    def seconds_of(preset: Preset) -> float:
        return probe(fit(preset)) * ITERATION_TO_STEP

    chosen, seconds = SMALL, seconds_of(SMALL)
    if iterations_in(minutes, seconds) < SMALL.least_iterations:
        return TINY, seconds_of(TINY)
    for preset in LADDER[LADDER.index(SMALL) + 1 :]:
        too_large = machine.device == "cuda" and preset.memory_gb > machine.memory_gb * 1.05
        guess = seconds * preset.feature_map_voxels / chosen.feature_map_voxels
        # A card takes less for a larger network than its voxels say: small ones are bound by what starts their many steps.
        hopeless = preset.least_iterations / (CARD_BELOW_GUESS if machine.device == "cuda" else 1)
        if too_large or iterations_in(minutes, guess) < hopeless:
            break
        slower = seconds_of(preset)
        if iterations_in(minutes, slower) < preset.least_iterations:
            break
        chosen, seconds = preset, slower
    return chosen, seconds


def length_for(machine: Machine, minutes: float | None, seconds_per_step: float | None) -> Budget:
    """The length of a training whose network is given."""
    seconds = None if seconds_per_step is None else seconds_per_step * ITERATION_TO_STEP
    if minutes is None and machine.device == "cuda":
        return _stock_length(machine, seconds)
    return _length(machine, CPU_MINUTES if minutes is None else minutes, seconds)


def iterations_in(minutes: float, seconds: float) -> int:
    """How many of so many seconds a budget has time for."""
    return int(minutes * 60 * TRAINING_SHARE / seconds)


def _stock_length(machine: Machine, seconds: float | None) -> Budget:
    expected = STOCK_EPOCHS * STOCK_ITERATIONS
    return Budget(machine.device, None, STOCK_EPOCHS, STOCK_ITERATIONS, STOCK_VALIDATION_ITERATIONS, seconds, expected)


def _length(machine: Machine, minutes: float, seconds: float | None) -> Budget:
    if seconds is None:
        return Budget(machine.device, minutes, None, USUAL_EPOCH, USUAL_EPOCH // VALIDATION_SHARE, None, None)
    expected = iterations_in(minutes, seconds)
    if expected < SHORTEST_EPOCH:
        raise InputError.of(
            f"a budget of {minutes:.2g} minutes leaves time for {expected} iterations, and an epoch takes {SHORTEST_EPOCH}",
            "--budget",
            f"give at least {SHORTEST_EPOCH * seconds / TRAINING_SHARE / 60 + 0.5:.0f}min",
        )
    epoch = max(SHORTEST_EPOCH, min(STOCK_ITERATIONS, expected // EPOCHS_IN_A_BUDGET))
    return Budget(machine.device, minutes, None, epoch, max(2, epoch // VALIDATION_SHARE), round(seconds, 4), expected)


def _of(machine: Machine) -> str:
    return f"{machine.name} ({machine.memory_gb:.0f} GB, {machine.device})"
