"""`LNTrainer`: nnU-Net's trainer, seeded and repeatable, killed and continued, as fast as the machine allows.

Everything trainers of lnauto share lives here and in the files it calls: options, batches, schedule, checkpoints,
validation. A method overrides nnU-Net's own hooks (`_build_loss`, `train_step`, ...) and nothing of this.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lnauto.compat.training import nnUNetTrainer, without_intensity, without_timing
from lnauto.data.folds import everybody
from lnauto.data.scans import left_right, way_to_lie
from lnauto.errors import InputError
from lnauto.evaluation.cases import CaseResult
from lnauto.files import read_json, write_json, writing
from lnauto.networks.compute import Compute, choose_compute
from lnauto.networks.memory import keep_freed_memory
from lnauto.networks.permitted import permitted
from lnauto.trainers import checkpoint as checkpoints
from lnauto.trainers.batches import TRAINING, VALIDATION, Batches, endless
from lnauto.trainers.interrupts import held_back, out_of_memory
from lnauto.trainers.learning_curve import draw_learning_curve
from lnauto.trainers.material import Material
from lnauto.trainers.options import Options
from lnauto.trainers.patches import PatchLoader
from lnauto.trainers.progress import ProgressBar
from lnauto.trainers.schedule import Clock, Length, learning_rate
from lnauto.trainers.tracking import Tracking
from lnauto.trainers.validation import NodeCheck, scores_of_patches, validate_fold
from lnauto.trainers.warm_start import first_weights
from lnauto.trainers.yardstick import yardstick_of

log = logging.getLogger(__name__)

AS_OF_TWO = 0.5  # share of patches that are centred on foreground in nnU-Net's batches of two
GRADIENT_NORM = 12.0  # nnU-Net's
NODE_CHECKS = 10  # times in a training that whole validation cases are looked at


class LNTrainer(nnUNetTrainer):
    """Plain nnU-Net training of whatever the plan describes."""

    activity = "Training"
    network: nn.Module
    optimizer: torch.optim.Optimizer
    initial_lr: float
    weight_decay: float
    warm_up: int
    output_folder: str
    log_file: str
    dataloader_train: Iterator[dict[str, Any]] | None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int | str,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net's own signature)
    ) -> None:
        # nnU-Net reads the names of these parameters, so there can be no others: options come with `configure`.
        self.material: Material | None = None
        plans = {"continue_training": False, **plans}
        with redirect_stdout(io.StringIO()):  # nnU-Net's constructor prints
            super().__init__(plans, configuration, fold, dataset_json, device)
        budget = plans.get("lnauto", {}).get("budget", {})
        per_epoch = budget.get("iterations_per_epoch", self.num_iterations_per_epoch)
        self.yardstick = yardstick_of(plans, dataset_json)
        self.configure(Options(Length(self.num_epochs * per_epoch, None, per_epoch, budget.get("validation_iterations", 50))))

    def configure(self, options: Options) -> None:
        """Take over what the command line says; before `run_training`."""
        self.options = options
        self.clock = Clock(options.length)
        self.tracking = Tracking(options.track)
        self.history: list[dict[str, Any]] = []
        self.epoch_losses: list[float] = []
        self.looks = 0  # at whole validation cases; that no node is in any of them, the history does not tell from no look
        self.pretrained: str | None = None  # what the weights it starts from were made of
        self.seconds_before = 0.0  # of training, in earlier runs
        self.compute: Compute | None = None
        self.num_iterations_per_epoch = options.length.iterations_per_epoch
        self.num_val_iterations_per_epoch = options.length.validation_iterations

    # ---- set-up

    def learn_from(self, material: Material) -> None:
        """Other cases than the fold's, or another place for the result; before `run_training`."""
        self.material = material
        if material.output is not None:
            material.output.mkdir(parents=True, exist_ok=True)
            begun = Path(self.log_file)  # nnU-Net's constructor did
            self.output_folder, self.log_file = str(material.output), str(material.output / begun.name)
            if begun.is_file():
                begun.replace(self.log_file)

    def allow_seconds(self, seconds: float) -> None:
        """So much longer, counted from now."""
        length = replace(self.options.length, iterations=None, seconds=self.seconds_before + seconds)
        self.options = replace(self.options, length=length)
        self.clock = Clock(length, self.clock.iteration, self.seconds_before)

    def initialize(self) -> None:
        permitted(self.configuration_manager.configuration["architecture"])  # nnU-Net calls whatever the plan names
        checkpoints.seed_everything(self.options.seed)
        try:
            super().initialize()
            if self.device.type == "cpu":
                keep_freed_memory()
            channels, patch = self.num_input_channels, list(self.configuration_manager.patch_size)
            if self.compute is None:
                self.compute = choose_compute(self.deployed_network, channels, patch, self.device, self.options.precision)
            self.network = self.compute.prepare(self.network)
        except torch.OutOfMemoryError as error:
            remedy = "close what else uses the card, or train with --device cpu"
            raise InputError.of("the card's memory does not hold the network", self.output_folder, remedy) from error
        if self.compute.precision != "amp":  # only fp16 has gradients so small that they need scaling
            self.grad_scaler = None

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, None]:
        """The plan's optimiser; the learning rate is set before every step, so there is no scheduler.

        nnU-Net calls this as soon as the network is built, so it is also the moment to extend it.
        """
        self.network = self.extend(self.network)
        self.pretrained = first_weights(self)
        settings = self.plans_manager.plans.get("lnauto", {}).get("optimizer", {"name": "SGD"})
        self.initial_lr = settings.get("learning_rate", self.initial_lr)
        self.weight_decay = settings.get("weight_decay", self.weight_decay)
        self.warm_up = settings.get("warm_up_iterations", 0)
        parameters = self.to_train(self.network)
        fused = self.device.type == "cpu"  # one pass over each weight; on a card the scaler has to see whether a step is taken
        common = {"lr": self.initial_lr, "weight_decay": self.weight_decay, "fused": fused}
        if settings["name"] == "AdamW":
            return torch.optim.AdamW(parameters, betas=(0.9, 0.99), **common), None
        return torch.optim.SGD(parameters, momentum=0.99, nesterov=True, **common), None

    def extend(self, network: nn.Module) -> nn.Module:
        """What trains, from the plan's network: a method may add parts to it that only training needs."""
        return network

    def to_train(self, network: nn.Module) -> list[nn.Parameter] | list[dict[str, Any]]:
        """What the optimiser moves, or groups of it; the weights are those the training starts from. A method may freeze the
        rest, or put parts in that are merged into the plain weights by `deployed_weights`."""
        return list(network.parameters())

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, Any, Any, tuple[int, ...]]:  # noqa: N802
        """nnU-Net's augmentation, mirrored along the axes the plan names; prediction may mirror along these, too."""
        rotation, dummy_2d, larger_patch, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.plans_manager.plans.get("lnauto", {}).get("mirroring") == "left_right":
            along = left_right(way_to_lie(self.plans_manager.plans))
            axes = (self.plans_manager.transpose_forward.index(along),)
        self.inference_allowed_mirroring_axes = axes
        return rotation, dummy_2d, larger_patch, axes

    def _do_i_compile(self) -> bool:
        """Compiling costs a minute or two, and a compiler: not worth it for trainings this short, nor on a CPU."""
        return False

    def do_split(self) -> tuple[list[str], list[str]]:
        """The cases of this fold, as planning wrote them; fold `all` trains on everything and validates on nothing new."""
        if self.material is not None:
            return list(self.material.training.identifiers), list(self.material.validation)
        path = Path(self.preprocessed_dataset_folder_base) / "splits_final.json"
        folds = read_json(path, "plan again with lnauto_plan_and_preprocess")
        if self.fold == "all":
            return everybody(folds), everybody(folds)
        return folds[self.fold]["train"], folds[self.fold]["val"]

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        if self.material is None:
            return super().get_tr_and_val_datasets()
        return self.material.training, self.dataset_class(self.preprocessed_dataset_folder, list(self.material.validation))

    def get_dataloaders(self) -> tuple[Iterator[dict[str, Any]], Iterator[dict[str, Any]]]:
        """nnU-Net's patches and augmentation, from the batch this training has got to."""
        rotation, dummy_2d, larger_patch, mirror_axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        scales = self._get_deep_supervision_scales()
        patch = self.configuration_manager.patch_size
        labels = {
            "is_cascaded": self.is_cascaded,
            "foreground_labels": self.label_manager.foreground_labels,
            "regions": self.label_manager.foreground_regions if self.label_manager.has_regions else None,
            "ignore_label": self.label_manager.ignore_label,
        }
        masked = self.configuration_manager.use_mask_for_norm
        augment = self.get_training_transforms(patch, rotation, scales, mirror_axes, dummy_2d, use_mask_for_norm=masked, **labels)
        if self.plans_manager.plans.get("lnauto", {}).get("augmentation") == "geometry":
            augment = without_intensity(augment)
        training, validation = self.get_tr_and_val_datasets()
        batches = self._batches(training, larger_patch, without_timing(augment), TRAINING)
        validation_batches = self._batches(validation, patch, self.get_validation_transforms(scales, **labels), VALIDATION)
        pinned = self.device.type == "cuda"
        self.validation_batches = validation_batches
        return endless(batches, self.clock.iteration, self.options.workers, pinned), endless(validation_batches, 0, 0)

    def _batches(self, dataset: Any, patch: Any, transforms: Any, stream: int) -> Batches:
        # The last third of a batch is centred on foreground, which is none of a batch of one: there, chance decides.
        alone = self.batch_size == 1 and not self.is_ddp
        loader = PatchLoader(
            dataset,
            self.batch_size,
            patch,
            self.configuration_manager.patch_size,
            self.label_manager,
            oversample_foreground_percent=AS_OF_TWO if alone else self.oversample_foreground_percent,
            probabilistic_oversampling=alone or self.probabilistic_oversampling,
            transforms=transforms,
        )
        loader.random_share = self.plans_manager.plans.get("lnauto", {}).get("sampling", {}).get("random", 0.0)
        return Batches(loader, self.options.seed, stream, self.local_rank)

    # ---- training

    def run_training(self) -> None:
        self.on_train_start()
        batches = self.dataloader_train
        assert batches is not None
        with self.tracking.of(self):
            try:
                with ProgressBar(self.clock, self.options.quiet, self.activity, self.yardstick.dice) as bar:
                    self._end_epoch_if_over(bar)  # of a training that was stopped while its epoch was validated
                    while not self.clock.done:
                        self._set_learning_rate()
                        batch = next(batches)
                        with held_back():  # a step that is not counted would be taken twice
                            loss = float(self.train_step(batch)["loss"])
                            self.clock.iteration += 1
                            self.epoch_losses.append(loss)
                        bar.step(loss)
                        self._end_epoch_if_over(bar)
                        self._save_now_and_then()
                    self._end_epoch_if_over(bar)  # the time was over only after the last look at it, such as while it was saved
            except RuntimeError as error:
                if (told := out_of_memory(error, self.output_folder)) is None:
                    raise
                raise told from error
            except KeyboardInterrupt:
                self.save_checkpoint(str(Path(self.output_folder) / checkpoints.LATEST))
                raise
            with held_back():
                self.on_train_end()

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        self.network.train()
        self.node_check = NodeCheck(self)
        self._saved_at = time.monotonic()
        self.clock = Clock(self.options.length, self.clock.iteration, self.seconds_before, self.clock.stopped)
        # One that is to be longer than it was is not as far any more, and is looked at in what is left of it.
        self.looks = min(self.looks, int(self.clock.progress * NODE_CHECKS))
        has_own_folder = self.material is not None and self.material.output is not None  # its plan is in its checkpoint
        if self.local_rank == 0 and not has_own_folder:
            base = Path(self.output_folder_base)
            write_json(base / "plans.json", self.plans_manager.plans)
            write_json(base / "dataset.json", self.dataset_json)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step, with the precision and layout that were chosen for this machine."""
        assert self.compute is not None
        data = self.compute.place(batch["data"])
        target = self._to_device(batch["target"])
        self.optimizer.zero_grad(set_to_none=True)
        with self.compute.autocast():
            loss = self.loss(self.network(data), target)
        self.take_step(loss)
        return {"loss": loss.detach().cpu().numpy()}

    def take_step(self, loss: torch.Tensor) -> None:
        """Backward pass, clipping and update, with or without a gradient scaler."""
        if self.grad_scaler is None:
            loss.backward()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.update()

    def update(self) -> None:
        """Move the weights by their clipped gradients; a gradient scaler leaves out what overflowed."""
        if self.grad_scaler is None:
            self.optimizer.step()
            return
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        assert self.compute is not None
        batch = {**batch, "data": self.compute.place(batch["data"]), "target": self._to_device(batch["target"])}
        with self.compute.autocast():
            return dict(super().validation_step(batch))

    def _to_device(self, target: Any) -> Any:
        if isinstance(target, list):
            return [one.to(self.device, non_blocking=True) for one in target]
        return target.to(self.device, non_blocking=True)

    def _set_learning_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.initial_lr, self.clock.progress, self.clock.iteration, self.warm_up)

    def _end_epoch_if_over(self, bar: ProgressBar) -> None:
        if self.epoch_losses and (self.clock.epoch_is_full or self.clock.done):
            bar.dice = self._end_epoch()["dice"]

    def _end_epoch(self) -> dict[str, Any]:
        """Validate on fixed patches, now and then on whole cases, and write down how it goes."""
        self.network.eval()
        with torch.no_grad():
            steps = [self.validation_step(self.validation_batches[number]) for number in range(self.num_val_iterations_per_epoch)]
        record = {
            "iteration": self.clock.iteration,
            "seconds": round(self.clock.seconds, 1),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": float(np.mean(self.epoch_losses)),
            **scores_of_patches(steps),
            "nodes": None,
            **self.more_to_record(),
        }
        look = self.clock.progress * NODE_CHECKS >= self.looks + 1
        if look:
            record["nodes"] = self.node_check.run()
        self.network.train()
        with held_back():  # an epoch that is in the history is not ended again
            self.looks += look
            self.keep_record(record)
            if self.local_rank == 0:
                folder = Path(self.output_folder)
                draw_learning_curve(self.history, folder / "progress.png", self.yardstick)
                write_json(folder / "history.json", self.history)
                self.print_to_log_file(record)
        return record

    def keep_record(self, record: dict[str, Any]) -> None:
        """An epoch is over: into the history, and to whoever follows it."""
        self.history.append(record)
        self.epoch_losses = []
        self.tracking.epoch(record)

    def on_train_end(self) -> None:
        folder = Path(self.output_folder)
        self.save_checkpoint(str(folder / checkpoints.FINAL))
        (folder / checkpoints.LATEST).unlink(missing_ok=True)
        self.dataloader_train = None  # ends the background workers

    def validate(self) -> list[CaseResult]:
        """Predict the fold's validation cases and evaluate them, in their own geometry."""
        return validate_fold(self)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's name for it, for its launcher."""
        self.validate()

    @property
    def bare_network(self) -> nn.Module:
        """The network without what wraps it on several GPUs."""
        return getattr(self.network, "module", self.network) if self.is_ddp else self.network

    @property
    def deployed_network(self) -> nn.Module:
        """The plan's own network: what predicts, and what stock nnU-Net finds in the checkpoint."""
        return self.bare_network

    def deployed_weights(self) -> dict[str, torch.Tensor]:
        """The deployed network's weights under the names stock nnU-Net gives them."""
        return dict(self.deployed_network.state_dict())

    def load_deployed_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Take `deployed_weights` back."""
        self.deployed_network.load_state_dict(weights)

    def more_to_record(self) -> dict[str, Any]:
        """What else `history.json` holds of an epoch."""
        return {}

    def more_to_save(self) -> dict[str, Any]:
        """What a training needs to go on besides the deployed network."""
        return {}

    def load_more(self, more: dict[str, Any]) -> None:
        """Take `more_to_save` back; the network is there."""

    def before_loading(self, more: dict[str, Any]) -> None:
        """What `more_to_save` says of how the network is to be set up, before it is."""

    # ---- checkpoints

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_at >= self.options.save_every_seconds and not self.clock.done:
            self.save_checkpoint(str(Path(self.output_folder) / checkpoints.LATEST))
            self._saved_at = time.monotonic()

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint, in types that load as data, with what it takes to go on as if nothing had happened."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        checkpoints.save(Path(filename), checkpoints.content_of(self))

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Go on from a checkpoint of lnauto's."""
        from lnauto.inference.model import load_checkpoint

        given = filename_or_checkpoint
        content = given if isinstance(given, dict) else load_checkpoint(Path(given))
        checkpoints.go_on_from(self, content)

    def print_to_log_file(self, *parts: object, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Into the fold's log file only: the console belongs to the progress bar."""
        if self.local_rank == 0:
            with writing(Path(self.log_file)), open(self.log_file, "a") as file:
                file.write(" ".join(str(part) for part in parts) + "\n")
