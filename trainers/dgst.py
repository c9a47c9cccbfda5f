"""`LNTrainerDGST`: in each iteration, of the weights that feed an output those few move that have the largest gradients.

DGST, dynamic gradient sparsification training for few-shot fine-tuning of a lymph-node model. Per iteration:

1. the gradient of nnU-Net's loss, clipped as a whole, as nnU-Net does;
2. of each output of each convolution, the k weights of largest gradient are chosen, anew each time: *dynamic*;
3. the optimiser takes its step, and every weight that was not chosen is put back. Norms, biases and heads always move.

It is the update that is masked. A mask on gradients alone leaks: momentum and weight decay move weights whose gradient is zero.
`static` keeps the choice of the first iteration, `random` chooses without looking (documentation/methods/tuning.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.trainers.options import MASKED, Tune
from lnauto.trainers.parameter_groups import Neurons, ParameterGroups, output_axis
from lnauto.trainers.sparsity import Touched, largest_per_row, put_back
from lnauto.trainers.tuning import LNTrainerTune


class LNTrainerDGST(LNTrainerTune):
    """Dynamic gradient sparsification training, and its static and random variants."""

    methods = MASKED
    default = Tune("dgst")

    def part(self, network: nn.Module, groups: ParameterGroups) -> list[nn.Parameter]:
        self.neurons = groups.neurons
        self.dense = sum(parameter.numel() for parameter in groups.dense)
        self.touched = Touched(sum(weight.numel() for weight in groups.weights), self.device)
        self.fixed: list[Tensor] | None = None  # what `static` chose
        return [*groups.dense, *groups.weights]

    def update(self) -> None:
        """Step 3. A gradient scaler may find that the gradient overflowed, and then nothing moves."""
        chosen = self.choose()
        weights = [module.weight.detach() for module in self.neurons]
        before = [weight.clone() for weight in weights]
        scale = None if self.grad_scaler is None else self.grad_scaler.get_scale()
        super().update()
        for weight, old, positions in zip(weights, before, chosen, strict=True):
            put_back(weight, old, positions)
        if self.grad_scaler is None or self.grad_scaler.get_scale() >= scale:
            self.note(chosen)

    def choose(self) -> list[Tensor]:
        """Step 2: of each convolution, the positions of the weights that may move."""
        chosen = self.fixed or [self.choose_of(module, number) for number, module in enumerate(self.neurons)]
        if not any(len(positions) for positions in chosen):
            raise InputError.of(f"no weight of {type(self.network).__name__} may move", "--tune", "use --tune full")
        return chosen

    def choose_of(self, module: Neurons, number: int) -> Tensor:
        weight, axis = module.weight, output_axis(module)
        k = self.tune.of_row(weight.numel() // weight.shape[axis])
        if self.tune.method == "random":
            seed = np.random.SeedSequence([self.options.seed, self.clock.iteration, number]).generate_state(1)[0]
            generator = torch.Generator(weight.device).manual_seed(int(seed))  # has no state that a checkpoint would need
            by = torch.rand(weight.shape, generator=generator, device=weight.device)
        else:
            assert weight.grad is not None
            by = weight.grad
        return largest_per_row(by, k, axis)

    def note(self, chosen: list[Tensor]) -> None:
        """What moved."""
        if self.tune.method == "static":
            self.fixed = chosen
        starts = [0]
        for module in self.neurons:
            starts.append(starts[-1] + module.weight.numel())
        every = torch.cat([start + positions for start, positions in zip(starts, chosen, strict=False)])
        self.touched.add(every)
        self.may_move = len(every) + self.dense

    @property
    def may_have_moved(self) -> int:
        return self.touched.count() + self.dense

    def more_to_save(self) -> dict[str, Any]:
        return {**super().more_to_save(), "touched": self.touched.bits, "fixed": self.fixed, "may_move": self.may_move}

    def load_more(self, more: dict[str, Any]) -> None:
        super().load_more(more)
        self.touched.bits.copy_(more["touched"])
        self.may_move = more.get("may_move", self.may_move)  # an earlier version's is known again after a step
        self.fixed = None if more["fixed"] is None else [positions.to(self.device) for positions in more["fixed"]]
