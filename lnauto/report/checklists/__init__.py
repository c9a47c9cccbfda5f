"""Drafts of reporting checklists: which items a run's own files answer, which its authors have to, and which do not apply."""
