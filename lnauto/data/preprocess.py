"""Raw cases to preprocessed ones: case by case, resumable, a failure named and the others done."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from tqdm import tqdm

from lnauto.allowance import memory_left, usable_cores
from lnauto.compat.names import check_names
from lnauto.data.coarse_maps import read_map
from lnauto.data.grids import times
from lnauto.data.locations import groups_of, sample_locations
from lnauto.data.prepare import prepare, prepare_labelled, read_images, read_label, region_box
from lnauto.data.provenance import MadeOf, Provenance, digest_of
from lnauto.data.raw import Case
from lnauto.data.region import region_of
from lnauto.data.scans import lies, turn, way_to_lie
from lnauto.data.strokes import follow
from lnauto.data.trusted_background import Trust, materialise, numbers_nodes
from lnauto.errors import CasesFailedError, InputError, NoSpaceError, Problem
from lnauto.files import replacing
from lnauto.nodes import Box

log = logging.getLogger(__name__)

LOCATIONS_SEED = 1234  # nnU-Net's
MOST_THREADS, MOST_AT_A_TIME = 4, 5e7  # cases, and voxels of them, that one process has in memory
BYTES_A_VOXEL, LARGEST_TO_MEDIAN = 40, 2  # of a worker at its most (33 were measured), and cases differ [our choice]
WORKER_PAYS_FROM_VOXELS = 3e8  # took as long as a spawned worker imports, when that was torch, too; now it is a third of it


@dataclass(frozen=True)
class Job:
    """One configuration of a plan to preprocess, and where to."""

    plans: dict[str, Any]
    configuration: str
    dataset_json: dict[str, Any]
    folder: Path
    data_hash: str
    organs: Path | None = None  # a folder of organ masks
    likeness: Path | None = None  # a folder of maps of how much each place looks like a drawn node

    def organ_mask(self, case: Case) -> Path | None:
        """The mask of organs that no node lies in, where there is one for this case."""
        return self._there(self.organs, f"{case.name}{self.dataset_json['file_ending']}")

    def likeness_map(self, case: Case) -> Path | None:
        """How much each place looks like a drawn node, where that was found out for this case."""
        return self._there(self.likeness, likeness_name(case))

    def hash_of(self, case: Case) -> str:
        """What the preprocessed case depends on besides its image and label."""
        more = [digest_of(path) for path in (self.organ_mask(case), self.likeness_map(case)) if path is not None]
        return " ".join([self.data_hash, *more])

    @staticmethod
    def _there(folder: Path | None, name: str) -> Path | None:
        return folder / name if folder is not None and (folder / name).is_file() else None


def likeness_name(case: Case) -> str:
    """Of a case's map, in its folder."""
    return f"{case.name}.nii.gz"


@dataclass(frozen=True)
class Cost:
    """What preprocessing will take on disk, at most."""

    cases: int
    voxels: float
    bytes: float


def pending(cases: list[Case], job: Job) -> list[Case]:
    """The cases that are not there yet, or were made from other files or under another plan."""
    provenance = Provenance(provenance_path(job.folder))
    return [case for case in cases if not (files_there(job.folder, case) and provenance.is_current(case, job.hash_of(case)))]


def provenance_path(folder: Path) -> Path:
    """Beside the folder, not in it: nnU-Net takes any file inside for a case."""
    return folder.with_name(f"{folder.name}_cases.json")


def expected_cost(cases: int, plans: dict[str, Any], configuration: str) -> Cost:
    chosen = plans["configurations"][configuration]
    channels = len(chosen["normalization_schemes"])
    voxels = float(np.prod(chosen["median_image_size_in_voxels"])) * cases
    return Cost(cases, voxels * channels, voxels * (4 * channels + 2))


def check_disk(cost: Cost, folder: Path) -> None:
    """Refuse before the work starts, not when the disk is full."""
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < cost.bytes * 1.1:
        what = f"preprocessing {cost.cases} cases may take {cost.bytes / 1e9:.1f} GB and only {free / 1e9:.1f} GB are free"
        raise InputError.of(what, existing, "make room, or let nnUNet_preprocessed point to a larger disk")


def preprocess(cases: list[Case], job: Job, quiet: bool = False, workers: int | None = None) -> None:
    """Preprocess `cases`; those that fail are named together at the end."""
    job.folder.mkdir(parents=True, exist_ok=True)
    for leftover in job.folder.glob(".*"):  # of a run that was killed; nnU-Net would take it for a case
        leftover.unlink()
    provenance = Provenance(provenance_path(job.folder))
    threads = 1  # as was asked for
    if workers is None:
        workers, threads = _workers_that_pay(len(cases), expected_cost(len(cases), job.plans, job.configuration))
    done = _in_workers(cases, job, workers) if workers > 1 else _in_threads(cases, job, threads)
    failed = []
    with provenance.kept(), tqdm(total=len(cases), desc="Preprocessing", unit="case", disable=quiet, delay=2) as bar:
        for case, made in done:
            bar.update()
            if isinstance(made, Problem):
                failed.append(made)
            else:
                provenance.record(case, made)
    if failed:
        raise CasesFailedError(failed)


def _in_threads(cases: list[Case], job: Job, threads: int) -> Iterator[tuple[Case, MadeOf | Problem]]:
    """In this process, some at a time: most of the work is done outside of Python."""
    stopped, pool = Event(), ThreadPoolExecutor(threads)

    def attempt(case: Case) -> MadeOf | Problem:
        if stopped.is_set():
            raise CancelledError
        try:
            return make_case(case, job)
        except BaseException:
            stopped.set()
            raise

    try:
        yield from zip(cases, pool.map(attempt, cases), strict=True)
    finally:
        stopped.set()  # a full disk ends the work, and so does Ctrl-C
        pool.shutdown()


def _in_workers(cases: list[Case], job: Job, workers: int) -> Iterator[tuple[Case, MadeOf | Problem]]:
    import multiprocessing

    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(make_case, case, job): case for case in cases}
        try:
            for future in as_completed(waiting):
                case = waiting[future]
                try:
                    yield case, future.result()
                except BrokenProcessPool:
                    what = "a worker process died before this case was done, most likely for want of memory"
                    yield case, Problem(what, case.name, "run again, with fewer --workers; what is finished stays")
        finally:
            for future in waiting:  # a full disk ends the work, and so does Ctrl-C
                future.cancel()


def make_case(case: Case, job: Job) -> MadeOf | Problem:
    """Preprocess and store one case; returns what it was made of, or what went wrong."""
    try:
        made_of = MadeOf.of(case, job.hash_of(case))
    except OSError as error:
        what = f"its files cannot be read ({error.strerror or error})"
        return Problem(what, case.name, "check its image and label, then run again")
    return preprocess_case(case, job) or made_of


def preprocess_case(case: Case, job: Job) -> Problem | None:
    """Preprocess and store one case; what goes wrong is told, so that one bad case does not stop the others."""
    try:
        _preprocess_and_store(case, job)
    except NoSpaceError:
        raise
    except MemoryError:
        return Problem(
            "the memory of this machine does not hold the case", case.name, "close other programs, or use a coarser spacing"
        )
    except OSError as error:
        return Problem(
            f"the preprocessed case could not be written ({error.strerror or error})", case.name, "check the disk, then run again"
        )
    except Exception as error:
        log.debug("Preprocessing %s failed", case.name, exc_info=True)
        what = f"preprocessing failed ({type(error).__name__}: {error})"
        return Problem(what, case.name, "check its image and label, then run again")
    return None


def _preprocess_and_store(case: Case, job: Job) -> None:
    check_names(job.plans)
    configuration = job.plans["configurations"][job.configuration]
    if case.label is None:
        _store_image(case, job, configuration)
    else:
        _store_labelled(case, case.label, job, configuration)


def _store_image(case: Case, job: Job, configuration: dict[str, Any]) -> None:
    """The image only; a label of nothing but background would teach that there is no node."""
    from lnauto.compat.storage import save_image

    image, properties = read_images(case.images)
    image, properties = turn(image, properties, way_to_lie(job.plans))
    image = prepare(image, properties, job.plans, configuration, region_of(job.plans))
    with replacing(image_file(job.folder / case.name)) as temporary:
        save_image(np.asarray(image, np.float32), temporary, configuration["patch_size"])


def _store_labelled(case: Case, label: Path, job: Job, configuration: dict[str, Any]) -> None:
    from lnauto.compat.storage import nnUNetDatasetBlosc2

    image, properties = read_images(case.images)
    seg = read_label(label)
    if seg.shape[1:] != image.shape[1:]:
        raise ValueError(f"the label has {times(seg.shape[1:])} voxels, the image {times(image.shape[1:])}")
    if numbers_nodes(job.dataset_json):
        seg = (seg > 0).astype(seg.dtype)  # the network learns where nodes are, not their numbers
    box = region_box(image, properties, region_of(job.plans))
    trust = Trust.of_plan(job.plans)
    if trust is not None:
        trusted = box if trust.region == region_of(job.plans) else region_box(image, properties, trust.region)
        seg = _with_trusted_background(image, seg, properties, trust, trusted, case, job)
    orientation = way_to_lie(job.plans)
    if not lies(properties, orientation):
        seg, _ = turn(seg, properties, orientation)
        image, properties = turn(image, properties, orientation)
        box = region_box(image, properties, region_of(job.plans))
    data, seg = prepare_labelled(image, seg, properties, job.plans, configuration, box)
    properties["class_locations"] = sample_locations(seg, groups_of(job.dataset_json["labels"]), LOCATIONS_SEED)
    seg, likely = seg[:1], seg[1:]
    second = likely_folder(job.folder) / f"{case.name}.b2nd"
    if not len(likely):
        second.unlink(missing_ok=True)  # an earlier plan's is of another grid
    else:
        with replacing(second) as temporary:
            nnUNetDatasetBlosc2.save_seg(likely[0].astype(np.int8), str(temporary.with_suffix("")))
    data, seg = data.astype(np.float32, copy=False), seg.astype(np.int16, copy=False)
    _store(job.folder / case.name, data, seg, properties, configuration["patch_size"])


def _with_trusted_background(
    data: np.ndarray, seg: np.ndarray, properties: dict[str, Any], trust: Trust, box: Box, case: Case, job: Job
) -> np.ndarray:
    organs, path = None, job.organ_mask(case)
    spacing, labels = properties["spacing"], job.dataset_json["labels"]
    if path is not None:
        organs = read_label(path)[0]
        if organs.shape != seg.shape[1:]:
            raise ValueError(f"the organ mask {path.name} has the shape {organs.shape}, the image {seg.shape[1:]}")
    coarse = job.likeness_map(case)
    likeness = None if coarse is None else read_map(coarse, case.images[0])
    label, ignore = materialise(data, seg[0], spacing, trust, box, job.dataset_json, organs, likeness), labels["ignore"]
    if trust.node_within is not None and trust.reach is not None:
        label = follow(data, label, spacing, ignore, trust.node_within, trust.background_from, trust.reach)
    if trust.likely_from is None:
        return label[None]
    unknown = label == ignore
    likely = unknown & (likeness >= trust.likely_from) if likeness is not None else np.zeros_like(unknown)
    return np.stack([label, likely.astype(label.dtype)])


def likely_folder(folder: Path) -> Path:
    """Where it lies, for each preprocessed case, what is taken for a node that nobody drew to begin with. A folder of its own,
    like the segmentations of an earlier stage in nnU-Net, from which its loader cuts the same patches as from the label."""
    return folder.with_name(f"{folder.name}_likely")


def _store(target: Path, data: np.ndarray, seg: np.ndarray, properties: dict[str, Any], patch: list[int]) -> None:
    """nnU-Net's three files for a case; the properties come last, and their presence says that the case is whole."""
    from lnauto.compat.storage import FILTERS, comp_blosc2_params, nnUNetDatasetBlosc2

    blocks, chunks = comp_blosc2_params(data.shape, tuple(patch), data.itemsize)
    seg_blocks, seg_chunks = comp_blosc2_params(seg.shape, tuple(patch), seg.itemsize)
    final = case_files(target)
    final[-1].unlink(missing_ok=True)
    # Renaming goes from the last name to the first. nnU-Net derives all three names from one stem, as `replacing` does.
    with replacing(final[2]) as facts, replacing(final[1]), replacing(final[0]):
        nnUNetDatasetBlosc2.save_case(
            data,
            seg,
            properties,
            str(facts.with_suffix("")),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=seg_chunks,
            blocks_seg=seg_blocks,
            filters=FILTERS,
            filters_seg=FILTERS,
        )


def case_files(target: Path) -> tuple[Path, Path, Path]:
    """Image, label and properties of a preprocessed case."""
    return tuple(target.with_name(target.name + ending) for ending in (".b2nd", "_seg.b2nd", ".pkl"))  # type: ignore[return-value]


def image_file(target: Path) -> Path:
    """The image of a preprocessed case, with a label or without."""
    return case_files(target)[0]


def files_there(folder: Path, case: Case) -> bool:
    """Whether a preprocessed case is whole."""
    files = case_files(folder / case.name)
    return all(path.is_file() for path in (files[:1] if case.label is None else files))


def _workers_that_pay(cases: int, cost: Cost) -> tuple[int, int]:
    """Processes, a core each, up to the number of cases; for small work one, with as many threads as memory holds cases."""
    of_a_case = max(cost.voxels / cost.cases, 1)
    in_memory = int(memory_left(with_swap=False) / (BYTES_A_VOXEL * LARGEST_TO_MEDIAN * of_a_case))
    most, fit = max(1, min(usable_cores(), cases, in_memory)), int(MOST_AT_A_TIME / of_a_case)
    return (most, 1) if cost.voxels > WORKER_PAYS_FROM_VOXELS else (1, max(1, min(most, MOST_THREADS, fit)))
