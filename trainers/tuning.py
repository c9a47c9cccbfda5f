"""`LNTrainerTune`: a trained network learns from a few cases of another kind, the whole of it or a part.

What does not train is frozen: it costs no gradient, and neither momentum nor weight decay moves it. Checkpoints hold a plain
network whatever the method (documentation/methods/tuning.md says what each is, and where its numbers come from).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.trainers.early_stop import EarlyStop
from lnauto.trainers.ignore import LNTrainerIgnore
from lnauto.trainers.lora import INSIDE, add_low_rank, apart, merged
from lnauto.trainers.options import MASKED, PARTS, Options, Tune
from lnauto.trainers.parameter_groups import ParameterGroups, decoder_of, parameter_groups

log = logging.getLogger(__name__)

FEW = ("head", "bitfit", "norm", *MASKED)  # numbers move at once
RATES = {
    "SGD": dict.fromkeys(("full", "decoder", "lora", "norm", *MASKED), 0.1) | dict.fromkeys(("bitfit", "head"), 1.0),
    "AdamW": dict.fromkeys(("full", "decoder"), 0.1) | {"lora": 0.3} | dict.fromkeys(FEW, 1.0),
}
"""Of the plan's learning rate. With SGD's 1e-2 these are DGST's released 1e-3, and BitFit's 1e-2. Head and decoder, and all with
AdamW, are our choice, from a rough comparison (documentation/methods/tuning.md)."""


def trainer_for(method: str) -> str:
    """The name of the trainer that has this method."""
    return "LNTrainerDGST" if method in MASKED else "LNTrainerTune"


class LNTrainerTune(LNTrainerIgnore):
    """Fine-tuning of a part of the network, or of all."""

    methods: tuple[str, ...] = PARTS
    default = Tune("full")

    def configure(self, options: Options) -> None:
        super().configure(options)
        self.early_stop = EarlyStop()
        self.tune = options.tune or self.default
        if self.tune.method not in self.methods:
            raise InputError.of(
                f"{type(self).__name__} does not tune by {self.tune.method}", "--tune", f"use -tr {trainer_for(self.tune.method)}"
            )

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, None]:
        optimizer, schedule = super().configure_optimizers()
        self.initial_lr *= RATES[type(optimizer).__name__][self.tune.method]
        return optimizer, schedule

    def to_train(self, network: nn.Module) -> list[nn.Parameter]:
        self.numbers = _numel(network.parameters())
        network.requires_grad_(False)
        chosen = list(network.parameters()) if self.tune.method == "full" else self.part(network, parameter_groups(network))
        for parameter in chosen:
            parameter.requires_grad_(True)
        stay = _numel(value for name, value in network.named_parameters() if not value.requires_grad and INSIDE not in name)
        self.may_move = self.numbers - stay
        return chosen

    def part(self, network: nn.Module, groups: ParameterGroups) -> list[nn.Parameter]:
        """What trains, of all there is."""
        method = self.tune.method
        if method == "head":
            return groups.heads
        if method == "decoder":
            return decoder_of(network)
        if method == "norm":
            return [*groups.heads, *groups.scales, *groups.shifts]
        every_bias = [*groups.heads, *groups.shifts, *groups.biases]
        return every_bias if method == "bitfit" else [*every_bias, *add_low_rank(groups.neurons)]

    def on_train_start(self) -> None:
        super().on_train_start()
        training, held_out = self.do_split()
        self.judges = not set(training) & set(held_out)  # whether held-out cases may say when to stop
        if not self.clock.stopped:
            self.early_stop.be_patient_again()

    def keep_record(self, record: dict[str, Any]) -> None:
        """Held-out cases were looked at now and then: the best weights are kept, and without hope the training stops."""
        super().keep_record(record)
        if self.judges and record["nodes"]:
            self.clock.stopped = self.early_stop.look(record["nodes"]["f1"], self.deployed_network, self.clock.iteration)

    def on_train_end(self) -> None:
        stop = self.early_stop
        if stop.best is not None:
            stop.bring_back(self.deployed_network)
            told = "The weights of iteration %d are kept: their node F1 on held-out cases, %.3f, was the best."
            log.info(told, stop.iteration, stop.best)
        at_once, ever = (f"{number / self.numbers:.3%}" for number in (self.may_move, self.may_have_moved))
        log.info("Tuned by %s: %s of the weights could move in one iteration, %s over all.", self.tune.method, at_once, ever)
        super().on_train_end()

    @property
    def may_have_moved(self) -> int:
        """Numbers of the deployed network that could move in one iteration or another."""
        return self.may_move

    def more_to_record(self) -> dict[str, Any]:
        return {"may_move": self.may_move / self.numbers, "may_have_moved": self.may_have_moved / self.numbers}

    def deployed_weights(self) -> dict[str, Tensor]:
        return merged(self.deployed_network)

    def load_deployed_weights(self, weights: dict[str, Tensor]) -> None:
        # What low rank takes apart cannot be had from the merged weights: `load_more` brings it.
        self.deployed_network.load_state_dict(weights, strict=self.tune.method != "lora")

    def more_to_save(self) -> dict[str, Any]:
        return {"tune": asdict(self.tune), "apart": apart(self.deployed_network), "early_stop": self.early_stop.state()}

    def before_loading(self, more: dict[str, Any]) -> None:
        begun = Tune(**more["tune"])
        if self.options.tune not in (None, begun):
            begun_as = begun.method if begun.k is None else f"{begun.method}:{begun.k:g}"
            raise InputError.of(
                f"the training was begun with {begun_as}", "--tune", "leave it out, or start anew with --overwrite"
            )
        self.tune = begun

    def load_more(self, more: dict[str, Any]) -> None:
        self.deployed_network.load_state_dict(more["apart"], strict=False)
        self.early_stop.restore(more["early_stop"])


def _numel(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
