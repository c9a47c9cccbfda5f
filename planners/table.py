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
from lnauto.planners.patient_level import clinical_columns, label_problems
from lnauto.planners.plan import PLANS_NAME, Plan
from lnauto.planners.strategy import Strategy, choose_strategy
from lnauto.planners.wishes import Wishes

TRAINER = "LNMTrainerClinical"
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
                "alternatives": {"strategy": strategy.rivals()},
                "decided_by": wishes.decided_by(),
                "reasons": _reasons(table, labels, columns, strategy, trainer),
            },
        }
    )


def carrying_problems(labels: PatientLabels, columns: list[str], where: str) -> list[Problem]:
    """Why a table cannot carry a head."""
    problems = label_problems(labels, where)
    if problems and not sum(labels.counts):
        return problems
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
