"""Networks, and what one training step of each costs."""
