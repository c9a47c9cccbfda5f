"""From an image to a mask in the image's own geometry, in process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from lnauto.data.prepare import prepare
from lnauto.data.region import region_of
from lnauto.data.scans import Grid, left_right, mask_on, read_channels, way_to_lie
from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme
from lnauto.inference.eight_bits import CHECKED, TILES, EightBitNetwork
from lnauto.inference.engine import ENGINES, choose_engine
from lnauto.inference.export import Exported, Exporter
from lnauto.inference.memory import MemoryLimit, Need
from lnauto.inference.model import Model, load_model
from lnauto.inference.openvino_engine import OpenVinoNetwork
from lnauto.inference.prediction import Prediction
from lnauto.inference.size_filter import drop_specks
from lnauto.inference.sliding_window import TTA, Network, mirrorings, predict_logits, some_tiles, tile_slices
from lnauto.networks.compute import Compute, find_device

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "fp32", "bf16", "int8")
NOT_FINITE = "add --precision fp32 or --device cpu; if that does not help, look at the scan's intensities"
AIR_BELOW_HU = -500.0  # a tile with nothing denser holds no soft tissue, and so no node


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as the networks take it, and how to find back to its own grid."""

    data: np.ndarray
    properties: dict[str, Any]
    grid: Grid
    name: str


@dataclass
class Predictor:
    """Networks, the plan they belong to, and how to run them."""

    networks: Sequence[Network]
    plans: Any  # nnU-Net's PlansManager
    configuration: Any  # nnU-Net's ConfigurationManager
    dataset_json: dict[str, Any]
    compute: Compute
    mirror_axes: Sequence[int] = ()
    tta: str = "none"
    overlap: float = 0.5
    smallest_node_mm3: float = 0.0  # what is smaller is left out; 0: nothing is
    region: str = "none"  # what images are cropped to before they are looked at
    orientation: str | None = None  # that images are turned to before they are looked at; None: they are not
    skips_air: bool = False  # tiles without anything a node could be
    memory: MemoryLimit = field(default_factory=MemoryLimit)
    engine: str = "torch"
    precision: str = ""  # of the engine
    labels: Any = field(init=False)  # nnU-Net's LabelManager

    def __post_init__(self) -> None:
        self.labels = self.plans.get_label_manager(self.dataset_json)
        self.scheme = LabelScheme.of_description(self.dataset_json)
        self.exporter = Exporter(self.plans, self.configuration, self.labels)

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
        engine: str = "torch",
        voxels: float | None = None,
    ) -> Predictor:
        """A predictor for a model on disk; what is not said is as its plan has it.

        Args:
            crop: look only at the region the plan names, and there not at tiles of air.
            voxels: of all images in the plan's spacing, from which `engine="auto"` tells whether a conversion pays.
        """
        from lnauto.compat.plans import read_plans

        plans = read_plans(model.plans)
        configuration = plans.get_configuration(model.configuration)
        defaults = model.plans.get("lnauto", {}).get("inference", {})
        tta = tta or defaults.get("tta", "full")
        overlap = defaults.get("overlap", 0.5) if overlap is None else overlap
        orientation = way_to_lie(model.plans)
        sides = plans.transpose_forward.index(left_right(orientation))
        copies = len(mirrorings(tta, model.mirror_axes, sides)) * len(model.folds)
        seen = None if voxels is None else voxels * copies / (1 - overlap) ** 3
        chosen = choose_engine(model, configuration.patch_size, device, engine, precision, seen)
        return cls(
            networks=chosen.networks,
            plans=plans,
            configuration=configuration,
            dataset_json=model.dataset_json,
            compute=chosen.compute,
            mirror_axes=model.mirror_axes,
            tta=tta,
            overlap=overlap,
            smallest_node_mm3=smallest_node_mm3(model.plans) if size_filter else 0.0,
            region=region_of(model.plans) if crop else "none",
            orientation=orientation,
            skips_air=crop,
            engine=chosen.name,
            precision=chosen.precision,
        )

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        folds: Sequence[int | str] | None = None,
        device: str | None = None,
        *,
        precision: str = "auto",
        tta: str | None = None,
        overlap: float | None = None,
        size_filter: bool = True,
        crop: bool = True,
        engine: str = "auto",
    ) -> Predictor:
        """A predictor for a model folder (.../LNTrainer__lnautoPlans__3d_fullres), for use from Python.

        What is not said is as the plan has it. `engine="auto"` runs OpenVINO if the model was converted for it, which
        `"openvino"` does.
        """
        _check_choices({"precision": (precision, PRECISIONS), "tta": (tta, (None, *TTA)), "engine": (engine, ENGINES)})
        if overlap is not None and not 0 <= overlap < 1:
            raise InputError.of(f"overlap is {overlap!r}", "Predictor.from_folder", "give a share from 0 to below 1")
        model = load_model(Path(folder), None if folds is None else [str(fold) for fold in folds])
        return cls.of_model(model, find_device(device), precision, tta, overlap, size_filter, crop, engine)

    def predict(
        self,
        image: sitk.Image | Sequence[sitk.Image] | np.ndarray,
        spacing: Sequence[float] | None = None,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        direction: Sequence[float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        name: str = "scan",
        with_probability: bool = False,
    ) -> Prediction:
        """The nodes of one scan.

        Args:
            image: an image, one for each channel, or an array (z, y, x; or channels, z, y, x).
            spacing, origin, direction: where an array lies, in mm, x first, as SimpleITK has them.
            name: what nodes and errors call the scan.
            with_probability: also a map of the probability of anything but background.
        """
        channels = _channels(image, spacing, origin, direction, name)
        expected = list(self.dataset_json["channel_names"].values())
        if len(channels) != len(expected):
            what = f"the model takes {len(expected)} channels ({', '.join(expected)}) and was given {len(channels)}"
            raise InputError.of(what, name, "give one image for each")
        for channel in channels:
            if voxels := int((~np.isfinite(sitk.GetArrayViewFromImage(channel))).sum()):
                what = f"the image holds {voxels} NaN or infinite voxels"
                raise InputError.of(what, name, "replace them, for example by the value of air")
        mask, probability = self.predict_channels(channels, name, with_probability=with_probability)
        return Prediction.of(mask, probability, self.scheme, name)

    def predict_files(self, images: Sequence[Path]) -> sitk.Image:
        """The mask of one case given as a file for each channel."""
        return self.predict_channels([sitk.ReadImage(str(path)) for path in images], images[0].name)[0]

    def predict_channels(
        self,
        channels: Sequence[sitk.Image],
        name: str,
        on_tile: Callable[[int], None] | None = None,
        with_probability: bool = False,
    ) -> tuple[sitk.Image, sitk.Image | None]:
        """The mask of one case on its own grid and, if it is asked for, the probability of anything but background."""
        prepared = self.prepare(channels, name, with_probability)
        kept = self.infer(prepared, on_tile)
        return self.finish(kept, prepared, with_probability)

    def prepare(self, channels: Sequence[sitk.Image], name: str, with_probability: bool = False) -> Prepared:
        """A scan as the networks take it, if memory holds all that is to come, too."""
        image, properties = read_channels(channels, self.orientation, name)
        classes = self.labels.num_segmentation_heads
        kept = classes - 1 if self.exporter.by_differences else classes
        spacing = [properties["spacing"][axis] for axis in self.plans.transpose_forward]

        def check(inside: Sequence[int], resampled: Sequence[int]) -> None:
            sizes = (image.shape[1:], inside, resampled)
            need = Need.of(*sizes, spacing, self.configuration, len(image), classes, kept, with_probability)
            self.memory.check(need.most, name)

        data = prepare(image, properties, self.plans.plans, self.configuration.configuration, self.region, check)
        return Prepared(data, properties, Grid.of(channels[0]), name)

    def infer(self, prepared: Prepared, on_tile: Callable[[int], None] | None = None) -> Tensor:
        """What the mask needs of the logits, which are numbers: what is none would pass for background."""
        kept = self.predict_logits(prepared.data, on_tile, self.exporter.kept)
        if not all(bool(bound.isfinite()) for bound in kept.aminmax()):
            raise InputError.of("the network answers with NaN or infinity", prepared.name, NOT_FINITE)
        for network in self.networks:
            if isinstance(network, (OpenVinoNetwork, EightBitNetwork)):
                network.rest()
        return kept

    def finish(self, kept: Tensor, prepared: Prepared, with_probability: bool = False) -> tuple[sitk.Image, sitk.Image | None]:
        """The mask on the scan's grid and, if it is asked for, the probability of anything but background."""
        found = self._exported(kept, prepared.properties, with_probability)
        mask, probability = (
            None if array is None else mask_on(array, prepared.properties, prepared.grid)
            for array in (found.mask, found.probability)
        )
        assert mask is not None
        return mask, probability

    def predict_prepared(self, data: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
        """The mask of a preprocessed case, in the geometry of the image it was made from."""
        return self._exported(self.predict_logits(data, kept=self.exporter.kept), properties).mask

    def _exported(self, kept: Tensor, properties: dict[str, Any], with_probability: bool = False) -> Exported:
        try:
            found = self.exporter.export(kept, properties, with_probability)
        except torch.OutOfMemoryError:
            found = None
        if found is None:  # only now, as the error holds on to what is on the card
            torch.cuda.empty_cache()
            found = self.exporter.export(kept.float().cpu(), properties, with_probability)
        return replace(found, mask=drop_specks(found.mask, properties["spacing"], self.scheme, self.smallest_node_mm3))

    def predict_grid(self, data: np.ndarray) -> np.ndarray:
        """The mask of a preprocessed case, left in the plan's own spacing."""
        mask = np.asarray(self.labels.convert_logits_to_segmentation(self.predict_logits(data).float().cpu()))
        return drop_specks(mask, self.configuration.spacing, self.scheme, self.smallest_node_mm3)

    def predict_logits(
        self,
        data: np.ndarray,
        on_tile: Callable[[int], None] | None = None,
        kept: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> Tensor:
        """Logits of a preprocessed case, averaged over networks and mirrorings, or what is `kept` of them.

        Where a card's memory does not hold them beside the networks, they are kept in main memory.
        """
        sides = self.plans.transpose_forward.index(left_right(self.orientation))
        mirrored = mirrorings(self.tta, self.mirror_axes, sides)
        image = torch.from_numpy(np.ascontiguousarray(data))
        is_empty = emptiness(self.plans.plans, self.configuration.configuration, self.dataset_json) if self.skips_air else None
        patch = self.configuration.patch_size
        for network in self.networks:
            if isinstance(network, EightBitNetwork) and not network.is_ready:
                network.get_ready(some_tiles(image, patch, self.overlap, is_empty, TILES + CHECKED))
        told = _Told(on_tile)
        how = (self.overlap, mirrored, told, is_empty, kept, self.labels.has_regions)
        try:
            return predict_logits(self.networks, image, patch, self.compute, *how)
        except torch.OutOfMemoryError:  # which holds on to what is on the card until it is left behind
            log.info("The card's memory is full: the logits of this case are kept in main memory, which takes longer.")
        torch.cuda.empty_cache()
        told.begin_again()
        return predict_logits(self.networks, image, patch, self.compute, *how, sums_on=torch.device("cpu"))

    def count_tiles(self, shape: Sequence[int]) -> int:
        """Tiles of an image of `shape` in the plan's spacing, for a progress bar."""
        patch = self.configuration.patch_size
        padded = [max(side, least) for side, least in zip(shape, patch, strict=True)]
        return len(tile_slices(padded, patch, 1 - self.overlap))


class _Told:
    """Tells of each tile once, also where tiles are looked at again."""

    def __init__(self, on_tile: Callable[[int], None] | None) -> None:
        self.on_tile = on_tile
        self.seen = self.already = 0

    def __call__(self, tiles: int) -> None:
        self.seen += 1
        if self.on_tile is not None and self.seen > self.already:
            self.on_tile(tiles)

    def begin_again(self) -> None:
        self.seen, self.already = 0, self.seen


def smallest_node_mm3(plans: dict[str, Any]) -> float:
    """What the plan takes for too small to be a node; 0 where it does not say."""
    return float(plans.get("lnauto", {}).get("inference", {}).get("smallest_node_mm3") or 0.0)


def _check_choices(given: Mapping[str, tuple[str | None, Sequence[str | None]]]) -> None:
    for name, (value, choices) in given.items():
        if value not in choices:
            listed = ", ".join(choice for choice in choices if choice is not None)
            raise InputError.of(f"{name} is {value!r}", "Predictor.from_folder", f"give one of {listed}")


def _channels(
    image: sitk.Image | Sequence[sitk.Image] | np.ndarray,
    spacing: Sequence[float] | None,
    origin: Sequence[float],
    direction: Sequence[float],
    name: str,
) -> list[sitk.Image]:
    if isinstance(image, sitk.Image):
        return [image]
    if not isinstance(image, np.ndarray):
        return list(image)
    if spacing is None or image.ndim not in (3, 4):
        what = f"an array of {image.ndim} dimensions {'without a spacing' if spacing is None else 'is no scan'}"
        raise InputError.of(what, name, "give (z, y, x) or (channels, z, y, x), and the spacing in mm, x first")
    if image.dtype.kind not in "biuf":
        raise InputError.of(f"an array of {image.dtype} is no scan", name, "give numbers")
    if len(spacing) != 3 or not all(side > 0 for side in spacing):
        raise InputError.of(f"the spacing is {tuple(spacing)}", name, "give three sides of a voxel in mm, x first")
    simple = {"b": np.uint8, "f": np.float32}.get(image.dtype.kind, image.dtype.newbyteorder("="))  # as SimpleITK knows numbers
    found = []
    for array in image if image.ndim == 4 else [image]:
        channel = sitk.GetImageFromArray(array.astype(simple, copy=False))
        channel.SetSpacing([float(side) for side in spacing])
        channel.SetOrigin([float(place) for place in origin])
        channel.SetDirection([float(cosine) for cosine in direction])
        found.append(channel)
    return found


def emptiness(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], dataset_json: Mapping[str, Any]
) -> Callable[[Tensor], bool]:
    """What says of a preprocessed tile that it holds no node: in CT, nothing denser than air; in anything, one value alone."""
    name = str(next(iter(dataset_json["channel_names"].values())))
    if name.lower() == "ct" and configuration["normalization_schemes"][0] == "CTNormalization":
        known = plans["foreground_intensity_properties_per_channel"]["0"]
        densest = max(AIR_BELOW_HU, known["percentile_00_5"])  # as low as values are clipped
        above = (densest - known["mean"]) / max(known["std"], 1e-8) + 1e-3
        return lambda tile: float(tile[0].max()) <= above
    return lambda tile: bool((tile.amax(dim=(1, 2, 3)) == tile.amin(dim=(1, 2, 3))).all())
