"""What a prediction from Python gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from lnauto.evaluation.labels import LabelScheme
from lnauto.nodes import Array, Node, label_components, measure_nodes


@dataclass(frozen=True, eq=False)
class Prediction:
    """A scan's mask and nodes."""

    mask: sitk.Image  # on the scan's grid; values as the model's dataset.json has them
    instances: Array  # z, y, x: 0, or the number of the node
    nodes: list[Node]
    probability: sitk.Image | None = None  # of anything but background, if it was asked for; before specks are left out

    @classmethod
    def of(cls, mask: sitk.Image, probability: sitk.Image | None, scheme: LabelScheme, name: str) -> Prediction:
        values = [value for label in scheme.nodes for value in label.values]
        instances, _ = label_components(np.isin(sitk.GetArrayViewFromImage(mask), values))
        probabilities = None if probability is None else sitk.GetArrayViewFromImage(probability)
        grid = {"origin": mask.GetOrigin(), "direction": mask.GetDirection(), "probabilities": probabilities}
        return cls(mask, instances, measure_nodes(instances, mask.GetSpacing()[::-1], case=name, **grid), probability)

    @property
    def array(self) -> Array:
        """The mask as an array (z, y, x)."""
        return np.asarray(sitk.GetArrayFromImage(self.mask))
