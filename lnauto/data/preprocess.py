"""Raw cases to preprocessed ones: case by case, resumable, a failure named and the others done."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from tqdm import tqdm

from lnauto.cores import usable_cores
from lnauto.data.coarse_maps import read_map
from lnauto.data.locations import sample_locations
from lnauto.data.provenance import MadeOf, Provenance, digest_of
from lnauto.data.raw import Case
from lnauto.data.region import find_region, region_of
from lnauto.data.strokes import follow
from lnauto.data.trusted_background import Trust, materialise
from lnauto.errors import CasesFailedError, InputError, NoSpaceError, Problem
from lnauto.files import replacing
from lnauto.nodes import Box

log = logging.getLogger(__name__)

MOST_THREADS, MOST_AT_A_TIME = 4, 5e7  # cases, and voxels of them, that one process has in memory
WORKER_PAYS_FROM_VOXELS = 3e8  # a spawned worker imports torch and nnU-Net for 4 s: as long as this many voxels take


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
    import torch

    stopped, before, pool = Event(), torch.get_num_threads(), ThreadPoolExecutor(threads)

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
        torch.set_num_threads(before)  # nnU-Net's resampling puts back what it found, which may be another thread's setting


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
                    yield case, Problem(what, case.name, "run again; what is finished stays")
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
    from lnauto.compat.plans import read_plans

    plans = read_plans(job.plans)
    configuration = plans.get_configuration(job.configuration)
    if case.label is None:
        _store_image(case, job, plans, configuration)
    else:
        _store_labelled(case, job, plans, configuration)


def _store_image(case: Case, job: Job, plans: Any, configuration: Any) -> None:
    """The image only; a label of nothing but background would teach that there is no node."""
    from lnauto.compat.storage import save_image

    data, _ = prepare_image(list(case.images), plans, configuration, region_of(job.plans))
    with replacing(image_file(job.folder / case.name)) as temporary:
        save_image(np.asarray(data, np.float32), temporary, configuration.patch_size)


def _store_labelled(case: Case, job: Job, plans: Any, configuration: Any) -> None:
    from lnauto.compat.preprocessing import DefaultPreprocessor
    from lnauto.compat.storage import nnUNetDatasetBlosc2

    class Preprocessor(DefaultPreprocessor):
        def run_case_npy(self, data: Any, seg: Any, properties: Any, manager: Any, *rest: Any) -> Any:
            if seg is not None and job.dataset_json.get("instances"):
                seg = (seg > 0).astype(seg.dtype)  # the network learns where nodes are, not their numbers
            box = _find_region(data, properties, region_of(job.plans))
            if seg is not None and trust is not None:
                trusted = box if trust.region == region_of(job.plans) else _find_region(data, properties, trust.region)
                seg = _with_trusted_background(data, seg, properties, trust, trusted, case, job)
            return _run_cropped(super().run_case_npy, data, seg, properties, box, manager, *rest)

        @staticmethod
        def _sample_foreground_locations(seg: Any, classes_or_regions: Any, seed: int = 1234, **_: Any) -> Any:
            return sample_locations(seg, classes_or_regions, seed)

    trust = Trust.of_plan(job.plans)
    images = [str(path) for path in case.images]
    data, seg, properties = Preprocessor(verbose=False).run_case(images, str(case.label), plans, configuration, job.dataset_json)
    if not any(configuration.use_mask_for_norm):
        # nnU-Net marks what lies outside the body with -1, as it later marks padding. Outside the body is background, and the
        # augmentation needs to know it only where intensities are normalised inside the body alone.
        seg = np.maximum(seg, 0)
    seg, likely = seg[:1], seg[1:]
    second = likely_folder(job.folder) / f"{case.name}.b2nd"
    if not len(likely):
        second.unlink(missing_ok=True)  # an earlier plan's is of another grid
    else:
        with replacing(second) as temporary:
            nnUNetDatasetBlosc2.save_seg(likely[0].astype(np.int8), str(temporary.with_suffix("")))
    data, seg = data.astype(np.float32, copy=False), seg.astype(np.int16, copy=False)
    _store(job.folder / case.name, data, seg, properties, configuration.patch_size)


def _with_trusted_background(
    data: np.ndarray, seg: np.ndarray, properties: dict[str, Any], trust: Trust, box: Box, case: Case, job: Job
) -> np.ndarray:
    from lnauto.compat.images import SimpleITKIO

    organs, path = None, job.organ_mask(case)
    spacing, labels = properties["spacing"], job.dataset_json["labels"]
    if path is not None:
        organs = SimpleITKIO().read_seg(str(path))[0][0]
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


def _run_cropped(
    run: Callable[..., Any], data: Any, seg: Any, properties: dict[str, Any], region: Box, manager: Any, *rest: Any
) -> Any:
    """Run nnU-Net's preprocessing on the plan's region of a case, and say where in the whole image its result belongs."""
    cropped = (slice(None), *region)
    found, seg, properties = run(data[cropped], None if seg is None else seg[cropped], properties, manager, *rest)
    _put_into_whole(properties, data.shape[1:], region, manager.transpose_forward)
    return found, seg, properties


def _find_region(image: np.ndarray, properties: dict[str, Any], name: str) -> Box:
    return find_region(image[0], properties["spacing"], properties["sitk_stuff"]["direction"], name)


def _put_into_whole(properties: dict[str, Any], shape: Sequence[int], region: Sequence[slice], forward: Sequence[int]) -> None:
    """Make the properties of a cropped image those of the whole: nnU-Net's export then puts the mask where it belongs."""
    starts = [region[axis].start for axis in forward]
    properties["shape_before_cropping"] = tuple(shape[axis] for axis in forward)
    box = properties["bbox_used_for_cropping"]
    properties["bbox_used_for_cropping"] = [
        [start + first, start + last] for start, (first, last) in zip(starts, box, strict=True)
    ]


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
    most, fit = min(usable_cores(), cases), int(MOST_AT_A_TIME * cost.cases / max(cost.voxels, 1))
    return (most, 1) if cost.voxels > WORKER_PAYS_FROM_VOXELS else (1, max(1, min(most, MOST_THREADS, fit)))


def prepare_image(images: list[Path], plans: Any, configuration: Any, region: str = "none") -> tuple[np.ndarray, dict[str, Any]]:
    """An image, cropped to `region`, as the network takes it, and what is needed to find back to its own geometry."""
    image, properties = plans.image_reader_writer_class().read_images([str(path) for path in images])
    return prepare(image, properties, plans, configuration, region), properties


def prepare(
    image: np.ndarray,
    properties: dict[str, Any],
    plans: Any,
    configuration: Any,
    region: str,
    check: Callable[[Sequence[int], Sequence[int]], None] = lambda *_: None,
) -> np.ndarray:
    """The same of an image that was read; what is needed to find back is put into `properties`.

    The steps are those of nnU-Net's preprocessor; only the label it makes up and resamples for an image without one is left out.

    Args:
        check: is told the size of the region and its size in the plan's spacing, before memory is taken for either.
    """
    from lnauto.compat.planning import compute_new_shape
    from lnauto.compat.preprocessing import DefaultPreprocessor, crop_to_nonzero

    shape, box = image.shape[1:], _find_region(image, properties, region)
    within = (slice(None), *box)
    image = image[within].transpose([0, *(axis + 1 for axis in plans.transpose_forward)])
    spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
    check(image.shape[1:], compute_new_shape(image.shape[1:], spacing, configuration.spacing))
    inside: Any = [None]  # where an image is not 0, which only some normalisations ask for
    if any(configuration.use_mask_for_norm):
        image, inside, properties["bbox_used_for_cropping"] = crop_to_nonzero(image, None)
    else:
        properties["bbox_used_for_cropping"] = _box_of_nonzero(image)
        filled = (slice(None), *(slice(*sides) for sides in properties["bbox_used_for_cropping"]))
        image = image[filled]
    _put_into_whole(properties, shape, box, plans.transpose_forward)
    properties["shape_after_cropping_and_before_resampling"] = image.shape[1:]
    intensities = plans.foreground_intensity_properties_per_channel
    image = image.astype(np.float32, copy=False)
    image = DefaultPreprocessor(verbose=False)._normalize(image, inside, configuration, intensities)
    resampled = compute_new_shape(image.shape[1:], spacing, configuration.spacing)
    prepared: np.ndarray = configuration.resampling_fn_data(image, resampled, spacing, configuration.spacing)
    return prepared


def _box_of_nonzero(image: np.ndarray) -> list[list[int]]:
    """First and last plus one along each axis, as nnU-Net crops; an image of nothing but 0 stays as it is."""
    taken = (image != 0).any(axis=0)
    along = [np.flatnonzero(taken.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    if not len(along[0]):
        return [[0, side] for side in taken.shape]
    return [[int(places[0]), int(places[-1]) + 1] for places in along]
