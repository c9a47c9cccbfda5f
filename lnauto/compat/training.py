"""nnU-Net's trainer, the loader it draws patches with, and its augmentation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType
from typing import Any

from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from threadpoolctl import threadpool_limits
from torch.utils.data import get_worker_info

__all__ = ["generate_train_batch", "nnUNetDataLoader", "nnUNetTrainer", "padding_as", "without_intensity", "without_timing"]

PADDING = -1


def _limits(**limits: Any) -> AbstractContextManager[Any]:
    return threadpool_limits(**limits) if get_worker_info() is not None else nullcontext()


# nnU-Net's own, which limits its threads to one as if batches were always made beside a training. Where they are made between
# two steps, all cores are free, and looking for the libraries to limit took a fifth of the time.
generate_train_batch = FunctionType(
    nnUNetDataLoader.generate_train_batch.__code__,
    {**nnUNetDataLoader.generate_train_batch.__globals__, "threadpool_limits": _limits},
)


def without_timing(transforms: Any) -> Any:
    """The same augmentation, blurring by a fixed rule: nnU-Net times two algorithms and takes the faster, so that the bits of a
    batch depend on how busy the machine is."""
    for transform in _every(transforms):
        if isinstance(transform, GaussianBlurTransform):
            transform.benchmark = False
    return transforms


def padding_as(transforms: Any, label: int) -> Any:
    """The same augmentation, giving what lies outside the image that label; nnU-Net's is background."""
    for transform in _every(transforms):
        if isinstance(transform, RemoveLabelTransform) and transform.label_value == PADDING:
            transform.set_to = label
    return transforms


def without_intensity(transforms: Any) -> Any:
    """The same augmentation without what changes intensities: noise, blur, brightness, contrast, low resolution, gamma. They are
    what nnU-Net applies now and then; what it applies always is geometry and bookkeeping."""
    transforms.transforms = [transform for transform in transforms.transforms if not isinstance(transform, RandomTransform)]
    return transforms


def _every(transform: Any) -> Iterator[Any]:
    yield transform
    for inner in [*getattr(transform, "transforms", ()), *filter(None, [getattr(transform, "transform", None)])]:
        yield from _every(inner)
