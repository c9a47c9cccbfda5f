"""Case after case to a mask; the next one is read and the last one written meanwhile, where that pays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk
import torch

from lnauto.allowance import usable_cores
from lnauto.data.checks import scan_faults
from lnauto.data.raw import Case
from lnauto.errors import InputError, NoSpaceError, Problem
from lnauto.files import replacing
from lnauto.inference.memory import bytes_of
from lnauto.inference.predictor import Predictor, Prepared
from lnauto.workflow.prediction_record import Record, looks_of
from lnauto.workflow.report import PROBABILITIES

log = logging.getLogger(__name__)

TOO_LARGE = "the memory of this machine does not hold the case"
ELSEWHERE = "close other programs, or predict it elsewhere"
NO_MAIN_MEMORY = "DefaultCPUAllocator"  # in the words of PyTorch, which has no class of its own for it
COPIES_READ = 3  # of a scan's voxels: as SimpleITK reads them, as it turns them, and as an array


@dataclass(eq=False)
class Job:
    """A case on its way: what there is of it so far, or the problem that ended it."""

    case: Case
    looks: Sequence[dict[str, Any]] = ()  # of its images
    prepared: Prepared | None = None
    kept: torch.Tensor | None = None  # of its logits
    problem: Problem | None = None
    seconds: float = 0.0  # of work on it


def predict_cases(
    predictor: Predictor, cases: Sequence[Case], record: Record, bar: Any, with_probability: bool = False
) -> Iterator[Job]:
    """The cases' masks into the record's folder; what goes wrong is told, so that one bad scan does not stop the others.

    Args:
        bar: of tqdm, one step a case; it moves with the tiles.
    """
    work = _Work(predictor, record, with_probability, bar, len(cases))
    jobs = [Job(case) for case in cases]
    done = work.overlapping(jobs) if len(jobs) > 1 and overlapping_pays(predictor) else work.in_turn(jobs)
    for number, job in enumerate(done):
        bar.update(max(number + 1 - bar.n, 0))
        yield job


def overlapping_pays(predictor: Predictor) -> bool:
    """Whether a core is idle while the network runs, and there is memory for more than one case."""
    if predictor.memory.gigabytes is not None:
        return False
    return predictor.compute.device.type != "cpu" or usable_cores() > torch.get_num_threads()


@dataclass(frozen=True)
class _Work:
    predictor: Predictor
    record: Record
    with_probability: bool
    bar: Any
    cases: int

    def in_turn(self, jobs: Sequence[Job]) -> Iterator[Job]:
        for number, job in enumerate(jobs):
            self.read(job)
            self.infer(job, number)
            yield self.write(job)

    def overlapping(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """The same, with at most three cases in memory: one that is read, one that is looked at, and one that is written."""
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            following: Future[Job] = reader.submit(self.read, jobs[0])
            written: Future[Job] | None = None
            for number, job in enumerate(jobs):
                following.result()
                if number + 1 < len(jobs):
                    following = reader.submit(self.read, jobs[number + 1])
                self.infer(job, number)
                if written is not None:
                    yield written.result()
                written = writer.submit(self.write, job)
            if written is not None:
                yield written.result()

    def read(self, job: Job) -> Job:
        return _step(job, self._read)

    def infer(self, job: Job, number: int) -> Job:
        self.bar.set_postfix_str(f"{job.case.name}, {number + 1} of {self.cases}")
        return _step(job, self._infer)

    def write(self, job: Job) -> Job:
        _step(job, self._write)
        job.prepared = job.kept = None  # for the next case's memory
        return job

    def _read(self, job: Job) -> None:
        images, name = job.case.images, job.case.name
        self.predictor.memory.check(COPIES_READ * sum(bytes_of(path) for path in images), name)
        for path in images:
            faults = scan_faults(path)
            if faults:
                raise InputError.of(faults[0], path.name, "check that it is a whole 3D image")
        job.looks = [looks_of(path) for path in images]
        channels = [sitk.ReadImage(str(path)) for path in images]
        job.prepared = self.predictor.prepare(channels, name, self.with_probability)

    def _infer(self, job: Job) -> None:
        assert job.prepared is not None
        # nine ninths are more than one in floating point, and tqdm complains of a bar that is over-full
        job.kept = self.predictor.infer(job.prepared, lambda tiles: self.bar.update(min(1 / tiles, self.cases - self.bar.n)))

    def _write(self, job: Job) -> None:
        assert job.prepared is not None
        assert job.kept is not None
        mask, probability = self.predictor.finish(job.kept, job.prepared, self.with_probability)
        path = self.record.mask(job.case.name)
        self.record.begin(job.case.name, job.looks)
        if probability is not None:  # before the mask, which says that a case is done
            with replacing(path.parent / PROBABILITIES / path.name) as temporary:
                sitk.WriteImage(probability, str(temporary), True)
        with replacing(path) as temporary:
            sitk.WriteImage(mask, str(temporary), True)


def _step(job: Job, act: Callable[[Job], None]) -> Job:
    """One step of a job that has met no problem so far."""
    if job.problem is not None:
        return job
    begun = time.monotonic()
    name = job.case.name
    try:
        act(job)
    except NoSpaceError:
        raise
    except InputError as error:
        job.problem = error.problems[0]
    except MemoryError:
        job.problem = Problem(TOO_LARGE, name, ELSEWHERE)
    except torch.OutOfMemoryError:  # of a card, which is a RuntimeError, too
        what = "the card's memory does not hold the networks and one tile"
        job.problem = Problem(what, name, "close what else uses the card, or add --device cpu")
    except OSError as error:
        what = f"the mask could not be written ({error.strerror or error})"
        job.problem = Problem(what, name, "check the disk, then run again")
    except Exception as error:  # SimpleITK's and torch's own, and whatever a strange scan leads to: the others go on
        log.debug("Predicting %s failed", name, exc_info=True)
        if NO_MAIN_MEMORY in str(error):
            job.problem = Problem(TOO_LARGE, name, ELSEWHERE)
        else:
            what = f"the scan cannot be predicted ({_first_line(error)})"
            job.problem = Problem(what, name, "check that it opens as a 3D image")
    job.seconds += time.monotonic() - begun
    return job


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
