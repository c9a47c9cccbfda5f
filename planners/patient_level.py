"""What could be learned of patients, beside their voxels: whether the table can carry a patient head."""

from __future__ import annotations

from lnauto.planners.evidence import Evidence

LEAST_OF_EACH = 10  # patients with and without metastasis: below that, no validation says anything [our choice]
NOT_YET = "beside masks lnauto trains no patient head yet"


def choose_patient_level(found: Evidence) -> tuple[str | None, str]:
    """`image_level` (metastasis or none), `stage_level` (N stage), or None; and why."""
    if found.patients == 0:
        return None, "there is no patients.csv"
    without, with_metastasis = found.known_lnm
    staged = (found.known_stages[0], sum(found.known_stages[1:]))
    if min(without, with_metastasis) >= LEAST_OF_EACH:
        return (
            "image_level",
            f"lnm is known of {without + with_metastasis} patients, {with_metastasis} with metastasis; {NOT_YET}",
        )
    if min(staged) >= LEAST_OF_EACH:
        return "stage_level", f"n_stage is known of {sum(staged)} patients, {staged[1]} of them above 0; {NOT_YET}"
    known = f"lnm of {without} without and {with_metastasis} with metastasis, n_stage of {sum(staged)}"
    return None, f"too little is known of the {found.patients} patients ({known}): {LEAST_OF_EACH} of each kind are needed"
