"""Networks by the name a plan gives them."""

from pathlib import Path
from typing import Any

import dynamic_network_architectures
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

__all__ = ["ResidualEncoder", "find_architecture", "get_network_from_plans"]


def find_architecture(name: str) -> Any:
    """A class of that name, wherever it lies among the architectures; None if there is none."""
    folder = Path(dynamic_network_architectures.__path__[0]) / "architectures"
    return recursive_find_python_class(str(folder), name, "dynamic_network_architectures.architectures")
