"""Malformed and unlucky inputs, one a row, over all commands: what is refused, and how it is told."""

from __future__ import annotations

from faults import archives, dicom, disks, flags, folders, images, models, plans, tables

ALL = [row for subject in (images, dicom, tables, plans, models, archives, folders, disks, flags) for row in subject.ROWS.rows]
