"""`LNTrainerDGST`: in each iteration, of each output neuron's weights those few move that have the largest gradients."""

from __future__ import annotations

from lnauto.trainers.tuning import LNTrainerTune


class LNTrainerDGST(LNTrainerTune):
    """Dynamic gradient sparsification training, and its static and random variants."""
