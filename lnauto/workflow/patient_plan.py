"""Planning for a data set that is a table alone."""

from __future__ import annotations

import logging

from lnauto.data.patient_labels import PatientLabels
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.files import write_json
from lnauto.paths import Paths
from lnauto.planners.explain import explain
from lnauto.planners.machine import this_machine
from lnauto.planners.plan import PLANS_NAME, Plan
from lnauto.planners.table import plan_table
from lnauto.planners.wishes import Wishes
from lnauto.trainers.patient import find_patient_trainer
from lnauto.workflow.plan_file import keep_earlier
from lnauto.workflow.splits import SPLITS, write_patient_splits

log = logging.getLogger(__name__)


def refuse(flags: dict[str, object], what: str = "the data set is a table alone, without images") -> None:
    """Flags that speak of what there is not."""
    for flag, given in flags.items():
        if given not in (None, False):
            raise InputError.of(what, flag, "leave it out")


def plan_patients(dataset: RawDataset, paths: Paths, wishes: Wishes, device: str | None, everything: bool) -> Plan:
    """Check the table, decide, make folds of patients; `everything`: tell every figure."""
    refuse({"--spacing": wishes.spacing, "--patch": wishes.patch})
    if wishes.trainer is not None:
        find_patient_trainer(wishes.trainer)
    if (table := dataset.patients) is None:
        raise InputError.of("there is no patients.csv", dataset.name, "add the table")
    plan = plan_table(dataset, table, this_machine(device), wishes)
    folder = paths.preprocessed / dataset.name
    write_patient_splits(table, PatientLabels.of(table).known.index, folder / SPLITS, dataset.name)
    keep_earlier(folder / f"{PLANS_NAME}.json", plan)
    write_json(folder / "dataset.json", dataset.description)
    log.info("%s", explain(plan) if everything else plan.explain())
    return plan
