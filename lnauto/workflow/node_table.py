"""`nodes.csv`: every node of every mask, where it lies and how large it is, and what a patient head says of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnauto.evaluation.labels import LabelScheme
from lnauto.files import write_text
from lnauto.nodes import Node, label_components, measure_nodes
from lnauto.workflow.head_predict import NodeReading

NODE_COLUMNS = ("case", "node", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "volume_mm3", "long_axis_mm", "short_axis_mm")
HEAD_COLUMNS = ("probability", "attention")


def measure_masks(masks: Mapping[str, Path], description: Mapping[str, Any]) -> list[Node]:
    """Every node of every mask."""
    import numpy as np
    import SimpleITK as sitk

    scheme = LabelScheme.of_description(description)
    values = [value for label in scheme.nodes for value in label.values]
    nodes: list[Node] = []
    for case, path in masks.items():
        image = sitk.ReadImage(str(path))
        instances, _ = label_components(np.isin(sitk.GetArrayViewFromImage(image), values))
        nodes += measure_nodes(
            instances, image.GetSpacing()[::-1], case=case, origin=image.GetOrigin(), direction=image.GetDirection()
        )
    return nodes


def write_nodes(nodes: list[Node], told: Mapping[tuple[str, int], NodeReading], path: Path) -> None:
    """`told` is what a patient head says of nodes; without one there are no such columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NODE_COLUMNS, *(HEAD_COLUMNS if told else ())])
    for node in nodes:
        centre = node.centroid_mm or (float("nan"),) * 3
        numbers = [*centre, node.volume_mm3, node.long_axis_mm, node.short_axis_mm]
        said = told.get((node.case, node.number))
        more = ["", ""] if said is None else [f"{said.probability:.4f}", f"{said.attention:.4f}"]
        writer.writerow([node.case, node.number, *(f"{number:.2f}" for number in numbers), *(more if told else [])])
    write_text(path, text.getvalue())
