"""From an image to a mask in the image's own geometry, in process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lnauto.data.preprocess import prepare_image
from lnauto.data.region import region_of
from lnauto.evaluation.labels import LabelScheme
from lnauto.inference.model import Model
from lnauto.inference.size_filter import drop_specks
from lnauto.inference.sliding_window import mirrorings, predict_logits, tile_slices
from lnauto.networks.compute import Compute, choose_compute

MIRRORINGS = ("none", "fast", "full")


@dataclass
class Predictor:
    """Networks, the plan they belong to, and how to run them."""

    networks: Sequence[nn.Module]
    plans: Any  # nnU-Net's PlansManager
    configuration: Any  # nnU-Net's ConfigurationManager
    dataset_json: dict[str, Any]
    compute: Compute
    mirror_axes: Sequence[int] = ()
    tta: str = "none"
    overlap: float = 0.5
    smallest_node_mm3: float = 0.0  # what is smaller is left out; 0: nothing is
    region: str = "none"  # what images are cropped to before they are looked at
    labels: Any = field(init=False)  # nnU-Net's LabelManager

    def __post_init__(self) -> None:
        self.labels = self.plans.get_label_manager(self.dataset_json)
        self.scheme = LabelScheme.of_description(self.dataset_json)

    @classmethod
    def of_model(
        cls,
        model: Model,
        device: torch.device,
        precision: str = "auto",
        tta: str | None = None,
        overlap: float | None = None,
        size_filter: bool = True,
        crop: bool = True,
    ) -> Predictor:
        """A predictor for a model on disk; what is not said is as its plan has it."""
        from lnauto.compat.plans import PlansManager

        plans = PlansManager(model.plans)
        configuration = plans.get_configuration(model.configuration)
        defaults = model.plans.get("lnauto", {}).get("inference", {})
        channels = len(model.dataset_json["channel_names"])
        compute = choose_compute(model.networks[0], channels, list(configuration.patch_size), device, precision)
        return cls(
            networks=[compute.prepare(network) for network in model.networks],
            plans=plans,
            configuration=configuration,
            dataset_json=model.dataset_json,
            compute=compute,
            mirror_axes=model.mirror_axes,
            tta=tta or defaults.get("tta", "full"),
            overlap=defaults.get("overlap", 0.5) if overlap is None else overlap,
            smallest_node_mm3=smallest_node_mm3(model.plans) if size_filter else 0.0,
            region=region_of(model.plans) if crop else "none",
        )

    def predict_files(self, images: list[Path], on_tile: Callable[[], None] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """The mask of one case given as a file for each channel, and the geometry it lies in."""
        data, properties = prepare_image(images, self.plans, self.configuration, self.region)
        return self.predict_prepared(data, properties, on_tile), properties

    def predict_prepared(
        self, data: np.ndarray, properties: dict[str, Any], on_tile: Callable[[], None] | None = None
    ) -> np.ndarray:
        """The mask of a preprocessed case, in the geometry of the image it was made from."""
        from lnauto.compat.inference import convert_predicted_logits_to_segmentation_with_correct_shape

        mask: np.ndarray = convert_predicted_logits_to_segmentation_with_correct_shape(
            self.predict_logits(data, on_tile).float().cpu(),
            self.plans,
            self.configuration,
            self.labels,
            properties,
            num_threads_torch=torch.get_num_threads(),
        )
        return drop_specks(mask, properties["spacing"], self.scheme, self.smallest_node_mm3)

    def predict_grid(self, data: np.ndarray) -> np.ndarray:
        """The mask of a preprocessed case, left in the plan's own spacing."""
        mask = np.asarray(self.labels.convert_logits_to_segmentation(self.predict_logits(data).float().cpu()))
        return drop_specks(mask, self.configuration.spacing, self.scheme, self.smallest_node_mm3)

    def predict_logits(self, data: np.ndarray, on_tile: Callable[[], None] | None = None) -> torch.Tensor:
        """Logits of a preprocessed case, averaged over networks and mirrorings."""
        mirrored = mirrorings(self.tta, self.mirror_axes, self.plans.transpose_forward.index(2))
        image = torch.from_numpy(np.ascontiguousarray(data))
        return predict_logits(self.networks, image, self.configuration.patch_size, self.compute, self.overlap, mirrored, on_tile)

    def count_tiles(self, shape: Sequence[int]) -> int:
        """Tiles of an image of `shape` in the plan's spacing, for a progress bar."""
        patch = self.configuration.patch_size
        padded = [max(side, least) for side, least in zip(shape, patch, strict=True)]
        return len(tile_slices(padded, patch, 1 - self.overlap))


def smallest_node_mm3(plans: dict[str, Any]) -> float:
    """What the plan takes for too small to be a node; 0 where it does not say."""
    return float(plans.get("lnauto", {}).get("inference", {}).get("smallest_node_mm3") or 0.0)
