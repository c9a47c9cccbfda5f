"""nnU-Net's trainer, the loader it draws patches with, and its augmentation."""

from collections.abc import Iterator
from typing import Any

from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

__all__ = ["nnUNetDataLoader", "nnUNetTrainer", "without_timing"]


def without_timing(transforms: Any) -> Any:
    """The same augmentation, blurring by a fixed rule: nnU-Net times two algorithms and takes the faster, so that the bits of a
    batch depend on how busy the machine is."""
    for transform in _every(transforms):
        if isinstance(transform, GaussianBlurTransform):
            transform.benchmark = False
    return transforms


def _every(transform: Any) -> Iterator[Any]:
    yield transform
    for inner in [*getattr(transform, "transforms", ()), *filter(None, [getattr(transform, "transform", None)])]:
        yield from _every(inner)
