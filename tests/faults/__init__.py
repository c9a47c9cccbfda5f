"""Malformed and unlucky inputs, one a row, over all commands: what is refused, and how it is told."""

from __future__ import annotations

from faults import archives, disks, flags, images, models, plans, tables

ALL = [row for subject in (images, tables, plans, models, archives, disks, flags) for row in subject.ROWS.rows]
