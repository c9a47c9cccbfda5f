"""The names in nnU-Net's plans that may be looked up. Nothing of nnU-Net is imported here.

nnU-Net searches its folders for whatever a plan names and calls what it finds, be it made for that or not. A plan from elsewhere
is a stranger's text, so names are looked up in this list first. (What may be a network: `lnauto/networks/permitted.py`.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnauto.errors import InputError

_RESAMPLING = (
    "resample_torch_fornnunet",
    "resample_torch_simple",
    "resample_data_or_seg_to_shape",
    "resample_data_or_seg_to_spacing",
    "no_resampling_hack",
)
ALLOWED: dict[str, tuple[str, ...]] = {
    "preprocessor_name": ("DefaultPreprocessor",),
    "resampling_fn_data": _RESAMPLING,
    "resampling_fn_seg": _RESAMPLING,
    "resampling_fn_probabilities": _RESAMPLING,
    "normalization_schemes": (
        "CTNormalization",
        "ZScoreNormalization",
        "NoNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
    ),
    "image_reader_writer": (
        "SimpleITKIO",
        "SimpleITKIOWithReorient",
        "NibabelIO",
        "NibabelIOWithReorient",
        "NaturalImage2DIO",
        "Tiff3DIO",
    ),
    "label_manager": ("LabelManager",),
}


def check_names(content: Mapping[str, Any]) -> None:
    """Refuse plans that name another function or class, before anything is looked up."""
    for part in (content, *content.get("configurations", {}).values()):
        for key, allowed in ALLOWED.items():
            named = part.get(key)
            for name in named if isinstance(named, list) else [named]:
                if name is not None and name not in allowed:
                    raise InputError.of(
                        f"the plan names {name} as its {key}, which is none of {', '.join(allowed)}; it was not called",
                        f"the plans of {content.get('dataset_name', 'a data set')}",
                        "do not use this file; if it is your own, correct it",
                    )
