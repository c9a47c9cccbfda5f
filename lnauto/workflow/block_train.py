"""`lnauto_train` on scans and a table without any mask: a patient head on blocks for each fold, and the figures over all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.paths import Paths
from lnauto.planners.plan import PLANS_NAME, Plan
from lnauto.trainers.patient import check_block_head
from lnauto.workflow.block_plan import NO_MASK, bring_scans_up_to_date
from lnauto.workflow.fold import Request, lock_folds
from lnauto.workflow.heads import HeadWork, prepare_heads, train_heads
from lnauto.workflow.patient_plan import refuse
from lnauto.workflow.splits import SPLITS, chosen_folds, read_splits

log = logging.getLogger(__name__)


def has_block_plan(folder: Path) -> bool:
    """Whether the data set was planned for a head on blocks alone."""
    path = folder / f"{PLANS_NAME}.json"
    return path.is_file() and Plan.load(path, "plan again").on_blocks


def train_on_blocks(paths: Paths, name: str, identifier: str, folds: Sequence[str], request: Request, locks: ExitStack) -> Path:
    """Train the folds asked for; returns the model's folder."""
    flags: dict[str, object] = {
        "--pretrain": request.pretrain,
        "--pretrained": request.pretrained,
        "--rounds": request.rounds,
        "--tune": request.tune,
        "--source": request.source,
        "--epochs": request.epochs,
        "--dino-weights": request.dino_weights,
        "--track": request.track or None,
    }
    refuse(flags, NO_MASK)
    remedy, folder = f"plan again: lnauto_plan_and_preprocess -d {identifier}", paths.preprocessed / name
    plan = Plan.load(folder / f"{PLANS_NAME}.json", remedy)
    head = check_block_head(request.trainer or plan.lnauto["patient_head"]["trainer"])
    preprocessed = folder / plan.configuration(request.configuration)["data_identifier"]
    splits = read_splits(folder, identifier)
    chosen = chosen_folds(folds, len(splits), folder / SPLITS)
    dataset = RawDataset.read(paths.raw / name)
    named = {case for split in splits for side in ("train", "val") for case in split[side]}
    if unknown := sorted(named - {case.name for case in dataset.cases}):
        raise InputError.of(f"the folds name {unknown[0]}, of which there is no scan", folder / SPLITS, remedy)
    model = paths.results / name / f"{plan.lnauto['trainer']}__{PLANS_NAME}__{request.configuration}"
    work = HeadWork(plan, dataset.description, dataset, splits, model, preprocessed, request, head)
    lock_folds(locks, model, chosen)
    prepare_heads(work, chosen)
    if request.minutes is not None:
        log.info("--budget does not change how long a patient head trains: its steps are few and fixed.")
    bring_scans_up_to_date(dataset, plan, request.configuration, paths, request.quiet)
    train_heads(work, chosen, list(folds) == ["cv"], None)
    return model
