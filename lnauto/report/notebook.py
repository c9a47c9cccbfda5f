"""`lnauto.show`: a prediction made from Python, to look at in a notebook or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from lnauto.errors import InputError
from lnauto.files import write_text
from lnauto.inference.prediction import Prediction
from lnauto.nodes import Array, Node
from lnauto.report.prediction_page import CasePart, Story, prediction_page
from lnauto.report.slices import Detail, pictures_of
from lnauto.report.tables import escape

HEIGHT = 900  # pixels of the frame in a notebook


@dataclass(frozen=True)
class Shown:
    """A page: a notebook shows it, `save` writes it."""

    html: str

    def _repr_html_(self) -> str:
        frame = "width:100%;border:0"  # without `allow-same-origin` the page knows nothing of the notebook round it
        return f'<iframe sandbox="allow-scripts" style="{frame}" height="{HEIGHT}" srcdoc="{escape(self.html)}"></iframe>'

    def save(self, path: str | Path) -> Path:
        """Write the page to a file."""
        write_text(Path(path), self.html)
        return Path(path)


def show(
    prediction: Prediction, scan: sitk.Image | Array | Sequence[sitk.Image | Array], channels: Sequence[str] = ("CT",)
) -> Shown:
    """A prediction on its scan, with slices to scroll and nodes to jump to.

    Args:
        scan: what was predicted: an image or an array (z, y, x), or one for each channel.
        channels: what they are called, which says how they are windowed: CT, PET, or any other name.
    """
    images = [scan] if isinstance(scan, (sitk.Image, np.ndarray)) else list(scan)
    arrays = [sitk.GetArrayViewFromImage(image) if isinstance(image, sitk.Image) else image for image in images]
    if len(arrays) != len(channels):
        raise InputError.of(f"there are {len(arrays)} images and {len(channels)} channels", "show", "name one channel for each")
    if wrong := [array.shape for array in arrays if array.shape != prediction.instances.shape]:
        what = f"an image has {wrong[0]} voxels and the mask {prediction.instances.shape}"
        raise InputError.of(what, "show", "give the scan that was predicted")
    likely = prediction.probability
    viewer, thumbnail = pictures_of(
        list(zip(channels, arrays, strict=True)),
        prediction.instances,
        prediction.mask.GetSpacing()[::-1],
        prediction.mask.GetDirection(),
        Detail.for_cases(1),
        None if likely is None else sitk.GetArrayViewFromImage(likely),
    )
    name = prediction.nodes[0].case if prediction.nodes else "scan"
    part = CasePart(name, [_row(node) for node in prediction.nodes], {}, viewer, thumbnail)
    return Shown(prediction_page(Story(name, {}), [part]).html())


def _row(node: Node) -> dict[str, Any]:
    """As nodes.json has it; a node's probability is of being one here, and of metastasis there."""
    place = zip("xyz", node.centroid_mm or (np.nan,) * 3, strict=True)
    return {
        "node": node.number,
        "short_axis_mm": node.short_axis_mm,
        "long_axis_mm": node.long_axis_mm,
        "volume_mm3": node.volume_mm3,
        **{f"centroid_{axis}_mm": at for axis, at in place},
    }
