"""nnU-Net's tiles, its tile weights and its way back to the image's own geometry."""

from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis

__all__ = [
    "compute_gaussian",
    "compute_steps_for_sliding_window",
    "convert_predicted_logits_to_segmentation_with_correct_shape",
    "determine_do_sep_z_and_axis",
    "pad_nd_image",
]
