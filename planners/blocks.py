"""The plan for scans and a table without any mask: a patient head on blocks of the scans, and no network for masks.

What is planned besides the head is what makes scans comparable: spacing, intensities, and the part that is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lnauto import __version__
from lnauto.data.patient_labels import PatientLabels
from lnauto.data.raw import RawDataset
from lnauto.data.resample import TORCH_RESAMPLING
from lnauto.errors import InputError
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.evidence import Evidence
from lnauto.planners.fingerprint import Fingerprint
from lnauto.planners.frame import floats, normalisation, times
from lnauto.planners.geometry import Fitter
from lnauto.planners.machine import Machine
from lnauto.planners.patient_level import LOOKED_AT, clinical_columns, label_problems
from lnauto.planners.plan import CONFIGURATION, PLANS_NAME, Plan
from lnauto.planners.region import LEAST_REMOVED, voxels_kept
from lnauto.planners.spacing import median_spacing
from lnauto.planners.strategy import Strategy
from lnauto.planners.wishes import Wishes

STRATEGIES = ("stage_level", "image_level")  # those that learn from patients' labels alone
EXPERIMENT_PLANNER = "lnauto.planners.blocks.plan_blocks"
THRESHOLD = "Youden's, of inner out-of-fold predictions of the training patients; --sensitivity chooses another"
# A CT is clipped to the usual window of soft tissue (width 400, level 40), since no drawn node says which intensities matter.
SOFT_TISSUE = {
    "mean": 40.0,
    "std": 100.0,
    "min": -160.0,
    "max": 240.0,
    "percentile_00_5": -160.0,
    "median": 40.0,
    "percentile_99_5": 240.0,
}


def choose_body(cases: Sequence[CaseFacts]) -> tuple[str, str]:
    """The body, where it is known and leaves enough out: no drawn node says that a smaller part would do."""
    kept = voxels_kept(cases).get("body")
    if kept is None:
        return "none", "whole images: regions are known in CT only"
    if kept > 1 - LEAST_REMOVED:
        return "none", f"whole images: the body is {kept:.0%} of them"
    return "body", f"body: it keeps {kept:.0%} of the voxels, and no drawn node says that less would do"


def plan_blocks(
    dataset: RawDataset,
    fingerprint: Fingerprint,
    evidence: Evidence,
    strategy: Strategy,
    machine: Machine,
    wishes: Wishes,
    region: tuple[str, str],
) -> Plan:
    """The plan, or why the table cannot carry a head: there is nothing else to train then."""
    trainer = wishes.trainer or LOOKED_AT
    labels, columns = _labels(dataset, strategy)
    without, having = labels.counts
    spacing, spacing_reason = median_spacing(fingerprint.spacings, fingerprint.shapes_after_crop)
    if wishes.spacing is not None:
        spacing, spacing_reason = np.array(wishes.spacing, float), "given by --spacing"
    fitter = Fitter(fingerprint, 0, 0.0)
    forward, shape = fitter.order(spacing), fitter.median_shape(spacing)
    known = fingerprint.foreground_intensity_properties_per_channel
    intensities = known or dict.fromkeys(dataset.channel_names, SOFT_TISSUE)
    schemes, masks, told = normalisation(dataset, replace(fingerprint, foreground_intensity_properties_per_channel=intensities))
    if not known and "CTNormalization" in schemes:
        told += "; CT is clipped to -160 to 240 HU, since no node is drawn"
    seen = f" and {', '.join(columns)}" if columns else ""
    patients = f"{trainer}, by {labels.told}: {without} patients without and {having} with metastasis; it reads "
    patients += f"blocks that cover the scans{seen}: there are no masks to find nodes by"
    return Plan(
        {
            "dataset_name": dataset.name,
            "plans_name": PLANS_NAME,
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": forward,
            "transpose_backward": [forward.index(axis) for axis in range(3)],
            "configurations": {CONFIGURATION: _configuration(floats(spacing[forward]), floats(shape), schemes, masks)},
            "experiment_planner_used": EXPERIMENT_PLANNER,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": intensities,
            "lnauto": {
                "version": __version__,
                "strategy": strategy.name,
                "trainer": trainer,
                "patient_level": "image_level" if labels.by_lnm >= labels.by_stage else "stage_level",
                "patient_head": {"trainer": trainer, "columns": columns, "sensitivity": None, "masks": "none"},
                "completeness": None,
                "region": region[0],
                "budget": None,
                "evidence": evidence.to_json() | {"machine": {"value": asdict(machine), "how": "asked of the system"}},
                "alternatives": {"strategy": strategy.rivals()},
                "decided_by": wishes.decided_by(),
                "reasons": {
                    "strategy": f"{strategy.name}, trained by {trainer}: {strategy.reason}; so no segmentation is planned",
                    "patients": patients,
                    "region": region[1],
                    "spacing": f"{times(f'{mm:.3g}' for mm in spacing)} mm (z, y, x): {spacing_reason}",
                    "intensities": told,
                    "threshold": THRESHOLD,
                },
            },
        }
    )


def _configuration(spacing: list[float], shape: list[float], schemes: list[str], masks: list[bool]) -> dict[str, Any]:
    return {
        "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "median_image_size_in_voxels": shape,
        "spacing": spacing,
        "normalization_schemes": schemes,
        "use_mask_for_norm": masks,
        "resampling_fn_data": TORCH_RESAMPLING,
        "resampling_fn_data_kwargs": {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False},
        "resampling_fn_seg": TORCH_RESAMPLING,
        "resampling_fn_seg_kwargs": {"is_seg": True, "force_separate_z": False, "memefficient_seg_resampling": False},
        "architecture": None,  # nnU-Net takes plans without this key for old ones
    }


def labelled_cases(dataset: RawDataset) -> set[str]:
    """The cases whose patient has a label."""
    assert dataset.patients is not None
    known = set(PatientLabels.of(dataset.patients).known.index)
    return {case for case, patient in dataset.patient_of.items() if patient in known}


def _labels(dataset: RawDataset, strategy: Strategy) -> tuple[PatientLabels, list[str]]:
    """The labels and the clinical columns."""
    where, nothing = f"{dataset.name}/patients.csv", f"there is nothing lnauto {__version__} can train here: {strategy.reason}"
    if (table := dataset.patients) is None:
        raise InputError.of(
            f"{nothing}; there is no patients.csv", dataset.name, "add the table, or draw the nodes in some cases"
        )
    labels = PatientLabels.of(table)
    problems = label_problems(labels, where)
    if problems:
        raise InputError.of(f"{nothing}; {problems[0].what}", where, f"{problems[0].remedy}; or draw the nodes in some cases")
    return labels, clinical_columns(table)
