"""Checkpoints: whole or not there, and plain enough to be loaded as data."""

from __future__ import annotations

import random
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lnauto import __version__
from lnauto.errors import InputError
from lnauto.files import misfit, replacing
from lnauto.inference.model import load_checkpoint
from lnauto.networks.compute import Compute
from lnauto.planners.plan import hash_of
from lnauto.trainers.schedule import Clock

if TYPE_CHECKING:
    from lnauto.trainers.lntrainer import LNTrainer

LATEST, FINAL = "checkpoint_latest.pth", "checkpoint_final.pth"
PACKAGES = ("nnunetv2", "torch", "numpy")  # that made the weights


# What it takes to go on.
STATE = (
    "iteration",
    "seconds",
    "length",
    "seed",
    "precision",
    "channels_last",
    "history",
    "epoch_losses",
    "random_state",
    "more",
)
FORM = {
    "lnauto": dict.fromkeys(STATE, object),
    "network_weights": dict,
    "optimizer_state": dict,
    "init_args": {"device": str},
}


def load_to_go_on(path: Path) -> dict[str, Any]:
    """A checkpoint of a training that can go on."""
    content = load_checkpoint(path)
    if (what := misfit(content, FORM)) is not None:
        raise InputError.of(f"this checkpoint is of no training that can go on: {what}", path, "start anew with --overwrite")
    return content


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; a kill while writing leaves the one before."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def content_of(trainer: LNTrainer) -> dict[str, Any]:
    """nnU-Net's checkpoint, in types that load as data, with what it takes to go on as if nothing had happened."""
    assert trainer.compute is not None
    return {
        "network_weights": trainer.deployed_weights(),
        "optimizer_state": trainer.optimizer.state_dict(),
        "grad_scaler_state": trainer.grad_scaler.state_dict() if trainer.grad_scaler is not None else None,
        "logging": trainer.logger.get_checkpoint(),
        "_best_ema": None,
        "current_epoch": trainer.clock.epoch,
        "init_args": {
            "plans": trainer.plans_manager.plans,
            "configuration": trainer.configuration_name,
            "fold": trainer.fold,
            "dataset_json": trainer.dataset_json,
            "device": str(trainer.device),
        },
        "trainer_name": type(trainer).__name__,
        "inference_allowed_mirroring_axes": trainer.inference_allowed_mirroring_axes,
        "lnauto": {
            "iteration": trainer.clock.iteration,
            "seconds": trainer.clock.seconds,
            "stopped": trainer.clock.stopped,
            "length": asdict(trainer.options.length),
            "seed": trainer.options.seed,
            "precision": trainer.compute.precision,
            "channels_last": trainer.compute.channels_last,
            "history": trainer.history,
            "epoch_losses": trainer.epoch_losses,
            "looks": trainer.looks,
            "random_state": random_state(),
            "more": trainer.more_to_save(),
            "pretrained": trainer.pretrained,
            "cases": cases_of(trainer),
            "with_material": trainer.material is not None,
            "versions": {"lnauto": __version__, **{package: version(package) for package in PACKAGES}},
        },
    }


def go_on_from(trainer: LNTrainer, content: dict[str, Any]) -> None:
    """Make a trainer what it was when `content_of` was told of it."""
    state = content["lnauto"]
    _check_cases(trainer, state.get("cases"))
    begun_on = torch.device(content["init_args"]["device"]).type
    if begun_on == trainer.device.type:  # what suits another device may be slow on this one, or wrong: it is chosen anew then
        trainer.compute = Compute(trainer.device, state["precision"], state["channels_last"])
    trainer.before_loading(state["more"])
    if not trainer.was_initialized:
        trainer.initialize()
    try:
        trainer.load_deployed_weights(content["network_weights"])
        trainer.load_more(state["more"])
    except RuntimeError as error:
        raise InputError.of(
            "the checkpoint belongs to another network than the plan has now",
            trainer.output_folder,
            "restore the plan, or start anew with --overwrite",
        ) from error
    trainer.optimizer.load_state_dict(content["optimizer_state"])
    if trainer.grad_scaler is not None and content["grad_scaler_state"] is not None:
        trainer.grad_scaler.load_state_dict(content["grad_scaler_state"])
    trainer.history, trainer.epoch_losses = state["history"], state["epoch_losses"]
    that_found = sum(1 for record in trainer.history if record.get("nodes"))  # all that an earlier version says of looks
    trainer.looks = state.get("looks", that_found)
    trainer.inference_allowed_mirroring_axes = content["inference_allowed_mirroring_axes"]
    trainer.pretrained = state.get("pretrained")
    trainer.seconds_before = state["seconds"]
    as_long = asdict(trainer.options.length) == state["length"]  # what stopped early goes on if it is asked for another length
    stopped = as_long and state.get("stopped", False)
    trainer.clock = Clock(trainer.options.length, state["iteration"], state["seconds"], stopped)
    restore_random_state(state["random_state"])


def cases_of(trainer: LNTrainer) -> str | None:
    """What tells a fold's cases, and which of them are held back, from any others; None where that may change."""
    if trainer.material is not None or trainer.fold == "all":
        return None
    return hash_of([sorted(side) for side in trainer.do_split()])


def _check_cases(trainer: LNTrainer, known: str | None) -> None:
    """A fold that goes on with another split would be validated on cases that it has learned from."""
    if known is not None and known != cases_of(trainer):
        raise InputError.of(
            f"fold {trainer.fold} was trained on other cases than the folds have now",
            trainer.output_folder,
            "train it anew with --overwrite, or restore splits_final.json",
        )


def random_state() -> dict[str, Any]:
    """Every generator's state, in types that load with `weights_only=True`."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
