"""Sliding window and export: used by trainers for validation, and by prediction."""
