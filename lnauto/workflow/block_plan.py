"""Planning for scans and a table without any mask: no network, a patient head on blocks of the scans."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lnauto.data.raw import RawDataset
from lnauto.files import write_json
from lnauto.paths import Paths
from lnauto.planners.blocks import choose_body, labelled_cases, plan_blocks
from lnauto.planners.case_facts import CaseFacts
from lnauto.planners.evidence import Evidence
from lnauto.planners.explain import explain
from lnauto.planners.fingerprint import summarise
from lnauto.planners.machine import this_machine
from lnauto.planners.plan import PLANS_NAME, Plan
from lnauto.planners.strategy import Strategy
from lnauto.planners.wishes import Wishes
from lnauto.trainers.patient import check_block_head
from lnauto.workflow.bags import BagMaker
from lnauto.workflow.blocks import BlockStore, bring_blocks_up_to_date
from lnauto.workflow.patient_plan import refuse
from lnauto.workflow.plan_file import keep_earlier
from lnauto.workflow.splits import SPLITS, write_splits

log = logging.getLogger(__name__)

NO_MASK = "no case has a mask to learn from"


def plan_scans(
    dataset: RawDataset,
    cases: Sequence[CaseFacts],
    evidence: Evidence,
    strategy: Strategy,
    paths: Paths,
    wishes: Wishes,
    device: str | None,
    everything: bool,
) -> Plan:
    """Decide, and make folds of the cases whose patient has a label; `everything`: tell every figure."""
    refuse({"--masks": wishes.masks, "--patch": wishes.patch}, NO_MASK)
    if wishes.trainer is not None:
        check_block_head(wishes.trainer)
    region = choose_body(cases)
    fingerprint = summarise(cases, region[0])
    plan = plan_blocks(dataset, fingerprint, evidence, strategy, this_machine(device), wishes, region)
    folder = paths.preprocessed / dataset.name
    write_json(folder / f"{PLANS_NAME}_fingerprint.json", fingerprint.to_json())
    write_splits(dataset, folder / SPLITS, labelled_cases(dataset))
    keep_earlier(folder / f"{PLANS_NAME}.json", plan)
    write_json(folder / "dataset.json", dataset.description)
    log.info("%s", explain(plan) if everything else plan.explain())
    return plan


def bring_scans_up_to_date(dataset: RawDataset, plan: Plan, configuration: str, paths: Paths, quiet: bool) -> None:
    """What preprocessing is here: blocks of every scan."""
    maker = BagMaker.of_plan(plan, dataset.description, configuration, quiet)
    store = BlockStore.of_plan(plan, configuration, paths.preprocessed / dataset.name)
    bring_blocks_up_to_date(dataset, plan, maker, store, paths.results, quiet)
