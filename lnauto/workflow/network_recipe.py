"""`network.json`: what somebody without lnauto has to do before and after an exported network, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lnauto import __version__
from lnauto.data.description import has_regions, outputs_of
from lnauto.data.region import region_of
from lnauto.data.scans import way_to_lie
from lnauto.evaluation.labels import LabelScheme
from lnauto.workflow.trained import Trained

INPUT, OUTPUT = "image", "logits"
AXES = ("z", "y", "x")
NORMALISATION = {
    "CTNormalization": "clip to [low, high], subtract mean, divide by deviation (those given here)",
    "ZScoreNormalization": "subtract the mean of the image after cropping, divide by its standard deviation",
    "RescaleTo01Normalization": "subtract the image's minimum, divide by its maximum after that",
    "RGBTo01Normalization": "divide by 255",
    "NoNormalization": "none",
}
WITHIN = "; mean and deviation are those inside the mask of non-zero voxels, and outside it values are 0"


def recipe(trained: Trained, networks: Sequence[Mapping[str, Any]], shape: Sequence[int | str], size: str) -> dict[str, Any]:
    """Everything as plain JSON; axes are the file's z, y, x put in the plan's order."""
    plans, chosen = trained.plans, trained.configuration
    inference = plans["lnauto"].get("inference", {})
    return {
        "made_by": {"lnauto": __version__},
        "networks": list(networks),
        "several_networks": "average their logits",
        "input": {
            "name": INPUT,
            "type": "float32",
            "axes": ["batch", "channel", *_axes(plans)],
            "shape": list(shape),
            "size": size,
        },
        "output": {"name": OUTPUT, "type": "float32", "axes": ["batch", "class", *_axes(plans)], **_output(trained.dataset_json)},
        "before": _before(trained),
        "tiles": {
            "patch": chosen["patch_size"],
            "overlap": inference.get("overlap", 0.5),
            "step": "along each axis as few tiles as lie at most (1 - overlap) * patch apart, spread evenly from end to end",
            "padding": "an image smaller than a patch is padded with 0 on both sides (after normalisation)",
            "weight": "a Gaussian round the middle of a tile, sigma = patch / 8; 0 becomes its smallest other value",
            "mirroring": {
                "axes": trained.first["inference_allowed_mirroring_axes"] or [],
                "used_by_lnauto": inference.get("tta", "full"),
                "how": "optional: flip the tile, flip the logits back, average; axes count from the first spatial one",
            },
        },
        "after": _after(trained),
    }


def _axes(plans: Mapping[str, Any]) -> list[str]:
    return [AXES[axis] for axis in plans["transpose_forward"]]


def _output(dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    labels: dict[str, Any] = {name: value for name, value in dataset_json["labels"].items() if name != "ignore"}
    scheme = LabelScheme.of_description(dataset_json)
    nodes = {"lymph_nodes": [label.name for label in scheme.nodes]}
    classes = outputs_of(labels)
    if has_regions(labels):
        how = "where the logit is above 0: write value after value, later ones over earlier ones"
        order = dataset_json["regions_class_order"]
        written = [{"region": name, "value": value} for name, value in zip(classes, order, strict=True)]
        return {"classes": classes, "to_mask": how, "written": written, **nodes}
    return {"classes": classes, "to_mask": "the class of the largest logit, by its value in labels", "labels": labels, **nodes}


def _before(trained: Trained) -> list[dict[str, Any]]:
    """What is done with an image, in order."""
    plans, chosen = trained.plans, trained.configuration
    how = {key: chosen[key] for key in ("resampling_fn_data", "resampling_fn_data_kwargs")}
    region, orientation = region_of(plans), way_to_lie(plans)
    return [
        {
            "step": "read",
            "axes": f"z, y, x of SimpleITK's array, {_turned(orientation)}",
            "orientation": orientation,
            "reader": plans["image_reader_writer"],
        },
        {"step": "crop", "to": region, "how": "lnauto's own; without it the network looks at the whole image"},
        {"step": "transpose", "axes": plans["transpose_forward"], "then": _axes(plans)},
        {"step": "crop", "to": "non-zero", "how": "the box round voxels that are not 0 in any channel, holes filled"},
        {"step": "normalise", "channels": _channels(trained)},
        {"step": "resample", "spacing_mm": chosen["spacing"], "axes": _axes(plans), "how": "nnU-Net's function", **how},
    ]


def _turned(orientation: str | None) -> str:
    return f"turned to {orientation} (SimpleITK.DICOMOrient)" if orientation else "as in the file, not turned"


def _channels(trained: Trained) -> list[dict[str, Any]]:
    chosen, found = trained.configuration, []
    known = trained.plans["foreground_intensity_properties_per_channel"]
    names = trained.dataset_json["channel_names"].items()
    for (number, name), scheme, masked in zip(names, chosen["normalization_schemes"], chosen["use_mask_for_norm"], strict=True):
        how = NORMALISATION.get(scheme, "nnU-Net's class of this name") + (WITHIN if masked else "")
        numbers = known.get(number, {}) if scheme == "CTNormalization" else {}
        keys = {"low": "percentile_00_5", "high": "percentile_99_5", "mean": "mean", "deviation": "std"}
        given = {key: numbers[theirs] for key, theirs in keys.items() if theirs in numbers}
        found.append({"channel": int(number), "name": name, "scheme": scheme, "how": how, **given})
    return found


def _after(trained: Trained) -> list[dict[str, Any]]:
    """What is done with the logits, in order."""
    plans, chosen = trained.plans, trained.configuration
    how = {key: chosen[key] for key in ("resampling_fn_probabilities", "resampling_fn_probabilities_kwargs")}
    smallest = plans["lnauto"].get("inference", {}).get("smallest_node_mm3") or 0.0
    return [
        {"step": "resample", "to": "the shape after cropping, before resampling", "how": "nnU-Net's function, on logits", **how},
        {"step": "mask", "how": "output.to_mask"},
        {"step": "paste", "how": "into an empty mask of the image's shape, at the boxes it was cropped to"},
        {"step": "transpose", "axes": plans["transpose_backward"], "then": list(AXES)},
        {
            "step": "filter",
            "smallest_node_mm3": smallest,
            "how": "lnauto's own: lymph nodes (26-connected) of a smaller volume become background",
        },
        *([{"step": "turn", "how": "back to the way the file lies, on its grid"}] if way_to_lie(plans) else []),
    ]
