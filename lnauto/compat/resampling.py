"""nnU-Net's ways of resampling, by the names in plans (which are checked first: `lnauto/compat/names.py`)."""

from collections.abc import Callable
from typing import Any

from nnunetv2.preprocessing.resampling.utils import recursive_find_resampling_fn_by_name

__all__ = ["resampling_function"]


def resampling_function(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = recursive_find_resampling_fn_by_name(name)
    return found
