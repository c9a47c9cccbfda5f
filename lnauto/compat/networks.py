"""Networks by the name a plan gives them."""

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

__all__ = ["get_network_from_plans"]
