"""nnU-Net's plans: the managers that read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from lnauto.compat.names import check_names

__all__ = [
    "ConfigurationManager",
    "LabelManager",
    "PlansManager",
    "determine_num_input_channels",
    "read_plans",
]


def read_plans(content: Mapping[str, Any]) -> PlansManager:
    """nnU-Net's manager of plans that name nothing but what is on the list."""
    check_names(content)
    return PlansManager(dict(content))
