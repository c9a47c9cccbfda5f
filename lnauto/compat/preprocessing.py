"""nnU-Net's preprocessor and its cropping."""

from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask, crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

__all__ = ["DefaultPreprocessor", "create_nonzero_mask", "crop_to_nonzero"]
