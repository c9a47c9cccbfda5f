"""nnU-Net's ways of normalising intensities, by a channel's name and by their own."""

from typing import Any

from nnunetv2.preprocessing.normalization import default_normalization_schemes
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme

__all__ = ["get_normalization_scheme", "normalization_class"]


def normalization_class(name: str) -> Any:
    """By its name in a plan (which is checked first: `lnauto/compat/names.py`)."""
    return getattr(default_normalization_schemes, name)
