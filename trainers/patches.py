"""Which part of a case a patch is cut from."""

from __future__ import annotations

from typing import Any

import numpy as np

from lnauto.compat.training import generate_train_batch, nnUNetDataLoader


class PatchLoader(nnUNetDataLoader):
    """nnU-Net's loader. Where there is an ignore label, nnU-Net centres every patch that need not hold foreground on a drawn
    voxel; here a share of them may lie anywhere, as they do without an ignore label. A case that was preprocessed without one
    (its class locations do not list what is drawn) is known everywhere."""

    has_ignore: bool
    random_share = 0.0
    generate_train_batch = generate_train_batch

    def get_bbox(self, data_shape: Any, force_fg: bool, class_locations: Any, *rest: Any, **more: Any) -> Any:
        drawn_only = self.has_ignore
        if drawn_only and not force_fg:
            listed = self.annotated_classes_key in class_locations
            self.has_ignore = bool(np.random.uniform() >= self.random_share) and listed
        try:
            return super().get_bbox(data_shape, force_fg, class_locations, *rest, **more)
        finally:
            self.has_ignore = drawn_only
