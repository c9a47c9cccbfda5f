"""Self-supervised pre-training (Model Genesis): the network learns to restore patches that were spoiled; labels are not read.

It is trained as any other: the plan's network with one output per channel of the image in place of the segmentation heads, the
plan's optimiser, `genesis.corrupted` instead of augmentation, and the mean squared error. What it has learned is the beginning of
every fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lnauto.compat.storage import open_image
from lnauto.files import write_json
from lnauto.trainers import checkpoint as checkpoints
from lnauto.trainers.batches import TRAINING, VALIDATION, Batches, endless
from lnauto.trainers.genesis import Patch, corrupted
from lnauto.trainers.interrupts import held_back
from lnauto.trainers.lntrainer import LNTrainer

PRETRAINED = "checkpoint_pretrained.pth"  # no name that a finished fold of a model goes by


class SpoiledPatches:
    """Batches of patches from anywhere in the images: `data` as spoiled, `target` as they were."""

    def __init__(self, images: Sequence[Path], batch: int, patch: Sequence[int]) -> None:
        self.images = images
        self.batch = batch
        self.patch = tuple(patch)

    def generate_train_batch(self) -> dict[str, Any]:
        """Its random numbers follow numpy's own, which `Batches` seeds by the batch's number."""
        rng = np.random.default_rng(np.random.randint(0, 2**31, 4))
        pairs = []
        for _ in range(self.batch):
            image = open_image(self.images[int(rng.integers(len(self.images)))])
            pairs.append(corrupted(cut(image, self.patch, rng), rng))
        data, target = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        return {"data": data, "target": target}


def cut(image: Any, patch: Sequence[int], rng: np.random.Generator) -> Patch:
    """A patch (channels, z, y, x) from anywhere; an image that is too small lies in its middle, among zeros, as in nnU-Net."""
    result = np.zeros((image.shape[0], *patch), np.float32)
    source, target = [slice(None)], [slice(None)]
    for have, want in zip(image.shape[1:], patch, strict=True):
        start, inset = int(rng.integers(max(have - want, 0) + 1)), max(want - have, 0) // 2
        source.append(slice(start, start + min(have, want)))
        target.append(slice(inset, inset + min(have, want)))
    result[tuple(target)] = image[tuple(source)]
    return result


class LNPretraining(LNTrainer):
    """Trains on images alone, all of them; `images` and `made_of` are set before `initialize`."""

    activity = "Pre-training"
    images: Sequence[Path] = ()
    made_of = ""  # hash of network, patch and images, by which a later command knows whether this is what it needs

    def initialize(self) -> None:
        self.enable_deep_supervision = False  # patches are restored at full resolution
        super().initialize()

    @staticmethod
    def build_network_architecture(
        plans_manager: Any, configuration_manager: Any, num_input_channels: int, *rest: Any, **more: Any
    ) -> nn.Module:
        """The plan's network, which gives back as many channels as it is given."""
        network: nn.Module = LNTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_input_channels, False
        )
        return network

    def _build_loss(self) -> nn.Module:
        return nn.MSELoss()

    def get_dataloaders(self) -> tuple[Iterator[dict[str, Any]], Iterator[dict[str, Any]]]:
        """Spoiled patches; none of nnU-Net's augmentation, and so none of its dummy-2D switch."""
        self.inference_allowed_mirroring_axes = ()
        patches: Any = SpoiledPatches(self.images, self.batch_size, self.configuration_manager.patch_size)
        batches, fixed = (Batches(patches, self.options.seed, stream, self.local_rank) for stream in (TRAINING, VALIDATION))
        self.validation_batches = fixed
        pinned = self.device.type == "cuda"
        return endless(batches, self.clock.iteration, self.options.workers, pinned), endless(fixed, 0, 0)

    def _end_epoch(self) -> dict[str, Any]:
        """The loss on some patches that stay the same; all images are learned from, so it is for the eye only."""
        assert self.compute is not None
        self.network.eval()
        losses = []
        with torch.no_grad(), self.compute.autocast():
            for number in range(self.num_val_iterations_per_epoch):
                batch = self.validation_batches[number]
                restored = self.network(self.compute.place(batch["data"]))
                losses.append(float(self.loss(restored, self._to_device(batch["target"]))))
        self.network.train()
        record = {
            "iteration": self.clock.iteration,
            "seconds": round(self.clock.seconds, 1),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": float(np.mean(self.epoch_losses)),
            "val_loss": float(np.mean(losses)),
            "dice": None,
        }
        with held_back():
            self.keep_record(record)
            write_json(Path(self.output_folder) / "history.json", self.history)
        return record

    def on_train_end(self) -> None:
        folder = Path(self.output_folder)
        self.save_checkpoint(str(folder / PRETRAINED))
        (folder / checkpoints.LATEST).unlink(missing_ok=True)
        self.dataloader_train = None  # ends the background workers

    def more_to_save(self) -> dict[str, Any]:
        return {"made_of": self.made_of}
