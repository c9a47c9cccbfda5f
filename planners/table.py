"""The plan for a data set that is a table alone: which label, which columns, which head, each with its reason."""

from __future__ import annotations

from dataclasses import asdict

from lnauto import __version__
from lnauto.data.patient_labels import PatientLabels
from lnauto.data.patients import PatientTable
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError, Problem
from lnauto.planners.evidence import gather
from lnauto.planners.machine import Machine
from lnauto.planners.patient_level import LEAST_OF_EACH
from lnauto.planners.plan import PLANS_NAME, Plan
from lnauto.planners.strategy import Strategy, choose_strategy
from lnauto.planners.wishes import Wishes

TRAINER = "LNMTrainerClinical"
SIDE = "tumour_side"
EXPERIMENT_PLANNER = "lnauto.planners.table.plan_table"


def plan_table(dataset: RawDataset, table: PatientTable, machine: Machine, wishes: Wishes) -> Plan:
    """The plan, or why the table cannot carry a head; its faults are told together."""
    labels = PatientLabels.of(table)
    columns = clinical_columns(table)
    if problems := carrying_problems(labels, columns, f"{dataset.name}/patients.csv"):
        raise InputError(problems)
    evidence = gather(dataset, [])
    strategy = choose_strategy(evidence, wishes.strategy)
    trainer = wishes.trainer or TRAINER
    return Plan(
        {
            "dataset_name": dataset.name,
            "plans_name": PLANS_NAME,
            "configurations": {},
            "experiment_planner_used": EXPERIMENT_PLANNER,
            "lnauto": {
                "version": __version__,
                "strategy": strategy.name,
                "trainer": trainer,
                "patient_level": strategy.name,
                "patient_head": {"trainer": trainer, "columns": columns, "sensitivity": None},
                "evidence": evidence.to_json() | {"machine": {"value": asdict(machine), "how": "asked of the system"}},
                "alternatives": {
                    "strategy": {
                        "runner_up": strategy.runner_up,
                        "chosen_unless": strategy.unless,
                        "read": list(strategy.evidence),
                    }
                },
                "decided_by": wishes.decided_by(),
                "reasons": _reasons(table, labels, columns, strategy, trainer),
            },
        }
    )


def clinical_columns(table: PatientTable) -> list[str]:
    """What a head may learn from: not who and which scans, not the labels, not the centre."""
    side = [SIDE] if SIDE in table.frame else []
    return sorted([*table.clinical, *side])


def carrying_problems(labels: PatientLabels, columns: list[str], where: str) -> list[Problem]:
    """Why a table cannot carry a head."""
    without, having = labels.counts
    if without + having == 0:
        return [Problem("no patient has a label", where, 'add the column "lnm" (0, 1) or "n_stage" (0 to 3)')]
    problems = []
    if without == 0 or having == 0:
        only = "with" if having else "without"
        told = f"all {without + having} patients with a label are {only} metastasis"
        problems.append(
            Problem(told, where, f"add patients {'without' if having else 'with'} it: there is nothing to tell apart")
        )
    elif min(without, having) < LEAST_OF_EACH:
        told = f"too few patients have a label: {without} without and {having} with metastasis"
        problems.append(Problem(told, where, f"add patients: {LEAST_OF_EACH} of each kind are needed"))
    if not columns:
        problems.append(Problem("there is no clinical column to learn from", where, "add columns such as age or t_stage"))
    return problems


def _reasons(table: PatientTable, labels: PatientLabels, columns: list[str], strategy: Strategy, trainer: str) -> dict[str, str]:
    without, having = labels.counts
    by = "" if trainer == TRAINER else " (-tr)"
    given = f"; {strategy.reason}" if strategy.reason.startswith("given by") else ""
    told = {
        "strategy": f"{strategy.name}, trained by {trainer}{by}: there is a table and no scan{given}",
        "label": f"{labels.told}: {without} without and {having} with metastasis",
        "columns": f"{', '.join(columns)}; missing is a state of its own",
        "threshold": "Youden's, of inner out-of-fold predictions of the training patients; --sensitivity chooses another",
    }
    if table.knows("centre"):
        told["centre"] = "no column to learn from: it balances the folds, and figures are told for each centre"
    return told
