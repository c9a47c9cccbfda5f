"""Blocks of scans without masks: cut once, when a data set is preprocessed, so that no fold has to read the scans again.

What is kept of a case is what a head reads of it, a few MB; prediction cuts the blocks of its scans in the same way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from lnauto.data.preprocess import provenance_path
from lnauto.data.provenance import MadeOf, Provenance
from lnauto.data.raw import Case, RawDataset
from lnauto.errors import CasesFailedError, NoSpaceError, Problem
from lnauto.files import replacing
from lnauto.locks import locked
from lnauto.planners.plan import Plan
from lnauto.workflow.in_use import check_stale, trainings

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag import Bag
    from lnauto.workflow.bags import BagMaker

log = logging.getLogger(__name__)

ENDING = ".npz"


@dataclass(frozen=True)
class BlockStore:
    """The blocks of a data set's cases, as files."""

    folder: Path

    @classmethod
    def of_plan(cls, plan: Plan, configuration: str, preprocessed: Path) -> BlockStore:
        return cls(preprocessed / f"{plan.configuration(configuration)['data_identifier']}_blocks")

    def file(self, case: str) -> Path:
        return self.folder / f"{case}{ENDING}"

    def load(self, case: str) -> Bag | None:
        """A bag with the blocks of one case, if they were kept."""
        from lnauto.trainers.patient.bag import REGION, SHAPES, SIGNS, Bag

        if not self.file(case).is_file():
            return None
        with np.load(self.file(case), allow_pickle=False) as kept:
            crops, points = kept["crops"], kept["points"]
        count = len(points)
        return Bag(
            patient=case,
            crops=crops,
            masks=np.zeros((count, *crops.shape[2:]), np.float32),
            shapes=np.zeros((count, len(SHAPES)), np.float32),
            signs=np.zeros((count, crops.shape[1] * len(SIGNS)), np.float32),
            points=points,
            kinds=np.full(count, REGION, np.int64),
            sources=tuple((case, number) for number in range(1, count + 1)),
        )

    def save(self, case: str, bag: Bag) -> None:
        with replacing(self.file(case)) as temporary:
            np.savez(temporary, crops=bag.crops, points=bag.points)


def joined(patient: str, bags: Sequence[Bag]) -> Bag:
    """One bag of all cases of a patient."""
    if len(bags) == 1:
        return replace(bags[0], patient=patient)
    return replace(
        bags[0],
        patient=patient,
        crops=np.concatenate([bag.crops for bag in bags]),
        masks=np.concatenate([bag.masks for bag in bags]),
        shapes=np.concatenate([bag.shapes for bag in bags]),
        signs=np.concatenate([bag.signs for bag in bags]),
        points=np.concatenate([bag.points for bag in bags]),
        kinds=np.concatenate([bag.kinds for bag in bags]),
        sources=tuple(source for bag in bags for source in bag.sources),
    )


def bring_blocks_up_to_date(
    dataset: RawDataset, plan: Plan, maker: BagMaker, store: BlockStore, results: Path, quiet: bool
) -> None:
    """Cut the blocks of every case that are missing, or were cut from other files or under another plan."""
    record = Provenance(provenance_path(store.folder))
    waiting = [case for case in dataset.cases if not (store.file(case.name).is_file() and record.is_current(case, maker.made_of))]
    if not waiting:
        log.info("The blocks of all %d scans are there, from these scans and under this plan.", len(dataset.cases))
        return
    started, failed = time.monotonic(), list[Problem]()
    with locked(store.folder.parent), record.kept():
        stale = [case.name for case in waiting if store.file(case.name).is_file()]
        check_stale(stale, store.folder, trainings(plan.content, maker.configuration, results))
        for case in tqdm(waiting, desc="Cutting blocks", unit="case", disable=quiet, delay=2):
            store.file(case.name).unlink(missing_ok=True)
            cut = _cut(case, maker, store)
            if isinstance(cut, Problem):
                failed.append(cut)
            else:
                record.record(case, cut)
    if failed:
        raise CasesFailedError(failed)
    log.info("Cut the blocks of %d scans in %.0f s, to %s.", len(waiting), time.monotonic() - started, store.folder)


def _cut(case: Case, maker: BagMaker, store: BlockStore) -> MadeOf | Problem:
    """What the blocks are made of; what goes wrong is told, so that one bad case does not stop the others."""
    try:
        made_of = MadeOf.of(case, maker.made_of)
    except OSError as error:
        return Problem(f"its files cannot be read ({error.strerror or error})", case.name, "check its image, then run again")
    try:
        store.save(case.name, maker.blocks(case.name, case.images))
    except NoSpaceError:
        raise
    except MemoryError:
        return Problem("the memory of this machine does not hold the case", case.name, "close other programs")
    except OSError as error:
        what = f"the blocks could not be written ({error.strerror or error})"
        return Problem(what, case.name, "check the disk, then run again")
    except (RuntimeError, ValueError) as error:  # SimpleITK's and nnU-Net's own
        log.debug("Cutting %s failed", case.name, exc_info=True)
        return Problem(f"the scan cannot be cut into blocks ({error})", case.name, "check its image, then run again")
    return made_of
