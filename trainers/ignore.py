"""`LNTrainerIgnore`: some voxels were not judged, and nothing is learned from them.

nnU-Net's ignore label keeps such voxels out of the loss. Three things it does beside that are undone here or where patches
are cut: what lies outside the image is nobody's judgement either, so padding is ignored, too, instead of being background;
patches that need not hold a node may lie anywhere (`patches.py`) instead of on drawn voxels only; and the lists of voxels to
centre patches on are bounded (`lnauto/data/locations.py`).
"""

from __future__ import annotations

from typing import Any

from lnauto.compat.training import padding_as
from lnauto.trainers.lntrainer import LNTrainer


class LNTrainerIgnore(LNTrainer):
    """nnU-Net's training on what was judged."""

    def get_training_transforms(self, *arguments: Any, **labels: Any) -> Any:
        """nnU-Net's augmentation, with padding unknown instead of background."""
        return self._padding_unknown(super().get_training_transforms(*arguments, **labels))

    def get_validation_transforms(self, *arguments: Any, **labels: Any) -> Any:
        return self._padding_unknown(super().get_validation_transforms(*arguments, **labels))

    def _padding_unknown(self, transforms: Any) -> Any:
        """Where intensities are normalised inside the body alone, padding cannot be told from what lies outside the body."""
        ignore = self.label_manager.ignore_label
        if ignore is None or any(self.configuration_manager.use_mask_for_norm):
            return transforms
        return padding_as(transforms, ignore)
