"""nnU-Net's plans: the managers that read them."""

from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

__all__ = ["ConfigurationManager", "LabelManager", "PlansManager", "determine_num_input_channels"]
