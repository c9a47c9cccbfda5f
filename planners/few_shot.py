"""How long to adapt a foundation model, and how: the fewer cases, the shorter, and the more each of them is varied.

All of it is our choice; DGST's paper trains 12,500 iterations whatever the number of cases.
"""

from __future__ import annotations

import numpy as np

from lnauto.planners.budget import (
    CPU_MINUTES,
    EPOCHS_IN_A_BUDGET,
    ITERATION_TO_STEP,
    SHORTEST_EPOCH,
    STOCK_ITERATIONS,
    VALIDATION_SHARE,
    Budget,
    iterations_in,
)
from lnauto.planners.machine import Machine
from lnauto.planners.recipe import WARM_UP, Recipe, choose_recipe

ITERATIONS = {1: 500, 5: 1500, 10: 3000, 20: 6000}  # by annotated cases; in between as the line between them
LEARNING_RATE = 1e-2  # of a training from scratch; each way of tuning takes its share of it
GENTLER = 0.1  # of the learning rate from scratch, as in the paper
SEEN_OFTEN = 40  # times that a training sees each case; from then on intensities are varied, too


def few_shot_budget(machine: Machine, minutes: float | None, cases: int, seconds_per_step: float | None) -> tuple[Budget, str]:
    """As many iterations as the cases are good for, or as there is time for."""
    wanted = round(float(np.interp(cases, list(ITERATIONS), list(ITERATIONS.values()))))
    good_for = f"{wanted} iterations, which is what {cases} case{'s are' if cases > 1 else ' is'} good for"
    seconds = None if seconds_per_step is None else seconds_per_step * ITERATION_TO_STEP
    limit = CPU_MINUTES if minutes is None and machine.device == "cpu" else minutes
    possible = None if limit is None or seconds is None else iterations_in(limit, seconds)
    if limit is not None and (possible is None or possible < wanted):
        expected = possible
        why = f"{limit:.3g} minutes a fold" + (f", about {expected} iterations" if expected is not None else "")
        why += f"; {wanted} would be better" if expected is not None else f", or longer than {good_for}"
    else:
        limit, expected, why = None, wanted, good_for
    per_epoch = max(SHORTEST_EPOCH, min(STOCK_ITERATIONS, (expected or wanted) // EPOCHS_IN_A_BUDGET))
    epochs = None if limit is not None else max(1, round(wanted / per_epoch))
    validation = max(2, per_epoch // VALIDATION_SHARE)
    rounded = None if seconds is None else round(seconds, 4)
    return Budget(machine.device, limit, epochs, per_epoch, validation, rounded, expected), why


def few_shot_recipe(budget: Budget, batch: int, cases: int) -> Recipe:
    """AdamW with small steps; nnU-Net's whole augmentation where each case is seen often."""
    often = (budget.expected_iterations or max(ITERATIONS.values())) * batch / max(cases, 1) >= SEEN_OFTEN
    varied = "rotation, scale and intensities, as stock nnU-Net" if often else "rotation and scale"
    return Recipe(
        True,
        {
            "optimizer": {"name": "AdamW", "learning_rate": LEARNING_RATE, "weight_decay": 1e-2, "warm_up_iterations": WARM_UP},
            "mirroring": "left_right",
            "augmentation": "full" if often else "geometry",
        },
        {
            "optimizer": "AdamW, as for short trainings from scratch, at the share of its rate that the way of tuning takes",
            "mirroring": "left to right only",
            "augmentation": f"{varied}: each case is seen {'often' if often else 'a few times'}",
        },
    )


def gentle_recipe(budget: Budget) -> Recipe:
    """That of a training from scratch in smaller steps, where there are many cases."""
    recipe = choose_recipe(budget)
    optimizer = {**recipe.settings["optimizer"], "learning_rate": GENTLER * recipe.settings["optimizer"]["learning_rate"]}
    reasons = {**recipe.reasons, "optimizer": f"{optimizer['name']} at a tenth of the usual rate: the weights are nearly right"}
    return Recipe(recipe.short_of_time, {**recipe.settings, "optimizer": optimizer}, reasons)
