"""nnU-Net's planning rules that lnauto keeps: pooling and kernels from spacing, normalisation from the channel's name."""

from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

__all__ = ["ANISO_THRESHOLD", "compute_new_shape", "get_normalization_scheme", "get_pool_and_conv_props"]
