"""nnU-Net's planning rules that lnauto keeps: pooling and kernels from spacing."""

from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

__all__ = ["ANISO_THRESHOLD", "get_pool_and_conv_props"]
