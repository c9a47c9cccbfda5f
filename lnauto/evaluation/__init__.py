"""Matching and metrics, for masks, nodes and patients."""
